//! Where things lie in a child, and what it shares with its fellows and its maker.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use exo_abi::{FrameInfo, VirtAddr};

const fn page(address: u64) -> VirtAddr {
    match VirtAddr::new(address) {
        Some(at) => at,
        None => panic!("a page of user space"),
    }
}

/// The page that the whole crew and its maker share.
pub(crate) const BOARD: VirtAddr = page(0x2100_0000);
/// A page of each child's own for what calls read and write; behind it is nothing.
pub(crate) const SCRATCH: VirtAddr = page(0x2100_1000);
/// The stack of protected calls.
pub(crate) const SERVICE_STACK: VirtAddr = page(0x2120_0000);
/// The frame table.
pub(crate) const FRAME_TABLE: VirtAddr = page(0x2140_0000);
/// Where children map what they like.
pub(crate) const PLAYGROUND: VirtAddr = page(0x30_0000_0000);

/// Children of a crew.
pub(crate) const CREW: usize = 4;
/// Capabilities that a child is told of.
pub(crate) const TOLD: usize = 24;

/// What the crew and its maker tell each other.
#[repr(C)]
pub(crate) struct Board {
    /// The round's seed.
    pub(crate) seed: AtomicU64,
    /// Calls each child is to make.
    pub(crate) budget: AtomicU64,
    /// First frame and number of frames to play with.
    pub(crate) frames: [AtomicU64; 2],
    /// Entries of the frame table.
    pub(crate) table: AtomicU64,
    /// Own address, in network order from the lowest byte.
    pub(crate) address: AtomicU64,
    /// First sector and number of sectors of the extent, if there is one.
    pub(crate) extent: [AtomicU64; 2],
    /// Not zero if packets may be sent.
    pub(crate) speaks: AtomicU64,
    /// Calls each child has made.
    pub(crate) made: [AtomicU64; CREW],
    /// How often each call succeeded; and behind them [`FAULTED`] and [`GRANTED`].
    pub(crate) succeeded: [AtomicU64; 64],
    /// For each child the handles it was given, with a [`Told`] in the highest byte.
    pub(crate) told: [[AtomicU64; TOLD]; CREW],
}

/// Where exceptions are counted that children have outlived.
pub(crate) const FAULTED: usize = 62;
/// Where capabilities are counted that came with calls and replies.
pub(crate) const GRANTED: usize = 63;
const _: () = assert!(exo_abi::SYSCALLS.len() < FAULTED);

/// What a handle is for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Told {
    Other = 0,
    Env = 1,
    Frames = 2,
    Net = 3,
    Binding = 4,
    Entry = 5,
    Doorbell = 6,
    Disk = 7,
    DiskBinding = 8,
}

const _: () = assert!(size_of::<Board>() <= 4096);

/// The board where it lies at `at`.
pub(crate) fn board_at(at: VirtAddr) -> &'static Board {
    let at = core::ptr::with_exposed_provenance(at.get() as usize);
    // SAFETY: a page mapped for this, in the crew's children and in their maker; all
    // fields are atomics. A child that loses it faults, and may.
    unsafe { &*at }
}

/// The board as a child sees it.
pub(crate) fn board() -> &'static Board {
    board_at(BOARD)
}

impl Board {
    /// Tells child `child` of a handle it has.
    pub(crate) fn tell(&self, child: usize, place: usize, what: Told, handle: u64) {
        let Some(row) = self.told.get(child % CREW) else { return };
        if let Some(word) = row.get(place % TOLD) {
            word.store(handle | (what as u64) << 56, Relaxed);
        }
    }
}

/// The frame table as a child sees it.
pub(crate) fn frame_table() -> &'static [FrameInfo] {
    let start = core::ptr::with_exposed_provenance(FRAME_TABLE.get() as usize);
    let length = board().table.load(Relaxed) as usize;
    // SAFETY: the maker mapped the published table, which has so many entries, all
    // atomics.
    unsafe { core::slice::from_raw_parts(start, length) }
}

/// Filters on the scratch page, encoded: where each begins and how long it is.
pub(crate) const FILTERS: [usize; 4] = [2048, 2304, 2560, 2816];
/// How far behind each is the key that it is, encoded.
pub(crate) const KEY: usize = 128;
/// Where their lengths are.
pub(crate) const LENGTHS: usize = 2016;

/// Places on the board that only the maker writes: which environment each handle is for is known.
pub(crate) const FIXED: usize = CREW + 4;

/// Where child `index` finds its handle for child `other`. In the place for itself is
/// its number.
pub(crate) const fn first_of(index: usize, other: usize) -> usize {
    (other + CREW - index) % CREW
}
