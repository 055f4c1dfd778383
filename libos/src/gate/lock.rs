//! The lock of a domain: one word that says which visitor has it.
//!
//! Everything that owner and visitors change together is changed while they have the lock. A
//! visitor that finds it taken leaves the gate at once, and gives its time away outside: nothing waits
//! behind a gate. The owner finds out from the number in the word how the visitor
//! fares that has the lock, gives it time, or, if it has ended, mends what it left.
//!
//! **Cost** taking it is one exchange, giving it back one store.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Which of those that use a domain: its owner, or a visitor, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Number(pub u64);

impl Number {
    /// The owner.
    pub const OWNER: Self = Self(u64::MAX);
}

const FREE: u64 = 0;

/// The lock. Zeroed memory is a free one.
#[derive(Debug)]
#[repr(transparent)]
pub struct Lock(AtomicU64);

impl Lock {
    /// A free lock.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(FREE))
    }

    /// Takes it for `number`.
    ///
    /// # Errors
    /// The number of the one that has it.
    #[inline]
    pub fn take(&self, number: Number) -> Result<(), Number> {
        self.0.compare_exchange(FREE, number.0, Acquire, Relaxed).map(drop).map_err(Number)
    }

    /// Gives it back. Only for the one that has it.
    #[inline]
    pub fn give(&self) {
        self.0.store(FREE, Release);
    }

    /// Takes it from `from`, which has ended. False if that does not have it any more.
    #[must_use]
    pub fn inherit(&self, from: Number, number: Number) -> bool {
        self.0.compare_exchange(from.0, number.0, Acquire, Relaxed).is_ok()
    }
}

impl Default for Lock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::{Lock, Number};

    #[test]
    fn one_has_it_and_says_which() {
        let lock = Lock::new();
        assert_eq!(lock.take(Number(3)), Ok(()));
        assert_eq!(lock.take(Number(4)), Err(Number(3)));
        assert_eq!(lock.take(Number(3)), Err(Number(3)), "not even itself");
        lock.give();
        assert_eq!(lock.take(Number::OWNER), Ok(()));
        assert_eq!(lock.take(Number(3)), Err(Number::OWNER));
    }

    #[test]
    fn it_is_inherited_from_the_one_that_has_it() {
        let lock = Lock::new();
        assert!(!lock.inherit(Number(3), Number::OWNER), "free");
        lock.take(Number(3)).unwrap();
        assert!(!lock.inherit(Number(4), Number::OWNER));
        assert!(lock.inherit(Number(3), Number::OWNER));
        assert_eq!(lock.take(Number(5)), Err(Number::OWNER));
    }
}
