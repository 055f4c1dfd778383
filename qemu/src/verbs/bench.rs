//! `cargo exo bench`: figures.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::bench::{Interrupt, boot, dpf, get, idle, module, primitives};
use crate::prerequisites::QEMU;

/// Measure: instructions per request, per primitive operation and per packet told apart,
/// time to the first answer, load when idle
///
/// Every measurement states its conditions and saves what it found as JSON.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Get(get::Args),
    Boot(boot::Args),
    Idle(idle::Args),
    Primitives(primitives::Args),
    Dpf(dpf::Args),
    Module(module::Args),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    // Filters and the store alone are measured on the host.
    if !matches!(args.what, What::Dpf(_) | What::Module(_)) {
        QEMU.require()?;
    }
    let interrupt = Interrupt::register()?;
    let result = match &args.what {
        What::Get(args) => get::run(args, &interrupt),
        What::Boot(args) => boot::run(args, &interrupt),
        What::Idle(args) => idle::run(args, &interrupt),
        What::Primitives(args) => primitives::run(args, &interrupt),
        What::Dpf(args) => dpf::run(args, &interrupt),
        What::Module(args) => module::run(args, &interrupt),
    };
    // A signal has many consequences; whichever came first, it is the cause.
    match (result, interrupt.check()) {
        (Err(_), Err(interrupted)) => {
            eprintln!("{interrupted}");
            Ok(ExitCode::from(interrupted.exit_code()))
        }
        (result, _) => result.map(|()| ExitCode::SUCCESS),
    }
}
