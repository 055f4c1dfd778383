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

use dpf::{BlockId, Filter, MAX_ATOMS, Node, NodeId, Store, Tag, Trie};
use exo_abi::{Error, FrameKind, Pfn};

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
    /// Where its code lies.
    pub(crate) code: Cell<Pfn>,
    /// Whether `speech` is written and merged.
    speaks: Cell<bool>,
    claim: UnsafeCell<MaybeUninit<Filter>>,
    speech: UnsafeCell<MaybeUninit<Filter>>,
    nodes: UnsafeCell<[[MaybeUninit<Node>; MAX_ATOMS]; 2]>,
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

fn block(pfn: Pfn, side: Side) -> Result<BlockId, Error> {
    BlockId::new(pfn.0 * 2 + side as u32).ok_or(Error::OutOfRange)
}

/// Nodes in the frames of installed filters.
struct Frames;

impl Frames {
    #[inline]
    fn place(id: NodeId) -> *mut Node {
        let block = id.block().index();
        let frame = memory::frame(Pfn(block / 2)).cast::<Installed>();
        let side = (block % 2) as usize;
        // SAFETY: the trie names only blocks of installed filters (`Store`'s
        // contract), whose frames hold an `Installed`; side and slot are in
        // bounds by construction. Only the field's address is taken.
        unsafe {
            let nodes = UnsafeCell::raw_get(&raw const (*frame).nodes);
            (&raw mut (*nodes)[side][id.slot()]).cast()
        }
    }
}

impl Store for Frames {
    #[inline]
    fn node(&self, id: NodeId) -> &Node {
        // SAFETY: nodes are written (vacant) when a filter's frame is made, and
        // change only through `node_mut`, which borrows the store mutably.
        unsafe { &*Self::place(id) }
    }

    #[inline]
    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        // SAFETY: as in `node`, and the borrow of the store is exclusive: every
        // trie operation makes one store and drops it before it returns.
        unsafe { &mut *Self::place(id) }
    }

    fn filter(&self, block: BlockId) -> &Filter {
        let frame = memory::frame(Pfn(block.index() / 2)).cast::<Installed>();
        // SAFETY: as in `place`; the filter of a block is written before it is merged
        // (`install`) and does not change while it is.
        unsafe {
            let side = if block.index() % 2 == Side::Claim as u32 {
                &raw const (*frame).claim
            } else {
                &raw const (*frame).speech
            };
            (*UnsafeCell::raw_get(side)).assume_init_ref()
        }
    }
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
    if binding.spoke.get().is_some_and(|speech| speech.matches(head)) {
        return true;
    }
    let Some(Tag(filter)) = binding.speech.borrow().classify(&Frames, head) else { return false };
    binding.spoke.set(object::get(frames, Pfn(filter)).and_then(Installed::speech));
    true
}

/// Attaches `filter` to `binding`, in frame `pfn` of the binding's owner, and its code in
/// frame `code`.
///
/// # Errors
/// [`Error::BadArgument`] if the frames are the same;
/// [`Error::NoRight`] if it is outside the binding's scope;
/// [`Error::FilterConflict`] if it shares a packet with a filter of another
/// environment, or with one of the same that is neither more nor less specific; and as
/// for every donation.
pub fn install(
    kernel: &Kernel,
    net: &mut Net,
    binding: &Binding,
    filter: &Filter,
    [pfn, code]: [Pfn; 2],
) -> Result<(), Error> {
    let frames = &kernel.frames;
    frames.check_donation(pfn, binding.owner.get())?;
    frames.check_donation(code, binding.owner.get())?;
    if pfn == code {
        return Err(Error::BadArgument);
    }
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
    // SAFETY: made just now; nothing else refers to its filters and nodes.
    unsafe {
        (*installed.claim.get()).write(*filter);
        for node in (*installed.nodes.get()).as_flattened_mut() {
            node.write(Node::VACANT);
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
    installed.code.set(code);
    frames.set_kind(code, FrameKind::Code, 0);
    kernel.protect(code, true);
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
    binding.spoke.set(None);
    let (previous, next) = (installed.previous.get(), installed.next.get());
    match object::get::<Installed>(frames, previous) {
        Some(before) if previous != NOBODY => before.next.set(next),
        _ => binding.filters.set(next),
    }
    if let Some(after) = object::get::<Installed>(frames, next) {
        after.previous.set(previous);
    }
    kernel.protect(installed.code.get(), false);
    frames.retire(installed.code.get());
    frames.retire(pfn);
    Ok(())
}
