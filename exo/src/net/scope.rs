//! Scopes: which packets are an environment's.
//!
//! A scope is a short list of keys, each of pinned bits only ([`dpf::Key`]): the packets that
//! have one of them. It lies in a frame that its maker brought, and a network capability names
//! it. Scopes form a tree: one made under another holds some of its packets, and none that a
//! sibling holds. So no packet is of two environments, and that is decided by comparing a few
//! words; what the holders install behind their keys need not be looked at.
//!
//! A packet is of the deepest scope that holds it: what is delegated, the parent no longer
//! receives. The scope that holds everything is the kernel's, and the first environment's
//! network capability names it.
//!
//! Scopes directly under it are *accounts*: transmit slots, and work on filters that fork,
//! are counted for one together with all that is made under it.

use core::cell::Cell;

use dpf::{BlockId, Filter, KEY_BYTES, KEY_WIRE, Key, Tag, Trie};
use exo_abi::{Error, FRAME_BYTES, FrameKind, Pfn};

use super::binding::Binding;
use super::storage::{self, Frames, Room};
use super::{filter, station};
use crate::capability::Object;
use crate::env::Env;
use crate::kernel::Kernel;
use crate::list::{self, Links};
use crate::memory;
use crate::object::{self, KernelObject};
use crate::work::BUDGET;

/// Most keys of a scope: one address needs two, for IPv4 and for ARP.
pub const KEYS: usize = 2;
/// Longest list of encoded keys.
pub const WIRE_MAX: usize = KEYS * KEY_WIRE;
/// Scopes from the kernel's own to the deepest.
const DEPTH: u32 = 8;
/// Most keys of all scopes that are made directly under one.
const SIBLING_KEYS: usize = 128;

/// What an entry has left that has done little, be it a full batch.
const FRESH: u32 = BUDGET - 15_000;

/// What it costs to make a key of a scope, and to compare those of a scope beside it.
const KEY: u32 = 30_000;
const SIBLING: u32 = 100;

/// A scope's place among those made under the same.
const OF_PARENT: Links<Scope> = |it| (&it.previous, &it.next);

/// In tags of keys, and in none of bindings.
pub(super) const IS_KEY: u32 = 1 << 31;
/// In which keys are named.
const ENTRY_UNIT: u64 = align_of::<Entry>() as u64;

/// A key of a scope, and what is behind it.
#[repr(C, align(64))]
pub struct Entry {
    /// Keys of scopes made under this one. Tags are those of [`Entry::tag`].
    pub(super) inner: Cell<Trie>,
    /// Filters of bindings made by this scope. Tags are frames of bindings.
    pub(super) filters: Cell<Trie>,
    /// The shortest packet that may be sent. Zero if none may.
    least: Cell<usize>,
    /// What must be in a packet that is sent.
    mirror: Cell<Key>,
    /// The packets.
    key: Cell<Key>,
    /// Its scope, and of which key of the parent it is.
    of: Cell<Pfn>,
    outer: Cell<usize>,
    /// Where it is merged; none for the key of everything.
    block: Cell<BlockId>,
}

/// A scope.
#[repr(C)]
pub struct Scope {
    pub(crate) room: Room<KEYS>,
    entries: [Entry; KEYS],
    count: Cell<usize>,
    itself: Cell<Pfn>,
    pub(crate) parent: Cell<Pfn>,
    pub(crate) depth: Cell<u32>,
    /// The scope that its packets are counted for: itself, or one that it is within, which
    /// stays longer.
    account: Cell<Option<&'static Scope>>,
    pub(crate) children: Cell<Pfn>,
    pub(crate) previous: Cell<Pfn>,
    pub(crate) next: Cell<Pfn>,
    /// First of the bindings made by it.
    pub(crate) bindings: Cell<Pfn>,
    /// Of an account: packets with the device.
    pub(crate) held: Cell<u32>,
    /// Of an account: when work was last done for it, and how much since.
    work: Cell<(u32, u32)>,
}

