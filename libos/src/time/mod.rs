//! Time: ticks of the time-stamp counter, and the wall clock made from it.
//!
//! Reading either needs no system call. The kernel publishes what time it is, as a line
//! through the counter's readings, and bends it when it knows better how fast the counter
//! runs; the creator says what the wall clock showed when the machine was started, which
//! is when the counter was zero.
//!
//! Durations are therefore differences of [`Clock::nanos`], not of ticks: a tick is a
//! reading of the counter, good for deadlines and for measuring instructions.

use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use exo_abi::ClockLine;

/// A reading of the time-stamp counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct Ticks(pub u64);

const SECOND: u64 = 1_000_000_000;

/// A clock.
pub trait Clock {
    /// The counter now. Never goes back.
    fn now(&self) -> Ticks;

    /// Ticks per second, as well as is known now.
    fn frequency(&self) -> NonZeroU64;

    /// Wall-clock time at tick zero, in seconds since 1970-01-01 UTC.
    fn epoch_seconds(&self) -> u64;

    /// Nanoseconds since tick zero. Never goes back.
    ///
    /// For a clock whose frequency changes, what passed at an earlier one is to be kept;
    /// this is for a clock whose frequency does not.
    fn nanos(&self) -> u64 {
        let nanos =
            u128::from(self.now().0) * u128::from(SECOND) / u128::from(self.frequency().get());
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Whole seconds since 1970-01-01 UTC.
    fn unix_seconds(&self) -> u64 {
        self.epoch_seconds().saturating_add(self.nanos() / SECOND)
    }

    /// Microseconds since tick zero.
    fn micros(&self) -> u64 {
        self.nanos() / 1000
    }

    /// The tick that comes `micros` microseconds after now, if the frequency stays.
    fn after_micros(&self, micros: u64) -> Ticks {
        let frequency = self.frequency().get();
        // Dividing twice as many bits is a call.
        let ticks = match micros.checked_mul(frequency) {
            Some(product) => product / 1_000_000,
            None => {
                let ticks = u128::from(micros) * u128::from(frequency) / 1_000_000;
                u64::try_from(ticks).unwrap_or(u64::MAX)
            }
        };
        Ticks(self.now().0.saturating_add(ticks))
    }
}

/// The machine's clock: the processor's time-stamp counter, as the kernel reads it.
///
/// **Cost** of [`Clock::nanos`]: `rdtsc`, five loads, a multiplication. **Limits** trusts
/// that the counter was zero at boot, as it is in a virtual machine that has just been
/// created.
#[derive(Clone, Copy)]
pub struct TscClock {
    line: &'static ClockLine,
    hz: &'static AtomicU64,
    epoch_seconds: u64,
}

impl TscClock {
    /// The clock that the kernel publishes as `line`, over a counter of `hz`, which was
    /// zero at `epoch_seconds`.
    pub const fn new(line: &'static ClockLine, hz: &'static AtomicU64, epoch_seconds: u64) -> Self {
        Self { line, hz, epoch_seconds }
    }
}

impl Clock for TscClock {
    fn now(&self) -> Ticks {
        Ticks(timestamp())
    }

    fn frequency(&self) -> NonZeroU64 {
        NonZeroU64::new(self.hz.load(Relaxed)).unwrap_or(NonZeroU64::MIN)
    }

    fn epoch_seconds(&self) -> u64 {
        self.epoch_seconds
    }

    #[inline]
    fn nanos(&self) -> u64 {
        self.line.nanos(timestamp)
    }
}

/// Reads the time-stamp counter.
#[inline]
pub fn timestamp() -> u64 {
    // SAFETY: `rdtsc` only reads a counter, and the kernel allows it in ring 3.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A clock that stands still until it is told otherwise: for tests, and for
/// replaying a trace.
#[derive(Debug, Default)]
pub struct ManualClock(core::cell::Cell<u64>);

impl ManualClock {
    /// Lets `ticks` pass. One tick is a microsecond.
    pub fn advance(&self, ticks: u64) {
        self.0.set(self.0.get().saturating_add(ticks));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Ticks {
        Ticks(self.0.get())
    }

    fn frequency(&self) -> NonZeroU64 {
        NonZeroU64::MIN.saturating_add(999_999)
    }

    fn epoch_seconds(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::num::NonZeroU64;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use exo_abi::ClockLine;

    use super::{Clock, ManualClock, Ticks, TscClock, timestamp};

    struct Fixed(u64, u64);

    impl Clock for Fixed {
        fn now(&self) -> Ticks {
            Ticks(self.0)
        }

        fn frequency(&self) -> NonZeroU64 {
            NonZeroU64::new(self.1).unwrap()
        }

        fn epoch_seconds(&self) -> u64 {
            1_700_000_000
        }
    }

    #[test]
    fn converts_without_overflow() {
        let clock = Fixed(7_500_000_000, 3_000_000_000);
        assert_eq!(clock.unix_seconds(), 1_700_000_002);
        assert_eq!(clock.micros(), 2_500_000);
        assert_eq!(clock.after_micros(1_000_000), Ticks(10_500_000_000));
        let late = Fixed(u64::MAX, 4_000_000_000);
        assert_eq!(late.micros(), u64::MAX / 4_000);
        assert_eq!(late.after_micros(u64::MAX), Ticks(u64::MAX));
        assert_eq!(Fixed(u64::MAX, 1).nanos(), u64::MAX);
    }

    /// All that is read as time follows what the kernel learns, and nothing of it jumps.
    #[test]
    fn the_machines_clock_follows_the_kernel() {
        let line: &'static ClockLine = Box::leak(Box::default());
        let known: &'static AtomicU64 = Box::leak(Box::default());
        let learn = |hz: u64| {
            known.store(hz, Relaxed);
            line.bend(hz, timestamp);
        };
        learn(1_000_000_000);
        let clock = TscClock::new(line, known, 1_700_000_000);
        let ticks = clock.now().0;
        let (nanos, seconds) = (clock.nanos(), clock.unix_seconds());
        assert!(nanos >= ticks && seconds >= 1_700_000_000 + ticks / 1_000_000_000);
        for hz in [1_020_000_000, 50_000_000_000, 990_000_000] {
            let before = (clock.nanos(), clock.micros(), clock.unix_seconds());
            learn(hz);
            let after = (clock.nanos(), clock.micros(), clock.unix_seconds());
            assert!(before.0 <= after.0 && before.1 <= after.1 && before.2 <= after.2);
            assert_eq!(clock.frequency().get(), hz);
            let soon = clock.after_micros(1_000_000).0 - clock.now().0;
            assert!(soon <= hz && soon > hz / 2, "{soon} ticks");
        }
    }

    #[test]
    fn manual_clock_moves_when_told() {
        let clock = ManualClock::default();
        clock.advance(1_500_000);
        assert_eq!((clock.unix_seconds(), clock.micros()), (1, 1_500_000));
    }
}
