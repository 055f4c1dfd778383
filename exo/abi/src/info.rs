//! Pages the kernel publishes: read-only to every environment.

use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::{ClockLine, LOWERED_REASONS};

/// Slots of a processor's slice vector. It goes round them; each is one slice.
pub const SLOT_COUNT: usize = 64;
/// Most processors used.
pub const MAX_CORES: usize = 4;

/// The slice vectors: which environment owns which slot, by position. Slots are
/// numbered through: those of processor `n` begin at `n` times [`SLOT_COUNT`].
#[repr(C)]
pub struct SlotVector {
    /// Owner of each slot ([`crate::EnvId`]), or zero.
    pub owners: [AtomicU32; SLOT_COUNT * MAX_CORES],
}

/// What every environment may know about the machine, in one page.
///
/// Counters only grow and are written by the kernel alone.
#[repr(C)]
pub struct SystemInfo {
    /// [`crate::ABI_VERSION`] of the running kernel.
    pub abi_version: AtomicU64,
    /// Time-stamp counter ticks per second, as well as is known by now.
    pub tsc_hz: AtomicU64,
    /// What time it is, by that counter.
    pub clock: ClockLine,
    /// First frame of the frame table.
    pub frame_table: AtomicU32,
    /// Number of frames, and so of entries in the frame table.
    pub frame_count: AtomicU32,
    /// Processors at work.
    pub cores: AtomicU32,
    /// Protection keys ([`crate::KEYS`], the one that stands for none included); zero: the
    /// processors have none.
    pub keys: AtomicU32,
    /// The network interface's MAC address in the low six bytes, in network
    /// order from the lowest byte; zero without a network interface.
    pub mac: AtomicU64,
    /// Entries into the kernel by system call.
    pub calls: AtomicU64,
    /// Entries by interrupt, or by exception of an environment that had to end for it.
    pub traps: AtomicU64,
    /// Switches to another environment's address space.
    pub switches: AtomicU64,
    /// Times the processor was halted for want of work.
    pub halts: AtomicU64,
    /// Frames received from the network interface.
    pub received: AtomicU64,
    /// Received frames that no filter claimed.
    pub unclaimed: AtomicU64,
    /// Received frames dropped because their owner's ring was full.
    pub overflowed: AtomicU64,
    /// Frames handed to the network interface.
    pub transmitted: AtomicU64,
    /// Frames refused by a transmit check.
    pub refused: AtomicU64,
    /// Notifications written to devices; each is an exit in a virtual machine.
    pub notifications: AtomicU64,
    /// Bytes of packets copied.
    pub copied: AtomicU64,
    /// Sectors of the disk that can be named; zero without a disk.
    pub disk_sectors: AtomicU64,
    /// Requests handed to the disk.
    pub disk_requests: AtomicU64,
    /// Exceptions given back to the environment that caused them, by processor.
    pub exceptions: [AtomicU64; MAX_CORES],
    /// Stretches in ring 0 of environments that are over, by why ([`crate::Lowered`]).
    pub lowered: [AtomicU64; LOWERED_REASONS],
    /// How long they were together, in ticks of the time-stamp counter.
    pub elevated: AtomicU64,
    /// The slice vectors.
    pub slots: SlotVector,
}

#[cfg(test)]
mod tests {
    use super::SystemInfo;

    #[test]
    fn fits_one_page() {
        assert!(size_of::<SystemInfo>() <= 4096);
    }
}
