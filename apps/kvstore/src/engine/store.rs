//! Storing items: `set` and its relatives.

use super::Engine;
use super::hold::Held;
use super::item::{Expiry, Header, ItemRef, MAX_SUFFIX, Marks, chunk_len, has_end};
use super::key::Key;
use super::read::flags_in;
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

/// Under which condition, and how, an item is stored: what the meta and the binary commands
/// say beyond a [`Mode`].
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// The condition of the text commands.
    pub mode: Mode,
    /// `Append` and `Prepend`: the CAS id of the item, 0 for any.
    pub compare: u64,
    /// `Cas`: an id below that of the item will do; then the new item is out of date.
    pub allow_stale: bool,
    /// The CAS id of the new item; one is given to it otherwise.
    pub own_cas: Option<u64>,
    /// `Append` and `Prepend`: if there is no item, one is made that ends then.
    pub vivify: Option<Expiry>,
}

impl Condition {
    /// A text command's.
    #[must_use]
    pub fn of(mode: Mode) -> Self {
        Self { mode, compare: 0, allow_stale: false, own_cas: None, vivify: None }
    }
}

/// What became of it, and what it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What became of it.
    pub stored: Stored,
    /// Its CAS id, if it is stored, otherwise 0.
    pub cas: u64,
    /// Bytes of its value, if it is stored, otherwise 0.
    pub value_len: usize,
}

impl Outcome {
    fn not(stored: Stored) -> Self {
        Self { stored, cas: 0, value_len: 0 }
    }
}

enum Plan {
    /// It takes the place of the old one; it has this expiry time, if any, instead of its own.
    Put { expiry: Option<Expiry>, marks: Marks },
    /// It is joined with this one.
    Join(ItemRef),
}

/// Where a value lies.
#[derive(Clone, Copy)]
enum Source<'a> {
    Bytes(&'a [u8]),
    Held(ItemRef),
}

/// ` <flags> <bytes>\r\n`, what stands in a reply between key and value.
pub(super) struct Suffix {
    /// The text is at the end.
    text: [u8; MAX_SUFFIX],
    len: u8,
}

