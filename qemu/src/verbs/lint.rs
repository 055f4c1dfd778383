//! `cargo exo lint`: formatting and lints, for the host and for the guest.

use std::io;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::output::{note, say};
use crate::{guest, workspace};

/// Check formatting, and lint host and guest code; any warning is an error
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<ExitCode> {
    let mut format = workspace::cargo();
    format.args(["fmt", "--all", "--check"]);

    let mut host = workspace::cargo();
    host.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);

    // As in the build, the kernel apart from the applications: see `guest::build`.
    let mut kernel = guest::kernel_cargo("clippy");
    kernel.args(["--", "-D", "warnings"]);

    let mut programs = workspace::guest_cargo("clippy");
    programs.arg("--bins");
    for (package, _) in guest::programs(workspace::metadata()?) {
        programs.args(["--package", &package]);
    }
    programs.args(["--", "-D", "warnings"]);

    let steps: [(&str, Command); 4] = [
        ("formatting", format),
        ("host code", host),
        ("kernel", kernel),
        ("guest programs", programs),
    ];
    let mut failed = Vec::new();
    for (name, mut command) in steps {
        // What they find is no result to pass on: they must not meet a closed pipe either.
        command.stdout(io::stderr());
        note!("lint: {name}");
        if guest::run(command, name).is_err() {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        say!("lint: all clean")?;
        return Ok(ExitCode::SUCCESS);
    }
    say!("lint: FAILED: {}", failed.join(", "))?;
    Ok(ExitCode::FAILURE)
}
