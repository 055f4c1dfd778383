//! Step 2, where the merged filters lie: in frames that their owners brought.
//!
//! A filter brings two. One is a kernel object with its share of both tries, what may
//! be received and what may be sent; the other holds machine code: of the filter's share
//! of the first trie, and of what it allows to send. Ring 0 can write a frame or execute
//! it, never both. Only the heads of the hash table are the kernel's: one for each frame
//! of memory, and so at least one for two filters.

use core::cell::{Cell, UnsafeCell};
use core::mem::MaybeUninit;

use dpf::{
    Block, BlockId, Buckets, CodeSlot, Filter, Group, GroupId, Node, NodeId, PREDICATE, SLOT,
    SLOTS, Salt, Store, UNIT,
};
use exo_abi::{Error, FRAME_BYTES, FrameKind, Pfn};

use crate::kernel::Kernel;
use crate::memory;
use crate::object::KernelObject;

/// A filter attached to a binding. Its share of the tries comes first.
#[repr(C)]
pub(crate) struct Installed {
    blocks: UnsafeCell<[MaybeUninit<Block>; 2]>,
    filters: [UnsafeCell<MaybeUninit<Filter>>; 2],
    pub(crate) binding: Cell<Pfn>,
    pub(crate) previous: Cell<Pfn>,
    pub(crate) next: Cell<Pfn>,
    /// Where its code lies.
    pub(crate) code: Cell<Pfn>,
    /// Whether its mirror is written, merged and compiled.
    pub(super) speaks: Cell<bool>,
}

// SAFETY: repr(C), within a frame; zero is valid for the cells, and anything is
// for `MaybeUninit`; all fields are cells.
unsafe impl KernelObject for Installed {
    const KIND: FrameKind = FrameKind::Filter;
}

/// Which of the two tries.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Claim = 0,
    Speech = 1,
}

/// Units in a frame and in a block.
const FRAME_UNITS: u32 = FRAME_BYTES as u32 / UNIT as u32;
const BLOCK_UNITS: u32 = (size_of::<Block>() / UNIT) as u32;
/// Where in the frame of code the mirror's begins.
const MIRROR: usize = SLOTS * SLOT;
const _: () = assert!(MIRROR + PREDICATE <= FRAME_BYTES as usize);

/// The name of the filter's block in the frame `pfn`.
pub(super) fn block(pfn: Pfn, side: Side) -> Result<BlockId, Error> {
    let first = pfn.0.checked_mul(FRAME_UNITS).ok_or(Error::OutOfRange)?;
    let index = first.checked_add(BLOCK_UNITS * side as u32).ok_or(Error::OutOfRange)?;
    BlockId::new(index).ok_or(Error::OutOfRange)
}

/// The frame of the filter whose block it is.
pub(super) fn frame_of(block: BlockId) -> Pfn {
    Pfn(block.index() / FRAME_UNITS)
}

impl Installed {
    /// Notes the filter of one side, before its block is merged.
    pub(super) fn write(&self, side: Side, filter: &Filter) {
        // SAFETY: made or being made, and not merged on this side: nothing refers to it.
        unsafe { (*self.filters[side as usize].get()).write(*filter) };
    }

    /// The filter of one side.
    ///
    /// # Safety
    /// It must have been written, and must not be written any more.
    pub(super) unsafe fn filter(&self, side: Side) -> &Filter {
        // SAFETY: the caller's promise.
        unsafe { (*self.filters[side as usize].get()).assume_init_ref() }
    }

    /// Compiles the mirror.
    pub(super) fn compile(&self, kernel: &Kernel, speech: &Filter) {
        if kernel.merged.compiles {
            write_code(kernel, self.code.get(), MIRROR, dpf::compile(speech).bytes());
        }
    }

    /// Whether it allows to send a frame that begins with `head`. It must speak.
    #[inline]
    pub(super) fn passes(&self, kernel: &Kernel, head: &[u8]) -> bool {
        if !kernel.merged.compiles {
            // SAFETY: it is written before it speaks.
            return unsafe { self.filter(Side::Speech) }.matches(head);
        }
        let code = memory::frame(self.code.get()).wrapping_add(MIRROR);
        // SAFETY: `compile` wrote a predicate there, which is a function of this type and
        // reads no more than it is given.
        unsafe {
            let code =
                core::mem::transmute::<*mut u8, extern "C" fn(*const u8, usize) -> u32>(code);
            code(head.as_ptr(), head.len()) != 0
        }
    }
}

/// What all tries have in common.
pub struct Merged {
    heads: *mut NodeId,
    bits: u32,
    secret: u64,
    serial: Cell<u64>,
    /// Whether filters are compiled, or interpreted.
    pub compiles: bool,
}

impl Merged {
    /// Of no filters, with 2^`bits` heads at `heads`.
    ///
    /// # Safety
    /// That memory must be zero, and be used for nothing else from now on.
    pub const unsafe fn new(heads: *mut NodeId, bits: u32, secret: u64, compiles: bool) -> Self {
        Self { heads, bits, secret, serial: Cell::new(0), compiles }
    }
}

/// The frames of all filters.
pub(super) struct Frames<'a>(pub(super) &'a Kernel);

impl Frames<'_> {
    #[inline]
    fn place<T>(index: u32) -> *mut T {
        memory::physical(u64::from(index) * UNIT as u64).cast()
    }

    /// The filter whose block it is, and which side.
    fn installed(block: BlockId) -> (&'static Installed, Side) {
        // SAFETY: the tries name only blocks of installed filters, or of the one that is
        // being installed, whose frames hold an `Installed`.
        let installed = unsafe { &*memory::frame(frame_of(block)).cast::<Installed>() };
        let first = block.index().is_multiple_of(FRAME_UNITS);
        (installed, if first { Side::Claim } else { Side::Speech })
    }
}

// What a name names is in the block of a frame that is an `Installed`, where a trie writes a
// node or group wholly before it asks for it; and it changes only through a store that is
// borrowed mutably: each operation on a trie makes one and drops it before it returns.
impl Store for Frames<'_> {
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

    fn filter(&self, block: BlockId) -> &Filter {
        let (installed, side) = Self::installed(block);
        // SAFETY: `filter::install` writes a filter before it merges its block.
        unsafe { installed.filter(side) }
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

    fn code_address(&self, slot: CodeSlot) -> Option<u64> {
        let (installed, side) = Self::installed(slot.block);
        let code = memory::frame(installed.code.get()) as u64 + (slot.index * SLOT) as u64;
        (self.0.merged.compiles && matches!(side, Side::Claim)).then_some(code)
    }

    fn write_code(&mut self, slot: CodeSlot, code: &[u8]) {
        let (installed, _) = Self::installed(slot.block);
        write_code(self.0, installed.code.get(), slot.index * SLOT, code);
    }
}

/// Makes a frame of memory one of code, without any yet.
pub(super) fn make_code(kernel: &Kernel, pfn: Pfn) {
    const BREAKPOINT: u8 = 0xcc;
    // SAFETY: a quiet frame, checked by `filter::install`. What its owner left there must
    // not be executed.
    unsafe { memory::frame(pfn).write_bytes(BREAKPOINT, FRAME_BYTES as usize) };
    kernel.frames.set_kind(pfn, FrameKind::Code, 0);
    kernel.protect(pfn, true);
}

/// Makes it memory again.
pub(super) fn retire_code(kernel: &Kernel, pfn: Pfn) {
    kernel.protect(pfn, false);
    kernel.frames.retire(pfn);
}

/// Writes code into a frame of code. Nobody is in it meanwhile: whoever classifies or
/// sends holds the lock; and other processors forget what they know of the page before
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
