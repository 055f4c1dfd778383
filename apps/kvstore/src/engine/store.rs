//! Storing items: `set` and its relatives.

use super::Engine;
use super::item::{Expiry, HEADER, Header, ItemRef, MAX_SUFFIX};
use super::key::Key;
use super::state::State;
use crate::number;

/// Under which condition, and how, an item is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Always.
    Set,
    /// If there is no such item.
    Add,
    /// If there is one.
    Replace,
    /// If there is one, after its value. Its flags and expiry stay.
    Append,
    /// If there is one, before its value. Its flags and expiry stay.
    Prepend,
    /// If there is one and this is its CAS id.
    Cas(u64),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    Stored,
    /// The condition of `Add`, `Replace`, `Append` or `Prepend` was not met, or
    /// there was no room for the joined value.
    NotStored,
    /// `Cas`: the item has changed.
    Exists,
    /// `Cas`: there is no such item.
    NotFound,
    /// Larger than any item may be. `Set` has removed the old item.
    TooLarge,
    /// No chunk could be had.
    OutOfMemory,
}

/// ` <flags> <bytes>\r\n`, what stands in a reply between key and value.
pub(super) struct Suffix {
    /// The text is at the end.
    text: [u8; MAX_SUFFIX],
    len: u8,
}

/// Where an item is going to be.
#[derive(Clone, Copy)]
struct Place {
    item: ItemRef,
    /// The next in its chain, if it is in the index.
    next: Option<ItemRef>,
    linked: bool,
}

impl Suffix {
    pub(super) fn new(flags: u32, bytes: usize) -> Self {
        let mut text = [b' '; MAX_SUFFIX];
        let mut at = MAX_SUFFIX - 2;
        text[at..].copy_from_slice(b"\r\n");
        at = number::write_before(&mut text, at, bytes as u32) - 1;
        at = number::write_before(&mut text, at, flags) - 1;
        Self { text, len: (MAX_SUFFIX - at) as u8 }
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text[MAX_SUFFIX - self.len()..]
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }
}

/// An item in the form in which it is kept, in two pieces that follow each other.
#[derive(Clone, Copy, Debug)]
pub struct WireForm<'a> {
    /// The key.
    pub key: Key<'a>,
    /// `<key> <flags> `, which begins with the key.
    pub head: &'a [u8],
    /// `<bytes>\r\n<value>\r\n`.
    pub tail: &'a [u8],
    /// Bytes of the value.
    pub value_len: usize,
}

