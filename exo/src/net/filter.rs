//! Step 2: whose packet is it? And who may send it?
//!
//! The language, the trie and the walk are `dpf`'s; here are the frames they live
//! in, and the authority to install them. Every filter brings its own frame with
//! room for its share of both tries, so installing one takes nothing from
//! anybody else. A filter that shares any packet with one that another
//! environment has installed is refused.

use core::cell::{Cell, UnsafeCell};
use core::mem::MaybeUninit;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU64, Ordering};

use dpf::{
    Block, BlockId, Buckets, CodeSlot, Filter, Group, GroupId, Node, NodeId, Salt, Store, Tag,
    Trie, UNIT,
};
use exo_abi::{Error, FRAME_BYTES, FrameKind, Pfn};

use super::binding::Binding;
use super::nic::HEAD;
use super::{NOBODY, Net, scope, station};
use crate::frames::FrameTable;
use crate::kernel::Kernel;
use crate::memory;
use crate::object::{self, KernelObject};

/// A filter attached to a binding.
#[repr(C)]
pub(crate) struct Installed {
    pub(crate) binding: Cell<Pfn>,
    pub(crate) previous: Cell<Pfn>,
    pub(crate) next: Cell<Pfn>,
    /// Whether `speech` is written and merged.
    speaks: Cell<bool>,
    claim: UnsafeCell<MaybeUninit<Filter>>,
    speech: UnsafeCell<MaybeUninit<Filter>>,
    blocks: [UnsafeCell<MaybeUninit<Block>>; 2],
}

// SAFETY: repr(C), within a frame; zero is valid for the cells, and anything is
// for `MaybeUninit`; all fields are cells.
unsafe impl KernelObject for Installed {
    const KIND: FrameKind = FrameKind::Filter;
}

impl Installed {
    /// What it allows to send, if anything.
    #[inline]
    fn speech(&self) -> Option<&Filter> {
        // SAFETY: `install` writes it before it sets `speaks`, and it does not
        // change afterwards.
        self.speaks.get().then(|| unsafe { (*self.speech.get()).assume_init_ref() })
    }
}

/// Which of a filter's two blocks of nodes.
#[derive(Clone, Copy)]
enum Side {
    Claim = 0,
    Speech = 1,
}

/// Where the blocks start in an [`Installed`], in units.
const FIRST_UNIT: usize = core::mem::offset_of!(Installed, blocks) / UNIT;
const UNITS: usize = FRAME_BYTES as usize / UNIT;
const BLOCK_UNITS: usize = size_of::<Block>() / UNIT;

fn block(pfn: Pfn, side: Side) -> Result<BlockId, Error> {
    let unit = FIRST_UNIT + side as usize * BLOCK_UNITS;
    let index = pfn.0.checked_mul(UNITS as u32).and_then(|first| first.checked_add(unit as u32));
    index.and_then(BlockId::new).ok_or(Error::OutOfRange)
}

/// Blocks in the frames of installed filters. The base is physical address zero.
struct Frames;

impl Frames {
    #[inline]
    fn place(index: u32) -> *mut u8 {
        memory::physical(u64::from(index) * UNIT as u64)
    }
}

/// Heads of the hash table, as a power of two.
const BUCKET_BITS: u32 = 10;

/// The heads of the hash table.
#[cfg(exo_guest)]
fn heads() -> *mut NodeId {
    struct Heads(UnsafeCell<[NodeId; 1 << BUCKET_BITS]>);
    // SAFETY: used by whoever has the kernel's lock alone.
    unsafe impl Sync for Heads {}
    static HEADS: Heads = Heads(UnsafeCell::new([NodeId::NONE; 1 << BUCKET_BITS]));
    HEADS.0.get().cast()
}

/// The heads of the hash table: a frame of the simulated memory that tests use for nothing
/// else.
#[cfg(not(exo_guest))]
fn heads() -> *mut NodeId {
    memory::frame(Pfn(40)).cast()
}

impl Store for Frames {
    #[inline]
    fn node(&self, id: NodeId) -> &Node {
        // SAFETY: the trie names only what is in blocks of installed filters (`Store`'s
        // contract), whose frames hold an `Installed`, with blocks that are written
        // (vacant) when it is made. They change only through `node_mut`, which borrows the
        // store mutably.
        unsafe { &*Self::place(id.index()).cast() }
    }

    #[inline]
    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        // SAFETY: as in `node`, and the borrow of the store is exclusive: every
        // trie operation makes one store and drops it before it returns.
        unsafe { &mut *Self::place(id.index()).cast() }
    }

    #[inline]
    fn group(&self, id: GroupId) -> &Group {
        // SAFETY: as in `node`.
        unsafe { &*Self::place(id.index()).cast() }
    }

    #[inline]
    fn group_mut(&mut self, id: GroupId) -> &mut Group {
        // SAFETY: as in `node_mut`.
        unsafe { &mut *Self::place(id.index()).cast() }
    }

    fn filter(&self, block: BlockId) -> &Filter {
        let (frame, unit) = (block.index() / UNITS as u32, block.index() as usize % UNITS);
        let frame = memory::frame(Pfn(frame)).cast::<Installed>();
        // SAFETY: as in `node`; the filter of a block is written before it is merged
        // (`install`) and does not change while it is.
        unsafe {
            let side = if unit == FIRST_UNIT {
                &raw const (*frame).claim
            } else {
                &raw const (*frame).speech
            };
            (*UnsafeCell::raw_get(side)).assume_init_ref()
        }
    }

    #[inline]
    fn buckets(&self) -> Buckets {
        Buckets { address: heads() as u64, bits: BUCKET_BITS }
    }

    #[inline]
    fn bucket(&self, number: u32) -> NodeId {
        // SAFETY: the trie asks for numbers below 2^bits, and there are as many heads.
        unsafe { heads().add(number as usize).read() }
    }

    fn set_bucket(&mut self, number: u32, head: NodeId) {
        // SAFETY: as in `bucket`.
        unsafe { heads().add(number as usize).write(head) };
    }

    fn salt(&mut self) -> Salt {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        Salt::new(0, SERIAL.fetch_add(1, Ordering::Relaxed))
    }

    fn code_address(&self, _: CodeSlot) -> Option<u64> {
        None
    }

    fn write_code(&mut self, _: CodeSlot, _: &[u8]) {}
}

