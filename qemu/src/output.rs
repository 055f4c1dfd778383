//! What the command says: results on standard output, everything else on standard error.
//!
//! `println!` panics if the reader of a pipe has gone or the disk is full. Here that is an
//! error like any other, [`OutputError`], which ends the verb; [`failure`] tells it. What
//! cannot be written to standard error is lost: there is no place left to tell it.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

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
