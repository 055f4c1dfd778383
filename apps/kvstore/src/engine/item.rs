//! An item: a header, then the bytes that a reply sends.
//!
//! ```text
//! 0     4     8            16      20      24   25   26      28    32
//! | next | hash | cas       | expiry | wire | key | sfx | state | sum | key flags bytes\r\nvalue\r\n
//! ```
//!
//! From byte 32 an item is kept as `get` answers it, without the word `VALUE`: a
//! hit is one copy of `wire` bytes and no number is formatted. `gets` inserts the
//! CAS id between suffix and value. `sum` is the sum of these bytes for checksums, once it
//! was wanted: a value is summed once, not with every answer. `next` links the items of one hash chain; in a
//! free chunk it links the free chunks of one bucket, and `prev`, where an item has
//! its CAS id, links them back.

use core::num::NonZeroU32;

use exo_sum::Sum;

use super::state::State;

/// Bytes before the key.
pub(super) const HEADER: usize = 32;

/// The longest suffix: two spaces, two ten-digit numbers, a line end.
pub(super) const MAX_SUFFIX: usize = 24;

/// Where an item is in the heap: its offset in units of 8 bytes, plus 1. Zero is
/// kept for "none", so that zeroed memory is an empty index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ItemRef(NonZeroU32);

impl ItemRef {
    #[inline(always)]
    pub(super) fn from_offset(offset: usize) -> Option<Self> {
        NonZeroU32::new((offset / 8 + 1) as u32).map(Self)
    }

    #[inline(always)]
    pub(super) fn offset(self) -> usize {
        (self.0.get() as usize - 1) * 8
    }

    #[inline(always)]
    pub(super) fn from_raw(raw: u32) -> Option<Self> {
        NonZeroU32::new(raw).map(Self)
    }

    #[inline(always)]
    pub(super) fn raw(item: Option<Self>) -> u32 {
        item.map_or(0, |item| item.0.get())
    }
}

/// When an item ends: seconds on the engine's clock. 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry(u32);

impl Expiry {
    /// Does not expire.
    pub const NEVER: Self = Self(0);

    /// Expires once the engine's clock shows `second`. The clock starts above zero,
    /// so that 1 is always in the past.
    #[must_use]
    pub fn at(second: u32) -> Self {
        Self(second.max(1))
    }

    #[inline(always)]
    pub(super) fn is_past(self, now: u32) -> bool {
        self.0.wrapping_sub(1) < now
    }
}

/// The header, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) next: Option<ItemRef>,
    pub(super) hash: u32,
    pub(super) cas: u64,
    pub(super) expiry: Expiry,
    /// Bytes from the key to the last line end.
    pub(super) wire_len: u32,
    pub(super) key_len: u8,
    pub(super) suffix_len: u8,
    pub(super) state: State,
    /// The sum of the bytes from the key on ([`Heap::sum`]); zero if it is not known.
    pub(super) sum: u32,
}

impl Header {
    #[inline(always)]
    pub(super) fn decode(b: &[u8; HEADER]) -> Self {
        let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        Self {
            next: ItemRef::from_raw(word(0)),
            hash: word(4),
            cas: u64::from(word(8)) | (u64::from(word(12)) << 32),
            expiry: Expiry(word(16)),
            wire_len: word(20),
            key_len: b[24],
            suffix_len: b[25],
            state: State(u16::from_le_bytes([b[26], b[27]])),
            sum: word(28),
        }
    }

    #[inline(always)]
    pub(super) fn encode(self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[0..4].copy_from_slice(&ItemRef::raw(self.next).to_le_bytes());
        b[4..8].copy_from_slice(&self.hash.to_le_bytes());
        b[8..16].copy_from_slice(&self.cas.to_le_bytes());
        b[16..20].copy_from_slice(&self.expiry.0.to_le_bytes());
        b[20..24].copy_from_slice(&self.wire_len.to_le_bytes());
        b[24] = self.key_len;
        b[25] = self.suffix_len;
        b[26..28].copy_from_slice(&self.state.0.to_le_bytes());
        b[28..32].copy_from_slice(&self.sum.to_le_bytes());
        b
    }

    /// Bytes of key and suffix: where in the wire form the value starts.
    pub(super) fn head_len(&self) -> usize {
        usize::from(self.key_len) + usize::from(self.suffix_len)
    }

    /// Bytes of the value, without its line end.
    pub(super) fn value_len(&self) -> usize {
        self.wire_len as usize - self.head_len() - 2
    }

    /// Bytes of the chunk that are in use.
    pub(super) fn size(&self) -> usize {
        HEADER + self.wire_len as usize
    }
}

/// Offsets of the fields that are written alone.
const NEXT: usize = 0;
const PREV: usize = 8;
const CAS: usize = 8;
const EXPIRY: usize = 16;
const STATE: usize = 26;
const SUM: usize = 28;

