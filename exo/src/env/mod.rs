//! Environments: an address space, capabilities and a processor state, in one
//! donated frame.
//!
//! The kernel knows no more of an environment than protection needs. Its
//! number is the frame its object lies in; there is no table of environments
//! that could fill up.

mod destroy;
mod family;
mod lifecycle;

use core::cell::{Cell, UnsafeCell};

use exo_abi::{EnvId, EnvState, EnvStatus, FrameKind, Pfn};

use crate::capability::CapRef;
use crate::object::KernelObject;

pub use destroy::destroy_step;
pub use lifecycle::{Parts, create, end, notify, start, wake};

/// Selector of ring 3's code segment.
pub const USER_CODE: u16 = 0x28 | 3;
/// Selector of ring 3's data segment.
pub const USER_DATA: u16 = 0x20 | 3;

/// The state of an environment that is not running: what a trap leaves on its
/// stack, from the last register pushed up to what `iretq` pops. The order is
/// known to `arch::entry`, which saves and restores it.
#[derive(Clone, Copy)]
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
    pub const fn at(rip: u64, rsp: u64, flags: u64) -> Self {
        Self {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rbp: 0,
            rdi: 0,
            rsi: 0,
            rdx: 0,
            rcx: 0,
            rbx: 0,
            rax: 0,
            vector: 0,
            error: 0,
            rip,
            cs: USER_CODE as u64,
            flags,
            rsp,
            ss: USER_DATA as u64,
        }
    }

    /// Whether it is a state of ring 3.
    pub const fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }
}

/// Vector and x87 registers in `fxsave` format (SDM vol. 1, 10.5.1).
#[repr(C, align(16))]
pub struct VectorState(UnsafeCell<[u8; 512]>);

impl VectorState {
    /// Resets to the state after `finit`, all exceptions masked.
    fn reset(&self) {
        let mut image = [0; 512];
        image[..2].copy_from_slice(&0x037f_u16.to_le_bytes()); // control word
        image[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes()); // MXCSR
        // SAFETY: the environment is not running, so neither the processor nor
        // anything else uses its saved state now.
        unsafe { *self.0.get() = image };
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
    /// Saved registers, while another environment runs.
    pub context: Cell<Context>,
    /// Saved vector registers.
    pub vectors: VectorState,
    /// Root page table.
    pub root_table: Cell<Pfn>,
    /// The U-area's frame.
    pub u_area: Cell<Pfn>,
    /// Events so far; the U-area shows a copy.
    pub events: Cell<u64>,
    /// When a sleeping environment wakes without an event, or zero.
    pub deadline: Cell<u64>,
    /// State and cause of death. The state in it is kept current.
    pub status: Cell<EnvStatus>,
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
    /// One bit for each slot of the slice vector that it owns.
    pub slots: Cell<u64>,
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
// valid value of every field (`Pfn`, integers, `CapRef::NONE`, status `New`),
// and all fields are cells.
unsafe impl KernelObject for Env {
    const KIND: FrameKind = FrameKind::Env;
}

impl Env {
    /// The environment's number.
    pub fn id(&self) -> EnvId {
        EnvId(self.id.get())
    }

    /// What it is doing.
    pub fn state(&self) -> EnvState {
        EnvState::from_u32(self.status.get().state).unwrap_or(EnvState::Dying)
    }
}

#[cfg(test)]
mod tests;
