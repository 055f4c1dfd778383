//! Guest instructions per primitive operation, beside the nearest operation of Linux.
//!
//! Both systems measure themselves from ring 3, one after the other, in the same machine
//! under `-icount shift=0,sleep=off`: there the time-stamp counter advances by one with
//! each instruction, of the kernel and of environments. It is neither trapped nor scaled, which both
//! programs show by counting a thousand instructions that do nothing.
//!
//! | file | what it is |
//! |---|---|
//! | [`rows`] | which operation is held against which, goals, published ratios |
//! | [`lines`] | what the guests print, as figures |
//! | [`linux`] | the Linux guest |
//! | [`report`] | the table, and JSON |

pub(super) mod lines;
mod linux;
mod report;
mod rows;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::conditions::Conditions;
use super::report::save;
use crate::machine::{Config, Machine};
use crate::output::{self, note, say};
use crate::signals::Signals;
use lines::Measured;
pub(super) use linux::LARGE_REPETITIONS;
use report::Report;

/// How both are run.
pub(super) const MACHINE: &str = "TCG, microvm, -cpu max, -icount shift=0,sleep=off";
/// How long a guest may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(100);
/// How this system's lines begin.
const PREFIX: &str = "primbench: ";

/// Count guest instructions per primitive operation, beside those of Linux
///
/// Boots boot/manifests/primitives.toml, whose one application measures itself, then
/// Debian's kernel for virtual machines with a program that does the nearest Linux has,
/// in the same machine. The kernel is fetched through apt at the first call and kept in
/// target/linux/kernel; remove that to fetch the current one. Counts say how much the
/// code does, not how fast a processor does it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave Linux out
    #[arg(long, conflicts_with = "vmlinuz")]
    exo_only: bool,
    /// Boot this kernel of Linux and fetch none
    #[arg(long, value_name = "FILE")]
    vmlinuz: Option<PathBuf>,
    /// Where to save everything as JSON
    /// [default: figures/out/primitives.json]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    let report = measure(args.exo_only, args.vmlinuz.as_deref(), interrupt)?;
    let path = save(&report, args.json.as_deref(), "primitives")?;
    output::print(report.text()?)?;
    say!("\nsaved to {}", path.display())?;
    Ok(())
}

/// Measures this system and, unless it is left out, Linux: that of `vmlinuz`, or Debian's.
///
/// # Errors
/// A machine does not start, is not done in time or prints what no row is for.
pub(super) fn measure(
    exo_only: bool,
    vmlinuz: Option<&Path>,
    interrupt: &Signals,
) -> Result<Report> {
    let config = config()?;
    let exo = measure_exo(&config, interrupt)?;
    let linux = if exo_only {
        Measured::default()
    } else {
        let linux = linux::boot(&config, vmlinuz, interrupt)?;
        read(&linux, "", interrupt)?
    };
    let conditions = Conditions::now(MACHINE);
    Report::new(conditions, &exo, &linux)
}

/// The operations of the table that this system, measured alone, has no figure for: as
/// many as there are rows if nothing was measured, and none if all is well.
///
/// **Blocking** for some seconds.
///
/// # Errors
/// The machine does not start, is not done in time or prints what no row is for.
pub fn unmeasured() -> Result<Vec<&'static str>> {
    let exo = measure_exo(&config()?, &Signals::register()?)?;
    let report = Report::new(Conditions::now("TCG"), &exo, &Measured::default())?;
    Ok(report.unmeasured())
}

/// The machine that both systems are measured in.
fn config() -> Result<Config> {
    let mut config = Config::named("primitives")?;
    config.icount = true;
    Ok(config)
}

fn measure_exo(config: &Config, interrupt: &Signals) -> Result<Measured> {
    let machine = Machine::boot(config)?;
    note!("bench: measuring this system");
    read(&machine, PREFIX, interrupt)
}

/// **Blocking** until the guest is done. Its lines begin with `prefix`.
pub(super) fn read(machine: &Machine, prefix: &str, interrupt: &Signals) -> Result<Measured> {
    let deadline = Instant::now() + PATIENCE;
    let console = machine.console();
    for number in 0.. {
        while !console.wait_for(number, Instant::now() + GLANCE) {
            interrupt.check()?;
            ensure!(!console.ended(), "the guest ended before it was done\n{}", machine.report());
            ensure!(Instant::now() < deadline, "the guest takes too long\n{}", machine.report());
        }
        let Some(line) = console.line(number) else { continue };
        match line.strip_prefix(prefix) {
            Some("done") => break,
            Some(text) if text.starts_with("failed: ") => bail!("{line}\n{}", machine.report()),
            _ => {}
        }
    }
    Measured::read(&console.lines(), prefix)
}
