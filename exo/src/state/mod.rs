//! The kernel's state, as far as it is not in kernel objects: what everything else works on.
//!
//! Nothing here refers to what works on it. The network's state comes on top
//! ([`crate::kernel`]).

pub mod context;
pub mod elevated;
pub mod env;
pub mod percore;
pub mod transfer;

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use exo_abi::{EnvId, MAX_CORES, Pfn, SystemInfo};

use self::env::Env;
use self::percore::Core;
use crate::clock::Clock;
use crate::console::Console;
use crate::frames::FrameTable;
use crate::object;

/// What the kernel knows of memory, time and processors.
pub struct State {
    /// The owner of each frame, and what the frame is.
    pub frames: FrameTable,
    /// The published page of facts and counters.
    pub info: &'static SystemInfo,
    /// The frame of that page.
    pub info_frame: Pfn,
    /// A root page table; every environment's has a copy of its upper half.
    pub root_table: Pfn,
    /// First of the direct map's lowest page tables.
    pub direct_map: Pfn,
    /// The first environment; the machine ends with it.
    pub first: Cell<EnvId>,
    /// Whether it has ended.
    pub over: Cell<bool>,
    /// The processors.
    pub cores: [Core; MAX_CORES],
    /// How fast time passes.
    pub clock: Clock,
    /// What was printed and has not gone out yet.
    pub console: Console,
}

impl State {
    /// The state before anything has run, made of what depends on the machine.
    pub fn new(
        frames: FrameTable,
        info: &'static SystemInfo,
        info_frame: Pfn,
        [root_table, direct_map]: [Pfn; 2],
        clock: Clock,
    ) -> Self {
        Self {
            frames,
            info,
            info_frame,
            root_table,
            direct_map,
            first: Cell::new(EnvId(0)),
            over: Cell::new(false),
            cores: Default::default(),
            clock,
            console: Console::default(),
        }
    }

    /// The environment called `id`, if it exists.
    pub fn env(&self, id: EnvId) -> Option<&'static Env> {
        object::get(&self.frames, Pfn(id.0))
    }

    /// Counts `amount` more events of `counter`. Plain load and store: only the kernel
    /// writes, and the core that is in it holds the lock.
    #[inline]
    pub fn count(counter: &AtomicU64, amount: u64) {
        counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
    }
}
