//! A persistent map.
//!
//! An operation is visible at once, and durable when the [`PersistentMap::commit`] after it
//! returns, or when [`PersistentMap::drive`] says so: what Arrakis promises of its data structures.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::{
    ApplyError, Background, Block, Contents, Counts, Fault, HEADER, Journal, OpenError, SECTOR,
    Sink, Stamp,
};

const TAG: [u8; 8] = *b"map\0\0\0\0\0";

/// A map from bytes to bytes, kept on a device.
#[derive(Debug)]
pub struct PersistentMap<'m, B> {
    journal: Journal<'m, B>,
    entries: Entries,
}

#[derive(Debug, Default)]
struct Entries {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The keys in the order in which a snapshot shows them: the last one shown.
    shown: Vec<u8>,
    frame: Frame,
}

impl<'m, B: Block> PersistentMap<'m, B> {
    /// Opens the map on `disk`, or makes an empty one where there is nothing. What is put or
    /// removed between two commits may be as long as `scratch`, nearly.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(disk: B, scratch: &'m mut [u8]) -> Result<Self, OpenError> {
        let frame = Frame::within(scratch.len());
        let mut entries = Entries { frame, ..Entries::default() };
        let journal = Journal::open(disk, TAG, scratch, &mut entries)?;
        Ok(Self { journal, entries })
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.map.get(key).map(Vec::as_slice)
    }

    /// All keys with their values, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.map.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// Gives a key a value.
    ///
    /// # Errors
    /// [`Fault::Full`] if it is too long for what was not committed yet. Nothing is changed then.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.entries.frame.add(&pieces(&heading(key, Some(value)), key, value))?;
        self.entries.map.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    /// Takes a key and its value away. Whether it was there.
    ///
    /// # Errors
    /// As for [`PersistentMap::put`].
    pub fn remove(&mut self, key: &[u8]) -> Result<bool, Fault> {
        if !self.entries.map.contains_key(key) {
            return Ok(false);
        }
        self.entries.frame.add(&pieces(&heading(key, None), key, &[]))?;
        self.entries.map.remove(key);
        Ok(true)
    }

    /// Makes what was changed durable.
    ///
    /// # Errors
    /// See [`Journal::commit`].
    pub fn commit(&mut self) -> Result<(), Fault> {
        self.journal.commit(&mut self.entries)
    }

    /// What the log did so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        self.journal.counts()
    }

    /// The device. What was not committed is lost.
    pub fn into_disk(self) -> B {
        self.journal.into_disk()
    }
}

impl<B: Background> PersistentMap<'_, B> {
    /// See [`Journal::stamp`].
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.journal.stamp()
    }

    /// See [`Journal::drive`].
    ///
    /// # Errors
    /// As there.
    pub fn drive(&mut self) -> Result<Stamp, Fault> {
        self.journal.drive(&mut self.entries)
    }
}

/// Lengths of key and value; [`GONE`] in place of the latter for no value.
fn heading(key: &[u8], value: Option<&[u8]>) -> [u8; 8] {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(GONE).to_le_bytes();
    let mut heading = [0; 8];
    heading[..4].copy_from_slice(&length(key));
    heading[4..].copy_from_slice(&value.map_or(GONE.to_le_bytes(), length));
    heading
}

const GONE: u32 = u32::MAX;

fn pieces<'a>(heading: &'a [u8; 8], key: &'a [u8], value: &'a [u8]) -> [&'a [u8]; 3] {
    [heading, key, value]
}

impl Contents for Entries {
    fn frame(&mut self) -> (&mut [u8], usize) {
        self.frame.show()
    }

    fn committed(&mut self) {
        self.frame.clear();
    }

    fn apply(&mut self, mut changes: &[u8]) -> Result<(), ApplyError> {
        while !changes.is_empty() {
            let (key_len, value_len) = (take_number(&mut changes)?, take_number(&mut changes)?);
            let key = take(&mut changes, key_len)?;
            if value_len == GONE {
                self.map.remove(key);
            } else {
                let value = take(&mut changes, value_len)?;
                self.map.insert(key.to_vec(), value.to_vec());
            }
        }
        Ok(())
    }

    /// The cursor is 0 at the beginning, and 1 behind the key that was shown last.
    fn snapshot(
        &mut self,
        cursor: u64,
        budget: usize,
        sink: &mut Sink<'_>,
    ) -> Result<Option<u64>, Fault> {
        use core::ops::Bound::{Excluded, Unbounded};
        let from = if cursor == 0 { Unbounded } else { Excluded(self.shown.as_slice()) };
        let mut given = 0;
        let mut last = None;
        for (key, value) in self.map.range::<[u8], _>((from, Unbounded)) {
            if given >= budget {
                self.shown = last.unwrap_or_default();
                return Ok(Some(1));
            }
            sink(&pieces(&heading(key, Some(value)), key, value))?;
            given += 8 + key.len() + value.len();
            last = Some(key.clone());
        }
        Ok(None)
    }
}

/// Changes since the last commit.
#[derive(Debug, Default)]
pub(super) struct Frame {
    bytes: Vec<u8>,
    /// Where they end, and padding may begin; 0 if there are none.
    end: usize,
    limit: usize,
}

impl Frame {
    /// None yet, for a journal that has so many bytes for them: whole sectors.
    pub(super) fn within(bytes: usize) -> Self {
        Self { limit: bytes / SECTOR * SECTOR, ..Self::default() }
    }

    /// Adds a change.
    pub(super) fn add(&mut self, pieces: &[&[u8]]) -> Result<(), Fault> {
        if self.end == 0 {
            self.bytes = vec![0; HEADER];
            self.end = HEADER;
        }
        let more: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.end.saturating_add(more) > self.limit {
            return Err(Fault::Full);
        }
        self.bytes.truncate(self.end);
        pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        self.end = self.bytes.len();
        Ok(())
    }

    pub(super) fn show(&mut self) -> (&mut [u8], usize) {
        self.bytes.resize(self.end.next_multiple_of(SECTOR), 0);
        (&mut self.bytes, self.end.saturating_sub(HEADER))
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.end = 0;
    }
}

pub(super) fn take_number(bytes: &mut &[u8]) -> Result<u32, ApplyError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(ApplyError::Malformed)?;
    *bytes = rest;
    Ok(u32::from_le_bytes(*number))
}

pub(super) fn take<'a>(bytes: &mut &'a [u8], len: u32) -> Result<&'a [u8], ApplyError> {
    let (taken, rest) = bytes.split_at_checked(len as usize).ok_or(ApplyError::Malformed)?;
    *bytes = rest;
    Ok(taken)
}
