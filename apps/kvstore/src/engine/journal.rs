//! Changes, noted as they happen, for an owner that makes them durable.
//!
//! A store that is to survive a power cut is given a buffer. Each operation that changes
//! something clients could see adds what is so now to it: a whole item, that there is none with
//! this key, a new expiry time, that all are gone. So the notes can be made again in the same
//! order, any number of times, whatever the operation was. The owner takes the notes of a batch,
//! makes them durable, and lets the answers go then.
//!
//! ```text
//! item:     1 | key length | suffix length and marks | 0 | wire length: 4 | expiry: 8 | cas: 8 |
//! wire form | own cas, if it has one: 8 gone:     2 | key length | key changed:  3 | key length |
//! marks | 0 | expiry: 8 | key flushed:  4 | items with a smaller cas are gone: 8 | flush at: 8
//! last cas: 5 | 8
//! ```
//!
//! Numbers are little-endian. Times are in seconds since 1970, as the engine's clock begins anew
//! with each life of the store; 0 is never.
//!
//! Such a store keeps what it has acknowledged: it never evicts, but refuses what it has no room
//! for (`evict`, `rebalance`).
//!
//! Place on the packet path: step 5, behind each operation. A store without a journal asks one
//! flag when it stores an item.

use super::Engine;
use super::item::{Expiry, Header, ItemRef, Marks};

/// Bytes that the owner wants for itself before the notes.
pub const LEAD: usize = 16;

/// What notes may take that no one item is: one operation adds at most this and an item.
const SLACK: usize = 64 << 10;

/// Room for changes of some operations.
const ROOM: usize = 192 << 10;

pub(super) const ITEM: u8 = 1;
pub(super) const GONE: u8 = 2;
pub(super) const CHANGED: u8 = 3;
pub(super) const FLUSHED: u8 = 4;
pub(super) const LAST_CAS: u8 = 5;

/// Bytes of notes, without keys and items.
pub(super) const ITEM_HEAD: usize = 24;
pub(super) const CHANGED_HEAD: usize = 12;
const LAST_CAS_LEN: usize = 9;

/// The notes of a store.
pub(super) struct Journal<'m> {
    /// Whether changes are noted.
    is_on: bool,
    /// Whether there is to be a journal: then nothing is evicted.
    keeps: bool,
    /// A change was not noted for want of room.
    lost: bool,
    buffer: &'m mut [u8],
    /// Where the notes end. 0 if there are none.
    end: usize,
    /// Beyond this another operation may find no room.
    most: usize,
    /// Seconds since 1970 when the engine's clock showed 0.
    pub(super) origin: u64,
}

impl Journal<'_> {
    pub(super) const fn none() -> Self {
        Self {
            is_on: false,
            keeps: false,
            lost: false,
            buffer: &mut [],
            end: 0,
            most: usize::MAX,
            origin: 0,
        }
    }

    /// Seconds since 1970 for a time on the engine's clock.
    pub(super) fn unix(&self, expiry: Expiry) -> u64 {
        expiry.second().map_or(0, |second| self.origin.saturating_add(second.into()).max(1))
    }

    fn add(&mut self, pieces: &[&[u8]]) {
        if self.end == 0 {
            self.end = LEAD + LAST_CAS_LEN;
        }
        for piece in pieces {
            let place =
                self.buffer.get_mut(self.end..).and_then(|rest| rest.get_mut(..piece.len()));
            let Some(place) = place else {
                self.lost = true;
                return;
            };
            place.copy_from_slice(piece);
            self.end += piece.len();
        }
    }
}

impl<'m> Engine<'m> {
    /// Bytes of the buffer for [`Engine::keep`].
    #[must_use]
    pub fn journal_bytes(&self) -> usize {
        (self.max_item() + SLACK + ROOM).next_multiple_of(4096)
    }

    /// The store, which is empty, is to have a journal: nothing is evicted from now on. `buffer` is
    /// of [`Engine::journal_bytes`] bytes; seconds since 1970 were `unix` when the engine's clock
    /// showed 0.
    pub fn keep(&mut self, buffer: &'m mut [u8], unix: u64) {
        self.journal.most = buffer.len().saturating_sub(self.max_item() + SLACK);
        self.journal.buffer = buffer;
        self.journal.origin = unix;
        self.journal.keeps = true;
    }

    /// From now on changes are noted. What was counted before is forgotten.
    pub fn begin_notes(&mut self) {
        self.journal.is_on = true;
        self.stats = Default::default();
        self.set_time(self.now);
    }

    /// Whether what is stored is kept, whatever comes.
    #[inline(always)]
    pub(super) fn keeps(&self) -> bool {
        self.journal.keeps
    }

