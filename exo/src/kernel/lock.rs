//! The lock, and the ways in and out that take it and give it back.

use core::mem::MaybeUninit;
use core::ops::Deref;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Release};

use super::Kernel;
use super::patient::Patient;
use crate::arch::percpu::OwnDoor;
use crate::shootdown;

static INSTALLED: AtomicBool = AtomicBool::new(false);
static KERNEL: Patient<MaybeUninit<Kernel>> = Patient::new(MaybeUninit::uninit());

/// The lock is held by this processor, as long as this lives. It is made by the lock alone.
pub struct Locked(());

impl Deref for Locked {
    type Target = Kernel;

    #[inline(always)]
    fn deref(&self) -> &Kernel {
        // SAFETY: this processor holds the lock, and only shared references are made; a
        // `Locked` exists only after `install`, or for one that runs before it is (its callers'
        // promise).
        unsafe { (*KERNEL.get()).assume_init_ref() }
    }
}

impl Drop for Locked {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: each `Locked` stands for the lock taken once.
        unsafe { KERNEL.unlock() };
    }
}

impl Locked {
    /// Gives the lock back on the way to ring 3, where the current environment goes on: its
    /// page tables are loaded.
    #[inline(always)]
    pub fn leave(self) {
        shootdown::leave(&OwnDoor);
    }

    /// Does `what` without the lock, and takes it again.
    pub fn without(self, what: impl FnOnce()) -> Self {
        drop(self);
        what();
        lock()
    }
}

/// Makes `kernel` the machine's. The lock is held then.
///
/// # Safety
/// Once, before anything calls [`lock`] or [`enter`].
pub unsafe fn install(kernel: Kernel) -> Locked {
    let locked = lock();
    // SAFETY: this processor holds the lock, and nothing refers to the value yet.
    unsafe { (*KERNEL.get()).write(kernel) };
    INSTALLED.store(true, Release);
    locked
}

/// Takes the lock.
#[inline(always)]
pub fn lock() -> Locked {
    KERNEL.lock();
    Locked(())
}

/// Takes the lock on the way in from ring 3.
#[inline(always)]
pub fn enter() -> Locked {
    shootdown::enter(&OwnDoor);
    lock()
}

/// What was printed, whichever processor holds the lock, for the last words of a kernel that
/// fails; none before [`install`]. It does not come back to what it fails in.
pub fn of_the_end() -> Option<&'static Kernel> {
    // SAFETY: written; other processors may change cells of it still, which can spoil the
    // last words, and nothing else happens any more.
    INSTALLED.load(Acquire).then(|| unsafe { (*KERNEL.get()).assume_init_ref() })
}
