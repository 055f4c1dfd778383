//! How fast the time-stamp counter runs, measured against a counter whose rate is known.
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
const PRECISION: u64 = 2000;
/// A later measurement this good is always taken, since the host's clock is steered, too.
const GOOD: u64 = 100_000;
/// Reference ticks after which measuring at boot ends.
const PATIENCE: u64 = 2_000_000_000;
/// The rate of an APIC's timer, if the machine does not tell: QEMU and KVM both give it.
const APIC_HZ: u64 = 1_000_000_000;
/// Readings after which it ends, should the reference stand still.
const MOST_READINGS: u32 = 1 << 22;

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

    /// Tells everybody; `counter` reads the time-stamp counter.
    pub fn publish(&self, info: &SystemInfo, counter: impl Fn() -> u64) {
        info.tsc_hz.store(self.hz(), Relaxed);
        info.clock.bend(self.hz(), counter);
    }
}

/// Frequencies in Hz, as far as the machine tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Of the time-stamp counter.
    pub counter: Option<u64>,
    /// Of the APIC's timer; the usual one if it is not told.
    pub apic: u64,
}

impl Told {
    /// Reads what `cpuid` says, a leaf as `[eax, ebx, ecx, edx]`: below a hypervisor its leaf
    /// 0x4000_0010 in kHz (VMware's, which KVM has, too), since others may be copies of its
    /// own machine's; else leaf 0x15 (SDM vol. 3, 20.7.3 and 11.5.4). A leaf above the
    /// highest says anything.
    pub fn by(cpuid: impl Fn(u32) -> [u32; 4]) -> Self {
        const HYPERVISOR: u32 = 1 << 31;
        const HYPERVISOR_LEAVES: u32 = 0x4000_0000;
        let some = |hz: u64| Some(hz).filter(|hz| *hz != 0);
        let ask = |first, leaf| if cpuid(first)[0] >= leaf { cpuid(leaf) } else { [0; 4] };
        let (counter, apic) = if cpuid(1)[2] & HYPERVISOR != 0 {
            let [counter, apic, ..] = ask(HYPERVISOR_LEAVES, HYPERVISOR_LEAVES + 0x10);
            (some(1000 * u64::from(counter)), some(1000 * u64::from(apic)))
        } else {
            let [down, up, crystal, _] = ask(0, 0x15).map(u64::from);
            (some(crystal * up / down.max(1)), some(crystal))
        };
        Self { counter, apic: apic.unwrap_or(APIC_HZ) }
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
    /// A rate that the machine tells, in Hz, beside a reference of `reference` Hz.
    pub const fn told(hz: u64, reference: u64) -> Self {
        Self { ticks: hz, reference, doubt: 0 }
    }

    /// The rate between two readings that are `reference` ticks apart.
    fn between(first: Reading, last: Reading, reference: u64) -> Self {
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
    fn is_within(&self, parts: u64) -> bool {
        self.reference != 0 && self.doubt.saturating_mul(parts) <= self.ticks
    }

    /// Whether its relative error is bounded better than that of `other`.
    fn is_better_than(&self, other: &Self) -> bool {
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

/// Measures the rate, as long as it takes. Until then loose readings do not count: a
/// tighter one begins anew.
pub fn measure(mut read: impl FnMut() -> Reading) -> Rate {
    let mut first = read();
    let start = first.reference;
    let mut best = Rate { ticks: 1, reference: 1, doubt: u64::MAX };
    for _ in 0..MOST_READINGS {
        let last = read();
        let passed = last.reference.wrapping_sub(first.reference);
        let rate = Rate::between(first, last, passed);
        if passed != 0 && rate.is_better_than(&best) {
            best = rate;
        }
        if best.is_within(PRECISION) || last.reference.wrapping_sub(start) > PATIENCE {
            break;
        }
        if (last.after - last.before) * 2 < first.after - first.before {
            first = last;
        }
    }
    best
}

#[cfg(test)]
mod tests;
