//! One capability slot, 64 bytes, 64 to a frame.

use core::cell::Cell;

use exo_abi::{Allowance, FrameKind, Pfn, Rights, numbered};

use crate::frames::FrameTable;
use crate::object::{self, KernelObject};

/// Slots in one frame of a capability table.
pub const SLOTS_PER_FRAME: u32 = 64;

numbered! {
    from_u32;
    /// What a capability is for.
    pub enum Kind: u32 {
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
    }
}

/// What a capability names. For frames, slots and sectors a range; for environments, their
/// entries and doorbells, for bindings of either device and a scoped network interface the frame of
/// the object and that frame's generation, so that the capability is stale once the
/// object is gone; otherwise nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Object {
    /// What kind of thing.
    pub kind: Kind,
    /// First of the range, or frame of the object.
    pub first: u32,
    /// Length of the range, or generation of the object's frame.
    pub extent: u32,
    /// For entries and doorbells: what the environment is shown when the capability is used,
    /// below [`BADGE_END`]; above, an entry's number. For elevation: its time in microseconds.
    pub badge: u64,
    /// For an entry: in which life of the entry of that number the capability was made.
    pub life: u32,
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
    kind: Cell<u32>,
    pub(crate) generation: Cell<u32>,
    pub(crate) rights: Cell<Rights>,
    first: Cell<u32>,
    extent: Cell<u32>,
    life: Cell<u32>,
    badge: Cell<u64>,
    /// What is derived from it is being removed.
    pub(crate) revoking: Cell<bool>,
    pub(crate) parent: Cell<CapRef>,
    pub(crate) child: Cell<CapRef>,
    pub(crate) next: Cell<CapRef>,
    pub(crate) previous: Cell<CapRef>,
}

impl Slot {
    /// What kind of capability the slot holds.
    pub fn kind(&self) -> Kind {
        Kind::from_u32(self.kind.get()).unwrap_or(Kind::Empty)
    }

    /// Whether it holds none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.kind.get() == Kind::Empty as u32
    }

    /// What the capability names.
    pub fn object(&self) -> Object {
        Object {
            kind: self.kind(),
            first: self.first.get(),
            extent: self.extent.get(),
            badge: self.badge.get(),
            life: self.life.get(),
        }
    }

    /// What the owner of the entry or doorbell is shown when the capability is used, and
    /// above [`BADGE_END`] an entry's number.
    #[inline]
    pub fn badge(&self) -> u64 {
        self.badge.get()
    }

    /// See [`Object::life`].
    #[inline]
    pub fn life(&self) -> u32 {
        self.life.get()
    }

    /// The living object that a capability of kind `kind` names. Whether an entry is
    /// that of its life still is for the environment to say.
    #[inline]
    pub fn names<T: KernelObject>(&self, kind: Kind, frames: &FrameTable) -> Option<&'static T> {
        if self.kind.get() != kind as u32 {
            return None;
        }
        object::get_live(frames, Pfn(self.first.get()), self.extent.get())
    }

    /// Takes `span` of the time that a capability for elevation has.
    pub(crate) fn spend(&self, span: u64) {
        self.badge.set(match self.badge.get() {
            Allowance::UNLIMITED => Allowance::UNLIMITED,
            total => total.saturating_sub(span),
        });
    }

    /// Gives back what was taken and not used.
    pub(crate) fn give_back(&self, span: u64) {
        self.badge.set(self.badge.get().saturating_add(span));
    }

    /// What the capability allows.
    #[inline]
    pub fn rights(&self) -> Rights {
        self.rights.get()
    }

    pub(super) fn set_object(&self, object: Object) {
        self.kind.set(object.kind as u32);
        self.first.set(object.first);
        self.extent.set(object.extent);
        self.badge.set(object.badge);
        self.life.set(object.life);
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
