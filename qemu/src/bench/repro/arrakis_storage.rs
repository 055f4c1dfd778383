//! Arrakis' Redis table: what a read hit and a durable write cost, and where.

use anyhow::Result;

use super::arrakis::WORK;
use super::experiments::Experiment;
use super::ours::{Effort, Grid, Ours};
use super::published::{Amount, Beside, Published, Unit, instructions, microseconds};
use crate::bench::compare::measure::MACHINE;
use crate::bench::load::Verb;
use crate::bench::storage::{self, Asking, Peer, Row, WAYS};
use crate::output::note;
use crate::signals::Signals;

/// A line of the table, or of what it sums up.
const fn part(
    key: &'static str,
    what: &'static str,
    value: f64,
    beside: &'static [Beside],
) -> Published {
    microseconds("table 2", key, what, Amount::Is(value), beside)
}

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "arrakis-storage",
    title: "A store's read hit and durable write: event, stack, store, log and persistence",
    works: &[&WORK],
    published: &[
        part(
            "linux-read",
            "Redis on Linux, read hit, all",
            8.67,
            &[instructions("redis-get", "Redis on Linux: GET, one client")],
        ),
        part("linux-read-epoll", "its epoll", 2.42, &[]),
        part("linux-read-recv", "its recv", 0.98, &[]),
        part("linux-read-parse", "its parsing", 0.85, &[]),
        part("linux-read-lookup", "its look-up", 0.10, &[]),
        part("linux-read-response", "its response, prepared", 0.60, &[]),
        part("linux-read-send", "its send", 3.17, &[]),
        part("linux-read-other", "its other", 0.55, &[]),
        part(
            "arrakis-read",
            "Redis on Arrakis, read hit, all",
            4.07,
            &[instructions("exo-get", "our store on Exo with a disk: GET over TCP, one client")],
        ),
        part("arrakis-read-epoll", "its epoll", 1.12, &[]),
        part("arrakis-read-recv", "its recv", 0.29, &[]),
        part("arrakis-read-parse", "its parsing", 0.66, &[]),
        part("arrakis-read-lookup", "its look-up", 0.10, &[]),
        part("arrakis-read-response", "its response, prepared", 0.64, &[]),
        part("arrakis-read-send", "its send", 0.71, &[]),
        part("arrakis-read-other", "its other", 0.46, &[]),
        part(
            "linux-write",
            "Redis on Linux, durable write, all",
            163.14,
            &[
                instructions("redis-set", "Redis on Linux, appendfsync always: SET, one client"),
                instructions("redis-set-many", "the same with 32 clients"),
            ],
        ),
        part(
            "linux-write-epoll",
            "its epoll",
            2.64,
            &[instructions("redis-before", "up to its first sleep for the disk")],
        ),
        part("linux-write-recv", "its recv", 1.55, &[]),
        part("linux-write-parse", "its parsing", 2.34, &[]),
        part("linux-write-set", "its setting of the key", 1.03, &[]),
        part("linux-write-marshal", "its log marshalling", 3.64, &[]),
        part("linux-write-write", "its write", 6.33, &[]),
        part(
            "linux-write-fsync",
            "its fsync",
            137.84,
            &[instructions("redis-between", "between the disk's answers")],
        ),
        part("linux-write-response", "its response, prepared", 0.59, &[]),
        part(
            "linux-write-send",
            "its send",
            5.06,
            &[instructions("redis-after", "after the disk's last answer")],
        ),
        part("linux-write-other", "its other", 2.12, &[]),
        part(
            "arrakis-write",
            "Redis on Arrakis, durable write, all",
            31.51,
            &[
                instructions("exo-set", "our store on Exo: SET over TCP, one client"),
                instructions("exo-set-many", "the same with 32 clients"),
            ],
        ),
        part(
            "arrakis-write-epoll",
            "its epoll",
            1.49,
            &[instructions("exo-event", "waking, scheduling and crossings")],
        ),
        part(
            "arrakis-write-recv",
            "its recv",
            0.66,
            &[
                instructions("exo-receive", "receive, classify, deliver"),
                instructions("exo-stack", "TCP and IP, in and out"),
            ],
        ),
        part(
            "arrakis-write-parse",
            "its parsing",
            1.19,
            &[instructions("exo-parse", "parsing, and preparing the response")],
        ),
        part(
            "arrakis-write-set",
            "its setting of the key",
            0.43,
            &[instructions("exo-store", "look-up, setting the key")],
        ),
        part(
            "arrakis-write-marshal",
            "its log marshalling",
            2.43,
            &[instructions("exo-marshal", "log marshalling, checksum")],
        ),
        part(
            "arrakis-write-write",
            "its write",
            0.10,
            &[instructions("exo-write", "asking for the write, up to the first sleep")],
        ),
        part(
            "arrakis-write-fsync",
            "its fsync",
            24.26,
            &[instructions("exo-persist", "from the first sleep until the flush is answered")],
        ),
        part("arrakis-write-response", "its response, prepared", 0.10, &[]),
        part(
            "arrakis-write-send",
            "its send",
            0.33,
            &[instructions("exo-send", "step 6: transmit")],
        ),
        part(
            "arrakis-write-other",
            "its other",
            0.52,
            &[instructions("exo-other", "main loop, and what has no stage")],
        ),
        Published {
            key: "write-times",
            what: "a durable write on Linux over one on Arrakis",
            value: Amount::Is(5.18),
            unit: Unit::Times,
            place: "table 2, of its totals",
            beside: &[Beside {
                key: "set-times",
                what: "instructions of Redis on Linux over our store's on Exo, one client",
                unit: Unit::Times,
            }],
        },
    ],
    differs: "Published are times of one store on two systems, waiting for an SSD-backed log \
              included; ours are instructions of two stores, each on its own system, with an \
              emulated disk that is a file of the host, so that waiting costs nothing.",
    left_out: &[
        "Redis on Exo: it would take a C library and what it asks of one.",
        "Stages of Redis in user space and in Linux's kernel: their packages have no symbols; what \
         lies between sleeps stands in their place.",
        "Time: `cargo exo bench storage` takes it of the two in turn.",
    ],
    minutes: 6,
    machine: Some(MACHINE),
    measure,
};

