//! When requests are to be sent.

use std::fmt;

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp1};
use serde::{Serialize, Serializer};

/// Requests that can wait for answers at a time: ids have 16 bits.
pub const MOST_OUTSTANDING: u32 = 1 << 16;

/// When requests are to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// So many wait at any time: each answer is followed by the next request.
    Closed(u32),
    /// So many a second are intended, whatever the server does.
    Open(f64, Arrivals),
}

/// The gaps between intended times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// Exponential: a Poisson process, as of many independent clients.
    #[default]
    Poisson,
    /// All alike.
    Uniform,
}

impl Schedule {
    /// Rules that no type enforces.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Closed(outstanding) => ensure!(
                (1..=MOST_OUTSTANDING / 2).contains(&outstanding),
                "1 to {} requests can be outstanding, not {outstanding}",
                MOST_OUTSTANDING / 2
            ),
            Self::Open(rate, _) => ensure!(
                rate.is_finite() && (0.01..=1e9).contains(&rate),
                "a rate must lie between 0.01 and 1,000,000,000 requests a second, not at {rate}"
            ),
        }
        Ok(())
    }

    /// The intended times, if there are any.
    pub(crate) fn times(self, seed: u64) -> Option<Times> {
        match self {
            Self::Closed(_) => None,
            Self::Open(rate, arrivals) => Some(Times {
                gap: 1e9 / rate,
                arrivals,
                rng: SmallRng::seed_from_u64(seed ^ 0x74_696d_6573),
                next: 0.0,
            }),
        }
    }
}

/// Intended times in order.
pub(crate) struct Times {
    gap: f64,
    arrivals: Arrivals,
    rng: SmallRng,
    /// In nanoseconds from the start. Not an integer: gaps below one must not be lost.
    next: f64,
}

impl Times {
    /// The next intended time, in nanoseconds from the start of the load.
    pub(crate) fn peek(&self) -> u64 {
        self.next as u64
    }

    /// Goes on to the one after it.
    pub(crate) fn advance(&mut self) {
        let factor: f64 = match self.arrivals {
            Arrivals::Poisson => Exp1.sample(&mut self.rng),
            Arrivals::Uniform => 1.0,
        };
        self.next += self.gap * factor;
    }

    /// The intended times before `end` that are left, counted from `start` on; both in
    /// nanoseconds from the start of the load.
    pub(crate) fn count_until(&mut self, start: u64, end: u64) -> u64 {
        let mut count = 0;
        while self.peek() < end {
            count += u64::from(self.peek() >= start);
            self.advance();
        }
        count
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(outstanding) => write!(f, "closed loop, {outstanding} outstanding"),
            Self::Open(rate, arrivals) => {
                let arrivals = match arrivals {
                    Arrivals::Poisson => "Poisson",
                    Arrivals::Uniform => "evenly spaced",
                };
                write!(f, "open loop, {rate:.0} requests/s intended, {arrivals}")
            }
        }
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_the_right_mean_and_spread() {
        for (arrivals, spread) in [(Arrivals::Uniform, 0.0), (Arrivals::Poisson, 1.0)] {
            let mut times = Schedule::Open(1e6, arrivals).times(3).unwrap();
            let (mut last, mut sum, mut squares) = (0.0, 0.0, 0.0);
            for _ in 0..100_000 {
                times.advance();
                let gap = times.next - last;
                last = times.next;
                sum += gap;
                squares += gap * gap;
            }
            let mean = sum / 1e5;
            // The standard deviation of an exponential distribution is its mean.
            let deviation = (squares / 1e5 - mean * mean).max(0.0).sqrt();
            assert!((mean - 1000.0).abs() < 15.0, "{mean}");
            assert!((deviation / mean - spread).abs() < 0.03, "{deviation}");
        }
    }

    #[test]
    fn counts_what_is_left() {
        let mut times = Schedule::Open(1000.0, Arrivals::Uniform).times(1).unwrap();
        assert_eq!(times.count_until(500_000_000, 1_000_000_000), 500);
        assert_eq!(times.count_until(0, 1_000_000_000), 0);
    }

    #[test]
    fn refuses_nonsense() {
        for bad in [
            Schedule::Closed(0),
            Schedule::Closed(40_000),
            Schedule::Open(0.0, Arrivals::Poisson),
            Schedule::Open(f64::NAN, Arrivals::Poisson),
            Schedule::Open(f64::INFINITY, Arrivals::Uniform),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert!(Schedule::Closed(1).check().is_ok());
    }
}