    /// Whether there are so many notes that the next operation may find no room for its own.
    #[inline(always)]
    #[must_use]
    pub fn must_commit(&self) -> bool {
        self.journal.end > self.journal.most
    }

    /// Whether there are changes that are not durable yet.
    #[inline(always)]
    #[must_use]
    pub fn has_notes(&self) -> bool {
        self.journal.end != 0
    }

    /// The notes: a buffer in which they begin at [`LEAD`], and how many bytes they are. `None` if
    /// a change was lost, so that nothing may be acknowledged any more.
    pub fn notes(&mut self) -> Option<(&mut [u8], usize)> {
        let Journal { buffer, end, lost, .. } = &mut self.journal;
        if *lost {
            return None;
        }
        if *end != 0
            && let Some([kind, number @ ..]) =
                buffer.get_mut(LEAD..).and_then(|rest| rest.first_chunk_mut::<LAST_CAS_LEN>())
        {
            *kind = LAST_CAS;
            *number = self.last_cas.to_le_bytes();
        }
        Some((buffer, end.saturating_sub(LEAD)))
    }

    /// The changes are durable, or the owner has them.
    pub fn forget_notes(&mut self) {
        self.journal.end = 0;
    }

    /// An item was stored.
    #[inline(always)]
    pub(super) fn note_item(&mut self, item: ItemRef) {
        if self.journal.is_on {
            self.write_item(item);
        }
    }

    #[cold]
    #[inline(never)]
    fn write_item(&mut self, item: ItemRef) {
        let (header, wire) = self.heap.open(item);
        let own_cas = self.heap.cas(item, &header).to_le_bytes();
        let head = item_head(&header, self.journal.unix(header.expiry));
        let wire = wire.get(..header.wire_len as usize).unwrap_or_default();
        self.journal.add(&item_pieces(&head, wire, &header, &own_cas));
    }

    /// An item is no longer there.
    pub(super) fn note_gone(&mut self, item: ItemRef) {
        if self.journal.is_on {
            let (header, wire) = self.heap.open(item);
            // One that has ended, ends when the notes are made again.
            if !self.is_dead(&header) {
                let key = wire.get(..usize::from(header.key_len)).unwrap_or_default();
                self.journal.add(&[&[GONE, header.key_len], key]);
            }
        }
    }

    /// An item has another expiry time, or another mark.
    #[inline(always)]
    pub(super) fn note_changed(&mut self, item: ItemRef) {
        if self.journal.is_on {
            self.write_changed(item);
        }
    }

    #[cold]
    #[inline(never)]
    fn write_changed(&mut self, item: ItemRef) {
        let (header, wire) = self.heap.open(item);
        let mut head = [0; CHANGED_HEAD];
        head[..3].copy_from_slice(&[CHANGED, header.key_len, header.marks.0]);
        head[4..].copy_from_slice(&self.journal.unix(header.expiry).to_le_bytes());
        let key = wire.get(..usize::from(header.key_len)).unwrap_or_default();
        self.journal.add(&[&head, key]);
    }

    /// All items are gone, or will be.
    pub(super) fn note_flush(&mut self) {
        if self.journal.is_on {
            let note = self.flush_note();
            self.journal.add(&[&note]);
        }
    }

    /// What is to be flushed, and when.
    pub(super) fn flush_note(&self) -> [u8; 17] {
        let at = self.flush_at.map_or(0, |at| self.journal.unix(Expiry::at(at)));
        let mut note = [FLUSHED; 17];
        note[1..9].copy_from_slice(&self.flushed_below.to_le_bytes());
        note[9..].copy_from_slice(&at.to_le_bytes());
        note
    }
}

/// The first bytes of an item's note.
pub(super) fn item_head(header: &Header, unix: u64) -> [u8; ITEM_HEAD] {
    let mut head = [0; ITEM_HEAD];
    let suffix = header.suffix_len | header.marks.0;
    head[..3].copy_from_slice(&[ITEM, header.key_len, suffix]);
    head[4..8].copy_from_slice(&header.wire_len.to_le_bytes());
    head[8..16].copy_from_slice(&unix.to_le_bytes());
    head[16..].copy_from_slice(&header.cas.to_le_bytes());
    head
}

/// An item's note. Without a CAS id of its own the last piece is empty.
pub(super) fn item_pieces<'a>(
    head: &'a [u8; ITEM_HEAD],
    wire: &'a [u8],
    header: &Header,
    own_cas: &'a [u8; 8],
) -> [&'a [u8]; 3] {
    [head, wire, if header.marks.has(Marks::OWN_CAS) { own_cas } else { &[] }]
}
