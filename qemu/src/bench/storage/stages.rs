//! Where the instructions of a durable SET lie, in the stages of Arrakis' table.
//!
//! On Exo each instruction has a function with a source file, and a row of the packet path. Asking
//! the disk to write and asking it to flush is the same code, so the guest's sleeps tell these two
//! apart: before the first it has asked for the write, and persistence is what it does from then on
//! until the disk has answered the flush. Of Linux and Redis there are no symbols here: only what
//! lies between the sleeps, and what of it is the kernel's.

use serde::Serialize;

use crate::bench::load::Phases;
use crate::bench::rows::Row;
use crate::bench::table::{Function, Table};

/// A stage, and instructions per request.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Stage {
    /// For a published table.
    #[serde(skip)]
    pub(crate) key: &'static str,
    pub(super) name: &'static str,
    pub(crate) instructions: f64,
}

/// A stage's key and name.
type Name = (&'static str, &'static str);

const EVENT: Name = ("exo-event", "event: waking, scheduling, crossings");
const RECEIVE: Name = ("exo-receive", "receive: NIC, classify, deliver");
const STACK: Name = ("exo-stack", "TCP/IP, in and out");
const PARSE: Name = ("exo-parse", "parse, prepare response");
const STORE: Name = ("exo-store", "look-up, set key");
const MARSHAL: Name = ("exo-marshal", "log marshalling, checksum");
const WRITE: Name = ("exo-write", "log write");
const PERSIST: Name = ("exo-persist", "persistence");
const SEND: Name = ("exo-send", "send");
const OTHER: Name = ("exo-other", "other");
const STAGES: [Name; 10] =
    [EVENT, RECEIVE, STACK, PARSE, STORE, MARSHAL, WRITE, PERSIST, SEND, OTHER];

/// Of Redis, by sleeps.
const SLEEPS: [[Name; 2]; 3] = [
    [
        ("redis-before", "until its first sleep for the disk, user space"),
        ("redis-before", "the same, kernel"),
    ],
    [
        ("redis-between", "between the disk's answers, user space"),
        ("redis-between", "the same, kernel"),
    ],
    [("redis-after", "after the last of them, user space"), ("redis-after", "the same, kernel")],
];

/// The stages of a request, of which `outstanding` are a batch. None if no batch was divided.
pub(super) fn of(phases: &Phases, outstanding: u32, table: Option<&Table>) -> Vec<Stage> {
    if phases.counted == 0 {
        return Vec::new();
    }
    let requests = f64::from(phases.counted) * f64::from(outstanding);
    let stage =
        |(key, name): Name, count: u64| Stage { key, name, instructions: count as f64 / requests };
    let Some(table) = table else {
        let parts = SLEEPS.iter().zip(&phases.sums);
        return parts
            .flat_map(|(&[user, kernel], sum)| [stage(user, sum.user), stage(kernel, sum.kernel())])
            .collect();
    };
    let mut sums = [0; STAGES.len()];
    for (phase, counts) in phases.sums.iter().enumerate() {
        for (function, row, count) in counts.by_function() {
            let Some((function, row)) = table.functions().get(function).zip(Row::ALL.get(row))
            else {
                continue;
            };
            let name = stage_of(phase, *row, function);
            let index = STAGES.iter().position(|&stage| stage == name);
            if let Some(sum) = index.and_then(|index| sums.get_mut(index)) {
                *sum += count;
            }
        }
    }
    STAGES.iter().zip(sums).map(|(name, count)| stage(*name, count)).collect()
}

/// The stage of an instruction: between which sleeps, in which row, of which function.
fn stage_of(phase: usize, row: Row, function: &Function) -> Name {
    let of = |paths: &[&str]| paths.iter().any(|path| function.name.starts_with(path));
    // All of it waits for the disk; the store has nothing else to do.
    if phase == 1 {
        return PERSIST;
    }
    if of(&["apps/kvstore/src/engine/journal.rs", "libos/src/storage/entry.rs"])
        || function.name.contains("crc32fast")
    {
        return MARSHAL;
    }
    let storage = [
        "libos/src/storage",
        "libos/src/disk",
        "exo/src/disk",
        "exo/src/calls/disk.rs",
        "exo/abi/src/disk.rs",
        "apps/kvstore/src/durable.rs",
    ];
    if of(&storage) {
        return if phase == 0 { WRITE } else { PERSIST };
    }
    match row {
        Row::Receive | Row::Classify | Row::Deliver => RECEIVE,
        Row::UdpIp => STACK,
        Row::Transmit => SEND,
        Row::Crossing | Row::Schedule => EVENT,
        _ if of(&["apps/kvstore/src/engine"]) => STORE,
        Row::Answer => PARSE,
        Row::MainLoop | Row::Other => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_their_stages() {
        for (phase, row, name, stage) in [
            (0, Row::Answer, "apps/kvstore/src/engine/store.rs put", STORE),
            (0, Row::Answer, "apps/kvstore/src/engine/journal.rs add", MARSHAL),
            (0, Row::Other, "crc32fast::specialized::calculate", MARSHAL),
            (0, Row::Answer, "apps/kvstore/src/stream/text.rs step", PARSE),
            (0, Row::Answer, "memcpy", PARSE),
            (0, Row::Other, "libos/src/disk/driver.rs submit", WRITE),
            (1, Row::Other, "libos/src/disk/driver.rs submit", PERSIST),
            (1, Row::Schedule, "exo/src/trap.rs halt", PERSIST),
            (2, Row::Other, "exo/src/disk/mod.rs take_back", PERSIST),
            (2, Row::Transmit, "exo/src/net/nic.rs send", SEND),
            (0, Row::Classify, "dpf/src/trie.rs walk", RECEIVE),
        ] {
            let function = Function { image: "kvstore".into(), name: name.into() };
            assert_eq!(stage_of(phase, row, &function), stage, "{phase} {name}");
        }
    }
}
