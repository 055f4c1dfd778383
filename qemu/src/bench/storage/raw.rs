//! Writing 4 KiB at a random place of a disk and flushing it, one at a time: nothing above the device
//! but what each system has there.
//!
//! fio on Linux, and a program on Exo (`apps/libostest`), are told how many blocks to write; what
//! more blocks cost more is the cost of a block. The guest's processor is held where it sleeps until
//! the disk has answered.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::Monitor;
use super::machines::{Counted, Peer, place};
use crate::bench::counter::{Counter, Counts, wait_for};
use crate::bench::load::{Dialect, Load, Offer, Workload};
use crate::bench::steps::Steps;
use crate::bench::table::Table;
use crate::guest;
use crate::machine::{Config, Machine, Network};
use crate::manifest::{self, DiskShare};
use crate::output::note;
use crate::signals::Signals;
use crate::workspace;

/// Blocks of a short run and of a long one.
const BLOCKS: [usize; 2] = [100, 600];
/// fio's engines.
const ENGINES: [(&str, &str); 3] = [
    ("psync", "Linux, O_DIRECT, pwrite and fdatasync"),
    ("libaio", "Linux, O_DIRECT, libaio and fdatasync"),
    ("io_uring", "Linux, O_DIRECT, io_uring and its fsync"),
];
/// The row of a write alone.
pub(super) const WRITE: &str = "write";
/// The program's ways on Exo.
const WAYS: [Way; 3] = [
    Way { argument: WRITE, what: "Exo, ring of requests, written and not flushed" },
    Way { argument: "native", what: "Exo, ring of requests" },
    Way { argument: "blocking", what: "Exo, as to a file: a slice is copied, each call sleeps" },
];
/// Where the kernel checks a request against its extent, and the rights to that.
const CHECKS: [&str; 2] = ["exo/src/disk/submit.rs sectors", "exo/abi/src/capability.rs allows"];
/// Sectors of the extent, and how long a run may take.
const EXTENT: u32 = 64 << 11;
const PATIENCE: Duration = Duration::from_secs(240);

/// A way to write on Exo.
#[derive(Clone, Copy)]
struct Way {
    argument: &'static str,
    what: &'static str,
}

/// Instructions of one write and, unless it says otherwise, one flush.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) what: &'static str,
    pub(super) instructions: f64,
    /// Of these, those that check extent and rights; not known of Linux.
    pub(super) check: Option<f64>,
}

/// Measures both systems.
///
/// # Errors
/// A machine does not start, or does not write.
pub(super) fn measure(interrupt: &Signals) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for way in WAYS {
        rows.push(exo(way, interrupt)?);
    }
    let counted = Counted::boot(Peer::Fio, interrupt)?;
    let Counted { machine, counter, capture, monitor, address, .. } = &counted;
    let workload = Workload { value_bytes: BLOCKS[0], ..Workload::gets(4, 0) };
    let what = (workload, Dialect::Fio(ENGINES[0].0));
    let mut load = Load::over_tcp(machine, counter, interrupt, capture, what, *address, monitor)?;
    for (engine, what) in ENGINES {
        note!("bench: raw writes, {what}");
        load.speak(Dialect::Fio(engine));
        let mut totals = [0.0; 2];
        for (total, value_bytes) in totals.iter_mut().zip(BLOCKS) {
            load.change_only(Workload { value_bytes, ..workload });
            *total = load.pass(Offer::Held(1), 1)?.total as f64;
        }
        let instructions = (totals[1] - totals[0]) / (BLOCKS[1] - BLOCKS[0]) as f64;
        rows.push(Row { key: engine, what, instructions, check: None });
    }
    ensure!(machine.running(), "the guest ended\n{}", machine.report());
    Ok(rows)
}

/// The same on Exo: two machines that write more and fewer blocks, counted until they sleep for good.
fn exo(way: Way, interrupt: &Signals) -> Result<Row> {
    note!("bench: raw writes, {}", way.what);
    let mut counts = Vec::new();
    for blocks in BLOCKS {
        counts.push(written(way.argument, blocks, interrupt)?);
    }
    let (more, table) = counts.pop().context("two were counted")?;
    let (fewer, _) = counts.pop().context("two were counted")?;
    let counts = more.since(&fewer);
    let each = |count: u64| count as f64 / (BLOCKS[1] - BLOCKS[0]) as f64;
    let checks = counts.by_function().filter(|&(function, ..)| {
        let function = table.functions().get(function);
        function.is_some_and(|function| CHECKS.contains(&function.name.as_str()))
    });
    let check = Some(each(checks.map(|(.., count)| count).sum()));
    Ok(Row { key: way.argument, what: way.what, instructions: each(counts.total), check })
}

/// What a machine takes in all that writes so many blocks.
fn written(way: &str, blocks: usize, interrupt: &Signals) -> Result<(Counts, Table)> {
    let directory = tempfile::Builder::new().prefix("exo-bench-").tempdir()?;
    let mut config = Config::new(manifest::read(&workspace::manifest("bench"))?);
    config.manifest.apps.truncate(1);
    for app in &mut config.manifest.apps {
        app.image = "libostest".into();
        let (way, blocks) = (format!("way={way}"), format!("blocks={blocks}"));
        app.args = vec!["as=disk-bench".into(), way, blocks];
        app.disk = Some(DiskShare { name: "raw".into(), sectors: EXTENT });
        app.forward.clear();
    }
    config.disk = Some(place(directory.path()));
    config.network = Network::Frames;
    config.icount = true;
    guest::build(&config.manifest)?;
    let images = [guest::KERNEL, guest::ROOT, "libostest"];
    let table = Table::of_programs(images, &Steps::of_workspace()?, interrupt)?;
    let counter = Counter::new(&table)?;
    let socket = directory.path().join("monitor");
    config.extra = counter.arguments();
    config.extra.extend(Monitor::arguments(&socket));
    // Let go before the disk has answered, the guest would live through time of its own.
    counter.hold();
    let machine = Machine::boot(&config)?;
    // Its name is there some moments before it listens.
    let mut stream = None;
    let mut connects = || {
        stream = UnixStream::connect(&socket).ok();
        stream.is_some()
    };
    wait_for(&mut connects, "QEMU has no monitor", &machine, interrupt)?;
    let monitor = Monitor::over(stream.context("it connected")?)?;
    let start = Instant::now();
    while machine.wait_for_line("disk: wrote ", Duration::ZERO).is_err() {
        interrupt.check()?;
        ensure!(machine.running() && start.elapsed() < PATIENCE, "no end\n{}", machine.report());
        if counter.is_held() && !monitor.is_busy()? {
            counter.let_one_pass();
        }
    }
    counter.wait_until_at_rest(&machine, interrupt)?;
    Ok((counter.read(), table))
}
