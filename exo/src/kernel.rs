//! All of the kernel's state: memory, time and processors ([`State`]), and the devices.
//!
//! In the guest there is one, behind a lock, and a reference to it comes from there alone
//! ([`Locked`]): what changes the state takes a `&Kernel` or `&State`, and so cannot
//! be called without the lock. That the references to objects in frames end with the entry is
//! up to [`crate::object`]'s rules.

use core::cell::RefCell;
use core::ops::Deref;

use crate::disk::device::Device;
use crate::net::Net;
use crate::net::scope::Scope;
use crate::net::storage::Merged;
use crate::state::State;

/// Everything the kernel knows that is not in a kernel object.
pub struct Kernel {
    /// All but the devices.
    pub state: State,
    /// The network interface.
    pub net: RefCell<Net>,
    /// The disk, if there is one.
    pub disk: RefCell<Option<Device>>,
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

// SAFETY: it holds references to what lies in frames and in the direct map, which are the
// same on every processor; whichever works on it holds the lock.
unsafe impl Send for Kernel {}

#[cfg(exo_guest)]
mod lock;
#[cfg(any(exo_guest, test))]
mod patient;
#[cfg(exo_guest)]
pub use lock::{Locked, enter, install, lock, of_the_end};
