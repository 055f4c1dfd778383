//! Step 2: whose packet is it? And who may send it?
//!
//! The language and the tries are `dpf`'s; here is the authority to install filters, and
//! the calls into what became of them: machine code, or the walk ([`Merged::compiles`]).
//! Where that lies is told in [`super::storage`]. Every filter brings its own frames,
//! so installing one takes nothing from anybody else. A filter that shares any packet
//! with one that another environment has installed is refused.
//!
//! [`Merged::compiles`]: super::storage::Merged::compiles

use core::ops::ControlFlow;

use dpf::{Budget, Filter, Tag, Trie};
use exo_abi::{Error, Pfn};

use super::binding::Binding;
use super::nic::HEAD;
use super::storage::{self, Frames, Installed, Side, block};
use super::{NOBODY, Net, scope, station};
use crate::kernel::Kernel;
use crate::memory;
use crate::object;

/// What compiled filters answer, in `rax` and `rdx`.
#[repr(C)]
struct Answer {
    tag: u64,
    rank: u64,
}

/// The frame of the binding that `frame` is for.
#[inline]
pub fn classify(kernel: &Kernel, claims: &Trie, frame: &[u8]) -> Option<Pfn> {
    if !kernel.merged.compiles {
        return claims.classify(&Frames(kernel), frame).map(|tag| Pfn(tag.0));
    }
    let entry = claims.entry()?;
    // SAFETY: the entry is good until the trie changes, which takes the lock that is held,
    // and it leads to frames of code, since code is made for claims (`compiles`). Code of
    // `dpf` keeps to this convention and reads no more than the frame, the heads of the
    // hash table, and nodes behind the base, all of which stay while the lock is held.
    let answer = unsafe {
        type Classify = extern "C" fn(*const u8, usize, u64, *const u8) -> Answer;
        let code = core::mem::transmute::<*const (), Classify>(entry as *const ());
        code(frame.as_ptr(), frame.len(), 0, memory::physical(0))
    };
    (answer.rank != 0).then_some(Pfn(answer.tag as u32))
}

/// Whether the binding may send a frame that begins with `head`.
///
/// Any of its mirrors will do, so the one that the last frame passed is tried
/// first, alone: most binders send one kind of frame.
#[inline]
pub fn may_send(kernel: &Kernel, binding: &Binding, head: &[u8]) -> bool {
    if binding.spoke.get().is_some_and(|installed| installed.passes(kernel, head)) {
        return true;
    }
    let passed = binding.speech.borrow().classify(&Frames(kernel), head);
    let Some(Tag(filter)) = passed else { return false };
    binding.spoke.set(object::get(&kernel.frames, Pfn(filter)));
    true
}

