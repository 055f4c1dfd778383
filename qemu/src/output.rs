//! What the command says: results on standard output, everything else on standard error.
//!
//! `println!` panics if the reader of a pipe has gone or the disk is full. Here that is an
//! error like any other, [`OutputError`], which ends the verb; [`failure`] tells it. What
//! cannot be written to standard error is lost: there is no place left to tell it.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::{fmt, fs};

use crate::signals::Interrupted;

/// Exit code of a verb whose reader has gone: what a shell reports of a process that
/// SIGPIPE ended.
const CLOSED: u8 = 128 + 13;

/// Prints a line to standard output, at once. A `Result` with an [`OutputError`].
macro_rules! say {
    ($($text:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints a line to standard error.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::progress(format_args!("{}\n", format_args!($($text)*))) };
}

pub(crate) use {note, say};

/// Standard output cannot be written to.
#[derive(Debug)]
pub(crate) struct OutputError(io::Error);

/// Prints text to standard output, at once.
pub(crate) fn print(text: impl fmt::Display) -> Result<(), OutputError> {
    print_bytes(text.to_string().as_bytes())
}

/// Prints bytes to standard output, at once.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), OutputError> {
    written(io::stdout().lock().write_all(bytes))
}

/// What becomes of a write to standard output, once what is left in its buffer is out, too.
pub(crate) fn written(result: io::Result<()>) -> Result<(), OutputError> {
    result.and_then(|()| io::stdout().flush()).map_err(OutputError)
}

/// Prints text to standard error, at once: without a line's end for what is overwritten soon.
pub(crate) fn progress(text: impl fmt::Display) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.to_string().as_bytes()).and_then(|()| err.flush());
}

/// A file named on the command line in which a report is to be saved: that it can be is found
/// out before anything is measured. Makes the folder, as saving would.
pub(crate) fn destination(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let told = |error: io::Error| format!("cannot be written: {error}");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(told)?;
    }
    let is_new = !path.exists();
    fs::OpenOptions::new().append(true).create(true).open(&path).map_err(told)?;
    if is_new {
        fs::remove_file(&path).map_err(told)?;
    }
    Ok(path)
}

/// Tells why a verb failed, and gives its exit code, `code` unless the error has one of its
/// own. The reader of a pipe that has gone has seen what it wanted: that is told silently.
pub(crate) fn failure(error: &anyhow::Error, code: u8) -> ExitCode {
    if let Some(OutputError(cause)) = error.downcast_ref()
        && cause.kind() == ErrorKind::BrokenPipe
    {
        return ExitCode::from(CLOSED);
    }
    if let Some(interrupted) = error.downcast_ref::<Interrupted>() {
        note!("{interrupted}");
        return interrupted.exit_code();
    }
    note!("error: {error:#}");
    ExitCode::from(code)
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

impl std::error::Error for OutputError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_only_asked_for_where_it_can_be_saved() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/report.json");
        let asked = |path: &std::path::Path| destination(path.to_str().unwrap());
        assert_eq!(asked(&file), Ok(file.clone()));
        assert!(!file.exists(), "nothing is left where nothing is measured");
        fs::write(&file, "earlier").unwrap();
        assert_eq!(asked(&file), Ok(file.clone()));
        assert_eq!(fs::read_to_string(&file).unwrap(), "earlier");
        for bad in [folder.path(), &file.join("x.json"), "/proc/nothing/x.json".as_ref()] {
            let error = asked(bad).unwrap_err();
            assert!(error.contains("cannot be written"), "{error}");
        }
    }
}
