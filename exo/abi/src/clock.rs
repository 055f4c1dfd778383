//! The clock that the kernel publishes: a line from time-stamp counter to nanoseconds.
//!
//! The kernel learns better and better how fast the counter runs. What it learns bends
//! the line at the present and nowhere else, so that time neither jumps nor goes back.
//! A sequence number tells a reader that the line changed under its eyes: odd while it is
//! written, another one afterwards.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// Bits behind the point in [`ClockLine`]'s slope.
const FRACTION: u32 = 32;

/// Nanoseconds since the counter was zero, as a line through one point.
#[derive(Debug, Default)]
#[repr(C)]
pub struct ClockLine {
    sequence: AtomicU64,
    /// The point: a reading of the counter, and the time then.
    ticks: AtomicU64,
    nanos: AtomicU64,
    /// Nanoseconds per tick, a fixed-point number.
    slope: AtomicU64,
}

impl ClockLine {
    /// Nanoseconds since the counter was zero. `counter` reads it, once or again.
    ///
    /// For one reader time does not go back, whenever the line is bent: the counter is read
    /// while the line holds.
    #[inline]
    pub fn nanos(&self, counter: impl Fn() -> u64) -> u64 {
        loop {
            let sequence = self.sequence.load(Acquire);
            let now = self.at(counter());
            fence(Acquire);
            if sequence & 1 == 0 && sequence == self.sequence.load(Relaxed) {
                return now;
            }
            core::hint::spin_loop();
        }
    }

    #[inline]
    fn at(&self, ticks: u64) -> u64 {
        let since = ticks.saturating_sub(self.ticks.load(Relaxed));
        let nanos = (u128::from(since) * u128::from(self.slope.load(Relaxed))) >> FRACTION;
        self.nanos.load(Relaxed).wrapping_add(nanos as u64)
    }

    /// From now on the counter makes `hz` ticks a second. For the kernel, one processor
    /// at a time.
    pub fn bend(&self, hz: u64, counter: impl Fn() -> u64) {
        let sequence = self.sequence.load(Relaxed);
        self.sequence.store(sequence | 1, Relaxed);
        // The new line must begin after every reading taken by the old one.
        fence(SeqCst);
        let ticks = counter();
        // A slope of zero, before the first time, makes every time zero.
        let (nanos, begun) = (self.at(ticks), self.slope.load(Relaxed) != 0);
        if begun {
            self.ticks.store(ticks, Relaxed);
            self.nanos.store(nanos, Relaxed);
        }
        self.slope.store((1_000_000_000 << FRACTION) / hz.max(1), Relaxed);
        self.sequence.store((sequence | 1).wrapping_add(1), Release);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    use super::ClockLine;

    #[test]
    fn the_first_line_goes_through_zero() {
        let line = ClockLine::default();
        assert_eq!(line.nanos(|| 5_000), 0);
        line.bend(2_000_000_000, || 7_000);
        assert_eq!(line.nanos(|| 7_000), 3_500);
        assert_eq!(line.nanos(|| 3_600 * 2_000_000_000), 3_600_000_000_000);
    }

    #[test]
    fn a_gigahertz_is_exact_for_centuries() {
        let line = ClockLine::default();
        line.bend(1_000_000_000, || 0);
        assert_eq!(line.nanos(|| u64::MAX), u64::MAX);
    }

    #[test]
    fn bending_changes_what_is_to_come_and_nothing_else() {
        let line = ClockLine::default();
        line.bend(1_000_000, || 0);
        line.bend(2_000_000, || 10);
        assert_eq!(line.nanos(|| 10), 10_000);
        assert_eq!(line.nanos(|| 12), 11_000);
        // A counter behind that of the processor that bent it.
        assert_eq!(line.nanos(|| 9), 10_000);
        line.bend(1_000_000, || 12);
        assert_eq!(line.nanos(|| 13), 12_000);
    }

    #[test]
    fn time_does_not_go_back_while_another_processor_bends_the_line() {
        let (line, done) = (ClockLine::default(), AtomicBool::new(false));
        // The counter moves with every look at it.
        let counter = AtomicU64::new(0);
        let read = || counter.fetch_add(1000, SeqCst);
        line.bend(1_000_000, read);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..20_000_u64 {
                    line.bend(1_000_000 + round % 7 * 100_000, read);
                }
                done.store(true, SeqCst);
            });
            let mut last = 0;
            while !done.load(SeqCst) {
                let now = line.nanos(read);
                assert!(now >= last, "{now} after {last}");
                last = now;
            }
        });
    }
}