// SAFETY: repr(C), within a frame (`object::create` checks); zero is valid for the cells, for
// a `Trie`, which is numbers, and for no reference, and anything is for a block; all fields are
// cells. References to it are kept in bindings made by it and in scopes within it, all of which
// `remove_step` takes away first, and in the kernel, for one that stays.
unsafe impl KernelObject for Scope {
    const KIND: FrameKind = FrameKind::Scope;
}

impl Scope {
    /// Makes the scope that holds everything, in frame `pfn` of the kernel's.
    ///
    /// # Panics
    /// If the frame is not plain memory of the kernel.
    pub fn everything(frames: &crate::frames::FrameTable, pfn: Pfn) -> &'static Self {
        let scope: &Self = object::create(frames, pfn).expect("a frame for the network");
        let [entry, ..] = &scope.entries;
        entry.key.set(Key::ALL);
        entry.of.set(pfn);
        entry.least.set(exo_abi::FRAME_MIN);
        scope.count.set(1);
        scope.itself.set(pfn);
        scope.account.set(Some(scope));
        scope
    }

    /// The frame it lies in.
    pub fn frame(&self) -> Pfn {
        self.itself.get()
    }

    /// Its keys.
    pub(super) fn entries(&self) -> &[Entry] {
        self.entries.get(..self.count.get()).unwrap_or_default()
    }

    /// Key `number`, the first if there are not so many.
    #[inline]
    pub(super) fn entry(&self, number: usize) -> &Entry {
        let [first, ..] = &self.entries;
        self.entries.get(number).unwrap_or(first)
    }

    /// The scope that transmit slots and work are counted for.
    #[inline]
    pub fn account(&self) -> Option<&'static Self> {
        self.account.get()
    }

    /// Whether `work` more may be done for this account in this `period`, of at most `most`;
    /// then it counts as done.
    pub(super) fn spend(&self, period: u32, work: u32, most: u32) -> bool {
        let (last, done) = self.work.get();
        let done = if last == period { done } else { 0 }.saturating_add(work);
        let may = done <= most;
        if may {
            self.work.set((period, done));
        }
        may
    }

    /// Whether the holder may send a packet of `length` bytes that begins so.
    #[inline]
    pub(super) fn may_send(&self, head: &[u8; KEY_BYTES], length: usize) -> bool {
        self.entries().iter().any(|entry| {
            let least = entry.least.get();
            least != 0 && length >= least && entry.mirror.get().matches(head)
        })
    }

    /// The key behind which `filter` lies, and what it says beside that.
    pub(super) fn place(&self, filter: &Filter) -> Option<(usize, Filter)> {
        let mut entries = self.entries().iter().enumerate();
        entries.find_map(|(number, entry)| Some((number, filter.behind(&entry.key.get())?)))
    }

    fn children<'a>(&self, kernel: &'a Kernel) -> impl Iterator<Item = &'static Self> + use<'a> {
        let get = |pfn| object::get::<Self>(&kernel.frames, pfn);
        core::iter::successors(get(self.children.get()), move |child| get(child.next.get()))
    }
}

impl Entry {
    /// The name of the key where keys are merged: its place in physical memory.
    fn tag(&self) -> Result<Tag, Error> {
        let within = core::ptr::from_ref(self) as u64 % FRAME_BYTES;
        let place = (self.of.get().address() + within) / ENTRY_UNIT;
        let place = u32::try_from(place).ok().filter(|place| place & IS_KEY == 0);
        place.map(|place| Tag(place | IS_KEY)).ok_or(Error::OutOfRange)
    }

    /// After a change behind the key: if nothing but filters without forks is there, packets go
    /// on to them at once, since there is nothing to charge.
    pub(super) fn relink(&self, kernel: &Kernel) {
        let filters = self.filters.get();
        let plain = self.inner.get().entry().is_none() && filters.forks() == 0;
        if let (block, Ok(tag)) = (self.block.get(), self.tag())
            && block != BlockId::NONE
        {
            let next = filters.entry().filter(|_| plain);
            dpf::pass_on(&mut Frames(kernel), block, tag, next);
        }
    }