/// The frame of the binding that `frame` is for.
#[inline]
pub fn classify(claims: &Trie, frame: &[u8]) -> Option<Pfn> {
    claims.classify(&Frames, frame).map(|tag| Pfn(tag.0))
}

/// Whether the binding may send a frame that begins with `head`.
///
/// Any of its mirrors will do, so the one that the last frame passed is tried
/// first, alone: most binders send one kind of frame.
#[inline]
pub fn may_send(frames: &FrameTable, binding: &Binding, head: &[u8]) -> bool {
    let hint = binding.spoke.get();
    if let Some(installed) = object::get::<Installed>(frames, hint)
        && installed.binding.get() == binding.frame()
        && installed.speech().is_some_and(|speech| speech.matches(head))
    {
        return true;
    }
    let passed = binding.speech.borrow().classify(&Frames, head);
    if let Some(Tag(filter)) = passed {
        binding.spoke.set(Pfn(filter));
    }
    passed.is_some()
}

/// Attaches `filter` to `binding`, in frame `pfn` of the binding's owner.
///
/// # Errors
/// [`Error::NoRight`] if it is outside the binding's scope;
/// [`Error::FilterConflict`] if it shares a packet with a filter of another
/// environment, or with one of the same that is neither more nor less specific; and as
/// for every donation.
pub fn install(
    kernel: &Kernel,
    net: &mut Net,
    binding: &Binding,
    filter: &Filter,
    pfn: Pfn,
) -> Result<(), Error> {
    let frames = &kernel.frames;
    frames.check_donation(pfn, binding.owner.get())?;
    if !scope::allows(frames, binding.net(), filter) {
        return Err(Error::NoRight);
    }
    let conflict = net.claims.find_overlap(&Frames, filter, |tag, installed| {
        match object::get::<Binding>(frames, Pfn(tag.0)) {
            Some(other)
                if other.owner.get() == binding.owner.get()
                    && !dpf::conflict(filter, installed) =>
            {
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        }
    });
    if conflict.is_break() {
        return Err(Error::FilterConflict);
    }
    let (claim_block, speech_block) = (block(pfn, Side::Claim)?, block(pfn, Side::Speech)?);
    let installed = object::create::<Installed>(frames, pfn).ok_or(Error::InUse)?;
    // SAFETY: made just now; nothing else refers to its filters and blocks.
    unsafe {
        (*installed.claim.get()).write(*filter);
        for block in &installed.blocks {
            (*block.get()).write(Block::VACANT);
        }
    }
    let tag = Tag(binding.frame().0);
    if net.claims.insert(&mut Frames, filter, claim_block, tag).is_err() {
        frames.retire(pfn);
        return Err(Error::FilterConflict);
    }
    // Without a mirror the owner may listen but not speak. What decides must be
    // in the part of a frame that is copied before it is looked at.
    let mirror = dpf::mirror(filter, station(kernel)).ok().filter(|speech| speech.reach() <= HEAD);
    if let Some(speech) = mirror {
        // SAFETY: as above.
        unsafe { (*installed.speech.get()).write(speech) };
        let mut speeches = binding.speech.borrow_mut();
        let merged = speeches.insert(&mut Frames, &speech, speech_block, Tag(pfn.0)).is_ok();
        installed.speaks.set(merged);
    }
    installed.binding.set(binding.frame());
    let old = binding.filters.get();
    installed.next.set(old);
    if let Some(old) = object::get::<Installed>(frames, old) {
        old.previous.set(pfn);
    }
    binding.filters.set(pfn);
    Ok(())
}

/// Takes the filter in frame `pfn` off `binding`; the frame becomes plain
/// memory of its owner.
///
/// # Errors
/// [`Error::Vacant`] if it is no filter of this binding.
pub fn remove(kernel: &Kernel, net: &mut Net, binding: &Binding, pfn: Pfn) -> Result<(), Error> {
    let frames = &kernel.frames;
    let installed = object::get::<Installed>(frames, pfn)
        .filter(|installed| installed.binding.get() == binding.frame())
        .ok_or(Error::Vacant)?;
    // SAFETY: `install` wrote the claim before it attached the filter, and it does
    // not change afterwards.
    let claim = unsafe { (*installed.claim.get()).assume_init_ref() };
    let claims = net.claims.remove(&mut Frames, claim, block(pfn, Side::Claim)?);
    debug_assert!(claims.is_ok(), "an attached filter is in the trie");
    if let Some(speech) = installed.speech() {
        let mut speeches = binding.speech.borrow_mut();
        let speeches = speeches.remove(&mut Frames, speech, block(pfn, Side::Speech)?);
        debug_assert!(speeches.is_ok(), "a filter that speaks is in the trie");
    }
    let (previous, next) = (installed.previous.get(), installed.next.get());
    match object::get::<Installed>(frames, previous) {
        Some(before) if previous != NOBODY => before.next.set(next),
        _ => binding.filters.set(next),
    }
    if let Some(after) = object::get::<Installed>(frames, next) {
        after.previous.set(previous);
    }
    frames.retire(pfn);
    Ok(())
}
