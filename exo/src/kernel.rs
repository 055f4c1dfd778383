//! The kernel's state, in one place, and who may touch it.

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use exo_abi::{EnvId, Pfn, SystemInfo};

use crate::clock::Clock;
use crate::cores::{Core, MAX_CORES};
use crate::env::Env;
use crate::frames::FrameTable;
use crate::net::Net;
use crate::net::scope::Scope;
use crate::net::storage::Merged;
use crate::object;

/// Everything the kernel knows that is not in a kernel object.
pub struct Kernel {
    /// Who owns which frame.
    pub frames: FrameTable,
    /// The published page of facts and counters.
    pub info: &'static SystemInfo,
    /// The frame of that page.
    pub info_frame: Pfn,
    /// A root page table whose upper half every environment's copies.
    pub root_table: Pfn,
    /// The first environment; the machine ends with it.
    pub first: Cell<EnvId>,
    /// Whether it has ended.
    pub over: Cell<bool>,
    /// The processors.
    pub cores: [Core; MAX_CORES],
    /// How fast time passes.
    pub clock: Clock,
    /// The network interface.
    pub net: RefCell<Net>,
    /// The scope that holds every packet.
    pub network: &'static Scope,
    /// Where filters are merged.
    pub merged: Merged,
}

impl Kernel {
    /// The environment called `id`, if it exists.
    pub fn env(&self, id: EnvId) -> Option<&'static Env> {
        object::get(&self.frames, Pfn(id.0))
    }

    /// Counts one more `counter` event. Plain load and store: only the kernel
    /// writes, and whoever is in it holds the lock.
    #[inline]
    pub fn count(counter: &AtomicU64, amount: u64) {
        counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
    }
}
