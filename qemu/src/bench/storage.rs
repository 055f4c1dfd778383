//! What it costs that answers are durable.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::conditions::Conditions;
use super::counter::Counter;
use super::get::{store_of, wait_until_serving};
use super::load::{Capture, KEYS, Load, Offer, Verb, Workload};
use super::report::{Stating, save};
use super::steps::Steps;
use super::table::Table;
use crate::disk::Place;
use crate::figures::{self, Named};
use crate::machine::{Config, Machine, Network, option_value};
use crate::manifest::{self, DiskShare};
use crate::output::{note, say};
use crate::signals::Signals;
use crate::{guest, workspace};

/// Sectors of the disk, and of the store's extent.
const DISK: u32 = 256 << 11;
const EXTENT: u32 = 240 << 11;

/// Count guest instructions, flushes and bytes written per durable SET
///
/// Boots boot/manifests/bench.toml without a disk and with one, which is a new file in the
/// directory for temporary ones, and sets 1024 items in turn, one outstanding and 32. QEMU
/// says what was written and flushed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests in each pass
    #[arg(long, default_value_t = 2048, value_name = "N",
          value_parser = RangedU64ValueParser::<u32>::new().range(32..=10_000_000))]
    requests: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 64, value_name = "B",
          value_parser = RangedU64ValueParser::<usize>::new().range(0..=1024))]
    value_bytes: usize,
    /// Where to save the result as JSON
    /// [default: figures/out/storage.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What one SET costs.
#[derive(Debug, Serialize)]
struct Row {
    durable: bool,
    outstanding: u32,
    instructions: f64,
    crossings: f64,
    flushes: f64,
    writes: f64,
    bytes_written: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    unit: &'static str,
    better: &'static str,
    value_bytes: usize,
    conditions: Conditions,
    rows: Vec<Row>,
}

impl Stating for Report {
    fn stated(&self) -> Named {
        let mut named = Named::new();
        for row in &self.rows {
            let kind = if row.durable { "durable" } else { "memory" };
            let name = format!("{kind}.{}", row.outstanding);
            named.insert(format!("{name}.flushes"), format!("{:.2}", row.flushes));
            named.insert(format!("{name}.bytes"), figures::count(row.bytes_written));
            named.insert(name, figures::count(row.instructions));
        }
        named
    }
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    let mut rows = Vec::new();
    for durable in [false, true] {
        rows.extend(measure(args, durable, interrupt)?);
    }
    say!("per SET of a 16 B key and {} B, over UDP; lower is better", args.value_bytes)?;
    say!("answers      outstanding  instructions  crossings  flushes  writes  bytes written")?;
    for row in &rows {
        let kind = if row.durable { "durable" } else { "from memory" };
        say!(
            "{kind:12} {:11} {:13} {:10.2} {:8.3} {:7.3} {:14.0}",
            row.outstanding,
            figures::count(row.instructions),
            row.crossings,
            row.flushes,
            row.writes,
            row.bytes_written
        )?;
    }
    let report = Report {
        unit: "guest instructions per SET",
        better: "lower",
        value_bytes: args.value_bytes,
        conditions: Conditions::now("TCG, -icount shift=0,sleep=off"),
        rows,
    };
    let path = save(&report, args.json.as_deref(), "storage")?;
    say!("\nsaved to {}", path.display())?;
    Ok(())
}

