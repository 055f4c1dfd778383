//! `cargo exo measure`: an application's own operations in instructions.

use std::process::ExitCode;

use anyhow::Result;

use crate::bench::variants;
use crate::prerequisites::QEMU;
use crate::signals::Signals;

pub(crate) use variants::Args;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    QEMU.require()?;
    variants::run(args, &Signals::register()?).map(|()| ExitCode::SUCCESS)
}
