//! What each processor has of its own, found through `gs`: its stack, its number, and what
//! the entries and exits written in assembly look up.

use core::arch::asm;
use core::cell::Cell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64};

use exo_abi::{MAX_CORES, UpcallArea};

use super::stack::Stack;
use crate::shootdown::Door;
use crate::state::context::VectorState;
use crate::state::percore;

const STACK_BYTES: usize = 32 * 1024;

static STACKS: [Stack<STACK_BYTES>; MAX_CORES] = [const { Stack::new() }; MAX_CORES];

/// What belongs to a processor alone: no lock is needed, and no other gets at it.
pub struct PerCore<T>([T; MAX_CORES]);

// SAFETY: each is used by its own processor (`here`), which is not interrupted meanwhile.
unsafe impl<T: Send> Sync for PerCore<T> {}

impl<T> PerCore<T> {
    /// One of `all` for each.
    pub const fn new(all: [T; MAX_CORES]) -> Self {
        Self(all)
    }

    /// This processor's.
    #[inline]
    pub fn here(&self) -> &T {
        &self.0[core_number() % MAX_CORES]
    }
}

/// What `gs` points to in ring 0.
#[repr(C)]
pub(super) struct Core {
    itself: Cell<u64>,
    pub(super) stack_top: Cell<u64>,
    pub(super) user_stack: Cell<u64>,
    pub(super) vector_state: Cell<*mut VectorState>,
    number: Cell<usize>,
    /// Whether it is in ring 3, or on the way there.
    outside: AtomicBool,
    data: Cell<*const percore::Core>,
    /// The upcall words of the current environment: its page tables are loaded.
    pub(super) upcalls: Cell<*const UpcallArea>,
    /// Where exceptions given back to it are counted.
    pub(super) exceptions: Cell<*const AtomicU64>,
    /// Two registers, while an exception is given back.
    pub(super) scratch: [Cell<u64>; 2],
    /// Whether the environment that it runs is elevated.
    pub(super) elevated: Cell<bool>,
    /// What is off meanwhile, as bits of `cr4`.
    pub(super) protection: Cell<u64>,
    /// Whether the environment that it runs takes part in protection keys.
    pub(super) keyed: Cell<bool>,
}

// SAFETY: each is used by one processor, and ring 0 is not interrupted while using it.
unsafe impl Sync for Core {}

static CORES: [Core; MAX_CORES] = [const {
    Core {
        itself: Cell::new(0),
        stack_top: Cell::new(0),
        user_stack: Cell::new(0),
        vector_state: Cell::new(core::ptr::null_mut()),
        number: Cell::new(0),
        outside: AtomicBool::new(false),
        data: Cell::new(core::ptr::null()),
        upcalls: Cell::new((&raw const MASKED).cast()),
        exceptions: Cell::new(core::ptr::null()),
        scratch: [const { Cell::new(0) }; 2],
        elevated: Cell::new(false),
        protection: Cell::new(0),
        keyed: Cell::new(false),
    }
}; MAX_CORES];

/// The upcall words of no environment: masked, and so never written.
static MASKED: [u64; size_of::<UpcallArea>() / 8] = [u64::MAX; _];

#[inline]
pub(super) fn this_core() -> &'static Core {
    let itself: *const Core;
    // SAFETY: in ring 0 `gs` addresses the processor's data, which begins with its own
    // address ([`prepare`]).
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) itself, options(nostack, readonly, preserves_flags));
        &*itself
    }
}

/// The number of this processor.
#[inline]
pub fn core_number() -> usize {
    let number;
    // SAFETY: as in `this_core`; it never changes.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) number, const offset_of!(Core, number),
            options(nostack, pure, readonly, preserves_flags));
    }
    number
}

/// This processor's door.
pub struct OwnDoor;

impl Door for OwnDoor {
    #[inline(always)]
    fn set(&self, outside: bool) {
        // SAFETY: as in `this_core`, an atomic of its. A store releases (SDM vol. 3, 9.2.2), and
        // the compiler moves no access to memory across. Where the value is known, one
        // instruction is left.
        unsafe {
            match outside {
                true => asm!("mov byte ptr gs:[{}], 1", const offset_of!(Core, outside),
                    options(nostack, preserves_flags)),
                false => asm!("mov byte ptr gs:[{}], 0", const offset_of!(Core, outside),
                    options(nostack, preserves_flags)),
            }
        }
    }
}

/// The door of processor `number`.
pub fn door(number: usize) -> &'static AtomicBool {
    &CORES[number % MAX_CORES].outside
}

/// What the kernel keeps of this processor: what [`set_core_data`] set.
#[inline]
pub fn core_data() -> *const percore::Core {
    let data;
    // SAFETY: as in `this_core`; it is set once, on the way to the schedule.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) data, const offset_of!(Core, data),
            options(nostack, pure, readonly, preserves_flags));
    }
    data
}

/// Says where the kernel keeps what it keeps of this processor, and where exceptions
/// that are given back to ring 3 are counted.
pub fn set_core_data(data: &percore::Core, exceptions: &'static AtomicU64) {
    this_core().data.set(data);
    this_core().exceptions.set(exceptions);
}

/// Fills in the data of processor `number`. Returns its address.
pub fn prepare(number: usize) -> u64 {
    let core = &CORES[number];
    core.itself.set(core as *const Core as u64);
    core.stack_top.set(stack_top(number));
    core.number.set(number);
    core.itself.get()
}

/// Where the kernel stack of processor `core` begins.
pub fn stack_top(core: usize) -> u64 {
    STACKS[core].top()
}

/// The pages below the kernel stacks.
pub fn guards() -> impl Iterator<Item = u64> {
    STACKS.iter().map(Stack::guard)
}

/// Tells the trap entry where the running environment's vector registers go.
#[inline]
pub fn set_vector_state(area: *mut VectorState) {
    // SAFETY: a word of this processor's own data (`this_core`).
    unsafe {
        asm!("mov gs:[{}], {}", const offset_of!(Core, vector_state), in(reg) area,
            options(nostack, preserves_flags));
    }
}

/// Gives the exception entry the upcall words of the environment that is to run.
#[inline]
pub fn set_upcalls(area: Option<&'static UpcallArea>) {
    let area: *const UpcallArea = area.map_or((&raw const MASKED).cast(), core::ptr::from_ref);
    // SAFETY: as in `set_vector_state`.
    unsafe {
        asm!("mov gs:[{}], {}", const offset_of!(Core, upcalls), in(reg) area,
            options(nostack, preserves_flags));
    }
}
