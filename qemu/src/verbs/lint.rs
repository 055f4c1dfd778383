//! `cargo exo lint`: formatting and lints, for the host and for the guest.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use super::doc;
use crate::output::{note, say};
use crate::{fuzz, guest, manifest, module, workspace};

/// Check formatting, and lint host and guest code; any warning is an error
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Lint only this package (formatting is checked everywhere)
    #[arg(long, short, value_name = "NAME")]
    package: Option<String>,
    /// Lint an application outside of this tree instead: the folder of its package
    #[arg(long, value_name = "FOLDER", conflicts_with = "package")]
    app: Option<PathBuf>,
}

/// The step that `cargo fmt` mends.
const FORMATTING: &str = "formatting";

/// Has rustfmt write no colours into a file: it asks its standard output, which is not where this
/// command's own goes.
fn plain() -> &'static [&'static str] {
    if io::stderr().is_terminal() { &[] } else { &["--", "--color", "never"] }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.app {
        Some(folder) => run_all(outside(folder)?),
        None => run_all(steps(args)?),
    }
}

/// The steps for a package outside of this tree.
fn outside(folder: &Path) -> Result<Vec<(&'static str, Command)>> {
    let (folder, _) = manifest::package(folder)?;
    let package = folder.join("Cargo.toml");
    let mut format = workspace::cargo();
    format.args(["fmt", "--check", "--manifest-path"]).arg(&package).args(plain());
    let mut host = workspace::cargo();
    host.args(["clippy", "--all-targets", "--manifest-path"]).arg(&package);
    host.args(["--", "-D", "warnings"]);
    let mut guest = workspace::guest_cargo("clippy");
    guest.arg("--bins").args(guest::outside_arguments(&folder)?).args(["--", "-D", "warnings"]);
    Ok(vec![(FORMATTING, format), ("host code", host), ("guest program", guest)])
}

/// The steps for this tree.
fn steps(args: &Args) -> Result<Vec<(&'static str, Command)>> {
    let metadata = workspace::metadata()?;
    let known: Vec<_> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let wanted = args.package.as_deref();
    if let Some(name) = wanted.filter(|name| !known.iter().any(|known| known == name)) {
        bail!("no package is called \"{name}\"; there are: {}", known.join(", "));
    }

    let mut format = workspace::cargo();
    format.args(["fmt", "--all", "--check"]).args(plain());
    let mut steps = vec![(FORMATTING, format)];

    let mut host = workspace::cargo();
    host.arg("clippy");
    match wanted {
        Some(name) => host.args(["--package", name]),
        None => host.arg("--workspace"),
    };
    host.args(["--all-targets", "--", "-D", "warnings"]);
    steps.push(("host code", host));

    // As in the build, the kernel apart from the applications: see `guest::build`.
    if wanted.is_none_or(|name| name == guest::KERNEL_PACKAGE) {
        let mut kernel = guest::kernel_cargo("clippy");
        kernel.args(["--", "-D", "warnings"]);
        steps.push(("kernel", kernel));
        let mut checked = fuzz::cargo("clippy");
        checked.args(["--", "-D", "warnings"]);
        steps.push(("kernel with its checker", checked));
    }

    let programs = guest::programs(metadata).into_iter().map(|(package, _)| package);
    let programs: Vec<_> =
        programs.filter(|package| wanted.is_none_or(|name| name == package)).collect();
    if !programs.is_empty() {
        let mut command = workspace::guest_cargo("clippy");
        command.arg("--bins");
        for package in &programs {
            command.args(["--package", package]);
        }
        command.args(["--", "-D", "warnings"]);
        steps.push(("guest programs", command));
    }

    // Links that lead nowhere are found by no other step.
    steps.extend(doc::lint(wanted).map(|command| ("documentation", command)));

    if wanted.is_none_or(|name| name == module::PACKAGE) {
        steps.push(("Linux module", module::lint()));
    }
    Ok(steps)
}

fn run_all(steps: Vec<(&str, Command)>) -> Result<ExitCode> {
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
    if failed.contains(&FORMATTING) {
        say!("`cargo fmt --all`, in the root of the workspace, formats")?;
    }
    Ok(ExitCode::FAILURE)
}