const ONE: Asking = WAYS[0];
const MANY: Asking = WAYS[2];

fn measure(_: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours { facts: storage::facts()?, ..Ours::default() };
    let mut rows = Vec::new();
    for peer in [Peer::Exo { durable: true }, Peer::Redis] {
        note!("repro: {}", peer.name());
        rows.extend(storage::measure(64, peer, interrupt)?);
    }
    let find = |peer: Peer, verb: Verb, asking: Asking| {
        rows.iter().find(|row| (row.peer, row.verb, row.asking) == (peer, verb, asking))
    };
    let (exo, redis) = (Peer::Exo { durable: true }, Peer::Redis);
    let of = |peer, verb, asking| find(peer, verb, asking).map(|row| row.instructions);
    ours.put("redis-get", of(redis, Verb::Get, ONE));
    ours.put("exo-get", of(exo, Verb::Get, ONE));
    ours.put("redis-set", of(redis, Verb::Set, ONE));
    ours.put("redis-set-many", of(redis, Verb::Set, MANY));
    ours.put("exo-set", of(exo, Verb::Set, ONE));
    ours.put("exo-set-many", of(exo, Verb::Set, MANY));
    let times = of(redis, Verb::Set, ONE).zip(of(exo, Verb::Set, ONE));
    ours.put("set-times", times.map(|(redis, exo)| redis / exo));
    for peer in [exo, redis] {
        let stages = find(peer, Verb::Set, ONE).map(|row| &row.stages[..]).unwrap_or_default();
        // Those of Redis in user space and in the kernel have one name.
        for (index, stage) in stages.iter().enumerate() {
            let same = || stages.iter().filter(|other| other.key == stage.key);
            if stages.iter().position(|other| other.key == stage.key) == Some(index) {
                ours.put(stage.key, Some(same().map(|stage| stage.instructions).sum()));
            }
        }
    }
    for verb in [Verb::Get, Verb::Set] {
        let row = |row: &Row| {
            let Row { instructions, repeats_once, kernel, system_calls, .. } = *row;
            let counts = [instructions, repeats_once, kernel, system_calls, row.sleeps];
            let disk = [row.flushes, row.writes, row.bytes_written];
            let name = format!("{}, {}", row.peer.name(), row.asking.title());
            (name, counts.into_iter().chain(disk).map(Some).collect())
        };
        ours.grids.push(Grid {
            title: format!("{} over TCP, 16/64, per request; lower is better", verb.name()),
            columns: [
                "instructions",
                "rep once",
                "kernel",
                "system calls",
                "sleeps",
                "flushes",
                "writes",
                "bytes written",
            ]
            .map(Into::into)
            .into(),
            rows: rows.iter().filter(|row| row.verb == verb).map(row).collect(),
        });
    }
    Ok(ours)
}
