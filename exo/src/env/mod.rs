//! Environments: an address space, capabilities and a processor state, in one
//! donated frame.
//!
//! The kernel knows no more of an environment than protection needs. Its
//! number is the frame its object lies in; there is no table of environments
//! that could fill up.

mod destroy;
mod family;
mod lifecycle;
pub mod predicate;
pub mod revocation;
pub mod transfer;
pub mod upcall;

use core::cell::{Cell, UnsafeCell};

use exo_abi::{EnvId, EnvState, EnvStatus, FrameKind, Pfn, UArea};

use crate::capability::CapRef;
use crate::cores::MAX_CORES;
use crate::object::KernelObject;

pub use destroy::destroy_step;
use lifecycle::START_FLAGS;
pub use lifecycle::{Parts, create, end, notify, ring, start, wake};

/// Selector of ring 3's code segment.
pub const USER_CODE: u16 = 0x28 | 3;
/// Selector of ring 3's data segment.
pub const USER_DATA: u16 = 0x20 | 3;

/// The state of an environment that is not running: what a trap leaves on its
/// stack, from the last register pushed up to what `iretq` pops. The order is
/// known to `arch::entry`, which saves and restores it.
#[derive(Clone, Copy, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "the processor's names")]
pub struct Context {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// Vector and error code of the trap it was saved by, if it was one.
    pub vector: u64,
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub flags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl Context {
    /// About to execute at `rip` in ring 3, with all other registers zero.
    pub fn at(rip: u64, rsp: u64, flags: u64) -> Self {
        let (cs, ss) = (u64::from(USER_CODE), u64::from(USER_DATA));
        Self { rip, cs, flags, rsp, ss, ..Self::default() }
    }

    /// Whether it is a state of ring 3.
    pub const fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// Vector and x87 registers in `fxsave` format (SDM vol. 1, 10.5.1).
#[repr(C, align(16))]
pub struct VectorState(UnsafeCell<[u8; 512]>);

#[repr(C, align(16))]
struct Image([u8; 512]);

static INITIAL: Image = {
    let mut image = [0; 512];
    [image[0], image[1]] = 0x037f_u16.to_le_bytes(); // control word
    [image[24], image[25], image[26], image[27]] = 0x1f80_u32.to_le_bytes(); // MXCSR
    Image(image)
};

impl VectorState {
    /// The state after `finit`, all exceptions masked.
    pub fn initial() -> *const Self {
        (&raw const INITIAL).cast()
    }

    fn reset(&self) {
        // SAFETY: the environment is not running, so neither the processor nor
        // anything else uses its saved state now.
        unsafe { *self.0.get() = INITIAL.0 };
    }

    /// Makes the vector registers zero, and leaves the rest.
    pub fn clear_registers(&self) {
        const XMM: core::ops::Range<usize> = 160..416; // SDM vol. 1, 10.5.1
        // SAFETY: as in `reset`.
        unsafe { (&mut *self.0.get())[XMM].fill(0) };
    }

    /// For the processor to save into and restore from.
    pub fn image(&self) -> *mut Self {
        self.0.get().cast()
    }
}

/// Most frames of one environment's capability table.
const CAP_TABLE_FRAMES: usize = 64;

/// An environment.
#[repr(C)]
pub struct Env {
    /// Saved registers of its two activities, while another environment runs: what
    /// it does otherwise, and what a transfer began.
    saved: [Cell<Context>; 2],
    vectors: [VectorState; 2],
    /// Root page table.
    pub root_table: Cell<Pfn>,
    /// The U-area's frame.
    pub u_area: Cell<Pfn>,
    area: Cell<Option<&'static UArea>>,
    /// Badges put into its event ring so far.
    pub(crate) rung: Cell<u32>,
    /// Events so far; the U-area shows a copy.
    pub events: Cell<u64>,
    /// When a sleeping environment wakes without an event, or zero.
    pub deadline: Cell<u64>,
    state: Cell<EnvState>,
    /// Upcalls to be made when it runs next, as bits.
    pub pending: Cell<u32>,
    /// Ticks of the time-stamp counter that it took and was not given: for each slice of
    /// them it loses a slot.
    pub debt: Cell<u64>,
    /// What protected control transfers are about.
    pub(crate) transfer: transfer::Transfer,
    /// What it sleeps for, other than an event.
    pub predicate: predicate::Predicate,
    /// What is wanted back of it.
    pub(crate) revocation: revocation::Demand,
    /// Cause of death.
    ended: Cell<EnvStatus>,
    /// Who is told when this environment ends, and with whom it is destroyed.
    pub creator: Cell<EnvId>,
    /// First of the environments it created; of those among them that map
    /// nothing any more because they are being destroyed with it; and this one's
    /// place in its creator's lists. Frame 0 ends a list.
    pub(crate) children: Cell<Pfn>,
    pub(crate) silenced: Cell<Pfn>,
    pub(crate) previous: Cell<Pfn>,
    pub(crate) next: Cell<Pfn>,
    /// First of the bindings it owns.
    pub bindings: Cell<Pfn>,
    /// For each processor one bit for each of its slots that the environment owns.
    pub slots: [Cell<u64>; MAX_CORES],
    /// The processor it ran on last.
    pub core: Cell<u32>,
    /// How far destruction has come.
    pub(crate) destruction: Cell<(u32, u32)>,
    /// Frames in `cap_tables`.
    pub(crate) cap_frames: Cell<u32>,
    /// First free capability slot.
    pub(crate) cap_free: Cell<CapRef>,
    /// The capability table's frames.
    pub(crate) cap_tables: [Cell<Pfn>; CAP_TABLE_FRAMES],
    id: Cell<u32>,
}

// SAFETY: repr(C), within a frame (checked by `object::create`), zero is a
// valid value of every field (`Pfn`, integers, `CapRef::NONE`, `EnvState::New`, no
// reference, a `dpf::Filter` of no atoms, which is numbers too), and all fields are cells or made
// of them.
unsafe impl KernelObject for Env {
    const KIND: FrameKind = FrameKind::Env;
}

impl Env {
    /// The environment's number.
    pub fn id(&self) -> EnvId {
        EnvId(self.id.get())
    }

    /// What it is doing.
    #[inline]
    pub fn state(&self) -> EnvState {
        self.state.get()
    }

    /// Changes what it is doing. The schedule must be told: see `schedule::set_state`.
    #[inline]
    pub(crate) fn set_state(&self, state: EnvState) {
        self.state.set(state);
    }

    /// What it is doing, and why it ended if it did.
    pub fn status(&self) -> EnvStatus {
        EnvStatus { state: self.state.get() as u32, ..self.ended.get() }
    }

    /// The saved registers of the activity that runs when the environment does.
    #[inline]
    pub fn context(&self) -> &Cell<Context> {
        &self.saved[usize::from(self.transfer.serving())]
    }

    /// Its vector registers.
    #[inline]
    pub fn vectors(&self) -> &VectorState {
        &self.vectors[usize::from(self.transfer.serving())]
    }

    /// Whether its slots are worth a look: it can run, or waits for somebody who may,
    /// or for a condition that may hold.
    #[inline]
    pub fn may_run(&self) -> bool {
        match self.state() {
            EnvState::Ready | EnvState::Calling => true,
            EnvState::Waiting => self.predicate.is_set(),
            _ => false,
        }
    }

    /// Its U-area, as long as it can run. Its owner may write it at any time, but all that
    /// the kernel looks at are atomics.
    #[inline]
    pub fn area(&self) -> Option<&'static UArea> {
        self.area.get()
    }
}

#[cfg(test)]
mod tests;
