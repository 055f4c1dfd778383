//! `cargo exo lint`: formatting and lints, for the host and for the guest.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{guest, module, workspace};

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
    for (package, _) in guest::programs(&guest::metadata()?) {
        programs.args(["--package", &package]);
    }
    programs.args(["--", "-D", "warnings"]);

    let steps: [(&str, Command); 5] = [
        ("formatting", format),
        ("host code", host),
        ("kernel", kernel),
        ("guest programs", programs),
        ("Linux module", module::lint()),
    ];
    let mut failed = Vec::new();
    for (name, command) in steps {
        eprintln!("lint: {name}");
        if guest::run(command, name).is_err() {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        println!("lint: all clean");
        return Ok(ExitCode::SUCCESS);
    }
    println!("lint: FAILED: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}
