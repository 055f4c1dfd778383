//! Time: ticks of the time-stamp counter, and the wall clock made from it.
//!
//! Reading the counter needs no system call. The kernel says how fast it runs;
//! the creator says what the wall clock showed when the machine was started,
//! which is when the counter was zero.

use core::num::NonZeroU64;

/// A reading of the time-stamp counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct Ticks(pub u64);

/// A clock.
pub trait Clock {
    /// The counter now. Never goes back.
    fn now(&self) -> Ticks;

    /// Ticks per second.
    fn frequency(&self) -> NonZeroU64;

    /// Wall-clock time at tick zero, in seconds since 1970-01-01 UTC.
    fn epoch_seconds(&self) -> u64;

    /// Whole seconds since 1970-01-01 UTC. **Cost** one division.
    fn unix_seconds(&self) -> u64 {
        self.epoch_seconds().saturating_add(self.now().0 / self.frequency())
    }

    /// Microseconds since tick zero. **Cost** two divisions.
    fn micros(&self) -> u64 {
        let (ticks, hz) = (self.now().0, self.frequency());
        // The remainder is below `hz`, and `hz` below 2^44 for any real clock.
        (ticks / hz).saturating_mul(1_000_000) + (ticks % hz).saturating_mul(1_000_000) / hz
    }

    /// The tick that comes `micros` microseconds after now.
    fn after_micros(&self, micros: u64) -> Ticks {
        let ticks = u128::from(micros) * u128::from(self.frequency().get()) / 1_000_000;
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        Ticks(self.now().0.saturating_add(ticks))
    }
}

/// The processor's time-stamp counter.
///
/// **Limits** trusts that the counter was zero at boot, as it is in a virtual
/// machine that has just been created.
#[derive(Clone, Copy, Debug)]
pub struct TscClock {
    frequency: NonZeroU64,
    epoch_seconds: u64,
}

impl TscClock {
    /// A counter that runs at `hz` and was zero at `epoch_seconds`. A rate of
    /// zero, which a kernel without a calibrated clock may give, stands for 1 GHz.
    pub fn new(hz: u64, epoch_seconds: u64) -> Self {
        let frequency = NonZeroU64::new(hz).unwrap_or(NonZeroU64::MIN.saturating_mul(GHZ));
        Self { frequency, epoch_seconds }
    }
}

const GHZ: NonZeroU64 = match NonZeroU64::new(1_000_000_000) {
    Some(ghz) => ghz,
    None => NonZeroU64::MIN,
};

impl Clock for TscClock {
    fn now(&self) -> Ticks {
        Ticks(timestamp())
    }

    fn frequency(&self) -> NonZeroU64 {
        self.frequency
    }

    fn epoch_seconds(&self) -> u64 {
        self.epoch_seconds
    }
}

/// Reads the time-stamp counter.
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
    use std::num::NonZeroU64;

    use super::{Clock, ManualClock, Ticks, TscClock};

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
        assert_eq!(Fixed(u64::MAX, 1).micros(), u64::MAX);
    }

    #[test]
    fn counter_does_not_go_back() {
        let clock = TscClock::new(0, 5);
        let first = clock.now();
        assert!(clock.now() >= first);
        assert_eq!(clock.frequency().get(), 1_000_000_000);
    }

    #[test]
    fn manual_clock_moves_when_told() {
        let clock = ManualClock::default();
        clock.advance(1_500_000);
        assert_eq!((clock.unix_seconds(), clock.micros()), (1, 1_500_000));
    }
}
