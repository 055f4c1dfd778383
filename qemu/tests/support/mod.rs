//! The command, as tests run it.

use std::process::{Command, Output};

use exo_cmd::workspace;

/// `cargo exo` with these arguments, for this tree.
pub(crate) fn exo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exo"));
    command.args(arguments).env("EXO_WORKSPACE", workspace::root());
    command
}

/// What it printed.
///
/// # Panics
/// If it has failed.
#[track_caller]
pub(crate) fn succeeds(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}{errors}", output.status);
    said
}
