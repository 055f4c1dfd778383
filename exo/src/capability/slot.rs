//! One capability slot, 64 bytes, 64 to a frame.

use core::cell::Cell;

use exo_abi::{Allowance, FrameKind, Pfn, Rights};

use crate::frames::FrameTable;
use crate::object::{self, KernelObject};

/// Slots in one frame of a capability table.
pub const SLOTS_PER_FRAME: u32 = 64;

/// What a capability is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// The slot is free.
    Empty = 0,
    /// A range of page frames.
    Frames = 1,
    /// A range of slots of the slice vector.
    Slots = 2,
    /// An environment.
    Env = 3,
    /// The network interface.
    Net = 4,
    /// A network binding.
    Binding = 5,
    /// The console.
    Console = 6,
    /// The machine.
    Machine = 7,
    /// An entry point of an environment.
    Entry = 8,
    /// A doorbell of an environment.
    Doorbell = 9,
    /// An extent of the disk: a range of sectors.
    Disk = 10,
    /// A disk binding.
    DiskBinding = 11,
    /// Running in ring 0.
    Elevation = 12,
    /// A range of protection keys.
    Keys = 13,
}

/// What a capability names. For frames, slots and sectors a range; for environments, their
/// entries and doorbells, for bindings of either device and a scoped network interface the frame of
/// the object and that frame's generation, so that the capability is stale once the
/// object is gone; otherwise nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Object {
    /// What kind of thing.
    pub kind: Kind,
    /// First of the range, or frame of the object.
    pub first: u32,
    /// Length of the range, or generation of the object's frame.
    pub extent: u32,
    /// For an entry: in which life of the entry of that number the capability was made.
    pub life: u32,
    /// For entries and doorbells: what the environment is shown when the capability is used,
    /// below [`BADGE_END`]; above, an entry's number. For elevation: its time in microseconds.
    pub badge: u64,
}

/// Badges are below this.
pub const BADGE_END: u64 = 1 << 60;

impl Object {
    /// A range of frames, slots or sectors.
    pub const fn range(kind: Kind, first: u32, count: u32) -> Self {
        Self { kind, first, extent: count, badge: 0, life: 0 }
    }

    /// A kernel object in a frame.
    pub fn in_frame(kind: Kind, frames: &FrameTable, pfn: Pfn) -> Self {
        Self::range(kind, pfn.0, frames.generation(pfn))
    }

    /// The network interface, the console or the machine: there is one each.
    pub const fn only(kind: Kind) -> Self {
        Self::range(kind, 0, 0)
    }

    /// Whether the object in a frame that the capability names is gone. Whether an entry's
    /// life is over only its environment knows.
    pub fn is_stale(self, frames: &FrameTable) -> bool {
        match self.kind {
            Kind::Net if self.first == 0 => false,
            Kind::Env
            | Kind::Binding
            | Kind::Net
            | Kind::Doorbell
            | Kind::Entry
            | Kind::DiskBinding => frames.generation(Pfn(self.first)) != self.extent,
            _ => false,
        }
    }

    /// Whether the range covers `count` from `first`.
    pub fn covers(self, first: u32, count: u32) -> bool {
        let (mine, start) = (u64::from(self.first), u64::from(first));
        start >= mine && start + u64::from(count) <= mine + u64::from(self.extent)
    }
}

/// Where a capability lies, in any environment's table: slot number counted
/// over all of physical memory, 64 slots to a frame. Zero is nowhere, since
/// frame 0 never holds a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct CapRef(pub(super) u32);

impl CapRef {
    /// Nowhere.
    pub const NONE: Self = Self(0);

    /// Slot `index` of the table in frame `pfn`.
    pub const fn new(pfn: Pfn, index: u32) -> Self {
        Self(pfn.0 * SLOTS_PER_FRAME + index % SLOTS_PER_FRAME)
    }

    /// The frame of the table that the slot is in.
    pub const fn frame(self) -> Pfn {
        Pfn(self.0 / SLOTS_PER_FRAME)
    }

    /// Which slot of that frame.
    pub const fn index(self) -> u32 {
        self.0 % SLOTS_PER_FRAME
    }

    /// The slot itself.
    pub fn get(self, frames: &FrameTable) -> Option<&'static Slot> {
        let table: &CapTable = object::get(frames, self.frame())?;
        table.0.get(self.index() as usize)
    }
}

/// A capability with its place in the derivation tree. A free slot's `next`
/// links the free list of its table's owner.
#[repr(C, align(64))]
pub struct Slot {
    /// What the capability names.
    pub(super) object: Cell<Object>,
    pub(crate) generation: Cell<u32>,
    pub(crate) rights: Cell<Rights>,
    /// What is derived from it is being removed.
    pub(crate) revoking: Cell<bool>,
    pub(crate) parent: Cell<CapRef>,
    pub(crate) child: Cell<CapRef>,
    pub(crate) next: Cell<CapRef>,
    pub(crate) previous: Cell<CapRef>,
}

impl Slot {
    /// What kind of capability the slot holds.
    #[inline]
    pub fn kind(&self) -> Kind {
        self.object.get().kind
    }

    /// Whether it holds none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.kind() == Kind::Empty
    }

    /// What the capability names.
    #[inline]
    pub fn object(&self) -> Object {
        self.object.get()
    }

    /// The living object that a capability of kind `kind` names. Whether an entry is
    /// that of its life still is for the environment to say.
    #[inline]
    pub fn names<T: KernelObject>(&self, kind: Kind, frames: &FrameTable) -> Option<&'static T> {
        let named = self.object.get();
        if named.kind != kind {
            return None;
        }
        object::get_live(frames, Pfn(named.first), named.extent)
    }

    /// Takes `span` of the time that a capability for elevation has.
    pub(crate) fn spend(&self, span: u64) {
        let named = self.object.get();
        if named.badge != Allowance::UNLIMITED {
            self.object.set(Object { badge: named.badge.saturating_sub(span), ..named });
        }
    }

    /// Gives back what was taken and not used.
    pub(crate) fn give_back(&self, span: u64) {
        let named = self.object.get();
        self.object.set(Object { badge: named.badge.saturating_add(span), ..named });
    }

    /// What the capability allows.
    #[inline]
    pub fn rights(&self) -> Rights {
        self.rights.get()
    }
}

/// One frame of a capability table.
#[repr(C, align(4096))]
pub struct CapTable(pub(crate) [Slot; SLOTS_PER_FRAME as usize]);

// SAFETY: repr(C), a frame long; all zero means 64 slots of kind `Empty` with
// links to nowhere; all fields are cells.
unsafe impl KernelObject for CapTable {
    const KIND: FrameKind = FrameKind::CapTable;
}
