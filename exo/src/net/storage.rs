//! Step 2, where the merged keys and filters lie: in frames that their owners brought.
//!
//! A scope or a filter brings two. One is a kernel object with its blocks; the other holds
//! machine code. Ring 0 can write a frame or execute it, never both. Only the heads of the
//! hash table are the kernel's: one for each frame of memory, and so at least one for two
//! filters.

use core::cell::{Cell, UnsafeCell};
use core::mem::MaybeUninit;

use dpf::{
    Block, BlockId, Buckets, CodeSlot, Filter, Group, GroupId, Node, NodeId, SLOT, SLOTS, Salt,
    Store, UNIT,
};
use exo_abi::{Error, FRAME_BYTES, FrameKind, Pfn};

use crate::kernel::Kernel;
use crate::memory;
use crate::object::KernelObject;

/// Blocks of the tries, at the beginning of a frame, and where their code lies.
#[repr(C, align(64))]
pub(crate) struct Room<const N: usize> {
    pub(crate) code: Cell<Pfn>,
    blocks: UnsafeCell<[MaybeUninit<Block>; N]>,
}

/// A filter attached to a binding.
#[repr(C)]
pub(crate) struct Installed {
    pub(crate) room: Room<1>,
    /// What it says beside its key.
    pub(super) filter: Cell<Filter>,
    pub(crate) binding: Cell<Pfn>,
    /// Behind which key of the binding's scope it lies.
    pub(super) key: Cell<usize>,
    pub(crate) previous: Cell<Pfn>,
    pub(crate) next: Cell<Pfn>,
}

// SAFETY: repr(C), within a frame; zero is valid for the cells, of which a filter is numbers and
// zero the number of its first kind of tests, and anything is for `MaybeUninit`; all fields are
// cells.
unsafe impl KernelObject for Installed {
    const KIND: FrameKind = FrameKind::Filter;
}

/// Units in a frame and in a block, and before the first block of a frame.
const FRAME_UNITS: u32 = FRAME_BYTES as u32 / UNIT as u32;
const BLOCK_UNITS: u32 = (size_of::<Block>() / UNIT) as u32;
const FIRST: u32 = (core::mem::offset_of!(Room<1>, blocks) / UNIT) as u32;
/// Code of a block.
const BLOCK_CODE: usize = SLOTS * SLOT;
const _: () = assert!(super::scope::KEYS * BLOCK_CODE <= FRAME_BYTES as usize);
const _: () = assert!(core::mem::offset_of!(Room<1>, code) == 0);

/// The name of a block in the frame `pfn`.
pub(super) fn block(pfn: Pfn, number: usize) -> Result<BlockId, Error> {
    let first = pfn.0.checked_mul(FRAME_UNITS).ok_or(Error::OutOfRange)?;
    let index = first.checked_add(FIRST + BLOCK_UNITS * number as u32).ok_or(Error::OutOfRange)?;
    BlockId::new(index).ok_or(Error::OutOfRange)
}

/// The frame that a block is in, and which of the frame's it is.
fn place(block: BlockId) -> (Pfn, usize) {
    let within = block.index() % FRAME_UNITS;
    (Pfn(block.index() / FRAME_UNITS), (within.saturating_sub(FIRST) / BLOCK_UNITS) as usize)
}

/// What all tries have in common.
pub struct Merged {
    heads: *mut NodeId,
    bits: u32,
    secret: u64,
    serial: Cell<u64>,
    /// How many filters there have been.
    age: Cell<u64>,
}

impl Merged {
    /// Of no filters, with 2^`bits` heads at `heads`.
    ///
    /// # Safety
    /// That memory must be zero, and be used for nothing else from now on.
    pub const unsafe fn new(heads: *mut NodeId, bits: u32, secret: u64) -> Self {
        Self { heads, bits, secret, serial: Cell::new(0), age: Cell::new(0) }
    }

    /// One more than the last time.
    pub(super) fn age(&self) -> u64 {
        self.age.set(self.age.get() + 1);
        self.age.get()
    }
}

/// The frames of all filters.
pub(super) struct Frames<'a>(pub(super) &'a Kernel);

