//! What ring 0 and ring 3 share, and nothing else: one system-call table, ids,
//! rights, errors, and the layout of every page both sides look at.
//!
//! The kernel (`exo`) and the library OS (`libos`) both link this crate, and it
//! is the only code they have in common. It holds no behaviour beyond decoding:
//! a mistake here is a mistake in the contract, not in one of its sides. Adding
//! a system call is one entry in [`syscall_table!`]; number, decoder, kernel
//! dispatch, library stub and documentation all follow from it.
//!
//! Layouts are `#[repr(C)]` with explicit padding. Words that one side writes
//! while the other reads are atomics, so that neither side ever holds a
//! reference to memory that changes underneath it.

#![no_std]
#![forbid(unsafe_code)]

mod capability;
mod clock;
mod disk;
mod elevation;
mod environment;
mod error;
mod frame;
mod info;
mod keys;
mod numbered;
mod ring;
mod syscall;
mod upcall;
mod word;

pub use capability::{DERIVATION_DEPTH, Handle, MAX_CAPABILITIES, Rights};
pub use clock::ClockLine;
pub use disk::{
    DISK_RING, DiskCompletion, DiskOperation, DiskRequest, DiskRing, MAX_SECTORS, SECTOR_BYTES,
};
pub use elevation::{Allowance, ElevationArea, LOWERED_REASONS, Lowered};
pub use environment::{
    BACKTRACE_DEPTH, EnvId, EnvState, EnvStatus, EventCount, START_BLOCK_BYTES, UArea,
};
pub use error::Error;
pub use frame::{
    FRAME_BYTES, FrameInfo, FrameKind, LARGE_PAGES, Level, Pages, Pfn, Protection, USER_TOP,
    VirtAddr,
};
pub use info::{MAX_CORES, SLOT_COUNT, SlotVector, SystemInfo};
pub use keys::{CLOSED, GATE_BYTES, KEYS, gate, opened};
pub use ring::{
    BUFFER_BYTES, FRAME_MAX, FRAME_MIN, MAX_RING_ORDER, RingIndex, RingOrder, RingPage, SyncCounts,
};
pub use syscall::{BATCH_MAX, BATCH_WORDS, Entry, SYSCALLS, call_number};
pub use upcall::{
    EVENT_RING_WORDS, EXPENDABLE, EventRing, GRACE_MICROSECONDS, REPOSSESSED, Revocation, Upcall,
    UpcallArea,
};
pub use word::{UserPtr, Word};

/// Version of this contract. The kernel publishes it in [`SystemInfo`]; a
/// library OS built against another version should refuse to run.
pub const ABI_VERSION: u64 = 9;

/// Capabilities the kernel puts into the first environment's table, by index.
///
/// Everything in the machine is reachable from these; every other capability is
/// derived from one of them.
pub mod boot {
    use crate::Handle;

    /// The environment itself. Every environment finds itself at this handle.
    pub const SELF: Handle = Handle::first(0);
    /// All page frames.
    pub const FRAMES: Handle = Handle::first(1);
    /// All slots of the slice vector.
    pub const SLOTS: Handle = Handle::first(2);
    /// The network interface.
    pub const NET: Handle = Handle::first(3);
    /// The console.
    pub const CONSOLE: Handle = Handle::first(4);
    /// The machine's power.
    pub const MACHINE: Handle = Handle::first(5);
    /// All sectors of the disk; none without one.
    pub const DISK: Handle = Handle::first(6);
    /// Ring 0.
    pub const ELEVATION: Handle = Handle::first(7);
    /// All protection keys; none where the processors have none.
    pub const KEYS: Handle = Handle::first(8);

    /// Where the first environment finds its U-area; its argument is the same address. At
    /// [`crate::UArea::start`] two little-endian words tell where the boot bundle lies: its
    /// first frame, and its length in bytes. The bundle's frames are plain memory of the
    /// first environment.
    pub const U_AREA: u64 = 0x1000_0000;
    /// Initial stack pointer of the first environment; [`STACK_PAGES`] pages
    /// are mapped below.
    pub const STACK_TOP: u64 = 0x2000_0000;
    /// Pages of the first environment's stack.
    pub const STACK_PAGES: u32 = 16;
}
