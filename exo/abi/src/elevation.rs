//! Elevation: what an environment that runs its own code in ring 0 shares with the kernel.

use core::sync::atomic::AtomicU64;

use crate::numbered;

/// How much elevation a capability is for. Deriving can only make it less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// The processors on which ring 0 is given, one bit each.
    pub cores: u32,
    /// The longest stretch, in microseconds.
    pub stretch: u32,
    /// Microseconds in all, over every capability derived from this one;
    /// [`Allowance::UNLIMITED`]: they are not counted.
    pub total: u64,
}

impl Allowance {
    /// A [`total`](Self::total) that is never used up.
    pub const UNLIMITED: u64 = u64::MAX;

    /// The arguments `first` and `count` of `cap_derive` that stand for it.
    pub const fn into_words(self) -> (u64, u64) {
        (self.cores as u64 | (self.stretch as u64) << 32, self.total)
    }

    /// The allowance that these arguments stand for.
    pub const fn from_words(first: u64, count: u64) -> Self {
        Self { cores: first as u32, stretch: (first >> 32) as u32, total: count }
    }

    /// Whether `other` is no more than this.
    pub const fn covers(self, other: Self) -> bool {
        other.cores & !self.cores == 0 && other.stretch <= self.stretch && other.total <= self.total
    }
}

numbered! {
    from_u32;
    /// Why an environment is not in ring 0 any more.
    pub enum Lowered: u32 {
        /// It called `lower`.
        Asked = 0,
        /// Its stretch was over.
        Deadline = 1,
        /// It caused an exception.
        Fault = 2,
        /// The capability is gone.
        Revoked = 3,
        /// It came to a processor that the capability is not for.
        Core = 4,
    }
}

/// How many reasons there are in [`Lowered`].
pub const LOWERED_REASONS: usize = 5;

/// The words about elevation in the U-area. The kernel writes all but
/// [`fallback`](Self::fallback), and reads no other.
#[repr(C)]
#[derive(Debug)]
pub struct ElevationArea {
    /// Where direct calls lead: the kernel's gate while the environment is elevated and may
    /// make them, else the fallback.
    pub call: AtomicU64,
    /// Where they are to lead otherwise. Written by the application.
    pub fallback: AtomicU64,
    /// Until when the environment is elevated, by the time-stamp counter; zero: it is not.
    pub until: AtomicU64,
    /// How often it has been.
    pub count: AtomicU64,
    /// For how long, in ticks of that counter, stretches that are over.
    pub ticks: AtomicU64,
    /// Why it is no longer ([`Lowered`]).
    pub why: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::{Allowance, LOWERED_REASONS, Lowered};

    #[test]
    fn allowances_only_shrink() {
        let whole = Allowance { cores: 0b11, stretch: 1000, total: 5000 };
        let (first, count) = whole.into_words();
        assert_eq!(Allowance::from_words(first, count), whole);
        assert!(whole.covers(whole));
        for more in [
            Allowance { cores: 0b100, ..whole },
            Allowance { stretch: 1001, ..whole },
            Allowance { total: Allowance::UNLIMITED, ..whole },
        ] {
            assert!(!whole.covers(more), "{more:?}");
        }
    }

    #[test]
    fn every_reason_has_a_counter() {
        let reasons = (0..).map_while(Lowered::from_u32).count();
        assert_eq!(reasons, LOWERED_REASONS);
    }
}
