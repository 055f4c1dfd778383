//! Room to count anew what the frame table counts.

use exo_abi::Pfn;

/// Most frames a machine may have that is checked: 128 MiB.
const MOST: usize = 1 << 15;

/// What was found about a frame.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// Leaf entries that map it.
    pub(super) mapped: u32,
    /// Runs of bindings it lies in.
    pub(super) runs: u16,
    /// Entries that name it as a page table, or places in lists.
    pub(super) named: u16,
}

const NOTHING: Found = Found { mapped: 0, runs: 0, named: 0 };

/// For each frame what was found about it so far.
pub(super) struct Tally(&'static mut [Found; MOST]);

impl Tally {
    /// With nothing found yet. There is one at a time.
    ///
    /// # Panics
    /// If the machine has too many frames.
    pub(super) fn new(frames: u32) -> Self {
        assert!(frames as usize <= MOST, "the checker has no room for so much memory");
        let found = room();
        found.fill(NOTHING);
        Self(found)
    }

    /// About a frame; past the end of memory, about the last.
    pub(super) fn of(&mut self, pfn: Pfn) -> &mut Found {
        &mut self.0[(pfn.0 as usize).min(MOST - 1)]
    }
}

#[cfg(exo_guest)]
fn room() -> &'static mut [Found; MOST] {
    struct Room(core::cell::UnsafeCell<[Found; MOST]>);
    // SAFETY: used by one check at a time, which holds the kernel's lock.
    unsafe impl Sync for Room {}
    static ROOM: Room = Room(core::cell::UnsafeCell::new([NOTHING; MOST]));
    // SAFETY: `memory::check` and `objects::check` each make one tally and drop it before the
    // other begins, and the processor that checks holds the kernel's lock.
    unsafe { &mut *ROOM.0.get() }
}

#[cfg(not(exo_guest))]
fn room() -> &'static mut [Found; MOST] {
    thread_local! {
        static ROOM: *mut [Found; MOST] = Box::into_raw(Box::new([NOTHING; MOST]));
    }
    // SAFETY: as in the guest; a thread has a kernel of its own.
    ROOM.with(|room| unsafe { &mut **room })
}
