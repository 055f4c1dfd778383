//! Which loads, how long, how often.

use std::time::Duration;

use exo_load::search::Objective;
use exo_load::{Popularity, Schedule, Sizes, Workload};
use serde::Serialize;

use super::super::contender::Contender;
use crate::bench::load::Verb;

/// Requests outstanding: one client that waits; many; and more than any of them needs to be
/// busy all the time.
pub(crate) const OUTSTANDING: [u32; 3] = [1, 64, SATURATED];
/// The guest never sleeps, and all of a batch is there when it looks.
pub(crate) const SATURATED: u32 = 80;
/// What a request is given up after.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);
/// Latency that the sweep keeps: 99 % within a millisecond.
pub(crate) const OBJECTIVE: Objective = Objective { percentile: 99.0, within: 1_000_000 };
/// How close the sweep comes to the knee, as a share.
pub(crate) const RESOLUTION: f64 = 0.05;
/// Different keys; all fit every contender's memory.
const KEYS: u32 = 10_000;
/// About what a pair takes to boot, and its stores to be filled.
const BOOT: f64 = 8.0;
/// About how many rates a search tries.
const TRIALS: f64 = 10.0;

/// What every pair goes through.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// Requests to be compared.
    pub(crate) requests: Vec<Requests>,
    /// How often each contender of a pair has its turn.
    pub(crate) rounds: u32,
    /// Seconds of load before each measurement.
    pub(crate) warm_up_s: f64,
    /// Seconds of each measurement.
    pub(crate) measured_s: f64,
    /// Whether to look for the knee.
    pub(crate) sweeps: bool,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Requests {
    pub(crate) verb: Verb,
    pub(crate) key_bytes: u32,
    pub(crate) value_bytes: u32,
}

/// The request of the goals.
pub(crate) const SMALL_GET: Requests = Requests { verb: Verb::Get, key_bytes: 16, value_bytes: 64 };

impl Plan {
    /// Small GETs, short measurements, no sweep.
    pub(crate) fn quick() -> Self {
        let requests = vec![SMALL_GET];
        Self { requests, rounds: 3, warm_up_s: 0.1, measured_s: 0.5, sweeps: false }
    }

    /// Everything.
    pub(crate) fn full() -> Self {
        let set = Requests { verb: Verb::Set, ..SMALL_GET };
        let large = Requests { key_bytes: 128, value_bytes: 1024, ..SMALL_GET };
        let requests = vec![SMALL_GET, set, large];
        Self { requests, rounds: 7, warm_up_s: 0.3, measured_s: 2.0, sweeps: true }
    }

    /// A few kinds of requests, as short as [`Plan::quick`].
    pub(crate) fn quick_of(requests: Vec<Requests>) -> Self {
        Self { requests, ..Self::quick() }
    }

    /// A load of this plan's duration.
    pub(crate) fn load(&self, schedule: Schedule) -> exo_load::Plan {
        exo_load::Plan {
            schedule,
            warm_up: Duration::from_secs_f64(self.warm_up_s),
            duration: Duration::from_secs_f64(self.measured_s),
            silence: Duration::from_secs(5),
            late_after: Duration::from_micros(100),
            spin: false,
        }
    }

    /// What `other` and Exo are asked for: of a service that stores nothing, one kind.
    pub(crate) fn requests_for(&self, other: Contender) -> &[Requests] {
        let kinds = if other.echoes() { 1 } else { self.requests.len() };
        self.requests.get(..kinds).unwrap_or_default()
    }

    /// About how many seconds the pairs take on an idle host.
    pub(crate) fn seconds(&self, others: impl Iterator<Item = Contender>) -> f64 {
        let measurement = self.warm_up_s + self.measured_s;
        let of = |other| {
            let kinds = self.requests_for(other).len() as f64;
            let turns = f64::from(self.rounds) * OUTSTANDING.len() as f64;
            let sweep = if self.sweeps { TRIALS } else { 0.0 };
            BOOT + 2.0 * measurement * (kinds * turns + sweep)
        };
        others.map(of).sum()
    }
}

impl Requests {
    /// What the generator is told; of an echo service, datagrams as long as a value and 8.
    pub(crate) fn workload(self) -> Workload {
        Workload {
            keys: KEYS,
            key_sizes: Sizes::Fixed(self.key_bytes),
            value_sizes: Sizes::Fixed(self.value_bytes),
            popularity: Popularity::Uniform,
            get_share: if self.verb == Verb::Set { 0.0 } else { 1.0 },
            keys_per_get: 1,
            seed: 1,
        }
    }

    /// For a heading.
    pub(crate) fn title(self) -> String {
        let verb = if self.verb == Verb::Set { "SET" } else { "GET" };
        format!("{verb} {}/{}", self.key_bytes, self.value_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::opponents;
    use super::*;
    use crate::linux::Mitigations;

    /// With the counts, which take about three minutes, less than six.
    #[test]
    fn the_quick_plan_is_short() {
        let opponents = opponents(&Contender::ALL, &[Mitigations::Default]);
        let others = || opponents.iter().map(|&(other, _)| other);
        let (quick, full) = (Plan::quick().seconds(others()), Plan::full().seconds(others()));
        assert!(quick < 180.0, "{quick}");
        assert!(full > quick);
    }

    #[test]
    fn floors_are_asked_one_kind() {
        let plan = Plan::full();
        assert_eq!(plan.requests_for(Contender::ExoEcho), [SMALL_GET]);
        assert_eq!(plan.requests_for(Contender::Module), plan.requests);
    }
}
