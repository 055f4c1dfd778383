//! One look at a machine.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use exo_abi::{FrameKind, MAX_CORES, SLOT_COUNT, SystemInfo};

use crate::inspect::rings::rings;
use crate::inspect::{Environment, Memory, Published};

/// Everything that is shown, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    /// Processors at work.
    pub(crate) cores: usize,
    /// Page frames, and how many of them are free.
    pub(crate) frames: usize,
    pub(crate) free: usize,
    /// The kernel's counters, each with its name, in the order of [`COUNTERS`].
    pub(crate) counters: Vec<u64>,
    /// The owner of each slot of each processor.
    pub(crate) slots: Vec<Vec<u32>>,
    pub(crate) environments: Vec<Row>,
}

/// An environment and its packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) environment: Environment,
    /// Packets delivered to it, and those that the kernel took from it, modulo 2^32.
    pub(crate) delivered: u32,
    pub(crate) taken: u32,
}

type Counter = fn(&SystemInfo) -> &AtomicU64;

/// The kernel's counters that are shown.
pub(crate) const COUNTERS: [(&str, Counter); 13] = [
    ("calls", |info| &info.calls),
    ("traps", |info| &info.traps),
    ("switches", |info| &info.switches),
    ("halts", |info| &info.halts),
    ("received", |info| &info.received),
    ("unclaimed", |info| &info.unclaimed),
    ("overflowed", |info| &info.overflowed),
    ("transmitted", |info| &info.transmitted),
    ("refused", |info| &info.refused),
    ("notifications", |info| &info.notifications),
    ("bytes copied", |info| &info.copied),
    ("disk requests", |info| &info.disk_requests),
    ("ticks in ring 0", |info| &info.elevated),
];

impl Sample {
    /// Looks at the machine.
    pub(crate) fn take(memory: &Memory, published: &Published<'_>) -> Self {
        let Published { info, frames, .. } = published;
        let is_free =
            |frame: &&exo_abi::FrameInfo| frame.kind.load(Relaxed) == FrameKind::Free as u8;
        let cores = (info.cores.load(Relaxed) as usize).clamp(1, MAX_CORES);
        let slots = info.slots.owners.chunks(SLOT_COUNT).take(cores);
        let row = |environment: Environment| {
            let counts = rings(&environment);
            let counts = counts.iter().filter_map(|ring| ring.counts(memory));
            let sum = counts.fold((0_u32, 0_u32), |(delivered, taken), counts| {
                (delivered.wrapping_add(counts.delivered), taken.wrapping_add(counts.taken))
            });
            Row { environment, delivered: sum.0, taken: sum.1 }
        };
        Self {
            at: Instant::now(),
            cores,
            frames: frames.len(),
            free: frames.iter().filter(is_free).count(),
            counters: COUNTERS.iter().map(|(_, counter)| counter(info).load(Relaxed)).collect(),
            slots: slots
                .map(|slots| slots.iter().map(|slot| slot.load(Relaxed)).collect())
                .collect(),
            environments: published.environments().into_iter().map(row).collect(),
        }
    }
}
