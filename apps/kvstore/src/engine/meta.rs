//! What the meta and the binary commands want to know of an item, and do to it.
//!
//! Place on the packet path: step 5, behind `protocol`'s reading of a command. The commands
//! look an item up once and then do several things to it; between these no other request is
//! carried out, so a [`Found`] stays good.

use super::Engine;
use super::hold::{Held, NoRoom};
use super::item::{Expiry, HEADER, Header, ItemRef, Marks};
use super::key::Key;
use super::read::Value;
use super::store::{Stored, Suffix};

/// An item that was just found. Of no use any more after another item was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(ItemRef);

/// What is known of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its CAS id.
    pub cas: u64,
    /// Its flags.
    pub flags: u32,
    /// Bytes of its value.
    pub value_len: usize,
    /// Seconds until it ends; negative if it ended, none if it never does.
    pub remaining: Option<i64>,
    /// Seconds since it was last used, modulo 2^16.
    pub unused_for: u16,
    /// Whether it was read since it was stored.
    pub was_read: bool,
    /// Whether its value is out of date.
    pub is_stale: bool,
    /// Whether a client was told to replace it.
    pub is_won: bool,
    /// The number of its bucket.
    pub class: u8,
    /// Bytes it takes.
    pub size: usize,
}

impl Found {
    pub(super) fn new(item: ItemRef) -> Self {
        Self(item)
    }
}

