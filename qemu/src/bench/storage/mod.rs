//! What it costs that answers are durable.
//!
//! | file | what it is |
//! |---|---|
//! | [`datagrams`] | SETs over UDP, with a disk and without |
//! | [`connections`] | SETs and GETs over TCP, beside Redis with `appendfsync always` |
//! | [`stages`] | where the instructions of a SET lie |
//! | [`time`] | time of both, in turn |
//! | [`raw`] | 4 KiB written and flushed, with nothing above the device |
//! | [`restart`] | starting a store that holds many items |
//! | [`machines`] | what is booted |
//! | [`monitor`] | QEMU's monitor: what was done to the disk |
//! | [`report`] | all of it as text and JSON, and what is promised of it |

mod connections;
mod datagrams;
mod machines;
mod monitor;
mod raw;
mod report;
mod restart;
mod stages;
mod time;

use std::path::PathBuf;

use anyhow::Result;
use clap::builder::RangedU64ValueParser;

use super::conditions::Conditions;
use super::get::{self, Plan};
use super::load::{KEYS, Transport};
use super::report::{Scenario, save};
use crate::linux::{Fio, Kernel, Redis};
use crate::output::{self, note, say};
use crate::signals::Signals;
pub(crate) use connections::{Asking, Row, WAYS, measure};
pub(crate) use machines::Peer;
pub(crate) use monitor::Monitor;
use report::{Hit, Report};

/// Count guest instructions, flushes and bytes written per durable SET, beside Redis
///
/// Boots boot/manifests/bench.toml without a disk and with one, which is a new file in the
/// directory for temporary ones, and sets 1024 items in turn. QEMU says what was written and
/// flushed. Beside it Redis with `appendfsync always` in a Linux guest, behind the same virtual
/// device with the same cache mode: instructions over TCP, with one client, 32, and one that
/// pipelines 50; and time, the two machines asked in turn.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests in each pass over UDP
    #[arg(long, default_value_t = 2048, value_name = "N",
          value_parser = RangedU64ValueParser::<u32>::new().range(32..=10_000_000))]
    requests: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 64, value_name = "B",
          value_parser = RangedU64ValueParser::<usize>::new().range(0..=1024))]
    value_bytes: usize,
    /// Leave out Redis, and what is measured over TCP to stand beside it
    #[arg(long)]
    no_redis: bool,
    /// Leave out raw writes, of Exo and of fio
    #[arg(long)]
    no_raw: bool,
    /// Items of a store that is started anew; 0 to leave that out. A million takes minutes
    #[arg(long, default_value_t = 100_000, value_name = "N",
          value_parser = RangedU64ValueParser::<u32>::new().range(0..=4_000_000))]
    restart: u32,
    /// Leave out time
    #[arg(long)]
    no_time: bool,
    /// Where to save the result as JSON
    /// [default: figures/out/storage.json]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    let mut report =
        Report::new(args.value_bytes, Conditions::now("TCG, -icount shift=0,sleep=off"));
    for durable in [false, true] {
        report.datagrams.extend(datagrams::measure(args, durable, interrupt)?);
        report.hits.push(hit(durable, interrupt)?);
    }
    if !args.no_redis {
        report.facts = facts()?;
        for peer in [Peer::Exo { durable: true }, Peer::Redis] {
            report.connections.extend(measure(args.value_bytes, peer, interrupt)?);
        }
        if !args.no_time {
            report.times = time::measure(args, interrupt)?;
        }
    }
    if !args.no_raw {
        report.facts.extend(Fio::facts()?);
        report.raw = raw::measure(interrupt)?;
    }
    if args.restart > 0 {
        report.start = Some(restart::measure(args.restart, interrupt)?);
    }
    let path = save(&report, args.json.as_deref(), "storage")?;
    output::print(report.text())?;
    say!("\nsaved to {}", path.display())?;
    Ok(())
}

/// What a GET costs over UDP, with a disk beside the store or without.
fn hit(durable: bool, interrupt: &Signals) -> Result<Hit> {
    note!("bench: GETs, {} a disk", if durable { "with" } else { "without" });
    let directory = tempfile::Builder::new().prefix("exo-bench-").tempdir()?;
    let mut config = machines::exo()?;
    config.disk = durable.then(|| machines::place(directory.path()));
    let plan = Plan::gets(Transport::Udp, 32, KEYS);
    let (_, scenarios) = get::count(config, &plan, interrupt)?;
    let totals: Vec<f64> = scenarios.iter().map(Scenario::total).collect();
    let of = |index: usize| totals.get(index).copied().unwrap_or_default();
    Ok(Hit { durable, one: of(0), batch: of(1) })
}

/// What stands beside: versions, command lines and settings.
///
/// # Errors
/// It is not kept and cannot be fetched.
pub(crate) fn facts() -> Result<Vec<String>> {
    let kernel = Kernel::of_distribution()?;
    let version = kernel.version().unwrap_or("unknown");
    let mut facts = vec![format!("Linux {} (package {version})", kernel.release())];
    facts.extend(Redis::facts()?);
    Ok(facts)
}
