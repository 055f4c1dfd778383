//! Shootdown: how a processor makes sure that no other uses a translation any more.
//!
//! Each processor has a [`Door`], which says whether it is in ring 3 or on the way there, and which
//! the others [see](Seen). It
//! comes in by [`enter`], before it takes the lock, and goes out by [`leave`], while it still
//! holds it. A processor that takes a mapping away holds the lock. It marks each other one
//! that has the page tables loaded as stale, which that one looks at wherever it has taken
//! the lock; and it [expels] those in ring 3: it interrupts them and waits until they
//! have come in. When it is done none can use the old translation: those outside have come in, and
//! the way back leads past the lock, and so past the mark.
//!
//! The same functions are explored on the host: two processors, all interleavings with at most two
//! preemptions (`shootdown/tests.rs`).
//!
//! [expels]: expel

use core::sync::atomic::{AtomicBool, Ordering};

/// What a processor says of itself.
pub trait Door {
    /// Says whether it is in ring 3, or on the way there; what was done before is seen by
    /// those that see it.
    fn set(&self, outside: bool);
}

/// What the others see of it.
pub trait Seen {
    /// Whether it is in ring 3, or on the way there.
    fn is_outside(&self) -> bool;
}

impl Seen for AtomicBool {
    fn is_outside(&self) -> bool {
        self.load(Ordering::Acquire)
    }
}

/// This processor comes in from ring 3; it has not taken the lock yet.
#[inline(always)]
pub fn enter(door: &impl Door) {
    door.set(false);
}

/// This processor goes to ring 3, and still holds the lock.
#[inline(always)]
pub fn leave(door: &impl Door) {
    door.set(true);
}

/// Waits until the processor behind `door`, which was marked before, is not in ring 3;
/// `interrupt` brings it in, `relax` passes the time. The caller holds the lock, so it does
/// not go out again.
pub fn expel(door: &impl Seen, interrupt: impl FnOnce(), relax: impl Fn()) {
    if door.is_outside() {
        interrupt();
        while door.is_outside() {
            relax();
        }
    }
}

#[cfg(test)]
mod tests;