impl Engine<'_> {
    /// The item with this key. Neither counted nor used by that.
    pub fn look_up(&mut self, key: Key<'_>) -> Option<Found> {
        self.find(self.hash_key.hash(key), key).map(Found)
    }

    /// What is known of it.
    #[must_use]
    pub fn info(&self, Found(item): Found) -> Info {
        let header = self.heap.header(item);
        Info {
            cas: self.heap.cas(item, &header),
            flags: self.flags(item),
            value_len: header.value_len(),
            remaining: header.expiry.second().map(|end| i64::from(end) - i64::from(self.now)),
            unused_for: (self.now as u16).wrapping_sub(header.used),
            was_read: header.state.was_read(),
            is_stale: header.marks.has(Marks::STALE),
            is_won: header.marks.has(Marks::WON),
            class: self.slabs.class_of(item).map_or(0, |class| class.0),
            size: header.size(),
        }
    }

    /// Its key and value. It is not used by that.
    #[must_use]
    pub fn value(&self, Found(item): Found) -> Value<'_> {
        let (header, wire) = self.heap.open(item);
        Value::new(&header, wire, self.heap.cas(item, &header))
    }

    /// A client has seen it.
    pub fn note_read(&mut self, Found(item): Found) {
        self.count_read(item);
        self.mark_read(item);
    }

    /// Gives it a new expiry time. If there is no room for that it is gone.
    pub fn set_expiry(&mut self, Found(item): Found, expiry: Expiry) -> Option<Found> {
        self.give_end(item, expiry).map(Found)
    }

    /// A client is told to replace it.
    pub fn set_won(&mut self, Found(item): Found) {
        let header = self.heap.header(item);
        self.heap.set_marks(item, &header, header.marks.with(Marks::WON));
        self.note_changed(item);
    }

    /// Its value is out of date; no client has been told to replace it. It gets a new CAS id:
    /// this one, if there is one.
    ///
    /// # Errors
    /// If there is no room for that.
    pub fn set_stale(&mut self, Found(item): Found, cas: Option<u64>) -> Result<Found, NoRoom> {
        let header = self.heap.header(item);
        let marks = header.marks.with(Marks::STALE).without(Marks::WON);
        self.heap.set_marks(item, &header, marks);
        self.note_changed(item);
        self.give_cas(item, cas).map(Found)
    }

    /// Takes its value away; flags and expiry are new, the CAS id stays unless there is
    /// another.
    ///
    /// # Errors
    /// If there is no room for that.
    pub fn empty(
        &mut self,
        Found(item): Found,
        flags: u32,
        expiry: Expiry,
        cas: Option<u64>,
    ) -> Result<Found, NoRoom> {
        let header = self.heap.header(item);
        let kept = cas.unwrap_or(self.heap.cas(item, &header));
        let (key, len) = self.key_of(item);
        let key = key.get(..len).and_then(Key::any).ok_or(NoRoom)?;
        let hash = self.hash_key.hash(key);
        let place = (hash, key, Some(item));
        match self.put(place, &Suffix::new(flags, 0), expiry, b"", (Marks::NONE, Some(kept))) {
            Stored::Stored => self.index.find(&self.heap, hash, key).map(Found).ok_or(NoRoom),
            _ => Err(NoRoom),
        }
    }

    /// Deletes it.
    pub fn remove(&mut self, Found(item): Found) {
        self.discard(item);
    }

    /// Makes an item where there is none with this key.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn vivify(
        &mut self,
        key: Key<'_>,
        value: &[u8],
        expiry: Expiry,
        cas: Option<u64>,
    ) -> Result<Found, NoRoom> {
        let hash = self.hash_key.hash(key);
        let (place, suffix) = ((hash, key, None), Suffix::new(0, value.len()));
        match self.put(place, &suffix, expiry, value, (Marks::NONE, cas)) {
            // It is there, though it may have ended already.
            Stored::Stored => self.index.find(&self.heap, hash, key).map(Found).ok_or(NoRoom),
            _ => Err(NoRoom),
        }
    }

    /// Holds it, if it is long.
    ///
    /// # Errors
    /// If too much is held already.
    pub fn hold_found(&mut self, Found(item): Found) -> Result<Option<Held>, NoRoom> {
        self.hold(item)
    }

    /// Gives an item a new CAS id, or the one that a client chose. It may move.
    pub(super) fn give_cas(&mut self, item: ItemRef, own: Option<u64>) -> Result<ItemRef, NoRoom> {
        let old = self.heap.header(item);
        let cas = if own.is_some() { self.last_cas } else { self.next_cas() };
        if own.is_none() && !old.marks.has(Marks::OWN_CAS) {
            self.heap.set_cas(item, cas);
            self.note_item(item);
            return Ok(item);
        }
        let marks = match own {
            Some(_) => old.marks.with(Marks::OWN_CAS),
            None => old.marks.without(Marks::OWN_CAS),
        };
        let new = Header { cas, marks, ..old };
        let place = self.reshape(item, &old, &new)?;
        if let Some(cas) = own {
            self.heap.set_own_cas(place, new.wire_len as usize, cas);
        }
        self.note_item(place);
        Ok(place)
    }

    /// Gives an item a new expiry time. It may move, if it had no room for one. If there is none
    /// elsewhere it is gone: rather no item than one that does not end when it should.
    pub(super) fn give_end(&mut self, item: ItemRef, expiry: Expiry) -> Option<ItemRef> {
        let old = self.heap.header(item);
        self.may_hold_dead |= expiry != Expiry::NEVER;
        if old.has_end {
            self.heap.set_end(item, &old, expiry);
        }
        if old.has_end || expiry == Expiry::NEVER {
            self.note_changed(item);
            return Some(item);
        }
        match self.reshape(item, &old, &Header { expiry, has_end: true, ..old }) {
            Ok(place) => {
                // For the journal one that moves is gone, and stored again.
                self.note_item(place);
                Some(place)
            }
            Err(NoRoom) => {
                self.discard(item);
                None
            }
        }
    }

    /// Gives an item a header with which it has more or less behind its wire form, in another chunk
    /// if it does not fit or is held.
    fn reshape(&mut self, item: ItemRef, old: &Header, new: &Header) -> Result<ItemRef, NoRoom> {
        let class = self.slabs.class_of(item).ok_or(NoRoom)?;
        let fits = new.size() <= self.slabs.room(class);
        let place = if fits && !self.is_held(item) {
            self.usage.bytes -= old.size() as u64;
            self.heap.set_header(item, new);
            item
        } else {
            let class = self.slabs.holding(new.size()).ok_or(NoRoom)?;
            let place = self.allocate(class, Some(item)).ok_or(NoRoom)?;
            let hash = self.hash_of(item);
            self.heap.copy((item, 0), (place, 0), old.size() - HEADER);
            self.discard(item);
            self.heap.set_header(place, new);
            self.index.link(&mut self.heap, hash, place);
            self.usage.items += 1;
            self.list(place, hash);
            place
        };
        self.usage.bytes += new.size() as u64;
        Ok(place)
    }
}
