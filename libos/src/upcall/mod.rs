//! Upcalls: where the kernel tells the application what it does not decide for it.
//!
//! The kernel saves four registers in the U-area and jumps to [`install`]'s entry on
//! the stack named there (`exo_abi::UpcallArea`). The entry saves the rest, calls a
//! handler with all of it as a [`Frame`], and goes back to wherever the frame says
//! then, without entering the kernel. A handler that swaps frames is a thread switch;
//! one that maps a page is a pager.
//!
//! Back leads over the interrupted stack: the last three words are popped from below
//! its red zone, when upcalls are possible again. So the frame's stack pointer must
//! lead to memory that can be written [`BELOW_STACK`] bytes further down.

mod entry;

use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{UArea, Upcall};

/// Bytes below a frame's stack pointer that going back writes to: the red zone
/// (System V ABI, 3.2.2) and three words.
pub const BELOW_STACK: u64 = 128 + 24;

/// Everything of an interrupted computation.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
#[expect(missing_docs, reason = "the processor's names")]
pub struct Frame {
    /// As `fxsave` writes it (SDM vol. 1, 10.5.1).
    pub vectors: [u8; 512],
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
    pub rip: u64,
    pub flags: u64,
    pub rsp: u64,
}

impl Frame {
    /// Nothing in the registers, and the flags and vector control words that the calling
    /// convention wants at the start of a function (System V ABI, 3.4.1).
    pub const START: Self = Self {
        vectors: {
            let mut vectors = [0; 512];
            // x87 control word and MXCSR: all exceptions masked.
            [vectors[0], vectors[1]] = 0x037f_u16.to_le_bytes();
            [vectors[24], vectors[25]] = 0x1f80_u16.to_le_bytes();
            vectors
        },
        r15: 0,
        r14: 0,
        r13: 0,
        r12: 0,
        r11: 0,
        r10: 0,
        r9: 0,
        r8: 0,
        rdi: 0,
        rsi: 0,
        rbp: 0,
        rbx: 0,
        rdx: 0,
        rcx: 0,
        rax: 0,
        rip: 0,
        flags: 0x202,
        rsp: 0,
    };
}

/// What an exception was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception {
    /// Vector (SDM vol. 3, table 6-1).
    pub vector: u64,
    /// A page fault's error code, or zero.
    pub code: u64,
    /// Faulting address, for a page fault.
    pub address: u64,
}

/// Page fault.
pub const PAGE_FAULT: u64 = 14;
/// Invalid instruction.
pub const INVALID_OPCODE: u64 = 6;

/// Serves an upcall. Runs on the upcall stack, with upcalls masked: an exception in
/// it ends the application.
pub type Handler = fn(Reason, &mut Frame);

/// Why the application is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It caused an exception.
    Exception(Exception),
    /// Its slice is over: `slice_yield` within the grace.
    SliceEnd,
    /// It runs again after the end of a slice.
    SliceBegin,
    /// Something happened.
    Event,
    /// Resources are wanted back: the U-area says which.
    Revoke,
    /// It is not in ring 0 any more: the U-area says why.
    Lowered,
    /// The application came by itself, by [`enter`] with this.
    Entered(usize),
}

/// The number with which [`enter`] comes; the kernel's are single bits.
const ENTERED: u64 = 0;

struct Installed(Cell<Option<(Handler, &'static UArea)>>);

// SAFETY: an environment has one thread of execution; an upcall that comes while
// `install` writes sees either value, because the entry is named last.
unsafe impl Sync for Installed {}

static INSTALLED: Installed = Installed(Cell::new(None));

/// Directs upcalls to `handler`: exceptions, and what `wanted` names. `stack_top` is
/// the end of the stack that it runs on, 16 bytes aligned.
///
/// # Safety
/// The stack must be valid, used by nothing else, and large enough for the handler
/// and a [`Frame`], for as long as upcalls can come.
pub unsafe fn install(u_area: &'static UArea, stack_top: u64, wanted: &[Upcall], handler: Handler) {
    INSTALLED.0.set(Some((handler, u_area)));
    let area = &u_area.upcall;
    let wanted = wanted.iter().fold(0, |all, reason| all | *reason as u32);
    area.stack.store(stack_top, Relaxed);
    area.wanted.store(wanted, Relaxed);
    area.masked.store(0, Relaxed);
    area.entry.store(entry::address(), Relaxed);
}

/// No more upcalls: an exception ends the application again.
pub fn remove(u_area: &UArea) {
    u_area.upcall.entry.store(0, Relaxed);
    u_area.upcall.wanted.store(0, Relaxed);
}

/// Comes to the handler as an upcall would, with [`Reason::Entered`] and upcalls masked,
/// but without the kernel. Returns when the handler lets this computation go on.
///
/// **Cost** saving and restoring a [`Frame`].
///
/// # Safety
/// Upcalls must be installed, and `what` mean to the handler what it takes it for.
pub unsafe fn enter(what: usize) {
    // SAFETY: as this function's.
    unsafe { entry::enter(what) }
}

/// The application's own U-area.
pub fn u_area() -> &'static UArea {
    // SAFETY: the creator of an environment maps its U-area there for good (as `app!`
    // relies on, too). The kernel changes only its atomics.
    unsafe { &*core::ptr::with_exposed_provenance::<UArea>(exo_abi::boot::U_AREA as usize) }
}

/// Called by the entry.
extern "C" fn serve(reason: u64, frame: &mut Frame) {
    let Some((handler, u_area)) = INSTALLED.0.get() else { return };
    let area = &u_area.upcall;
    const EXCEPTION: u64 = Upcall::Exception as u64;
    const SLICE_END: u64 = Upcall::SliceEnd as u64;
    const SLICE_BEGIN: u64 = Upcall::SliceBegin as u64;
    const EVENT: u64 = Upcall::Event as u64;
    const REVOKE: u64 = Upcall::Revoke as u64;
    const LOWERED: u64 = Upcall::Lowered as u64;
    let reason = match reason {
        ENTERED => Reason::Entered(frame.rdi as usize),
        EXCEPTION => Reason::Exception(Exception {
            vector: area.vector.load(Relaxed),
            code: area.code.load(Relaxed),
            address: area.address.load(Relaxed),
        }),
        SLICE_END => Reason::SliceEnd,
        SLICE_BEGIN => Reason::SliceBegin,
        EVENT => Reason::Event,
        REVOKE => Reason::Revoke,
        LOWERED => Reason::Lowered,
        // One of a later kernel, which was not asked for.
        _ => return,
    };
    handler(reason, frame);
}
