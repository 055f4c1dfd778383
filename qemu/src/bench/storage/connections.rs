//! Requests over TCP, of the durable store and of Redis: one client, 32 clients with a request
//! each that are all there when the guest wakes, and one client that pipelines 50.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::machines::{Counted, Peer};
use super::stages::{self, Stage};
use crate::bench::counter::Counts;
use crate::bench::load::{Dialect, Load, Offer, Phases, Verb, Workload};
use crate::output::note;
use crate::signals::Signals;

/// Clients and requests that each has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Asking {
    pub(crate) clients: u16,
    pub(crate) pipeline: u32,
}

/// One client; one that pipelines; many, last, as connections stay.
pub(crate) const WAYS: [Asking; 3] = [
    Asking { clients: 1, pipeline: 1 },
    Asking { clients: 1, pipeline: 50 },
    Asking { clients: 32, pipeline: 1 },
];
/// Requests of a pass, and passes that count, after one that does not.
const REQUESTS: u32 = 256;
const PASSES: u32 = 3;

/// What one request costs, on average of all passes.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    #[serde(skip)]
    pub(crate) peer: Peer,
    pub(super) name: &'static str,
    pub(crate) verb: Verb,
    #[serde(flatten)]
    pub(crate) asking: Asking,
    /// Each round of a repeated string instruction counted.
    pub(crate) instructions: f64,
    /// The same, a repeated string instruction counted once.
    pub(crate) repeats_once: f64,
    pub(crate) kernel: f64,
    pub(crate) system_calls: f64,
    pub(crate) sleeps: f64,
    pub(crate) flushes: f64,
    pub(crate) writes: f64,
    pub(crate) bytes_written: f64,
    /// Least and most of the passes' [`Row::instructions`].
    pub(super) spread: (f64, f64),
    /// Of a SET, where its instructions lie.
    pub(crate) stages: Vec<Stage>,
}

impl Asking {
    /// Requests that are outstanding together.
    pub(super) fn outstanding(self) -> u32 {
        u32::from(self.clients) * self.pipeline
    }

    /// For a table.
    pub(crate) fn title(self) -> String {
        match self {
            Self { clients: 1, pipeline: 1 } => "1 client".to_owned(),
            Self { clients, pipeline: 1 } => format!("{clients} clients"),
            Self { clients, pipeline } => format!("{clients} client, pipeline {pipeline}"),
        }
    }

    /// For a figure's name.
    pub(super) fn key(self) -> String {
        match self.pipeline {
            1 => self.clients.to_string(),
            pipeline => format!("pipeline-{pipeline}"),
        }
    }
}

/// Counts SETs and GETs of `peer`.
///
/// # Errors
/// It does not boot or serve, or answers wrongly.
pub(crate) fn measure(value_bytes: usize, peer: Peer, interrupt: &Signals) -> Result<Vec<Row>> {
    let counted = Counted::boot(peer, interrupt)?;
    let Counted { machine, counter, capture, monitor, address, table, .. } = &counted;
    let dialect = if peer == Peer::Redis { Dialect::Redis } else { Dialect::Memcached };
    let set = Workload { verb: Verb::Set, ..Workload::gets(16, value_bytes) };
    let get = Workload { verb: Verb::Get, ..set };
    let (what, at) = ((set, dialect), *address);
    let mut load = Load::over_tcp(machine, counter, interrupt, capture, what, at, monitor)?;
    let mut rows = Vec::new();
    for asking in WAYS {
        load.connect_more(asking.clients)?;
        let outstanding = asking.outstanding();
        let offer = Offer::Held(outstanding);
        for workload in [set, get] {
            note!("bench: {}: {}, {}", peer.name(), workload.verb.name(), asking.title());
            load.change_only(workload);
            let requests = REQUESTS.next_multiple_of(outstanding);
            load.pass(offer, requests)?;
            // The durable store asks its disk twice: to write, and to flush.
            let sleeps = (peer != Peer::Redis).then_some(2);
            load.divide(Phases::of(sleeps));
            let before = monitor.written()?;
            let mut passes = Vec::new();
            for _ in 0..PASSES {
                passes.push(load.pass(offer, requests)?);
            }
            let phases = load.divided().unwrap_or_default();
            let written = monitor.written()?.since(before);
            let all = f64::from(requests * PASSES);
            let each = |count: u64| count as f64 / all;
            let sum = |count: fn(&Counts) -> u64| each(passes.iter().map(count).sum());
            let totals = passes.iter().map(|pass| pass.total as f64 / f64::from(requests));
            rows.push(Row {
                peer,
                name: peer.key(),
                verb: workload.verb,
                asking,
                instructions: sum(|counts| counts.total),
                repeats_once: sum(Counts::repeats_once),
                kernel: sum(Counts::kernel),
                system_calls: sum(|counts| counts.calls),
                sleeps: sum(|counts| counts.halts),
                flushes: each(written.flush_operations),
                writes: each(written.wr_operations),
                bytes_written: each(written.wr_bytes),
                spread: (totals.clone().fold(f64::INFINITY, f64::min), totals.fold(0.0, f64::max)),
                stages: stages::of(&phases, outstanding, table.as_ref()),
            });
        }
    }
    ensure!(machine.running(), "the guest ended\n{}", machine.report());
    Ok(rows)
}
