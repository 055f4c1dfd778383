//! Sections in which no other thread of the application may run.
//!
//! Threads are told when their slice is over (`super::threads`). Inside of a section
//! the answer is put off until the section ends; if it does not within the kernel's
//! grace, the kernel takes the processor away, but when it comes back, it comes back
//! to the section. So what is done in one is done without any other thread having seen
//! the middle of it: a lock that costs two stores and never waits.
//!
//! An exception is served all the same, since it cannot wait; hence a pager must not
//! need what a section protects.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed, compiler_fence};

/// What was put off. Its number is in [`PUT_OFF`].
#[cfg(any(exo_guest, test))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub(super) enum PutOff {
    Nothing = 0,
    /// Another thread's turn.
    Turn = 1,
    /// The same, and the slice is over.
    SliceEnd = 2,
}

/// Sections entered and not left. All threads share it: a thread that is in a section
/// is the one that runs.
static DEPTH: AtomicU32 = AtomicU32::new(0);
static PUT_OFF: AtomicU32 = AtomicU32::new(0);

/// Does `act` without any other thread of the application running in between.
///
/// **Cost** four loads and stores. **Limits** must not give way or block inside; what
/// takes longer than the kernel's grace costs the application slices.
#[inline]
pub fn uninterrupted<T>(act: impl FnOnce() -> T) -> T {
    // An upcall between load and store leaves the number as it found it: if it was zero,
    // a thread that runs meanwhile gives way only at zero; if not, none runs meanwhile.
    DEPTH.store(DEPTH.load(Relaxed) + 1, Relaxed);
    compiler_fence(core::sync::atomic::Ordering::SeqCst);
    let result = act();
    compiler_fence(core::sync::atomic::Ordering::SeqCst);
    DEPTH.store(DEPTH.load(Relaxed) - 1, Relaxed);
    if PUT_OFF.load(Relaxed) != 0 && DEPTH.load(Relaxed) == 0 {
        make_up();
    }
    result
}

/// Whether a section was interrupted.
#[cfg(any(exo_guest, test))]
pub(super) fn busy() -> bool {
    DEPTH.load(Relaxed) != 0
}

/// Notes what is to be done when the section ends.
#[cfg(any(exo_guest, test))]
pub(super) fn put_off(what: PutOff) {
    PUT_OFF.store(what as u32, Relaxed);
}

/// What was put off; nothing is, any more.
#[cfg(any(exo_guest, test))]
pub(super) fn take_put_off() -> PutOff {
    match PUT_OFF.swap(PutOff::Nothing as u32, Relaxed) {
        0 => PutOff::Nothing,
        1 => PutOff::Turn,
        _ => PutOff::SliceEnd,
    }
}

#[cold]
fn make_up() {
    #[cfg(exo_guest)]
    super::threads::make_up();
}

#[cfg(test)]
mod tests {
    use super::{PutOff, busy, put_off, take_put_off, uninterrupted};

    #[test]
    fn sections_nest() {
        assert!(!busy());
        let inner = uninterrupted(|| {
            let inner = uninterrupted(busy);
            assert!(busy(), "the outer one has not ended");
            put_off(PutOff::Turn);
            put_off(PutOff::SliceEnd);
            inner
        });
        assert!(inner && !busy());
        assert_eq!(take_put_off(), PutOff::SliceEnd);
        assert_eq!(take_put_off(), PutOff::Nothing);
    }
}