impl Engine<'_> {
    /// Stores an item that is written out already, always. What [`Engine::store`] does for
    /// [`Mode::Set`], if it is as that would write it.
    #[inline(always)]
    pub fn set(&mut self, item: &WireForm<'_>, expiry: Expiry) -> Stored {
        let WireForm { key, head, tail, value_len } = *item;
        let wire_len = head.len() + tail.len();
        if HEADER + wire_len > self.max_item as usize {
            return self.refuse_large(Mode::Set, key);
        }
        self.stats.cmd_set += 1;
        let hash = self.hash_key.hash(key);
        let old = self.find(hash, key);
        let suffix_len = (wire_len - key.bytes().len() - value_len - 2) as u8;
        let place = match self.place(wire_len, old) {
            Ok(place) => place,
            Err(refusal) => return refusal,
        };
        let wire = self.heap.wire_mut(place.item, wire_len);
        let (to_head, to_tail) = wire.split_at_mut(head.len());
        to_head.copy_from_slice(head);
        to_tail.copy_from_slice(tail);
        self.put_in_place(place, hash, key, expiry, wire_len as u32, suffix_len);
        Stored::Stored
    }

    /// Stores an item.
    pub fn store(
        &mut self,
        mode: Mode,
        key: Key<'_>,
        flags: u32,
        expiry: Expiry,
        value: &[u8],
    ) -> Stored {
        let suffix = Suffix::new(flags, value.len());
        if !self.holds(key, &suffix, value.len()) {
            return self.refuse_large(mode, key);
        }
        self.stats.cmd_set += 1;
        let hash = self.hash_key.hash(key);
        let old = self.find(hash, key);
        match (mode, old) {
            (Mode::Set, _) | (Mode::Add, None) | (Mode::Replace, Some(_)) => {}
            (Mode::Append | Mode::Prepend, Some(item)) => {
                return self.join(item, key, value, mode == Mode::Append);
            }
            (Mode::Add, Some(item)) => {
                // As memcached does: to be asked for is to be used.
                self.mark_read(item);
                return Stored::NotStored;
            }
            (Mode::Replace | Mode::Append | Mode::Prepend, None) => return Stored::NotStored,
            (Mode::Cas(_), None) => {
                self.stats.cas_misses += 1;
                return Stored::NotFound;
            }
            (Mode::Cas(cas), Some(item)) if self.heap.header(item).cas != cas => {
                self.stats.cas_badval += 1;
                return Stored::Exists;
            }
            (Mode::Cas(_), Some(_)) => self.stats.cas_hits += 1,
        }
        self.put(hash, key, old, &suffix, expiry, value)
    }

    /// What [`Engine::store`] does with an item that is too large. Rather no value than
    /// a stale one: `Set` removes the old item.
    pub fn refuse_large(&mut self, mode: Mode, key: Key<'_>) -> Stored {
        self.stats.store_too_large += 1;
        if mode == Mode::Set
            && let Some(old) = self.find(self.hash_key.hash(key), key)
        {
            self.discard(old);
        }
        Stored::TooLarge
    }

    /// Whether an item may be that large.
    #[must_use]
    pub fn fits(&self, key: Key<'_>, flags: u32, value_len: usize) -> bool {
        self.holds(key, &Suffix::new(flags, value_len), value_len)
    }

    fn holds(&self, key: Key<'_>, suffix: &Suffix, value_len: usize) -> bool {
        let head = HEADER + key.bytes().len() + suffix.len();
        head.saturating_add(value_len).saturating_add(2) <= self.max_item as usize
    }

    /// Writes an item in place of `old`, which is the one with its key. Into the same
    /// chunk if the new size belongs to the same bucket.
    pub(super) fn put(
        &mut self,
        hash: u32,
        key: Key<'_>,
        old: Option<ItemRef>,
        suffix: &Suffix,
        expiry: Expiry,
        value: &[u8],
    ) -> Stored {
        let key_len = key.bytes().len();
        let head_len = key_len + suffix.len();
        let wire_len = head_len + value.len() + 2;
        let place = match self.place(wire_len, old) {
            Ok(place) => place,
            Err(refusal) => return refusal,
        };
        let wire = self.heap.wire_mut(place.item, wire_len);
        let (head, body) = wire.split_at_mut(head_len);
        head[..key_len].copy_from_slice(key.bytes());
        head[key_len..].copy_from_slice(suffix.text());
        let (text, end) = body.split_at_mut(value.len());
        text.copy_from_slice(value);
        end.copy_from_slice(b"\r\n");
        self.put_in_place(place, hash, key, expiry, wire_len as u32, suffix.len);
        Stored::Stored
    }

    /// A chunk for an item of so many bytes, in place of `old`: the same if it belongs to
    /// the same bucket, otherwise `old` is discarded.
    #[inline(always)]
    fn place(&mut self, wire_len: usize, old: Option<ItemRef>) -> Result<Place, Stored> {
        let class = self.slabs.classes().holding(HEADER + wire_len).ok_or(Stored::TooLarge)?;
        if let Some(item) = old
            && self.slabs.class_of(item) == Some(class)
        {
            let Header { next, .. } = self.heap.header(item);
            self.usage.bytes -= self.heap.header(item).size() as u64;
            return Ok(Place { item, next, linked: true });
        }
        if let Some(old) = old {
            self.discard(old);
        }
        let Some(item) = self.allocate(class, None) else {
            self.stats.store_no_memory += 1;
            return Err(Stored::OutOfMemory);
        };
        Ok(Place { item, next: None, linked: false })
    }

    /// Makes what was written at `place` an item.
    #[inline(always)]
    fn put_in_place(
        &mut self,
        place: Place,
        hash: u32,
        key: Key<'_>,
        expiry: Expiry,
        wire_len: u32,
        suffix_len: u8,
    ) {
        let Place { item, next, linked } = place;
        let header = Header {
            next,
            hash,
            cas: self.next_cas(),
            expiry,
            wire_len,
            key_len: key.bytes().len() as u8,
            suffix_len,
            state: State::stored(self.epoch),
            sum: 0,
        };
        self.heap.set_header(item, header);
        if !linked {
            self.index.link(&mut self.heap, hash, item);
            self.usage.items += 1;
        }
        self.usage.bytes += header.size() as u64;
        self.stats.total_items += 1;
        self.pass_time(header.size());
    }

    /// The flags of an item, read back from its suffix.
    pub(super) fn flags(&self, item: ItemRef) -> u32 {
        let (header, wire) = self.heap.open(item);
        let suffix = wire.get(usize::from(header.key_len) + 1..header.head_len());
        let flags = suffix.and_then(|text| text.split(|&byte| byte == b' ').next());
        flags.and_then(number::unsigned).unwrap_or(0) as u32
    }

    /// Stores the value of an item joined with another.
    fn join(&mut self, item: ItemRef, key: Key<'_>, value: &[u8], append: bool) -> Stored {
        let old = self.heap.header(item);
        let old_len = old.value_len();
        let new_len = old_len + value.len();
        let flags = self.flags(item);
        let suffix = Suffix::new(flags, new_len);
        if !self.holds(key, &suffix, new_len) {
            return Stored::NotStored;
        }
        let key_len = key.bytes().len();
        let head_len = key_len + suffix.len();
        let wire_len = head_len + new_len + 2;
        let Some(class) = self.slabs.classes().holding(HEADER + wire_len) else {
            return Stored::NotStored;
        };
        let place = if self.slabs.class_of(item) == Some(class) {
            item
        } else {
            // The old value is still needed: whatever is evicted, it must not be.
            let Some(place) = self.allocate(class, Some(item)) else {
                self.stats.store_no_memory += 1;
                return Stored::NotStored;
            };
            place
        };

        // Where they may overlap the value moves first, then its surroundings.
        let (old_at, new_at) = if append {
            (head_len, head_len + old_len)
        } else {
            (head_len + value.len(), head_len)
        };
        self.heap.copy((item, old.head_len()), (place, old_at), old_len);
        let wire = self.heap.wire_mut(place, wire_len);
        wire[..key_len].copy_from_slice(key.bytes());
        wire[key_len..head_len].copy_from_slice(suffix.text());
        wire[new_at..new_at + value.len()].copy_from_slice(value);
        wire[wire_len - 2..].copy_from_slice(b"\r\n");

        let header = Header {
            next: self.heap.header(item).next,
            cas: self.next_cas(),
            wire_len: wire_len as u32,
            suffix_len: suffix.len,
            state: State::stored(self.epoch),
            sum: 0,
            ..old
        };
        if place == item {
            self.usage.bytes -= old.size() as u64;
            self.heap.set_header(item, header);
        } else {
            self.discard(item);
            self.heap.set_header(place, header);
            self.index.link(&mut self.heap, header.hash, place);
            self.usage.items += 1;
        }
        self.usage.bytes += header.size() as u64;
        self.stats.total_items += 1;
        self.pass_time(header.size());
        Stored::Stored
    }
}
