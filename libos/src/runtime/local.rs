//! State that all of an application shares.

use core::cell::RefCell;

use crate::sched::uninterrupted;

/// A value that can be a `static`, and that one thread at a time uses.
///
/// It is lent in [`uninterrupted`] sections only, so no other thread sees it half
/// changed, and no thread waits for it. What interrupts such a section all the same, an
/// exception's handler or a panic, is refused.
pub struct Local<T>(RefCell<T>);

// SAFETY: this type exists only in the guest, where an environment runs on one processor
// at a time. The cell is private and touched only within uninterrupted sections, so no
// second thread of the environment comes between; `RefCell` refuses whatever interrupts
// the first on its own stack. `T: Send` since each use may be another thread's.
unsafe impl<T: Send> Sync for Local<T> {}

impl<T> Local<T> {
    /// `value`, to be shared.
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Does `act` with the value. **Limits** as for [`uninterrupted`].
    ///
    /// # Panics
    /// If the value is lent already.
    #[track_caller]
    pub fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        uninterrupted(|| act(&mut self.0.borrow_mut()))
    }

    /// The same; `None` if the value is lent already, so that `act` was not done.
    pub fn try_with<R>(&self, act: impl FnOnce(&mut T) -> R) -> Option<R> {
        uninterrupted(|| self.0.try_borrow_mut().ok().map(|mut value| act(&mut value)))
    }
}
