//! Reading, touching and deleting items.

use super::Engine;
use super::item::{Expiry, Header, ItemRef, Stamp};
use super::key::Key;
use super::meta::Found;
use crate::number;

/// An item as a reply sends it.
#[derive(Clone, Copy, Debug)]
pub struct Value<'e> {
    wire: &'e [u8],
    value_at: usize,
    cas: u64,
}

/// An item as the answer to one `get` sends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit<'e> {
    /// `<key> <flags> <bytes>\r\n<value>\r\n`.
    pub(crate) wire: &'e [u8],
    /// The sum of these bytes, for an Internet checksum, as a field ([`Sum::as_field`]).
    ///
    /// [`Sum::as_field`]: exo_sum::Sum::as_field
    pub(crate) sum: u16,
}

impl<'e> Value<'e> {
    #[inline(always)]
    pub(super) fn new(header: &Header, from_key: &'e [u8], cas: u64) -> Self {
        let wire = &from_key[..header.wire_len as usize];
        Self { wire, value_at: header.head_len(), cas }
    }

    /// `<key> <flags> <bytes>\r\n<value>\r\n`.
    #[must_use]
    #[inline(always)]
    pub fn wire(&self) -> &'e [u8] {
        self.wire
    }

    /// `<key> <flags> <bytes>`: where the CAS id of `gets` goes after.
    #[must_use]
    pub fn head(&self) -> &'e [u8] {
        self.wire.get(..self.value_at - 2).unwrap_or_default()
    }

    /// What follows: `\r\n<value>\r\n`.
    #[must_use]
    pub fn tail(&self) -> &'e [u8] {
        self.wire.get(self.value_at - 2..).unwrap_or_default()
    }

    /// The value alone.
    #[must_use]
    pub fn bytes(&self) -> &'e [u8] {
        self.wire.get(self.value_at..self.wire.len() - 2).unwrap_or_default()
    }

    /// The item's flags; `key` is its key.
    #[must_use]
    #[inline]
    pub fn flags(&self, key: Key<'_>) -> u32 {
        flags_in(self.wire, key.bytes().len())
    }

    /// Where in the wire form the value starts.
    #[must_use]
    pub fn value_at(&self) -> usize {
        self.value_at
    }

    /// The unique id of this version of the item.
    #[must_use]
    pub fn cas(&self) -> u64 {
        self.cas
    }
}

/// The flags in a wire form `<key> <flags> <bytes>…` with a key of `key_len` bytes.
#[inline]
pub(super) fn flags_in(wire: &[u8], key_len: usize) -> u32 {
    match wire.get(key_len + 1..) {
        Some([digit @ b'0'..=b'9', b' ', ..]) => u32::from(digit - b'0'),
        Some(text) => {
            let digits = text.split(|&byte| byte == b' ').next();
            digits.and_then(number::unsigned).unwrap_or(0) as u32
        }
        None => 0,
    }
}

impl Engine<'_> {
    /// The item with this key, if there is one. The caller counts; if there is none, nothing
    /// was done that [`Engine::get`] would not do again.
    ///
    /// **Cost** one that is sent as it was sent before is looked at once, and nothing of it is
    /// written.
    #[inline(always)]
    pub(crate) fn get_hit(&mut self, key: Key<'_>) -> Option<Hit<'_>> {
        let item = self.index.find(&self.heap, self.hash_key.hash(key), key)?;
        let look = self.heap.look(item);
        let Some((len, sum)) = look.sent_again(self.stamp, self.now, self.flushed_below) else {
            return self.get_hit_first(item);
        };
        self.count_read(item);
        Some(Hit { wire: self.heap.wire(item, len), sum })
    }

    /// The same for the first time after an item was stored, or an epoch or second has passed; or
    /// for one that is gone.
    #[cold]
    #[inline(never)]
    fn get_hit_first(&mut self, item: ItemRef) -> Option<Hit<'_>> {
        let header = self.heap.header(item);
        if self.is_dead(&header) {
            self.bury(item, &header);
            return None;
        }
        self.count_read(item);
        self.mark_read(item);
        let sum = if header.sum == 0 { self.heap.sum(item, &header) } else { header.sum };
        Some(Hit { wire: self.heap.wire(item, header.wire_len as usize), sum })
    }

    /// The item with this key.
    pub fn get(&mut self, key: Key<'_>) -> Option<Value<'_>> {
        let Some(item) = self.find(self.hash_key.hash(key), key) else {
            self.stats.get_misses += 1;
            return None;
        };
        self.stats.get_hits += 1;
        Some(self.read(item))
    }

    /// The item with this key, counted and used as by [`Engine::get`] or, with a new expiry
    /// time, [`Engine::get_and_touch`].
    pub fn get_found(&mut self, key: Key<'_>, touch: Option<Expiry>) -> Option<Found> {
        let item = match touch {
            Some(expiry) => self.touched(key, expiry)?,
            None => {
                let Some(item) = self.find(self.hash_key.hash(key), key) else {
                    self.stats.get_misses += 1;
                    return None;
                };
                self.stats.get_hits += 1;
                self.count_read(item);
                self.mark_read(item);
                item
            }
        };
        Some(Found::new(item))
    }

    /// The item with this key, which gets a new expiry time.
    pub fn get_and_touch(&mut self, key: Key<'_>, expiry: Expiry) -> Option<Value<'_>> {
        self.touched(key, expiry).map(|item| self.read(item))
    }

    /// Gives an item a new expiry time. Whether there was one. Its CAS id stays.
    pub fn touch(&mut self, key: Key<'_>, expiry: Expiry) -> bool {
        self.touched(key, expiry).is_some()
    }

    /// Deletes an item. Whether there was one.
    pub fn delete(&mut self, key: Key<'_>) -> bool {
        let Some(item) = self.find(self.hash_key.hash(key), key) else {
            self.stats.delete_misses += 1;
            return false;
        };
        self.stats.delete_hits += 1;
        self.discard(item);
        true
    }

    fn touched(&mut self, key: Key<'_>, expiry: Expiry) -> Option<ItemRef> {
        let Some(item) = self.find(self.hash_key.hash(key), key) else {
            self.stats.touch_misses += 1;
            return None;
        };
        let Some(item) = self.give_end(item, expiry) else {
            self.stats.touch_misses += 1;
            return None;
        };
        self.stats.touch_hits += 1;
        self.mark_read(item);
        Some(item)
    }

    /// Notes that an item was used now.
    #[inline(always)]
    pub(super) fn mark_read(&mut self, item: ItemRef) {
        // A popular item's cache line stays clean: written at most once an epoch or second.
        let header = self.heap.header(item);
        if !header.stamp().is_of(self.stamp) {
            if self.policy.follows_reads()
                && let Some(class) = self.slabs.class_of(item)
            {
                self.policy.policy().used(&mut self.heap, class, item);
            }
            let state = header.state.read_again(self.epoch);
            self.heap.set_stamp(item, Stamp::new(state, self.now as u16));
        }
    }

    /// The same, if it was not for a client to see its value.
    pub(super) fn mark_used(&mut self, item: ItemRef) {
        let was_read = self.heap.header(item).state.was_read();
        self.mark_read(item);
        if !was_read {
            let state = self.heap.header(item).state;
            self.heap.set_state(item, state.never_read());
        }
    }

    /// An item as a reply sends it; it was used now.
    #[inline(always)]
    pub(super) fn read(&mut self, item: ItemRef) -> Value<'_> {
        self.count_read(item);
        self.mark_read(item);
        let (header, wire) = self.heap.open(item);
        Value::new(&header, wire, self.heap.cas(item, &header))
    }
}
