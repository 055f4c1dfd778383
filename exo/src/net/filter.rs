//! Step 2: which environment's packet is it, and for which of its rings?
//!
//! The tries and the code made of them are `dpf`'s; here is the authority to install filters,
//! and the call into that code.
//! Where that lies is told in [`super::storage`]. Every filter brings its own frames,
//! so installing one takes nothing from any other environment.
//!
//! The question has two parts. First the keys of scopes are looked up, from the scope that
//! holds everything inwards: the deepest that holds it has it. Then the filters behind that
//! key sort it. So a packet meets no filter but its owner's.

use core::cell::Cell;

use dpf::{BlockId, Filter, Tag, Trie, TrieError};
use exo_abi::{Error, Pfn};

use super::binding::Binding;
use super::scope::{Entry, IS_KEY};
use super::storage::{self, Frames, Installed, block};
use crate::kernel::Kernel;
use crate::list::{self, Links};
use crate::memory;
use crate::object;

/// Most groups of tests behind one key beside the first of each node. A packet gets to no more
/// than so many ends and one, each after at most [`dpf::MAX_ATOMS`] tests, which bounds the
/// work on it.
pub const FORKS: u32 = 64;

/// A filter's place among those of its binding.
const OF_BINDING: Links<Installed> = |it| (&it.previous, &it.next);

/// What compiled filters answer, in `rax` and `rdx`.
#[repr(C)]
struct Answer {
    tag: u64,
    rank: u64,
}

/// What a filter costs to install or to remove, for each of its tests and beside them.
const TEST: u32 = 2_000;
const CHANGE: u32 = 5_000;

/// Spends what it costs to merge `filter`, or to take it out again.
pub(super) fn spend(kernel: &Kernel, filter: &Filter) {
    kernel.here().work.spend(CHANGE + TEST * filter.length() as u32);
}

/// The frame of the binding that owns `packet`, or of none. What lies behind each key that the
/// packet has, and can make it try more than one way, is looked at only if `may` says so; else
/// the whole is `None`.
#[inline]
pub(super) fn classify(
    kernel: &Kernel,
    packet: &[u8],
    mut may: impl FnMut(&Entry) -> bool,
) -> Option<Pfn> {
    let mut found = kernel.network.entry(0);
    while let Some(Tag(pfn)) = look_up(&found.inner.get(), packet) {
        if pfn & IS_KEY == 0 {
            return Some(Pfn(pfn));
        }
        found = Entry::of_tag(Tag(pfn));
        if !may(found) {
            return None;
        }
    }
    Some(look_up(&found.filters.get(), packet).map_or(Pfn::NONE, |tag| Pfn(tag.0)))
}

/// The tag that `packet` has in a trie.
#[inline(always)]
fn look_up(trie: &Trie, packet: &[u8]) -> Option<Tag> {
    let entry = trie.entry()?;
    // SAFETY: the entry is good until the trie changes, which takes the lock that is held,
    // and it leads to frames of code. Code of `dpf` keeps to this convention and reads no
    // more than the packet, the heads of the hash table, and nodes behind the base, all of
    // which stay while the lock is held.
    let answer = unsafe {
        type Classify = extern "C" fn(*const u8, usize, u64, *const u8) -> Answer;
        let code = core::mem::transmute::<*const (), Classify>(entry as *const ());
        code(packet.as_ptr(), packet.len(), 0, memory::physical(0))
    };
    (answer.rank != 0).then_some(Tag(answer.tag as u32))
}

/// Merges `filter` into `trie`.
///
/// # Errors
/// [`Error::FilterConflict`] if the same is there already; [`Error::TooMuch`] if it would make
/// packets try more than [`FORKS`] ways. Nothing has changed then.
pub(super) fn add(
    kernel: &Kernel,
    trie: &Cell<Trie>,
    filter: &Filter,
    block: BlockId,
    tag: Tag,
    rank: u64,
) -> Result<(), Error> {
    let mut merged = trie.get();
    match merged.insert(&mut Frames(kernel), filter, block, tag, rank) {
        Err(TrieError::TooManyForks) => return Err(Error::TooMuch),
        result => result.map_err(|_| Error::FilterConflict)?,
    }
    trie.set(merged);
    Ok(())
}

/// Attaches `filter` to `binding`, in frame `pfn` of the binding's owner, and its code in
/// frame `code`. Of two behind one key that match a packet, the one that pins more bits gets
/// it, and of two that pin as many, the older.
///
/// # Errors
/// [`Error::BadArgument`] if the frames are the same; [`Error::NoRight`] if the filter does not
/// pin all that a key of the binding's scope pins; those of [`add`]; and as for every donation.
pub fn install(
    kernel: &Kernel,
    binding: &Binding,
    filter: &Filter,
    [pfn, code]: [Pfn; 2],
) -> Result<(), Error> {
    spend(kernel, filter);
    let frames = &kernel.frames;
    frames.check_donations(&[pfn, code], binding.owner.get())?;
    let scope = binding.scope().ok_or(Error::NoRight)?;
    let (number, rest) = scope.place(filter).ok_or(Error::NoRight)?;
    let block = block(pfn, 0)?;
    let installed = object::create::<Installed>(frames, pfn).ok_or(Error::InUse)?;
    installed.room.code.set(code);
    storage::make_code(kernel, code);
    installed.filter.set(rest);
    installed.key.set(number);
    let rank = filter.rank(kernel.merged.age());
    let tag = Tag(binding.frame().0);
    let entry = scope.entry(number);
    let added = add(kernel, &entry.filters, &rest, block, tag, rank);
    entry.relink(kernel);
    if let Err(error) = added {
        storage::retire_code(kernel, code);
        frames.retire(pfn);
        return Err(error);
    }
    installed.binding.set(binding.frame());
    list::push(frames, &binding.filters, pfn, OF_BINDING);
    Ok(())
}

/// Takes the filter in frame `pfn` off `binding`; the frame becomes plain
/// memory of its owner.
///
/// # Errors
/// [`Error::Vacant`] if it is no filter of this binding.
pub fn remove(kernel: &Kernel, binding: &Binding, pfn: Pfn) -> Result<(), Error> {
    let frames = &kernel.frames;
    let installed = object::get::<Installed>(frames, pfn).ok_or(Error::Vacant)?;
    if installed.binding.get() != binding.frame() {
        return Err(Error::Vacant);
    }
    if let Some(scope) = binding.scope() {
        let entry = scope.entry(installed.key.get());
        let mut trie = entry.filters.get();
        let filter = installed.filter.get();
        spend(kernel, &filter);
        let removed = trie.remove(&mut Frames(kernel), &filter, block(pfn, 0)?);
        debug_assert!(removed.is_ok(), "an attached filter is in the trie");
        entry.filters.set(trie);
        entry.relink(kernel);
    }
    list::remove(frames, &binding.filters, installed, OF_BINDING);
    storage::retire_code(kernel, installed.room.code.get());
    frames.retire(pfn);
    Ok(())
}