    /// The key that has this tag.
    #[inline(always)]
    pub(super) fn of_tag(tag: Tag) -> &'static Self {
        // SAFETY: tags of keys are made by `tag` alone, and a trie answers only those of keys
        // that are merged. Such a key is in a frame of kind Scope, which `remove_step` takes
        // out of the trie before it retires the frame, under the lock that is held.
        unsafe { &*memory::physical(u64::from(tag.0 & !IS_KEY) * ENTRY_UNIT).cast() }
    }

    /// How many ways what is behind it makes a packet try beside the first.
    pub(super) fn ways(&self) -> u32 {
        self.inner.get().forks() + self.filters.get().forks()
    }

    /// The account of the scope that it is of.
    pub(super) fn account(&self, kernel: &Kernel) -> Option<&'static Scope> {
        object::get::<Scope>(&kernel.frames, self.of.get())?.account()
    }
}

/// The scope of the network capability that names `net`, if it still is there.
pub fn of(kernel: &Kernel, net: Object) -> Option<&'static Scope> {
    if net.first == 0 {
        return Some(kernel.network);
    }
    object::get_live(&kernel.frames, Pfn(net.first), net.extent)
}

/// Makes a scope under `parent`, of the keys encoded one after the other in `wire`, in frame
/// `pfn` of the caller's and with code in frame `code`. Where a sibling holds packets of one,
/// nothing is done, and the sibling's frame comes back as an error.
///
/// # Errors
/// [`Error::Again`] in a batch behind calls that did much;
/// [`Error::BadFilter`] for what is no key, for keys that share packets, and for none;
/// [`Error::NoRight`] if one is not within one of the parent's; [`Error::TooMuch`] for more
/// than [`KEYS`], a scope too deep, or too many or too odd ones beside it; and as for every
/// donation.
pub fn create(
    kernel: &Kernel,
    parent: &Scope,
    maker: &Env,
    wire: &[u8],
    [pfn, code]: [Pfn; 2],
) -> Result<Result<&'static Scope, Pfn>, Error> {
    let frames = &kernel.frames;
    // Nothing costs more that cannot stop in the middle: it does not come on top of much.
    if kernel.here().work.left() < FRESH {
        return Err(Error::Again);
    }
    frames.check_donations(&[pfn, code], maker.id())?;
    let (keys, count) = decode(wire)?;
    kernel.here().work.spend(count as u32 * KEY);
    let keys = keys.get(..count).unwrap_or_default();
    if parent.depth.get() + 1 >= DEPTH {
        return Err(Error::TooMuch);
    }
    let mut outer = [0; KEYS];
    for (key, place) in keys.iter().zip(&mut outer) {
        let of = parent.entries().iter().position(|entry| key.is_within(&entry.key.get()));
        *place = of.ok_or(Error::NoRight)?;
    }
    let mut beside = count;
    for sibling in parent.children(kernel) {
        kernel.here().work.spend(SIBLING);
        let apart = |entry: &Entry| keys.iter().all(|key| key.contradicts(&entry.key.get()));
        if !sibling.entries().iter().all(apart) {
            return Ok(Err(sibling.frame()));
        }
        beside += sibling.count.get();
        if beside > SIBLING_KEYS {
            return Err(Error::TooMuch);
        }
    }
    let scope: &'static Scope = object::create(frames, pfn).ok_or(Error::InUse)?;
    scope.room.code.set(code);
    storage::make_code(kernel, code);
    scope.itself.set(pfn);
    scope.depth.set(parent.depth.get() + 1);
    let is_account = core::ptr::eq(parent, kernel.network);
    scope.account.set(if is_account { Some(scope) } else { parent.account() });
    for (number, (key, outer)) in keys.iter().zip(outer).enumerate() {
        let entry = scope.entry(number);
        entry.key.set(*key);
        if let Ok(mirror) = key.mirror(station(kernel)) {
            entry.mirror.set(mirror);
            // A packet that is cut off within what its key is about is not sent.
            entry.least.set(mirror.reach().max(key.reach()).max(exo_abi::FRAME_MIN));
        }
        entry.outer.set(outer);
        scope.count.set(number + 1);
        if merge(kernel, parent, scope, number).is_err() {
            // The last one is not there.
            scope.count.set(number);
            unmerge(kernel, parent, scope);
            storage::retire_code(kernel, code);
            frames.retire(pfn);
            return Err(Error::TooMuch);
        }
    }
    scope.parent.set(parent.frame());
    list::push(frames, &parent.children, pfn, OF_PARENT);
    Ok(Ok(scope))
}

