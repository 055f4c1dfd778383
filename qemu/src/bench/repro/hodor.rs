//! The store as a protected library of its clients, beside Hodor's memcached.

use anyhow::Result;

use super::experiments::Experiment;
use super::ours::{Effort, Grid, Ours};
use super::published::{Amount, Beside, Published, Unit, Work};
use crate::bench::colocated;
use crate::signals::Signals;

const HODOR: Work = Work {
    cite: "C. Kjellqvist, M. Hedayati and M. L. Scott, \"Safe, Fast Sharing of memcached as a Protected Library\" (Hodor), ICPP, 2020",
    conditions: "protection keys of a processor; latency beside clients over sockets of the same machine",
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "hodor",
    title: "A store that clients call",
    works: &[&HODOR],
    published: &[Published {
        key: "latency",
        what: "memcached as a protected library, how many times lower latency than over sockets",
        value: Amount::Between(11.0, 56.0),
        unit: Unit::Times,
        place: "latency",
        beside: &[
            Beside {
                key: "unix",
                what: "GET 16/64 over a Unix socket of Linux over Exo's gate with keys, instructions",
                unit: Unit::Times,
            },
            Beside { key: "tcp", what: "the same over TCP loopback", unit: Unit::Times },
            Beside {
                key: "unix-transfer",
                what: "over a Unix socket of Linux over Exo's transfer, instructions",
                unit: Unit::Times,
            },
        ],
    }],
    differs: "Hodor's figures are times; here instructions are counted, which leave out what a change of the key \
              register costs a processor, or, by transfer, one of address spaces.",
    left_out: &["Throughput of several clients in time: `cargo exo run colocated` prints it."],
    minutes: 4,
    machine: Some(colocated::MACHINE),
    measure,
};

fn measure(_: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let report = colocated::measure(false, interrupt)?;
    let rows = colocated::WAYS.into_iter().map(|(way, title)| {
        let of = |(request, _): (&str, &str)| report.of(way, request);
        (title.to_owned(), colocated::REQUESTS.into_iter().map(of).collect())
    });
    ours.grids.push(Grid {
        title: "Instructions per request, kernel, store and client, median; lower is better"
            .to_owned(),
        columns: colocated::REQUESTS.into_iter().map(|(_, title)| title.to_owned()).collect(),
        rows: rows.collect(),
    });
    ours.put("unix", report.times("unix", "gate", "get/64"));
    ours.put("tcp", report.times("tcp", "gate", "get/64"));
    ours.put("unix-transfer", report.times("unix", "transfer", "get/64"));
    ours.facts.push("memcached: one worker, no_lru_maintainer; default mitigations".to_owned());
    Ok(ours)
}