/// Attaches `filter` to `binding`, in frame `pfn` of the binding's owner, and its code in
/// frame `code`. It may share packets with filters of the binding in frame `shadowed` as
/// with the owner's own.
///
/// Returns the frame of a filter in the way, if there is one, and does nothing then: one of
/// another environment that shares a packet with it, or one of the same that does and is
/// neither more nor less specific.
///
/// # Errors
/// [`Error::BadArgument`] if the frames are the same;
/// [`Error::NoRight`], [`Error::TooMuch`] if it is not, or not plainly, within the
/// binding's scope; [`Error::TooMuch`] if it would take too long to find out what it
/// shares packets with; and as for every donation.
pub fn install(
    kernel: &Kernel,
    net: &mut Net,
    binding: &Binding,
    filter: &Filter,
    [pfn, code]: [Pfn; 2],
    shadowed: Option<Pfn>,
) -> Result<Option<Pfn>, Error> {
    let frames = &kernel.frames;
    frames.check_donation(pfn, binding.owner.get())?;
    frames.check_donation(code, binding.owner.get())?;
    if pfn == code {
        return Err(Error::BadArgument);
    }
    let budget = Budget::new(scope::COMPARISONS);
    let claim = scope::within(frames, binding.net(), filter, &budget)?;
    let store = &mut Frames(kernel);
    let conflict = net.claims.find_overlap(store, filter, &budget, |tag, block, installed| {
        let own = |other: &Binding| other.owner.get() == binding.owner.get();
        let known = object::get::<Binding>(frames, Pfn(tag.0))
            .is_some_and(|other| own(other) || shadowed == Some(other.frame()));
        if known && !filter.conflicts(installed, &budget) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(block)
        }
    });
    if budget.is_spent() {
        return Err(Error::TooMuch);
    }
    if let ControlFlow::Break(block) = conflict {
        return Ok(Some(storage::frame_of(block)));
    }
    let (claim_block, speech_block) = (block(pfn, Side::Claim)?, block(pfn, Side::Speech)?);
    let installed = object::create::<Installed>(frames, pfn).ok_or(Error::InUse)?;
    installed.code.set(code);
    storage::make_code(kernel, code);
    installed.write(Side::Claim, &claim);
    let tag = Tag(binding.frame().0);
    if net.claims.insert(store, &claim, claim_block, tag).is_err() {
        storage::retire_code(kernel, code);
        frames.retire(pfn);
        return Err(Error::FilterConflict);
    }
    // Without a mirror the owner may listen but not speak. What decides must be
    // in the part of a frame that is copied before it is looked at.
    let mirror = dpf::mirror(filter, station(kernel)).ok().filter(|speech| speech.reach() <= HEAD);
    if let Some(speech) = mirror {
        installed.write(Side::Speech, &speech);
        installed.compile(kernel, &speech);
        let mut speeches = binding.speech.borrow_mut();
        installed.speaks.set(speeches.insert(store, &speech, speech_block, Tag(pfn.0)).is_ok());
    }
    installed.binding.set(binding.frame());
    let old = binding.filters.get();
    installed.next.set(old);
    if let Some(old) = object::get::<Installed>(frames, old) {
        old.previous.set(pfn);
    }
    binding.filters.set(pfn);
    Ok(None)
}

/// The filter in frame `pfn`, whoever's it is, and what it claims, maybe not in canonical form.
fn attached(kernel: &Kernel, pfn: Pfn) -> Result<(&'static Installed, &'static Filter), Error> {
    let installed = object::get::<Installed>(&kernel.frames, pfn).ok_or(Error::Vacant)?;
    // SAFETY: `install` wrote the claim before it attached the filter.
    Ok((installed, unsafe { installed.filter(Side::Claim) }))
}

/// What the filter in frame `pfn` claims, whoever's it is, for the owner of `binding`.
///
/// Only if it might stand in the way there: that could be found out packet by packet, by
/// trying to claim them.
///
/// # Errors
/// [`Error::Vacant`] if there is no filter; [`Error::NoRight`] if it shares no packet with
/// the binding's scope.
pub fn visible(kernel: &Kernel, binding: &Binding, pfn: Pfn) -> Result<&'static Filter, Error> {
    let (_, claim) = attached(kernel, pfn)?;
    let visible = scope::concerns(&kernel.frames, binding.net(), claim);
    if visible { Ok(claim) } else { Err(Error::NoRight) }
}

/// Takes the filter in frame `pfn` off `binding`; the frame becomes plain
/// memory of its owner.
///
/// # Errors
/// [`Error::Vacant`] if it is no filter of this binding.
pub fn remove(kernel: &Kernel, net: &mut Net, binding: &Binding, pfn: Pfn) -> Result<(), Error> {
    let frames = &kernel.frames;
    let (installed, claim) = attached(kernel, pfn)?;
    if installed.binding.get() != binding.frame() {
        return Err(Error::Vacant);
    }
    let store = &mut Frames(kernel);
    let claims = net.claims.remove(store, claim, block(pfn, Side::Claim)?);
    debug_assert!(claims.is_ok(), "an attached filter is in the trie");
    if installed.speaks.get() {
        // SAFETY: it speaks, so `install` wrote it.
        let speech = unsafe { installed.filter(Side::Speech) };
        let speeches = binding.speech.borrow_mut().remove(store, speech, block(pfn, Side::Speech)?);
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
    storage::retire_code(kernel, installed.code.get());
    frames.retire(pfn);
    Ok(())
}