/// The memory items live in.
///
/// The methods index by [`ItemRef`], and an index out of range would panic. A
/// reference is made only by the allocator, for a chunk within the heap, and
/// lengths only from what was allocated: no byte of a request reaches either
/// unchecked. A wrong one is a fault of the engine, and then stopping is better
/// than sending somebody's memory to somebody else.
pub(super) struct Heap<'m> {
    bytes: &'m mut [u8],
    /// Headers read so far, to bound the cost of an operation.
    #[cfg(test)]
    pub(super) reads: core::cell::Cell<u64>,
}

impl<'m> Heap<'m> {
    pub(super) fn new(bytes: &'m mut [u8]) -> Self {
        Self {
            bytes,
            #[cfg(test)]
            reads: core::cell::Cell::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The header of an item and everything from its key on (more than its own).
    #[inline(always)]
    pub(super) fn open(&self, item: ItemRef) -> (Header, &[u8]) {
        #[cfg(test)]
        self.reads.set(self.reads.get() + 1);
        match self.bytes[item.offset()..].split_first_chunk() {
            Some((header, rest)) => (Header::decode(header), rest),
            None => unreachable!("an item reference near the end of the heap"),
        }
    }

    #[inline(always)]
    pub(super) fn header(&self, item: ItemRef) -> Header {
        self.open(item).0
    }

    /// The sum of an item's bytes from its key on. Kept with it.
    pub(super) fn sum(&mut self, item: ItemRef, header: &Header) -> u32 {
        let wire = &self.open(item).1[..header.wire_len as usize];
        let sum = Sum::of(wire).as_field() as u32;
        self.set(item, SUM, sum.to_le_bytes());
        sum
    }

    /// The bytes of an item from its key on, to be written: their sum is no longer known.
    pub(super) fn wire_mut(&mut self, item: ItemRef, len: usize) -> &mut [u8] {
        let (header, wire) = self.bytes[item.offset()..].split_at_mut(HEADER);
        header[SUM..].fill(0);
        &mut wire[..len]
    }

    /// Copies `len` bytes from place `from.1` of one item's wire form to place
    /// `to.1` of another's, or of the same one, where the two may overlap.
    pub(super) fn copy(&mut self, from: (ItemRef, usize), to: (ItemRef, usize), len: usize) {
        let start = from.0.offset() + HEADER + from.1;
        self.bytes.copy_within(start..start + len, to.0.offset() + HEADER + to.1);
    }

    pub(super) fn set_header(&mut self, item: ItemRef, header: Header) {
        self.set(item, 0, header.encode());
    }

    pub(super) fn set_next(&mut self, item: ItemRef, next: Option<ItemRef>) {
        self.set(item, NEXT, ItemRef::raw(next).to_le_bytes());
    }

    pub(super) fn set_cas(&mut self, item: ItemRef, cas: u64) {
        self.set(item, CAS, cas.to_le_bytes());
    }

    pub(super) fn set_expiry(&mut self, item: ItemRef, expiry: Expiry) {
        self.set(item, EXPIRY, expiry.0.to_le_bytes());
    }

    #[inline(always)]
    pub(super) fn set_state(&mut self, item: ItemRef, state: State) {
        self.set(item, STATE, state.0.to_le_bytes());
    }

    /// The link back of a free chunk.
    pub(super) fn prev(&self, chunk: ItemRef) -> Option<ItemRef> {
        let at = chunk.offset() + PREV;
        let b = &self.bytes[at..at + 4];
        ItemRef::from_raw(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub(super) fn set_prev(&mut self, chunk: ItemRef, prev: Option<ItemRef>) {
        self.set(chunk, PREV, ItemRef::raw(prev).to_le_bytes());
    }

    #[inline(always)]
    fn set<const N: usize>(&mut self, item: ItemRef, field: usize, bytes: [u8; N]) {
        let at = item.offset() + field;
        self.bytes[at..at + N].copy_from_slice(&bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Epoch;
    use super::*;

    #[test]
    fn a_header_survives_coding_and_single_fields_land_in_place() {
        let mut memory = [0u8; 256];
        let mut heap = Heap::new(&mut memory);
        let item = ItemRef::from_offset(64).unwrap();
        let now = Epoch::FIRST.next();
        let mut header = Header {
            next: ItemRef::from_offset(8),
            hash: 0x0102_0304,
            cas: 0x1122_3344_5566_7788,
            expiry: Expiry::at(77),
            wire_len: 99,
            key_len: 250,
            suffix_len: 21,
            state: State::stored(now),
            sum: 0x0a0b_0c0d,
        };
        heap.set_header(item, header);
        assert_eq!(heap.header(item), header);

        heap.set_next(item, None);
        heap.set_cas(item, 5);
        heap.set_expiry(item, Expiry::NEVER);
        heap.set_state(item, State::read(now));
        header =
            Header { next: None, cas: 5, expiry: Expiry::NEVER, state: State::read(now), ..header };
        assert_eq!(heap.header(item), header);
        heap.set_prev(item, Some(item));
        assert_eq!(heap.prev(item), Some(item));
    }

    #[test]
    fn expiry_is_inclusive_and_zero_is_never() {
        assert!(Expiry::at(10).is_past(10));
        assert!(!Expiry::at(10).is_past(9));
        assert!(Expiry::at(0).is_past(1));
        assert!(!Expiry::NEVER.is_past(u32::MAX));
    }
}
