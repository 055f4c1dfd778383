//! What an idle guest costs its host.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::builder::RangedU64ValueParser;
use serde::Serialize;

use super::conditions::Conditions;
use super::report::{Stating, save};
use crate::figures::{self, Named};
use crate::machine::{Config, HostPorts, Machine, Network};
use crate::output::{self, note, say};
use crate::signals::Signals;

/// Percent of one host processor that an idle guest is to stay below.
const GOAL: f64 = 5.0;
/// From the first answer to the beginning of the measurement.
const SETTLE: Duration = Duration::from_secs(1);
/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(100);

/// Measure how much of a host processor the idle guest takes
///
/// Boots boot/manifests/default.toml under TCG with user-mode networking, lets it be,
/// and reads QEMU's processor time.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds to measure for
    #[arg(long, default_value_t = 5, value_name = "S",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=3600))]
    seconds: u64,
    /// Where to save the result as JSON
    /// [default: figures/out/idle.json]
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    unit: &'static str,
    better: &'static str,
    goal: f64,
    conditions: Conditions,
    seconds: f64,
    percent: f64,
}

impl Stating for Report {
    fn stated(&self) -> Named {
        let goal = ("goal".to_owned(), figures::count(self.goal));
        Named::from([goal, ("percent".to_owned(), format!("{:.1}", self.percent))])
    }
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    let mut config = Config::named("default")?;
    let dir = tempfile::Builder::new().prefix("exo-bench-").tempdir()?;
    let pid_file = dir.path().join("pid");
    config.network = Network::User(HostPorts::Free);
    config.extra = vec!["-pidfile".into(), pid_file.clone().into()];
    let machine = Machine::boot(&config)?;
    let mut client = machine.store_client()?;
    let start = Instant::now();
    while !machine.answers(&mut client)? {
        interrupt.check()?;
        ensure!(machine.running(), "the guest ended\n{}", machine.report());
        ensure!(start.elapsed().as_secs() < 60, "no answer\n{}", machine.report());
    }
    sleep(SETTLE, interrupt)?;
    note!("bench: measuring for {} seconds", args.seconds);
    let (start, before) = (Instant::now(), processor_time(&pid_file)?);
    sleep(Duration::from_secs(args.seconds), interrupt)?;
    let (elapsed, after) = (start.elapsed(), processor_time(&pid_file)?);
    ensure!(machine.running(), "the guest ended\n{}", machine.report());
    drop(machine);

    let percent = after.saturating_sub(before).as_secs_f64() / elapsed.as_secs_f64() * 100.0;
    let report = Report {
        unit: "percent of one host processor taken by the idle guest",
        better: "lower",
        goal: GOAL,
        conditions: Conditions::now("TCG"),
        seconds: elapsed.as_secs_f64(),
        percent,
    };
    let path = save(&report, args.json.as_deref(), "idle")?;
    say!("{}; {} is better", report.unit, report.better)?;
    output::print(report.conditions.lines())?;
    let verdict = if percent < GOAL { "met" } else { "missed" };
    say!("\n{percent:.1} % over {:.1} s (goal: below {GOAL:.0} %: {verdict})", report.seconds)?;
    say!("\nsaved to {}", path.display())?;
    Ok(())
}

fn sleep(time: Duration, interrupt: &Signals) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        interrupt.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(GLANCE));
    }
}

/// Processor time of all threads of the process named in a file.
fn processor_time(pid_file: &Path) -> Result<Duration> {
    let pid = std::fs::read_to_string(pid_file).context("QEMU wrote no process id")?;
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"))
        .context("cannot read QEMU's processor time")?;
    let ticks = ticks(&stat).context("cannot make sense of /proc/PID/stat")?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// User and system time from a line of `/proc/PID/stat` (proc(5)): its 14th and 15th
/// field. The second is a name in brackets and may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut field = || fields.next()?.parse::<u64>().ok();
    Some(field()? + field()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_processor_time() {
        let stat = "77 (a) b) S 1 77 77 0 -1 4194560 501 0 9 0 120 34 0 0 20 0 3 0 812 9000 1 2\n";
        assert_eq!(ticks(stat), Some(154));
        assert_eq!(ticks("77 (qemu) S 1 2 3"), None);
        assert_eq!(ticks(""), None);
    }
}