/// The keys in a list of encoded ones, and how many.
fn decode(wire: &[u8]) -> Result<([Key; KEYS], usize), Error> {
    let (wire, rest) = wire.as_chunks();
    let mut keys = [Key::ALL; KEYS];
    for (number, bytes) in wire.iter().enumerate() {
        let key = Key::decode(bytes).ok_or(Error::BadFilter)?;
        if !keys.iter().take(number).all(|other| other.contradicts(&key)) {
            return Err(Error::BadFilter);
        }
        *keys.get_mut(number).ok_or(Error::TooMuch)? = key;
    }
    if wire.is_empty() || !rest.is_empty() { Err(Error::BadFilter) } else { Ok((keys, wire.len())) }
}

/// Enters key `number` of `scope` behind the parent's key that it is of.
fn merge(kernel: &Kernel, parent: &Scope, scope: &Scope, number: usize) -> Result<(), Error> {
    const ONLY: u64 = 1;
    let entry = scope.entry(number);
    let outer = parent.entry(entry.outer.get());
    let filter = entry.key.get().filter().ok_or(Error::TooMuch)?;
    let block = storage::block(scope.frame(), number)?;
    entry.of.set(scope.frame());
    entry.block.set(block);
    let tag = entry.tag()?;
    let added = filter::add(kernel, &outer.inner, &filter, block, tag, ONLY);
    outer.relink(kernel);
    added
}

/// Takes the keys of `scope` out again.
fn unmerge(kernel: &Kernel, parent: &Scope, scope: &Scope) {
    for (number, entry) in scope.entries().iter().enumerate() {
        let outer = parent.entry(entry.outer.get());
        let (Some(filter), Ok(block)) =
            (entry.key.get().filter(), storage::block(scope.frame(), number))
        else {
            continue;
        };
        let mut trie = outer.inner.get();
        let removed = trie.remove(&mut Frames(kernel), &filter, block);
        debug_assert!(removed.is_ok(), "a scope's keys are merged");
        outer.inner.set(trie);
        outer.relink(kernel);
    }
}

/// Takes `scope` away, and first all that is made under it and by it, one step: a filter, or a
/// binding, or a scope. Frames become plain memory of their owners.
///
/// A binding without a scope receives and sends nothing more.
///
/// # Errors
/// [`Error::Again`] while there is more to do.
pub fn remove_step(kernel: &Kernel, scope: &Scope) -> Result<(), Error> {
    let frames = &kernel.frames;
    let get = |pfn| object::get::<Scope>(frames, pfn);
    let mut deepest = scope;
    // No more than `DEPTH` steps.
    while let Some(child) = get(deepest.children.get()) {
        deepest = child;
    }
    if let Some(binding) = object::get::<Binding>(frames, deepest.bindings.get()) {
        match binding.filters.get() {
            Pfn::NONE => binding.leave_scope(kernel),
            filter => filter::remove(kernel, binding, filter)?,
        }
        return Err(Error::Again);
    }
    let Some(parent) = get(deepest.parent.get()) else { return Ok(()) };
    kernel.here().work.spend(deepest.count.get() as u32 * KEY / 2);
    unmerge(kernel, parent, deepest);
    list::remove(frames, &parent.children, deepest, OF_PARENT);
    let over = core::ptr::eq(deepest, scope);
    storage::retire_code(kernel, deepest.room.code.get());
    frames.retire(deepest.frame());
    if over { Ok(()) } else { Err(Error::Again) }
}
