//! `incr` and `decr`: numbers kept as text.

use super::Engine;
use super::hold::NoRoom;
use super::item::Marks;
use super::key::Key;
use super::store::{Stored, Suffix};
use crate::number::{self, Decimal};

/// By how much, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Modulo 2^64.
    Up(u64),
    /// Not below 0.
    Down(u64),
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeltaError {
    /// No such item.
    NotFound,
    /// Its CAS id is another.
    Exists,
    /// Its value does not start with a number of at most 64 bits.
    NotANumber,
    /// The number got longer and no chunk could be had for it. The item is lost.
    OutOfMemory,
}

impl Engine<'_> {
    /// Changes the number an item holds, and returns the result. The item gets a new
    /// CAS id and keeps flags and expiry. A result shorter than the value is padded
    /// with spaces behind: a value never gets shorter.
    ///
    /// # Errors
    /// See [`DeltaError`].
    pub fn change(&mut self, key: Key<'_>, delta: Delta) -> Result<u64, DeltaError> {
        self.change_if(key, delta, 0, None)
    }

    /// The same, if the item has the CAS id `compare` or that is 0. It gets the CAS id
    /// `own_cas`, if there is one.
    ///
    /// # Errors
    /// See [`DeltaError`].
    pub fn change_if(
        &mut self,
        key: Key<'_>,
        delta: Delta,
        compare: u64,
        own_cas: Option<u64>,
    ) -> Result<u64, DeltaError> {
        let hash = self.hash_key.hash(key);
        let Some(item) = self.find(hash, key) else {
            match delta {
                Delta::Up(_) => self.stats.incr_misses += 1,
                Delta::Down(_) => self.stats.decr_misses += 1,
            }
            return Err(DeltaError::NotFound);
        };
        let (header, wire) = self.heap.open(item);
        let place = header.head_len()..header.head_len() + header.value_len();
        let old = wire.get(place.clone()).and_then(number::in_value);
        if header.value_len() > 0 && compare != 0 && self.heap.cas(item, &header) != compare {
            return Err(DeltaError::Exists);
        }
        let old = old.ok_or(DeltaError::NotANumber)?;
        let new = match delta {
            Delta::Up(by) => old.wrapping_add(by),
            Delta::Down(by) => old.saturating_sub(by),
        };
        match delta {
            Delta::Up(_) => self.stats.incr_hits += 1,
            Delta::Down(_) => self.stats.decr_hits += 1,
        }
        let text = Decimal::new(new);
        let text = text.text();
        if text.len() <= header.value_len() && !self.is_held(item) {
            self.mark_used(item);
            let value = &mut self.heap.wire_mut(item, place.end)[place.start..];
            value[..text.len()].copy_from_slice(text);
            value[text.len()..].fill(b' ');
            self.give_cas(item, own_cas).map_err(|NoRoom| {
                self.note_item(item);
                DeltaError::OutOfMemory
            })?;
        } else {
            let suffix = Suffix::new(self.flags(item), text.len());
            let place = (hash, key, Some(item));
            let marks = (Marks::NONE, own_cas);
            if self.put(place, &suffix, header.expiry, text, marks) != Stored::Stored {
                return Err(DeltaError::OutOfMemory);
            }
        }
        Ok(new)
    }
}
