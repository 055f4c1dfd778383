//! Long items on their way in or out.
//!
//! An item whose wire form is longer than [`SHORT`] bytes may be sent or taken piece by piece,
//! between which other requests are carried out. Meanwhile its slab is *held*: none of its long
//! items is moved, evicted or written over. One that is replaced or deleted leaves the index
//! at once, and its memory is given back with the last hold on the slab; an item on its way in is
//! held from the start and enters the index at the end. (Counting for each slab, of at most 31
//! such items, costs them no byte.)
//!
//! Clients decide how long that takes, so what is held is bounded: pages with held chunks are
//! at most half of all. Beyond that an item is neither taken nor given, with an error.
//!
//! Place on the packet path: step 5, only for values longer than a packet.

use super::Engine;
use super::item::{Expiry, Header, ItemRef, Marks, SHORT, chunk_len, has_end};
use super::key::Key;
use super::pages::{PageId, Slab};
use super::state::State;
use super::store::{Stored, Suffix};

/// The right to an item's bytes as they are. To be given back with [`Engine::release`].
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    pub(super) item: ItemRef,
}

/// Too much is held already, or no chunk could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

impl Engine<'_> {
    /// Makes room for a long item of `value_len` bytes, which comes piece by piece. What is
    /// not yet known of it is given with [`Engine::finish`].
    ///
    /// # Errors
    /// If too much is held already, or there is no memory.
    pub fn begin(
        &mut self,
        key: Key<'_>,
        flags: u32,
        expiry: Expiry,
        value_len: usize,
        own_cas: Option<u64>,
    ) -> Result<Held, NoRoom> {
        let suffix = Suffix::new(flags, value_len);
        let key_len = key.bytes().len();
        let head_len = key_len + suffix.len();
        let wire_len = head_len + value_len + 2;
        debug_assert!(wire_len > SHORT);
        let marks = if own_cas.is_some() { Marks::OWN_CAS } else { Marks::NONE };
        let class = self.slabs.holding(chunk_len(wire_len, marks, true)).ok_or(NoRoom)?;
        if self.is_too_much(self.slabs.classes().get(class).span) {
            return Err(NoRoom);
        }
        let item = self.allocate(class, None).ok_or(NoRoom)?;
        let header = Header {
            next: None,
            cas: self.last_cas,
            expiry,
            has_end: has_end(wire_len, expiry),
            wire_len: wire_len as u32,
            key_len: key_len as u8,
            suffix_len: suffix.len() as u8,
            marks,
            sum: 0,
            state: State::UNLINKED,
            used: self.now as u16,
        };
        self.heap.set_header(item, &header);
        let wire = self.heap.wire_mut(item, wire_len);
        wire[..key_len].copy_from_slice(key.bytes());
        wire[key_len..head_len].copy_from_slice(suffix.text());
        wire[wire_len - 2..].copy_from_slice(b"\r\n");
        if let Some(cas) = own_cas {
            self.heap.set_own_cas(item, wire_len, cas);
        }
        self.held_pages += self.slabs.count_held(item, true);
        Ok(Held { item })
    }

    /// Writes a piece of the value of an item that is on its way in, from byte `at` on. Beyond
    /// its end nothing is written.
    pub fn fill(&mut self, held: &Held, at: usize, piece: &[u8]) {
        let header = self.heap.header(held.item);
        let (head, end) = (header.head_len(), header.head_len() + header.value_len());
        let wire = self.heap.wire_mut(held.item, end);
        if let Some(place) = wire.get_mut(head + at..).and_then(|rest| rest.get_mut(..piece.len()))
        {
            place.copy_from_slice(piece);
        }
    }

    /// Holds an item. `None` if it is not long: then it can be sent at once.
    ///
    /// # Errors
    /// If too much is held already.
    pub(super) fn hold(&mut self, item: ItemRef) -> Result<Option<Held>, NoRoom> {
        let header = self.heap.header(item);
        if !header.is_long() {
            return Ok(None);
        }
        let (_, slab) = self.slab(item).ok_or(NoRoom)?;
        let more = if slab.held == 0 { self.slabs.classes().get(slab.class).span } else { 0 };
        if slab.held == u16::MAX || self.is_too_much(more) {
            return Err(NoRoom);
        }
        self.held_pages += self.slabs.count_held(item, true);
        Ok(Some(Held { item }))
    }

    /// The bytes of a held item from its key on.
    #[must_use]
    pub fn held(&self, held: &Held) -> &[u8] {
        let (header, wire) = self.heap.open(held.item);
        wire.get(..header.wire_len as usize).unwrap_or_default()
    }

    /// Bytes of a held item's value.
    #[must_use]
    pub fn held_len(&self, held: &Held) -> usize {
        self.heap.header(held.item).value_len()
    }

    /// A held item's key, and its length.
    #[must_use]
    pub fn held_key(&self, held: &Held) -> ([u8; Key::MAX_LEN], usize) {
        self.key_of(held.item)
    }

    /// Gives a held item back. One on its way in is gone then.
    ///
    /// Cost: proportional to the chunks of its slab, at most 31.
    pub fn release(&mut self, held: Held) {
        self.held_pages -= self.slabs.count_held(held.item, false);
        let Some((page, slab)) = self.slab(held.item).filter(|(_, slab)| slab.held == 0) else {
            return;
        };
        for chunk in self.slabs.chunks(page, slab) {
            if self.heap.header(chunk).state == State::UNLINKED {
                self.slabs.give(&mut self.heap, chunk);
            }
        }
    }

    /// Puts an item that came piece by piece into the index, where none has its key. It
    /// stays held.
    pub(super) fn link_held(&mut self, held: &Held, header: &Header, hash: u32) {
        self.heap.set_header(held.item, header);
        self.may_hold_dead |= header.expiry != Expiry::NEVER;
        self.index.link(&mut self.heap, hash, held.item);
        self.usage.items += 1;
        self.list(held.item, hash);
    }

    /// Notes of an item that is no longer in the index that its memory is given back later,
    /// if it is held. Whether it is.
    pub(super) fn keep_for_holders(&mut self, item: ItemRef) -> bool {
        let is_held = self.is_held(item);
        if is_held {
            self.heap.set_state(item, State::UNLINKED);
        }
        is_held
    }

    pub(super) fn is_held(&self, item: ItemRef) -> bool {
        self.is_held_as(item, &self.heap.header(item))
    }

    /// The same, of an item with this header.
    #[inline(always)]
    pub(super) fn is_held_as(&self, item: ItemRef, header: &Header) -> bool {
        self.slabs.is_held(item, header)
    }

    fn slab(&self, item: ItemRef) -> Option<(PageId, Slab)> {
        self.slabs.pages().slab_of(self.slabs.page_of(item))
    }

    fn is_too_much(&self, span: u32) -> bool {
        self.held_pages + span > self.slabs.pages().len() / 2
    }

    /// The key of an item, of the length it has. For what is stored under the key of an item
    /// that came piece by piece.
    pub(super) fn key_of(&self, item: ItemRef) -> ([u8; Key::MAX_LEN], usize) {
        let (header, wire) = self.heap.open(item);
        let len = usize::from(header.key_len);
        let mut bytes = [0; Key::MAX_LEN];
        if let (Some(to), Some(from)) = (bytes.get_mut(..len), wire.get(..len)) {
            to.copy_from_slice(from);
        }
        (bytes, len)
    }

    /// What became of an item for which there is no room.
    pub fn refuse_for_memory(&mut self) -> Stored {
        self.stats.store_no_memory += 1;
        Stored::OutOfMemory
    }
}
