//! The lock itself: whichever processor comes takes it if it is free, and none waits for ever.
//!
//! A queue alone would be fair, and slow on a virtual machine: there a processor that waits may
//! not be running when its turn comes, and each entry of the others waits until it does. A
//! system call took milliseconds on a busy host so. Without a queue a processor that enters again
//! and again could keep another out. So a processor tries [`PATIENCE`] times, and joins the queue
//! then: while there is one, no other than its first tries.

use core::hint::spin_loop;
use core::mem::forget;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use spin::mutex::{SpinMutex, TicketMutex};

/// How often a processor tries before it joins the queue; about as long as ring 0 may work in an
/// entry (100,000 instructions).
const PATIENCE: u32 = 1 << 14;

/// What is locked.
pub(super) struct Patient<T> {
    value: SpinMutex<T>,
    /// Whether there is a first in the queue, which is to have the lock next.
    reserved: AtomicBool,
    /// Held by the first of those that lost patience.
    queue: TicketMutex<()>,
}

impl<T> Patient<T> {
    /// Not locked.
    pub(super) const fn new(value: T) -> Self {
        Self {
            value: SpinMutex::new(value),
            reserved: AtomicBool::new(false),
            queue: TicketMutex::new(()),
        }
    }

    /// Takes the lock.
    #[inline(always)]
    pub(super) fn lock(&self) {
        if !self.take_unreserved() {
            self.wait();
        }
    }

    #[inline(always)]
    fn take_unreserved(&self) -> bool {
        !self.reserved.load(Relaxed) && self.take()
    }

    #[inline(always)]
    fn take(&self) -> bool {
        self.value.try_lock().map(forget).is_some()
    }

    /// Waits for the lock, and takes it.
    #[inline(never)]
    fn wait(&self) {
        for _ in 0..PATIENCE {
            spin_loop();
            if self.take_unreserved() {
                return;
            }
        }
        let _first = self.queue.lock();
        self.reserved.store(true, Relaxed);
        while !self.take() {
            spin_loop();
        }
        self.reserved.store(false, Relaxed);
    }

    /// Gives the lock back.
    ///
    /// # Safety
    /// The caller holds it: it has taken it by [`lock`](Self::lock).
    #[inline(always)]
    pub(super) unsafe fn unlock(&self) {
        // SAFETY: the caller's promise; the guard was forgotten when the lock was taken.
        unsafe { self.value.force_unlock() };
    }

    /// What is locked, for the processor that holds the lock.
    #[inline(always)]
    pub(super) fn get(&self) -> *mut T {
        self.value.as_mut_ptr()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Adds one to what is locked; the lock is all that keeps two from doing it at once.
    fn add(lock: &Patient<u64>) {
        lock.lock();
        // SAFETY: this thread holds the lock, and gives it back after its last use of the value.
        unsafe {
            *lock.get() += 1;
            lock.unlock();
        }
    }

    fn value(lock: &Patient<u64>) -> u64 {
        lock.lock();
        // SAFETY: as above.
        unsafe {
            let value = *lock.get();
            lock.unlock();
            value
        }
    }

    #[test]
    fn one_at_a_time() {
        let lock = Patient::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50_000).for_each(|_| add(&lock)));
            }
        });
        assert_eq!(value(&lock), 200_000);
    }

    /// One waits until the lock is reserved for it: from then on it is free for no other, and
    /// the one has it when it is given back.
    #[test]
    fn the_queue_goes_first() {
        let lock = Patient::new(0);
        thread::scope(|scope| {
            lock.lock();
            scope.spawn(|| add(&lock));
            while !lock.reserved.load(Relaxed) {
                thread::yield_now();
            }
            assert!(!lock.take_unreserved());
            // SAFETY: taken above.
            unsafe { lock.unlock() };
            assert_eq!(value(&lock), 1);
        });
    }
}
