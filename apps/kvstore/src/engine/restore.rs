//! A store from its notes, and notes from the store.
//!
//! [`Engine::restore`] makes noted changes again; [`Engine::snapshot`] gives, part by part, notes
//! that make the store as it is. It goes by chains of the index: an item stays in its chain,
//! wherever pages move it, and whatever changes between two parts is noted anyway.

use super::Engine;
use super::item::{Expiry, Header, MAX_CAS, Marks, SUFFIX_BITS, chunk_len, has_end};
use super::journal::{
    CHANGED, CHANGED_HEAD, FLUSHED, GONE, ITEM, ITEM_HEAD, LAST_CAS, item_head, item_pieces,
};
use super::key::Key;
use super::state::State;
use super::store::Suffix;
use crate::number;

/// Why notes cannot be made changes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// They are no notes.
    Malformed,
    /// There is no memory for an item.
    NoMemory,
}

/// Takes a note, in pieces that belong together.
pub type NoteSink<'a, E> = dyn FnMut(&[&[u8]]) -> Result<(), E> + 'a;

impl Engine<'_> {
    /// Makes the changes that `notes` tell of. To be called after [`Engine::keep`] and before
    /// [`Engine::begin_notes`].
    ///
    /// **Trust** notes may be anything: they make items, and nothing worse.
    ///
    /// # Errors
    /// See [`RestoreError`]. The changes before that are made.
    pub fn restore(&mut self, mut notes: &[u8]) -> Result<(), RestoreError> {
        while let Some(&kind) = notes.first() {
            match kind {
                ITEM => self.restore_item(&mut notes)?,
                GONE => {
                    let [_, key_len] = *take(&mut notes)?;
                    let key = take_key(&mut notes, key_len)?;
                    if let Some(item) = self.index.find(&self.heap, self.hash_key.hash(key), key) {
                        self.discard(item);
                    }
                }
                CHANGED => {
                    let head: &[u8; CHANGED_HEAD] = take(&mut notes)?;
                    let [_, key_len, marks, _, unix @ ..] = *head;
                    let key = take_key(&mut notes, key_len)?;
                    if let Some(item) = self.index.find(&self.heap, self.hash_key.hash(key), key) {
                        let expiry = self.expiry_from(u64::from_le_bytes(unix));
                        let item = self.give_end(item, expiry).ok_or(RestoreError::NoMemory)?;
                        let header = self.heap.header(item);
                        let own_cas = Marks(header.marks.0 & Marks::OWN_CAS.0);
                        let marks = Marks(marks & !SUFFIX_BITS).without(Marks::OWN_CAS);
                        self.heap.set_marks(item, &header, marks.with(own_cas));
                    }
                }
                FLUSHED => {
                    let [_, both @ ..] = take::<17>(&mut notes)?;
                    let mut both: &[u8] = both;
                    self.flushed_below = take_number(&mut both)?;
                    let at = self.expiry_from(take_number(&mut both)?);
                    self.flush_at = at.second();
                }
                LAST_CAS => {
                    let [_, number @ ..] = *take::<9>(&mut notes)?;
                    let number = u64::from_le_bytes(number);
                    if number > MAX_CAS {
                        return Err(RestoreError::Malformed);
                    }
                    self.last_cas = self.last_cas.max(number);
                }
                _ => return Err(RestoreError::Malformed),
            }
        }
        Ok(())
    }

    fn restore_item(&mut self, notes: &mut &[u8]) -> Result<(), RestoreError> {
        let [_, key_len, suffix, _, numbers @ ..] = *take::<ITEM_HEAD>(notes)?;
        let (wire_len, mut numbers) = numbers.split_first_chunk().ok_or(RestoreError::Malformed)?;
        let wire_len = u32::from_le_bytes(*wire_len);
        let expiry = self.expiry_from(take_number(&mut numbers)?);
        let cas = take_number(&mut numbers)?;
        let (suffix_len, marks) = (suffix & SUFFIX_BITS, Marks(suffix & !SUFFIX_BITS));
        if chunk_len(wire_len as usize, marks, true) > self.max_item() || cas > MAX_CAS {
            return Err(RestoreError::Malformed);
        }
        let wire = take_bytes(notes, wire_len as usize)?;
        let own_cas = if marks.has(Marks::OWN_CAS) { Some(take_number(notes)?) } else { None };
        let key = key_of(wire, key_len, suffix_len).ok_or(RestoreError::Malformed)?;

        let hash = self.hash_key.hash(key);
        let old = self.index.find(&self.heap, hash, key);
        let place =
            self.place(wire.len(), marks, expiry, old).map_err(|_| RestoreError::NoMemory)?;
        self.heap.wire_mut(place.item, wire.len()).copy_from_slice(wire);
        if let Some(own) = own_cas {
            self.heap.set_own_cas(place.item, wire.len(), own);
        }
        let header = Header {
            next: place.next,
            cas,
            expiry,
            has_end: has_end(wire.len(), expiry),
            wire_len,
            key_len,
            suffix_len,
            marks,
            sum: 0,
            state: State::stored(self.epoch),
            used: self.now as u16,
        };
        self.put_header(place, hash, &header);
        self.last_cas = self.last_cas.max(cas);
        Ok(())
    }

    /// An expiry time of a note, on this life's clock.
    fn expiry_from(&self, unix: u64) -> Expiry {
        match unix {
            0 => Expiry::NEVER,
            _ => {
                let second = unix.saturating_sub(self.journal.origin);
                Expiry::at(u32::try_from(second).unwrap_or(u32::MAX))
            }
        }
    }

    /// Gives `sink` notes that make the store as it is, in pieces that belong together: those of
    /// the part from `cursor` on, which is 0 at first, about `budget` bytes. Returns where the next
    /// part begins, if there is one.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn snapshot<E>(
        &self,
        cursor: u64,
        budget: usize,
        sink: &mut NoteSink<'_, E>,
    ) -> Result<Option<u64>, E> {
        if cursor == 0 {
            let mut last_cas = [LAST_CAS; 9];
            last_cas[1..].copy_from_slice(&self.last_cas.to_le_bytes());
            sink(&[&last_cas])?;
            sink(&[&self.flush_note()])?;
        }
        let mut given = 0;
        for chain in cursor..self.index.chains() {
            if given >= budget {
                return Ok(Some(chain));
            }
            // Looking at an empty one costs something, too.
            given += 4;
            for item in self.index.chain(&self.heap, chain as usize) {
                let (header, wire) = self.heap.open(item);
                if self.is_dead(&header) {
                    continue;
                }
                let own_cas = self.heap.cas(item, &header).to_le_bytes();
                let head = item_head(&header, self.journal.unix(header.expiry));
                let wire = wire.get(..header.wire_len as usize).unwrap_or_default();
                sink(&item_pieces(&head, wire, &header, &own_cas))?;
                given += ITEM_HEAD + wire.len();
            }
        }
        Ok(None)
    }
}