/// Where an item is going to be.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) item: ItemRef,
    /// The next in its chain, if it is in the index.
    pub(super) next: Option<ItemRef>,
    linked: bool,
    /// That of the item when it has just been stored.
    pub(super) state: State,
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
        if chunk_len(wire_len, Marks::NONE, true) > self.max_item as usize {
            return self.refuse_large(Mode::Set, key);
        }
        self.stats.cmd_set += 1;
        let hash = self.hash_key.hash(key);
        let old = self.find(hash, key);
        let suffix_len = (wire_len - key.bytes().len() - value_len - 2) as u8;
        let place = match self.place(wire_len, Marks::NONE, expiry, old) {
            Ok(place) => place,
            Err(refusal) => return refusal,
        };
        let wire = self.heap.wire_mut(place.item, wire_len);
        let (to_head, to_tail) = wire.split_at_mut(head.len());
        to_head.copy_from_slice(head);
        to_tail.copy_from_slice(tail);
        self.put_in_place(place, hash, key, expiry, (wire_len as u32, suffix_len, Marks::NONE));
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
        self.store_if(&Condition::of(mode), key, flags, expiry, value).stored
    }

    /// Stores an item, if it is as the condition has it.
    pub fn store_if(
        &mut self,
        condition: &Condition,
        key: Key<'_>,
        flags: u32,
        expiry: Expiry,
        value: &[u8],
    ) -> Outcome {
        let suffix = Suffix::new(flags, value.len());
        if !self.holds(key, &suffix, value.len()) {
            return Outcome::not(self.refuse_large(condition.mode, key));
        }
        self.stats.cmd_set += 1;
        let hash = self.hash_key.hash(key);
        let old = self.find(hash, key);
        match self.plan(condition, old) {
            Err(refusal) => Outcome::not(refusal),
            Ok(Plan::Join(item)) => self.join(item, key, Source::Bytes(value), condition),
            Ok(Plan::Put { expiry: other, marks }) => {
                let expiry = other.unwrap_or(expiry);
                let place = (hash, key, old);
                let stored = self.put(place, &suffix, expiry, value, (marks, condition.own_cas));
                Outcome {
                    stored,
                    cas: condition.own_cas.unwrap_or(self.last_cas),
                    value_len: value.len(),
                }
            }
        }
    }

    /// Stores an item that came piece by piece, if it is as the condition has it; its own CAS
    /// id, if it is to have one, was given to [`Engine::begin`].
    pub fn finish(&mut self, held: Held, condition: &Condition) -> Outcome {
        self.stats.cmd_set += 1;
        let header = self.heap.header(held.item);
        let (key, len) = self.key_of(held.item);
        let Some(key) = key.get(..len).and_then(Key::any) else {
            self.release(held);
            return Outcome::not(Stored::NotStored);
        };
        let hash = self.hash_key.hash(key);
        let old = self.find(hash, key);
        let own_cas = header.marks.has(Marks::OWN_CAS).then(|| self.heap.cas(held.item, &header));
        let condition = &Condition { own_cas, ..*condition };
        let outcome = match self.plan(condition, old) {
            Err(refusal) => Outcome::not(refusal),
            Ok(Plan::Join(item)) => self.join(item, key, Source::Held(held.item), condition),
            Ok(Plan::Put { expiry, marks }) => {
                if let Some(old) = old {
                    self.discard(old);
                }
                let header = Header {
                    cas: if own_cas.is_some() { self.last_cas } else { self.next_cas() },
                    expiry: expiry.unwrap_or(header.expiry),
                    marks: header.marks.with(marks),
                    state: State::stored(self.epoch),
                    used: self.now as u16,
                    ..header
                };
                self.link_held(&held, &header, hash);
                self.usage.bytes += header.size() as u64;
                self.stats.total_items += 1;
                self.pass_time(header.size());
                self.note_item(held.item);
                let cas = self.heap.cas(held.item, &header);
                Outcome { stored: Stored::Stored, cas, value_len: header.value_len() }
            }
        };
        self.release(held);
        outcome
    }

    /// What is to be done with an item, where `old` is the one with its key.
    fn plan(&mut self, condition: &Condition, old: Option<ItemRef>) -> Result<Plan, Stored> {
        let put = Plan::Put { expiry: None, marks: Marks::NONE };
        match (condition.mode, old) {
            (Mode::Set, _) | (Mode::Add, None) | (Mode::Replace, Some(_)) => Ok(put),
            (Mode::Append | Mode::Prepend, Some(item)) => {
                let cas = self.cas(item);
                if condition.compare == 0 || condition.compare == cas {
                    Ok(Plan::Join(item))
                } else {
                    Err(Stored::Exists)
                }
            }
            (Mode::Append | Mode::Prepend, None) if condition.vivify.is_some() => {
                Ok(Plan::Put { expiry: condition.vivify, marks: Marks::NONE })
            }
            (Mode::Add, Some(item)) => {
                // As memcached does: to be asked for is to be used.
                self.mark_used(item);
                Err(Stored::NotStored)
            }
            (Mode::Replace | Mode::Append | Mode::Prepend, None) => Err(Stored::NotStored),
            (Mode::Cas(_), None) => {
                self.stats.cas_misses += 1;
                Err(Stored::NotFound)
            }
            (Mode::Cas(wanted), Some(item)) => {
                let header = self.heap.header(item);
                let cas = self.heap.cas(item, &header);
                if wanted != 0 && wanted == cas {
                    self.stats.cas_hits += 1;
                    Ok(put)
                } else if condition.allow_stale && wanted != 0 && wanted < cas {
                    // Of an older version: it is kept, as out of date.
                    self.stats.cas_hits += 1;
                    let won = Marks(header.marks.0 & Marks::WON.0);
                    Ok(Plan::Put { expiry: Some(header.expiry), marks: Marks::STALE.with(won) })
                } else {
                    self.stats.cas_badval += 1;
                    Err(Stored::Exists)
                }
            }
        }
    }

    /// The CAS id of an item.
    pub(super) fn cas(&self, item: ItemRef) -> u64 {
        self.heap.cas(item, &self.heap.header(item))
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
        let head = key.bytes().len() + suffix.len();
        let wire_len = head.saturating_add(value_len).saturating_add(2);
        let most = self.max_item as usize;
        // With a CAS id of its own and an end, if it is to have these.
        wire_len <= most && chunk_len(wire_len, Marks::OWN_CAS, true) <= most
    }

    /// Writes an item with this hash and key in place of the one that has it. Into the same
    /// chunk if the new size belongs to the same bucket.
    pub(super) fn put(
        &mut self,
        (hash, key, old): (u32, Key<'_>, Option<ItemRef>),
        suffix: &Suffix,
        expiry: Expiry,
        value: &[u8],
        (marks, own_cas): (Marks, Option<u64>),
    ) -> Stored {
        let key_len = key.bytes().len();
        let head_len = key_len + suffix.len();
        let wire_len = head_len + value.len() + 2;
        let marks = if own_cas.is_some() { marks.with(Marks::OWN_CAS) } else { marks };
        let place = match self.place(wire_len, marks, expiry, old) {
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
        if let Some(cas) = own_cas {
            self.heap.set_own_cas(place.item, wire_len, cas);
        }
        self.put_in_place(place, hash, key, expiry, (wire_len as u32, suffix.len, marks));
        Stored::Stored
    }

    /// A chunk for an item of so many bytes, in place of `old`: the same if it belongs to
    /// the same bucket, otherwise `old` is discarded.
    #[inline(always)]
    pub(super) fn place(
        &mut self,
        wire_len: usize,
        marks: Marks,
        expiry: Expiry,
        old: Option<ItemRef>,
    ) -> Result<Place, Stored> {
        let len = chunk_len(wire_len, marks, has_end(wire_len, expiry));
        let class = self.slabs.holding(len).ok_or(Stored::TooLarge)?;
        let mut state = State::stored(self.epoch);
        if let Some(item) = old {
            let header = self.heap.header(item);
            state = header.state.replaced(self.epoch);
            // As long as before, which is usual, or of the same bucket.
            let stays = header.size() == len || self.slabs.class_of(item) == Some(class);
            if stays && !self.is_held_as(item, &header) {
                self.usage.bytes -= header.size() as u64;
                return Ok(Place { item, next: header.next, linked: true, state });
            }
            self.discard(item);
        }
        let Some(item) = self.allocate(class, None) else {
            self.stats.store_no_memory += 1;
            return Err(Stored::OutOfMemory);
        };
        Ok(Place { item, next: None, linked: false, state })
    }

    /// Makes what was written at `place` an item.
    #[inline(always)]
    fn put_in_place(
        &mut self,
        place: Place,
        hash: u32,
        key: Key<'_>,
        expiry: Expiry,
        (wire_len, suffix_len, marks): (u32, u8, Marks),
    ) {
        let header = Header {
            next: place.next,
            cas: if marks.has(Marks::OWN_CAS) { self.last_cas } else { self.next_cas() },
            expiry,
            has_end: has_end(wire_len as usize, expiry),
            wire_len,
            key_len: key.bytes().len() as u8,
            suffix_len,
            marks,
            sum: 0,
            state: place.state,
            used: self.now as u16,
        };
        self.put_header(place, hash, &header);
        self.note_item(place.item);
    }

    /// Makes what was written at `place` an item with this header. Its key has this `hash`.
    #[inline(always)]
    pub(super) fn put_header(&mut self, place: Place, hash: u32, header: &Header) {
        let item = place.item;
        self.heap.set_header(item, header);
        self.may_hold_dead |= header.expiry != Expiry::NEVER;
        if !place.linked {
            self.index.link(&mut self.heap, hash, item);
            self.usage.items += 1;
            self.list(item, hash);
        } else if let Some(class) = self.listed(item) {
            self.policy.policy().replaced(&mut self.heap, class, item);
        }
        self.usage.bytes += header.size() as u64;
        self.stats.total_items += 1;
        self.pass_time(header.size());
    }

    /// The flags of an item, read back from its suffix.
    pub(super) fn flags(&self, item: ItemRef) -> u32 {
        let (header, wire) = self.heap.open(item);
        flags_in(wire, header.key_len.into())
    }

    /// Stores the value of an item joined with another.
    fn join(
        &mut self,
        item: ItemRef,
        key: Key<'_>,
        more: Source<'_>,
        condition: &Condition,
    ) -> Outcome {
        let old = self.heap.header(item);
        let old_len = old.value_len();
        let more_len = match more {
            Source::Bytes(value) => value.len(),
            Source::Held(held) => self.heap.header(held).value_len(),
        };
        let new_len = old_len + more_len;
        let flags = self.flags(item);
        let suffix = Suffix::new(flags, new_len);
        if !self.holds(key, &suffix, new_len) {
            return Outcome::not(Stored::NotStored);
        }
        let key_len = key.bytes().len();
        let head_len = key_len + suffix.len();
        let wire_len = head_len + new_len + 2;
        let marks = if condition.own_cas.is_some() { Marks::OWN_CAS } else { Marks::NONE };
        let has_end = has_end(wire_len, old.expiry);
        let Some(class) = self.slabs.holding(chunk_len(wire_len, marks, has_end)) else {
            return Outcome::not(Stored::NotStored);
        };
        let place = if self.slabs.class_of(item) == Some(class) && !self.is_held(item) {
            item
        } else {
            // The old value is still needed: whatever is evicted, it must not be.
            let Some(place) = self.allocate(class, Some(item)) else {
                self.stats.store_no_memory += 1;
                return Outcome::not(Stored::NotStored);
            };
            place
        };

        // Where they may overlap the value moves first, then its surroundings.
        let (old_at, new_at) = if condition.mode == Mode::Append {
            (head_len, head_len + old_len)
        } else {
            (head_len + more_len, head_len)
        };
        self.heap.copy((item, old.head_len()), (place, old_at), old_len);
        let wire = self.heap.wire_mut(place, wire_len);
        wire[..key_len].copy_from_slice(key.bytes());
        wire[key_len..head_len].copy_from_slice(suffix.text());
        wire[wire_len - 2..].copy_from_slice(b"\r\n");
        match more {
            Source::Bytes(value) => wire[new_at..new_at + more_len].copy_from_slice(value),
            Source::Held(held) => {
                let head_len = self.heap.header(held).head_len();
                self.heap.copy((held, head_len), (place, new_at), more_len);
            }
        }
        if let Some(cas) = condition.own_cas {
            self.heap.set_own_cas(place, wire_len, cas);
        }

        let header = Header {
            next: self.heap.header(item).next,
            cas: if marks.has(Marks::OWN_CAS) { self.last_cas } else { self.next_cas() },
            has_end,
            wire_len: wire_len as u32,
            suffix_len: suffix.len,
            marks,
            sum: 0,
            state: State::stored(self.epoch),
            used: self.now as u16,
            ..old
        };
        if place == item {
            self.usage.bytes -= old.size() as u64;
            self.heap.set_header(item, &header);
        } else {
            self.discard(item);
            self.heap.set_header(place, &header);
            let hash = self.hash_key.hash(key);
            self.index.link(&mut self.heap, hash, place);
            self.usage.items += 1;
            self.list(place, hash);
        }
        self.usage.bytes += header.size() as u64;
        self.stats.total_items += 1;
        self.pass_time(header.size());
        self.note_item(place);
        let cas = condition.own_cas.unwrap_or(header.cas);
        Outcome { stored: Stored::Stored, cas, value_len: new_len }
    }
}
