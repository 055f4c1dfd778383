//! `cargo exo docs`: the documentation as a book.

use std::ffi::OsString;
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::output::{note, say};
use crate::{book, guest, workspace};

/// The version of mdBook that is installed if there is none.
const VERSION: &str = "0.5.4";

/// Read the documentation as a book: a path through it, and a search
///
/// Made with mdBook: the installed one, otherwise one that cargo builds into target/tools, once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only make it, and say where it is
    #[arg(long)]
    no_open: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    book::check(workspace::root())?;
    let folder = workspace::target_dir().join("book");
    book::write(workspace::root(), &folder)?;
    let pages = folder.join("html");
    let mut command = Command::new(mdbook()?);
    // Said from where the command runs, not from the book.
    command.arg("build").arg(&folder).arg("--dest-dir").arg(&pages);
    let opens = !args.no_open && stdout().is_terminal();
    command.args(opens.then_some("--open"));
    guest::run(command, "making the book")?;
    say!("{}", pages.join("index.html").display())?;
    Ok(ExitCode::SUCCESS)
}

/// The program, which is installed if it is not there.
fn mdbook() -> Result<OsString> {
    let found = Command::new("mdbook").arg("--version").output();
    if found.is_ok_and(|output| output.status.success()) {
        return Ok("mdbook".into());
    }
    let tools: PathBuf = workspace::target_dir().join("tools");
    let own = tools.join("bin/mdbook");
    if !own.is_file() {
        note!("mdbook is missing; cargo builds it into {}, once", tools.display());
        let mut command = workspace::cargo();
        command.args([
            "install",
            "mdbook",
            "--version",
            VERSION,
            "--locked",
            "--no-default-features",
        ]);
        command.args(["--features", "search", "--root"]).arg(&tools);
        guest::run(command, "installing mdbook")?;
    }
    Ok(own.into())
}
