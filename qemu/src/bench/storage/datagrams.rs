//! SETs over UDP, offered freely: how they fall together is the guest's doing.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::Args;
use super::machines::{Counted, Peer};
use crate::bench::load::{KEYS, Load, Offer, Verb, Workload};
use crate::output::note;
use crate::signals::Signals;

/// What one SET costs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) durable: bool,
    pub(super) outstanding: u32,
    pub(super) instructions: f64,
    pub(super) crossings: f64,
    pub(super) flushes: f64,
    pub(super) writes: f64,
    pub(super) bytes_written: f64,
}

/// Counts with one outstanding and with 32.
pub(super) fn measure(args: &Args, durable: bool, interrupt: &Signals) -> Result<Vec<Row>> {
    let peer = Counted::boot(Peer::Exo { durable }, interrupt)?;
    let Counted { machine, counter, capture, monitor, address, .. } = &peer;
    let workload = Workload { verb: Verb::Set, ..Workload::gets(16, args.value_bytes) };
    let mut load = Load::start(machine, counter, interrupt, capture, workload, *address)?;
    let mut rows = Vec::new();
    for outstanding in [1, 32] {
        note!("bench: {outstanding} outstanding");
        let offer = Offer::Free(outstanding);
        load.pass(offer, KEYS)?;
        let before = monitor.written()?;
        let counts = load.pass(offer, args.requests)?;
        let written = monitor.written()?.since(before);
        let each = |count: u64| count as f64 / f64::from(args.requests);
        rows.push(Row {
            durable,
            outstanding,
            instructions: each(counts.total),
            crossings: each(counts.calls),
            flushes: each(written.flush_operations),
            writes: each(written.wr_operations),
            bytes_written: each(written.wr_bytes),
        });
    }
    ensure!(machine.running(), "the guest ended\n{}", machine.report());
    Ok(rows)
}
