//! Measures, tells on standard error what it is doing, and writes figures to standard
//! output as JSON: `bench-dpf [--quick]`. `cargo exo bench dpf` runs it and reports.
//!
//! `bench-dpf --count` is what it runs under valgrind.

use std::io::Write;
use std::process::Command;

use anyhow::{Result, bail};
use bench_dpf::measure::{Plan, count, measure};

fn main() -> Result<()> {
    let (mut plan, mut counting) = (Plan::full(), false);
    let mut counted = Command::new(std::env::current_exe()?);
    counted.arg("--count");
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => {
                plan = Plan::quick();
                counted.arg("--quick");
            }
            "--count" => counting = true,
            _ => bail!("usage: bench-dpf [--quick]"),
        }
    }
    // Where it cannot be told, it is still measured.
    let progress = |what: &str| _ = writeln!(std::io::stderr(), "bench: {what}");
    if counting {
        // Standard error is inherited through valgrind.
        return count(&plan, progress);
    }
    let figures = measure(&plan, &counted, progress)?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &figures)?;
    writeln!(out)?;
    Ok(())
}