/// The key of a wire form that is as the engine would have written it.
fn key_of(wire: &[u8], key_len: u8, suffix_len: u8) -> Option<Key<'_>> {
    let (key, rest) = wire.split_at_checked(key_len.into())?;
    let (suffix, value) = rest.split_at_checked(suffix_len.into())?;
    let value = value.strip_suffix(b"\r\n")?;
    let flags = suffix.strip_prefix(b" ")?.split(|&byte| byte == b' ').next()?;
    let flags = u32::try_from(number::unsigned(flags)?).ok()?;
    if Suffix::new(flags, value.len()).text() != suffix {
        return None;
    }
    Key::any(key)
}

fn take<'a, const N: usize>(notes: &mut &'a [u8]) -> Result<&'a [u8; N], RestoreError> {
    let (taken, rest) = notes.split_first_chunk().ok_or(RestoreError::Malformed)?;
    *notes = rest;
    Ok(taken)
}

fn take_number(notes: &mut &[u8]) -> Result<u64, RestoreError> {
    take(notes).map(|number| u64::from_le_bytes(*number))
}

fn take_bytes<'a>(notes: &mut &'a [u8], len: usize) -> Result<&'a [u8], RestoreError> {
    let (taken, rest) = notes.split_at_checked(len).ok_or(RestoreError::Malformed)?;
    *notes = rest;
    Ok(taken)
}

fn take_key<'a>(notes: &mut &'a [u8], len: u8) -> Result<Key<'a>, RestoreError> {
    Key::any(take_bytes(notes, len.into())?).ok_or(RestoreError::Malformed)
}
