//! How fast the time-stamp counter runs, measured against a counter of known rate.
//!
//! Between the reading of the one and of the other anything may happen: on a busy host a
//! processor of a virtual machine stands still for milliseconds in the middle. So each
//! reading of the reference stands between two of the counter, and says itself how far it
//! can be trusted. Two readings give a rate *and a bound* on its error, however hostile
//! the moments were; measuring goes on until the bound is good ([`measure`]), and later,
//! whenever the processor sleeps without a time limit, over as long as it sleeps
//! ([`Rate::over`]): the longer, the better.

use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::SystemInfo;

/// A rate measured at boot is off by at most one part in this many, unless the reference
/// cannot be read so well within [`PATIENCE`].
pub(crate) const PRECISION: u64 = 2000;
/// A later measurement this good is always taken, since the host's clock is steered, too.
const GOOD: u64 = 100_000;

/// What is known of the counter, and when to look again.
pub struct Clock {
    /// Against the reference.
    pub rate: Cell<Rate>,
    /// Ticks per second of the reference.
    pub reference_hz: u64,
    /// The counter's reading before which measuring again is not worth it.
    pub due: Cell<u64>,
    /// The first reading, while a processor measures. Only one does at a time.
    pub first: Cell<Reading>,
}

impl Clock {
    /// A clock of that rate, to be measured again when the counter reads `due`.
    pub const fn new(rate: Rate, reference_hz: u64, due: u64) -> Self {
        let first = Reading { before: 0, reference: 0, after: 0 };
        Self { rate: Cell::new(rate), reference_hz, due: Cell::new(due), first: Cell::new(first) }
    }

    /// Ticks per second of the time-stamp counter.
    pub fn hz(&self) -> u64 {
        self.rate.get().ticks_in(self.reference_hz)
    }

    /// Publishes the rate; `counter` reads the time-stamp counter.
    pub fn publish(&self, info: &SystemInfo, counter: impl Fn() -> u64) {
        info.tsc_hz.store(self.hz(), Relaxed);
        info.clock.bend(self.hz(), counter);
    }
}

/// Both counters: the reference was read between `before` and `after`.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The time-stamp counter.
    pub before: u64,
    /// The reference; it counts upwards.
    pub reference: u64,
    /// The time-stamp counter.
    pub after: u64,
}

/// Ticks of the time-stamp counter in some ticks of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    ticks: u64,
    reference: u64,
    /// How many ticks it may be off.
    doubt: u64,
}

impl Rate {
    /// What is known before anything was measured: nothing.
    pub const UNKNOWN: Self = Self { ticks: 1, reference: 1, doubt: u64::MAX };

    /// A rate that the machine tells, in Hz, beside a reference of `reference` Hz.
    pub const fn told(hz: u64, reference: u64) -> Self {
        Self { ticks: hz, reference, doubt: 0 }
    }

    /// The rate between two readings that are `reference` ticks apart.
    pub(crate) fn between(first: Reading, last: Reading, reference: u64) -> Self {
        let (least, most) = (last.before.saturating_sub(first.after), last.after - first.before);
        let ticks = least.midpoint(most);
        // The reference is read in whole ticks, too.
        let doubt = (most - least).div_ceil(2) + ticks / reference.max(1) + 1;
        Self { ticks, reference, doubt }
    }

    /// Ticks of the time-stamp counter while the reference makes `reference`.
    pub fn ticks_in(&self, reference: u64) -> u64 {
        scale(reference, self.ticks, self.reference)
    }

    /// Ticks of the reference while the time-stamp counter makes `ticks`.
    pub fn reference_in(&self, ticks: u64) -> u64 {
        scale(ticks, self.reference, self.ticks)
    }

    /// Whether it is off by at most one part in `parts`.
    pub(crate) fn is_within(&self, parts: u64) -> bool {
        self.reference != 0 && self.doubt.saturating_mul(parts) <= self.ticks
    }

    /// Whether its relative error is bounded better than that of `other`.
    pub(crate) fn is_better_than(&self, other: &Self) -> bool {
        u128::from(self.doubt) * u128::from(other.ticks)
            <= u128::from(other.doubt) * u128::from(self.ticks)
    }

    /// What is known after two more readings, of a reference that starts again from zero
    /// every `period` ticks.
    #[must_use]
    pub fn over(self, first: Reading, last: Reading, period: u64) -> Self {
        let part = last.reference.wrapping_sub(first.reference).wrapping_add(period) % period;
        // How often the reference started again follows from what is known already, if that
        // is known well enough.
        let about = self.reference_in(last.before - first.before);
        let rounds = (about.saturating_sub(part) + period / 2) / period;
        let passed = rounds * period + part;
        let new = Self::between(first, last, passed);
        let unsure = scale(about, self.doubt, self.ticks) + self.reference_in(new.doubt);
        let sure = unsure < period / 2;
        let better = new.is_within(PRECISION) && new.is_better_than(&self);
        if sure && (better || new.is_within(GOOD)) { new } else { self }
    }
}

/// `value` times `up` by `down`.
fn scale(value: u64, up: u64, down: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(up) / u128::from(down.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
