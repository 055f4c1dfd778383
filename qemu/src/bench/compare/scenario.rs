//! Which requests, and how many are there when the guest wakes.

use serde::Serialize;

use crate::bench::load::{Verb, Workload};

/// One way of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Scenario {
    pub(crate) verb: Verb,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    /// Requests that are in the NIC's ring when the guest wakes.
    pub(crate) outstanding: u32,
}

/// "Saturated": what the published table 4.1 calls it, as many as one poll of Linux's NIC
/// driver takes in at once (64) would be no more.
pub(crate) const SATURATED: u32 = 32;

/// Bytes of keys and values: those of Unbuckle's table 4.1 and a packet full.
const SIZES: [(usize, usize); 3] = [(16, 64), (64, 1024), (128, 1024)];

impl Scenario {
    /// All of them.
    pub(crate) fn all() -> Vec<Self> {
        Self::of(&SIZES)
    }

    /// Small requests only.
    pub(crate) fn quick() -> Vec<Self> {
        Self::of(SIZES.get(..1).unwrap_or_default())
    }

    fn of(sizes: &[(usize, usize)]) -> Vec<Self> {
        let mut all = Vec::new();
        for &(key_bytes, value_bytes) in sizes {
            for verb in [Verb::Get, Verb::Set] {
                for outstanding in [1, SATURATED] {
                    all.push(Self { verb, key_bytes, value_bytes, outstanding });
                }
            }
        }
        all
    }

    /// What a store is asked, or a service that sends back what it gets.
    pub(crate) fn workload(self, echo: bool) -> Workload {
        let verb = if echo { Verb::Echo } else { self.verb };
        Workload { verb, key_bytes: self.key_bytes, value_bytes: self.value_bytes }
    }

    /// For a column.
    pub(crate) fn title(self) -> String {
        let verb = self.verb.name();
        let Self { key_bytes, value_bytes, outstanding, .. } = self;
        format!("{verb} {key_bytes}/{value_bytes}, {outstanding} at a time")
    }
}
