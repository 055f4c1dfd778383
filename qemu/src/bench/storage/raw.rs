//! Writing 4 KiB at a random place of a disk and flushing it, one at a time: nothing above the device
//! but what each system has there.
//!
//! On Exo the program counts itself (`apps/libostest`), with a clock that counts instructions and
//! stands still while the machine sleeps; on Linux fio is told how many blocks to write, and what
//! more blocks cost more is the cost of a block.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::machines::{Counted, Peer, place};
use crate::bench::load::{Dialect, Load, Offer, Workload};
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
/// Sectors of the extent, and how long a run may take.
const EXTENT: u32 = 64 << 11;
const PATIENCE: Duration = Duration::from_secs(240);

/// Instructions of one write and one flush.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) what: &'static str,
    pub(super) instructions: f64,
}

/// Measures both systems.
///
/// # Errors
/// A machine does not start, or does not write.
pub(super) fn measure(interrupt: &Signals) -> Result<Vec<Row>> {
    let mut rows = exo(interrupt)?;
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
        rows.push(Row { key: engine, what, instructions });
    }
    ensure!(machine.running(), "the guest ended\n{}", machine.report());
    Ok(rows)
}

fn exo(interrupt: &Signals) -> Result<Vec<Row>> {
    note!("bench: raw writes, Exo");
    let directory = tempfile::Builder::new().prefix("exo-bench-").tempdir()?;
    let mut config = Config::new(manifest::read(&workspace::manifest("bench"))?);
    config.manifest.apps.truncate(1);
    for app in &mut config.manifest.apps {
        app.image = "libostest".into();
        app.args = vec!["as=disk-bench".into(), format!("blocks={}", BLOCKS[1])];
        app.disk = Some(DiskShare { name: "raw".into(), sectors: EXTENT });
        app.forward.clear();
    }
    config.disk = Some(place(directory.path()));
    config.network = Network::Frames;
    config.icount = true;
    guest::build(&config.manifest)?;
    let machine = Machine::boot(&config)?;
    let line = machine.wait_for_line("disk: bench ", PATIENCE)?;
    interrupt.check()?;
    let number = |name: &str| -> Result<f64> {
        let word = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        Ok(word.context("it says something else")?.parse()?)
    };
    Ok(vec![
        Row { key: "native", what: "Exo, ring of requests", instructions: number("native")? },
        Row {
            key: "blocking",
            what: "Exo, through the blocking layer, which copies",
            instructions: number("blocking")?,
        },
    ])
}
