//! What a serving function uses, while the rest of its environment does not.
//!
//! An environment has two activities: its own, and the one a transfer began. The second comes at
//! any instruction of the first, and the first does not go on before the second is over. So what
//! both use needs no lock, but a word that says whether the first is in the middle of it: then the
//! second finds nothing, and says that it is busy.
//!
//! ```ignore
//! static STORE: Lent<Visit> = Lent::new();
//!
//! // The environment's own activity:
//! STORE.lend(&mut store, |loan| loop {
//!     loan.hold(|store| store.work());
//!     park();
//! });
//! // The serving function:
//! let served = STORE.visit(&mut visit);
//! ```

use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, compiler_fence};

/// What can be lent: it serves visits.
pub trait Serve<V> {
    /// Serves one. Runs on the entry point's stack: no allocation, no waiting.
    fn serve(&mut self, visit: &mut V);
}

/// Where it is found.
pub struct Lent<V: 'static> {
    value: Cell<Option<NonNull<dyn Serve<V>>>>,
    /// One of the two activities is in the middle of it.
    held: AtomicBool,
}

// SAFETY: an environment runs on one processor at a time, and of its two activities one rests
// until the other is over; which of them may use the value, `held` says.
unsafe impl<V> Sync for Lent<V> {}

/// The owner's way to what it lent.
#[derive(Debug)]
pub struct Loan<'a, T> {
    value: NonNull<T>,
    held: &'a AtomicBool,
}

impl<V> Lent<V> {
    /// Nothing is lent yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { value: Cell::new(None), held: AtomicBool::new(false) }
    }

    /// Lends `value` while `body` runs, and whenever that does not hold it.
    ///
    /// # Panics
    /// If something is lent already.
    pub fn lend<T: Serve<V> + 'static, R>(
        &'static self,
        value: &mut T,
        body: impl FnOnce(&mut Loan<'_, T>) -> R,
    ) -> R {
        assert!(self.value.get().is_none(), "lent twice");
        let mut loan = Loan { value: NonNull::from(value), held: &self.held };
        self.value.set(Some(loan.value));
        let result = body(&mut loan);
        // A panic ends the application, so this is the only way out.
        self.value.set(None);
        result
    }

    /// Has it serve `visit`. False if nothing is lent, or it is held.
    ///
    /// Only for the serving function of an entry point.
    #[inline]
    pub fn visit(&self, visit: &mut V) -> bool {
        let Some(mut value) = self.value.get().filter(|_| !self.held.load(Relaxed)) else {
            return false;
        };
        hold(&self.held, || {
            // SAFETY: it is lent, so borrowed exclusively until `lend` ends, and the owner's
            // activity, which could end it, rests. It is not held, so no reference to it is in use.
            unsafe { value.as_mut() }.serve(visit);
        });
        true
    }
}

impl<V> Default for Lent<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Loan<'_, T> {
    /// Uses the value; visitors find nothing meanwhile.
    #[inline]
    pub fn hold<R>(&mut self, body: impl FnOnce(&mut T) -> R) -> R {
        hold(self.held, || {
            // SAFETY: `lend` borrows it exclusively for longer than the loan lives. A visit is
            // over when this activity runs, and none begins while it is held.
            body(unsafe { self.value.as_mut() })
        })
    }
}

#[inline]
fn hold<R>(held: &AtomicBool, body: impl FnOnce() -> R) -> R {
    held.store(true, Relaxed);
    // One processor at a time: only the compiler must keep the order.
    compiler_fence(core::sync::atomic::Ordering::SeqCst);
    let result = body();
    compiler_fence(core::sync::atomic::Ordering::SeqCst);
    held.store(false, Relaxed);
    result
}

#[cfg(test)]
mod tests {
    use super::{Lent, Serve};

    struct Counter(u64);

    impl Serve<u64> for Counter {
        fn serve(&mut self, visit: &mut u64) {
            self.0 += *visit;
            *visit = self.0;
        }
    }

    #[test]
    fn visits_are_served_while_it_is_lent_and_not_held() {
        static COUNTER: Lent<u64> = Lent::new();
        let mut visit = 5;
        assert!(!COUNTER.visit(&mut visit));
        let mut counter = Counter(1);
        COUNTER.lend(&mut counter, |loan| {
            assert!(COUNTER.visit(&mut visit));
            assert_eq!(visit, 6);
            loan.hold(|counter| {
                counter.0 += 10;
                assert!(!COUNTER.visit(&mut visit), "held");
            });
            assert!(COUNTER.visit(&mut visit));
            assert_eq!(visit, 22);
        });
        assert!(!COUNTER.visit(&mut visit));
        assert_eq!(counter.0, 22);
    }
}
