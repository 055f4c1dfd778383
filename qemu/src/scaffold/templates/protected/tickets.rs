//! What is protected: how many tickets are left.
//!
//! It is called in the middle of whatever its environment does otherwise. So it neither allocates nor
//! waits nor prints: it works on atomics.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Tickets, of which each caller takes at most so many at once.
pub(crate) struct Tickets {
    left: AtomicU64,
}

/// Most tickets of one call.
const MOST: u64 = 10;

impl Tickets {
    pub(crate) const fn new(count: u64) -> Self {
        Self { left: AtomicU64::new(count) }
    }

    /// Takes up to `wanted` tickets. Returns how many, and how many are left then.
    pub(crate) fn take(&self, wanted: u64) -> (u64, u64) {
        let left = self.left.load(Relaxed);
        let taken = wanted.min(MOST).min(left);
        // One call is served at a time.
        self.left.store(left - taken, Relaxed);
        (taken, left - taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_gets_more_than_there_are() {
        let tickets = Tickets::new(25);
        assert_eq!(tickets.take(3), (3, 22));
        assert_eq!(tickets.take(u64::MAX), (10, 12));
        assert_eq!(
            (tickets.take(10), tickets.take(10), tickets.take(1)),
            ((10, 2), (2, 0), (0, 0))
        );
    }
}
