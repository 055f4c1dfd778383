//! `cargo exo bench`: figures.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::bench::{
    boot, colocated, compare, dpf, elevate, eviction, get, idle, items, module, primitives, storage,
};
use crate::prerequisites::QEMU;
use crate::signals::Signals;

/// Measure: instructions per request, per primitive operation and per packet told apart,
/// time to the first answer, load when idle, hit ratios
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
    Compare(compare::Args),
    Elevate(elevate::Args),
    Colocated(colocated::Args),
    Module(module::Args),
    Storage(storage::Args),
    Eviction(eviction::Args),
    Items(items::Args),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    // Filters and the store alone are measured on the host.
    if !matches!(args.what, What::Dpf(_) | What::Module(_) | What::Eviction(_) | What::Items(_)) {
        QEMU.require()?;
    }
    let signals = Signals::register()?;
    let result = match &args.what {
        What::Get(args) => get::run(args, &signals),
        What::Boot(args) => boot::run(args, &signals),
        What::Idle(args) => idle::run(args, &signals),
        What::Primitives(args) => primitives::run(args, &signals),
        What::Dpf(args) => dpf::run(args, &signals),
        What::Module(args) => module::run(args, &signals),
        What::Storage(args) => storage::run(args, &signals),
        What::Elevate(args) => elevate::run(args, &signals),
        What::Colocated(args) => colocated::run(args, &signals),
        What::Items(args) => items::run(args, &signals),
        What::Eviction(args) => eviction::run(args, &signals),
        What::Compare(args) => compare::run(args, &signals),
    };
    // A signal has many consequences; whichever came first, it is the cause.
    if result.is_err() {
        signals.check()?;
    }
    result.map(|()| ExitCode::SUCCESS)
}
