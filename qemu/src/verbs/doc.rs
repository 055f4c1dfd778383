//! `cargo exo doc`: what the guest is built of, for people.

use std::process::ExitCode;

use anyhow::Result;

use crate::output::say;
use crate::{guest, workspace};

/// What an application is written against.
const PACKAGES: [&str; 3] = ["libos", "exo-abi", "dpf"];

/// Build the documentation of libos, exo-abi and dpf, with what exists in the guest only
///
/// `cargo doc` shows what the host has of them: no system calls, no memory of one's own, no
/// `bind`. This one is made with the guest's flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show it in a browser
    #[arg(long)]
    open: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut command = workspace::guest_cargo("doc");
    command.arg("--no-deps").env("RUSTDOCFLAGS", "--cfg exo_guest -D warnings");
    for package in PACKAGES {
        command.args(["--package", package]);
    }
    command.args(args.open.then_some("--open"));
    guest::run(command, "documenting what the guest is built of")?;
    let pages = workspace::guest_target_dir().join(workspace::GUEST_TARGET).join("doc");
    say!("{}", pages.join("libos/index.html").display())?;
    Ok(ExitCode::SUCCESS)
}
