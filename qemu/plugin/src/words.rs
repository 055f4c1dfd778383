//! Words in a file that this process and the one that started it both have mapped.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};

/// Words that are there for ever, once there are any.
pub(crate) struct Words {
    first: AtomicPtr<AtomicU64>,
    length: AtomicUsize,
}

impl Words {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self { first: AtomicPtr::new(std::ptr::null_mut()), length: AtomicUsize::new(0) }
    }

    /// From now on they are `words`.
    pub(crate) fn map(&self, words: &'static [AtomicU64]) {
        self.length.store(words.len(), Relaxed);
        self.first.store(words.as_ptr().cast_mut(), Release);
    }

    /// All of them; none before [`Words::map`].
    #[inline]
    pub(crate) fn all(&self) -> &'static [AtomicU64] {
        let first = self.first.load(Acquire);
        if first.is_null() {
            return &[];
        }
        // SAFETY: pointer and length are those of the slice given to `map`, which
        // lives for ever; the length was stored before the pointer.
        unsafe { std::slice::from_raw_parts(first, self.length.load(Relaxed)) }
    }
}