fn measure(args: &Args, durable: bool, interrupt: &Signals) -> Result<Vec<Row>> {
    let mut config = Config::new(manifest::read(&workspace::manifest("bench"))?);
    let store = store_of(&config.manifest)?.clone();
    let address = Ipv4Addr::from(store.address.context("the store has no address")?);
    for app in &mut config.manifest.apps {
        let share = DiskShare { name: "store".into(), sectors: EXTENT };
        app.disk = (app.name == store.name).then_some(share);
    }
    guest::build(&config.manifest)?;
    let table =
        Table::of_programs([guest::KERNEL, guest::ROOT, &store.image], &Steps::of_workspace()?)?;
    let counter = Counter::new(&table)?;
    let dir = tempfile::Builder::new().prefix("exo-bench-").tempdir()?;
    let (disk, monitor) = (dir.path().join("disk"), dir.path().join("monitor"));
    if durable {
        config.disk = Some(Place { path: disk, sectors: Some(DISK) });
    }
    config.network = Network::Frames;
    config.icount = true;
    let capture = Capture::new()?;
    config.extra = counter.arguments();
    config.extra.extend(capture.arguments());
    let mut socket = std::ffi::OsString::from("unix:");
    socket.push(option_value(&monitor));
    socket.push(",server=on,wait=off");
    config.extra.extend(["-qmp".into(), socket]);

    let machine = Machine::boot(&config)?;
    note!("bench: booting, counting every instruction");
    wait_until_serving(&machine, &store.name, interrupt)?;
    counter.ensure_ready(&machine)?;
    let workload = Workload { verb: Verb::Set, ..Workload::gets(16, args.value_bytes) };
    let mut load = Load::start(&machine, &counter, interrupt, &capture, workload, address)?;
    let mut rows = Vec::new();
    for outstanding in [1, 32] {
        note!("bench: {outstanding} outstanding");
        let offer = Offer::Free(outstanding);
        load.pass(offer, KEYS)?;
        let before = Written::read(&monitor)?;
        let counts = load.pass(offer, args.requests)?;
        let after = Written::read(&monitor)?;
        let each = |count: u64| count as f64 / f64::from(args.requests);
        rows.push(Row {
            durable,
            outstanding,
            instructions: each(counts.total),
            crossings: each(counts.calls),
            flushes: each(after.flush_operations - before.flush_operations),
            writes: each(after.wr_operations - before.wr_operations),
            bytes_written: each(after.wr_bytes - before.wr_bytes),
        });
    }
    ensure!(machine.running(), "the guest ended\n{}", machine.report());
    drop(load);
    Ok(rows)
}

/// What QEMU has done to the disk, if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
struct Written {
    wr_bytes: u64,
    wr_operations: u64,
    flush_operations: u64,
}

impl Written {
    /// Asks QEMU's monitor (QMP).
    fn read(monitor: &Path) -> Result<Self> {
        let mut stream = UnixStream::connect(monitor).context("QEMU's monitor")?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        for command in ["qmp_capabilities", "query-blockstats"] {
            writeln!(stream, "{{\"execute\": \"{command}\"}}")?;
        }
        // A greeting and an answer to each; events may come in between.
        let answers = lines.by_ref().map(|line| Ok(serde_json::from_str::<Value>(&line?)?));
        let answers = answers.filter(|answer: &Result<Value>| {
            answer.as_ref().map_or(true, |answer| answer.get("return").is_some())
        });
        let answer = answers.take(2).last().context("QEMU's monitor says nothing")??;
        Self::of(&answer)
    }

    /// From the answer to `query-blockstats`.
    fn of(answer: &Value) -> Result<Self> {
        let devices = answer.get("return").and_then(Value::as_array);
        let disk = devices.and_then(|devices| devices.first());
        let Some(stats) = disk.and_then(|disk| disk.get("stats")) else {
            return Ok(Self::default());
        };
        Ok(serde_json::from_value(stats.clone())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_qemu_says_is_read() {
        let answer = r#"{"return": [{"device": "disk", "stats":
            {"wr_bytes": 1024, "wr_operations": 2, "flush_operations": 3, "rd_bytes": 7}}]}"#;
        let written = Written { wr_bytes: 1024, wr_operations: 2, flush_operations: 3 };
        assert_eq!(Written::of(&serde_json::from_str(answer).unwrap()).unwrap(), written);
        let none = serde_json::from_str(r#"{"return": []}"#).unwrap();
        assert_eq!(Written::of(&none).unwrap(), Written::default());
    }
}
