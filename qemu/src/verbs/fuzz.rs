//! `cargo exo fuzz`: random system calls on a kernel that checks itself.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::builder::RangedU64ValueParser;

use crate::fuzz::{self, Ended, Plan};
use crate::machine::MAX_CPUS;
use crate::output::{self, note, say};
use crate::prerequisites::QEMU;
use crate::signals::Signals;

/// Make random system calls from several environments, on a kernel that checks itself
///
/// The kernel is built with a checker of its invariants, which the shipped one does
/// not contain. Whatever does not hold is a panic that names it; then the seed and the
/// command to replay it are printed, and the exit code is 1. Ctrl-C ends it (130).
///
/// With --icount and one processor a seed replays exactly. Otherwise the same random
/// choices are made again, but slices end elsewhere, calls interleave differently, and
/// so other frames may be free: try a failing seed several times.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Random calls on each machine
    #[arg(long, default_value_t = 200_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    calls: u64,
    /// Seed of the first machine; each further one has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Processors of the machine, 1 to 4
    #[arg(long, default_value_t = 1, value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_CPUS.into()))]
    cpus: u32,
    /// Let the guest's clock count instructions, and send no packets
    #[arg(long)]
    icount: bool,
    /// Boot one machine after the other until so many seconds are over
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Calls from one check to the next; 1 finds the call that broke something
    #[arg(long, default_value_t = 1000, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    every: u64,
    /// Show the machines' consoles
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        !args.icount || args.cpus == 1,
        "--icount is for one processor: QEMU would take turns between several"
    );
    QEMU.require()?;
    fuzz::build((args.every != 1000).then_some(args.every))?;
    let signals = Signals::register()?;
    let start = Instant::now();
    let end = args.seconds.map(|seconds| start + Duration::from_secs(seconds));
    let mut total = Total::default();
    for seed in args.seed.. {
        let plan = Plan { seed, calls: args.calls, cpus: args.cpus, icount: args.icount };
        let fuzzed = plan.boot()?;
        let machine = &fuzzed.machine;
        let progress = std::io::stderr().is_terminal();
        let mut shown = 0;
        let outcome = fuzz::follow(machine, |made| {
            while let Some(line) = machine.console().line(shown).filter(|_| args.verbose) {
                note!("{line}");
                shown += 1;
            }
            if progress {
                output::progress(format_args!("\rseed {seed}: {made} random calls \r"));
            }
            signals.check().is_ok()
        });
        let outcome = match outcome {
            Ok(Ended::ByItself(outcome)) => outcome,
            Ok(Ended::Unfinished { random }) => {
                say!("{}", unfinished(seed, random, &total))?;
                signals.check()?;
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => {
                say!("{}", failure(&plan, args.every))?;
                return Err(error);
            }
        };
        if let Some(report) = outcome.failure {
            say!("{report}\n{total}\n{}", failure(&plan, args.every))?;
            return Ok(ExitCode::FAILURE);
        }
        total.add(&outcome, start.elapsed());
        say!(
            "seed {seed}: {} calls, {} of them random, {} checks; {:.0} calls/s so far",
            outcome.calls,
            outcome.random,
            outcome.checks,
            total.rate()
        )?;
        if end.is_none_or(|end| Instant::now() >= end) {
            break;
        }
    }
    say!("{total}, and everything held")?;
    Ok(ExitCode::SUCCESS)
}

/// What was done until a signal came, in the middle of the machine of `seed`.
fn unfinished(seed: u64, random: u64, before: &Total) -> String {
    let unfinished = format!("seed {seed}: not finished, nothing found in {random} random calls");
    match before.machines {
        0 => unfinished,
        _ => format!("{unfinished}\nbefore it {before}, and everything held"),
    }
}

fn failure(plan: &Plan, every: u64) -> String {
    let every = if every == 1000 { String::new() } else { format!(" --every {every}") };
    let again = if plan.icount { "replay exactly with" } else { "try again with" };
    format!("seed {} FAILED; {again}: {plan}{every}", plan.seed)
}

/// All machines together.
#[derive(Default)]
struct Total {
    machines: u64,
    calls: u64,
    checks: u64,
    time: Duration,
}

impl Total {
    fn add(&mut self, outcome: &fuzz::Outcome, time: Duration) {
        self.machines += 1;
        self.calls += outcome.calls;
        self.checks += outcome.checks;
        self.time = time;
    }

    fn rate(&self) -> f64 {
        self.calls as f64 / self.time.as_secs_f64().max(0.001)
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { machines, calls, checks, time } = self;
        let seconds = time.as_secs_f64();
        write!(
            f,
            "{machines} machines, {calls} calls, {checks} checks in {seconds:.1} s, {:.0} calls/s",
            self.rate()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_that_was_interrupted_counts() {
        let mut total = Total::default();
        let first = unfinished(1, 55_726, &total);
        assert_eq!(first, "seed 1: not finished, nothing found in 55726 random calls");
        let outcome = fuzz::Outcome { calls: 3_000, checks: 3, random: 2_000, failure: None };
        total.add(&outcome, Duration::from_secs(2));
        let second = unfinished(2, 7, &total);
        assert!(
            second.starts_with("seed 2: ") && second.contains(" in 7 random calls\n"),
            "{second}"
        );
        assert!(second.contains("before it 1 machines, 3000 calls, 3 checks"), "{second}");
    }
}
