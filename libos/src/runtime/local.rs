//! State of the one thread of an environment.

use core::cell::RefCell;
use core::ops::Deref;

/// A `RefCell` that can be a `static`.
///
/// **Limits** An environment has one thread of control. When the kernel learns
/// to make upcalls in the middle of a computation, a `Local` that an upcall
/// handler uses must not be borrowed while upcalls are allowed.
pub struct Local<T>(RefCell<T>);

// SAFETY: this type exists only in the guest, where an environment runs on one
// core at a time, has one stack and gets no upcalls; so no two threads can ever
// reach the cell, and `RefCell` catches re-entry by the one that does.
unsafe impl<T> Sync for Local<T> {}

impl<T> Local<T> {
    /// A cell with `value` in it.
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }
}

impl<T> Deref for Local<T> {
    type Target = RefCell<T>;

    fn deref(&self) -> &RefCell<T> {
        &self.0
    }
}
