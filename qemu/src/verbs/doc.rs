//! `cargo exo doc`: what the guest is built of, for people.

use std::process::{Command, ExitCode};

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

/// The command that documents those packages; what leads nowhere is an error.
fn command(packages: &[&str]) -> Command {
    let mut command = workspace::guest_cargo("doc");
    command.arg("--no-deps").env("RUSTDOCFLAGS", "--cfg exo_guest -D warnings");
    for package in packages {
        command.args(["--package", package]);
    }
    command
}

/// The same for the lints: of all that are documented, or of this one if it is.
pub(crate) fn lint(wanted: Option<&str>) -> Option<Command> {
    let of_package = |package: &&str| wanted.is_none_or(|wanted| wanted == *package);
    let packages: Vec<_> = PACKAGES.into_iter().filter(of_package).collect();
    (!packages.is_empty()).then(|| command(&packages))
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut command = command(&PACKAGES);
    command.args(args.open.then_some("--open"));
    guest::run(command, "documenting what the guest is built of")?;
    let pages = workspace::guest_target_dir().join(workspace::GUEST_TARGET).join("doc");
    say!("{}", pages.join("libos/index.html").display())?;
    Ok(ExitCode::SUCCESS)
}