impl Frames<'_> {
    #[inline]
    fn place<T>(index: u32) -> *mut T {
        memory::physical(u64::from(index) * UNIT as u64).cast()
    }

    /// Where code of a slot is put: the frame and the byte in it.
    fn code(slot: CodeSlot) -> (Pfn, usize) {
        let (pfn, number) = place(slot.block);
        // SAFETY: the tries name only blocks in frames that begin with a `Room`, whatever its
        // length; its first field is this.
        let code = unsafe { &*memory::frame(pfn).cast::<Cell<Pfn>>() };
        (code.get(), number * BLOCK_CODE + slot.index * SLOT)
    }
}

// What a name names is in a block of a frame that begins with a `Room`, where a trie writes a
// node or group wholly before it asks for it; and it changes only through a store that is
// borrowed mutably: each operation on a trie makes one and drops it before it returns.
impl Store for Frames<'_> {
    const MOST_FORKS: u32 = super::filter::FORKS;

    #[inline]
    fn node(&self, id: NodeId) -> &Node {
        // SAFETY: see above.
        unsafe { &*Self::place(id.index()) }
    }

    #[inline]
    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        // SAFETY: see above.
        unsafe { &mut *Self::place(id.index()) }
    }

    #[inline]
    fn group(&self, id: GroupId) -> &Group {
        // SAFETY: see above.
        unsafe { &*Self::place(id.index()) }
    }

    #[inline]
    fn group_mut(&mut self, id: GroupId) -> &mut Group {
        // SAFETY: see above.
        unsafe { &mut *Self::place(id.index()) }
    }

    #[inline]
    fn buckets(&self) -> Buckets {
        let distance = (self.0.merged.heads as u64).wrapping_sub(memory::physical(0) as u64);
        Buckets { distance, bits: self.0.merged.bits }
    }

    #[inline]
    fn bucket(&self, number: u32) -> NodeId {
        // SAFETY: below 2^bits (`Store`'s contract), and numbers.
        unsafe { self.0.merged.heads.add(number as usize).read() }
    }

    fn set_bucket(&mut self, number: u32, head: NodeId) {
        // SAFETY: as in `bucket`.
        unsafe { self.0.merged.heads.add(number as usize).write(head) };
    }

    fn salt(&mut self) -> Salt {
        let merged = &self.0.merged;
        merged.serial.set(merged.serial.get() + 1);
        Salt::new(merged.secret, merged.serial.get())
    }

    fn code_address(&self, slot: CodeSlot) -> u64 {
        let (pfn, offset) = Self::code(slot);
        memory::frame(pfn) as u64 + offset as u64
    }

    fn write_code(&mut self, slot: CodeSlot, code: &[u8]) {
        let (pfn, offset) = Self::code(slot);
        write_code(self.0, pfn, offset, code);
    }
}

/// Makes a frame of memory one of code, without any yet.
pub(super) fn make_code(kernel: &Kernel, pfn: Pfn) {
    const BREAKPOINT: u8 = 0xcc;
    // SAFETY: a quiet frame, checked by the caller. What its owner left there must
    // not be executed.
    unsafe { memory::frame(pfn).write_bytes(BREAKPOINT, FRAME_BYTES as usize) };
    kernel.frames.make_code(pfn, FrameKind::Code);
    kernel.protect(pfn, true);
}

/// Makes it memory again.
pub(super) fn retire_code(kernel: &Kernel, pfn: Pfn) {
    kernel.protect(pfn, false);
    kernel.frames.retire(pfn);
}

/// Writes code into a frame of code. No processor executes it meanwhile: one that classifies
/// or sends holds the lock; and other processors forget what they know of the page before
/// they do.
fn write_code(kernel: &Kernel, pfn: Pfn, offset: usize, code: &[u8]) {
    if offset + code.len() > FRAME_BYTES as usize {
        return;
    }
    kernel.protect(pfn, false);
    // SAFETY: within a frame of code, which is the kernel's alone.
    unsafe {
        let target = memory::frame(pfn).add(offset);
        target.copy_from_nonoverlapping(code.as_ptr(), code.len());
    }
    kernel.protect(pfn, true);
}
