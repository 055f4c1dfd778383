//! Measures, tells on standard error what it is doing, and writes figures to standard
//! output as JSON: `bench-dpf [--quick]`. `cargo exo bench dpf` runs it and reports.

use std::io::Write;

use anyhow::{Result, bail};
use bench_dpf::measure::{Plan, measure};

fn main() -> Result<()> {
    let mut plan = Plan::full();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => plan = Plan::quick(),
            _ => bail!("usage: bench-dpf [--quick]"),
        }
    }
    let figures = measure(&plan, |what| eprintln!("bench: {what}"))?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &figures)?;
    writeln!(out)?;
    Ok(())
}
