//! All of the kernel's state: memory, time and processors ([`State`]), and the network.

use core::cell::RefCell;
use core::ops::Deref;

use crate::net::Net;
use crate::net::scope::Scope;
use crate::net::storage::Merged;
use crate::state::State;

/// Everything the kernel knows that is not in a kernel object.
pub struct Kernel {
    /// All but the network.
    pub state: State,
    /// The network interface.
    pub net: RefCell<Net>,
    /// The scope that holds every packet.
    pub network: &'static Scope,
    /// Where filters are merged.
    pub merged: Merged,
}

impl Deref for Kernel {
    type Target = State;

    #[inline]
    fn deref(&self) -> &State {
        &self.state
    }
}

#[cfg(exo_guest)]
mod instance {
    use core::cell::UnsafeCell;
    use core::mem::MaybeUninit;

    use super::Kernel;

    struct Cellar(UnsafeCell<MaybeUninit<Kernel>>);

    // SAFETY: written once by `install` before anything reads it; afterwards
    // only shared, and used by whichever processor holds the lock.
    unsafe impl Sync for Cellar {}

    static KERNEL: Cellar = Cellar(UnsafeCell::new(MaybeUninit::uninit()));

    /// Makes `kernel` the machine's.
    ///
    /// # Safety
    /// Once, before anything calls [`kernel`].
    pub unsafe fn install(kernel: Kernel) -> &'static Kernel {
        // SAFETY: nothing has read it yet.
        unsafe { (*KERNEL.0.get()).write(kernel) }
    }

    /// The kernel's state.
    #[inline]
    pub fn kernel() -> &'static Kernel {
        // SAFETY: entries from ring 3 exist only after `install`.
        unsafe { (*KERNEL.0.get()).assume_init_ref() }
    }
}
#[cfg(exo_guest)]
pub use instance::{install, kernel};
