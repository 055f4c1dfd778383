//! An item: a header, then the bytes that a reply sends.
//!
//! ```text
//! 0      4       6      8     14    15    16       19    21
//! | next | state | used | cas | key | sfx | length | sum | key flags bytes\r\nvalue\r\n | own cas | end |
//! ```
//!
//! From byte 21 an item is kept as `get` answers it, without the word `VALUE`: a
//! hit is one copy of `length` bytes and no number is formatted. `gets` inserts the
//! CAS id between suffix and value. `sum` is the sum of these bytes for checksums, once it
//! was wanted: a value is summed once, not with every answer. `next` links the items of one hash chain; in a
//! free chunk it links the free chunks of one bucket, and `prev`, where an item has
//! its CAS id, links them back. `used` is the second in which it was last used, as far as two
//! bytes tell it. The upper three bits of `sfx` are its [`Marks`].
//!
//! Behind the wire form an item has what most items do not have: its own CAS id, if a client
//! chose one, and when it ends, if it does; the highest bit of `length` says that it has room for
//! that. A long item always has, so that it need not move while it is being sent.
//!
//! **What is not kept.** The key's hash: a lookup compares keys, which are short and lie in the
//! cache line that has `next`; to take an item out of the index its key is hashed again.
//!
//! **Limits.** 2^23 - 1 bytes from the key on. CAS ids of 48 bits: at a million
//! stores a second they come round after nine years.

use core::num::NonZeroU32;

use exo_sum::Sum;

use super::key::Key;
use super::state::{READS, State};

/// Bytes before the key.
pub(super) const HEADER: usize = 21;

/// The longest wire form that a header can tell of.
pub(super) const MAX_WIRE: u32 = (1 << 23) - 1;

/// The largest CAS id that the store gives.
pub(super) const MAX_CAS: u64 = (1 << 48) - 1;

/// The longest suffix: two spaces, two ten-digit numbers, a line end.
pub(super) const MAX_SUFFIX: usize = 24;

/// The longest wire form that is always sent, and taken, as a whole.
pub(super) const SHORT: usize = 2048;

/// What the meta commands note of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(pub(super) u8);

impl Marks {
    pub(super) const NONE: Self = Self(0);
    /// Its value is out of date.
    pub(super) const STALE: Self = Self(0x20);
    /// A client was told that it is the one to replace it.
    pub(super) const WON: Self = Self(0x40);
    /// Its CAS id was chosen by a client, and lies behind the wire form. The one in the header
    /// still tells when it was stored.
    pub(super) const OWN_CAS: Self = Self(0x80);

    pub(super) fn has(self, mark: Self) -> bool {
        self.0 & mark.0 != 0
    }

    pub(super) fn with(self, mark: Self) -> Self {
        Self(self.0 | mark.0)
    }

    pub(super) fn without(self, mark: Self) -> Self {
        Self(self.0 & !mark.0)
    }
}

/// The bits of the byte with the suffix's length that tell it.
pub(super) const SUFFIX_BITS: u8 = 0x1f;

/// Bytes in use of a chunk with a wire form of this length.
#[inline(always)]
pub(super) fn chunk_len(wire_len: usize, marks: Marks, has_end: bool) -> usize {
    let own_cas = if marks.has(Marks::OWN_CAS) { OWN_CAS_LEN } else { 0 };
    HEADER + wire_len + own_cas + if has_end { END_LEN } else { 0 }
}

/// Whether an item has room to say when it ends.
#[inline(always)]
pub(super) fn has_end(wire_len: usize, expiry: Expiry) -> bool {
    expiry != Expiry::NEVER || wire_len > SHORT
}

const OWN_CAS_LEN: usize = 8;
const END_LEN: usize = 4;

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

    /// The second in which it ends, if it does.
    pub(crate) fn second(self) -> Option<u32> {
        (self != Self::NEVER).then_some(self.0)
    }

    #[inline(always)]
    pub(super) fn is_past(self, now: u32) -> bool {
        self.0.wrapping_sub(1) < now
    }
}

/// The header, taken apart, and when the item ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) next: Option<ItemRef>,
    pub(super) cas: u64,
    pub(super) expiry: Expiry,
    /// Whether the item has room for that. If not it never ends.
    pub(super) has_end: bool,
    /// Bytes from the key to the last line end.
    pub(super) wire_len: u32,
    pub(super) key_len: u8,
    pub(super) suffix_len: u8,
    pub(super) marks: Marks,
    /// The sum of the bytes from the key on ([`Heap::sum`]); zero if it is not known.
    pub(super) sum: u16,
    pub(super) state: State,
    /// The second of the engine's clock in which it was last used, modulo 2^16.
    pub(super) used: u16,
}

/// Of the word with an item's length, the bit that says that the item has room for its end.
const HAS_END: u32 = 1 << 23;

impl Header {
    /// All but when the item ends.
    #[inline(always)]
    fn decode(b: &[u8; HEADER]) -> Self {
        let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let stamp = Stamp(word(STAMP));
        let cas_and_more = u64::from(word(CAS)) | (u64::from(word(CAS + 4)) << 32);
        let length = word(LENGTH);
        Self {
            next: ItemRef::from_raw(word(NEXT)),
            cas: cas_and_more & MAX_CAS,
            expiry: Expiry::NEVER,
            has_end: length & HAS_END != 0,
            wire_len: length & MAX_WIRE,
            key_len: b[KEY],
            suffix_len: b[SUFFIX] & SUFFIX_BITS,
            marks: Marks(b[SUFFIX] & !SUFFIX_BITS),
            sum: u16::from_le_bytes([b[SUM], b[SUM + 1]]),
            state: stamp.state(),
            used: stamp.used(),
        }
    }

    #[inline(always)]
    fn encode(&self) -> [u8; HEADER] {
        let mut b = [0; HEADER];
        b[NEXT..NEXT + 4].copy_from_slice(&ItemRef::raw(self.next).to_le_bytes());
        b[STAMP..STAMP + 4].copy_from_slice(&self.stamp().0.to_le_bytes());
        let lens = u64::from(self.key_len) | u64::from(self.suffix_len | self.marks.0) << 8;
        b[CAS..CAS + 8].copy_from_slice(&(self.cas & MAX_CAS | lens << 48).to_le_bytes());
        let length = self.wire_len | if self.has_end { HAS_END } else { 0 };
        b[LENGTH..LENGTH + 3].copy_from_slice(&length.to_le_bytes()[..3]);
        b[SUM..].copy_from_slice(&self.sum.to_le_bytes());
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
    #[inline(always)]
    pub(super) fn size(&self) -> usize {
        chunk_len(self.wire_len as usize, self.marks, self.has_end)
    }

    /// Where behind the header it says when the item ends, if there is room for that.
    #[inline(always)]
    fn end_at(&self) -> usize {
        chunk_len(self.wire_len as usize, self.marks, false) - HEADER
    }

    /// Whether it may be sent, or have been taken, piece by piece.
    pub(super) fn is_long(&self) -> bool {
        self.wire_len as usize > SHORT
    }

    #[inline(always)]
    pub(super) fn stamp(&self) -> Stamp {
        Stamp::new(self.state, self.used)
    }
}

/// An item as it lies: for a read, which needs little of the header and looks at each word of it
/// once.
#[derive(Clone, Copy)]
pub(super) struct Look<'h> {
    header: &'h [u8; HEADER],
    /// Everything from the key on (more than the item's own).
    rest: &'h [u8],
}

impl Look<'_> {
    #[inline(always)]
    pub(super) fn next(self) -> Option<ItemRef> {
        let [a, b, c, d, ..] = *self.header;
        ItemRef::from_raw(u32::from_le_bytes([a, b, c, d]))
    }

    #[inline(always)]
    fn key_len(self) -> usize {
        self.header[KEY].into()
    }

    /// Whether its key is this one.
    #[inline(always)]
    pub(super) fn has(self, key: Key<'_>) -> bool {
        let len = key.bytes().len();
        self.key_len() == len && self.rest.get(..len).is_some_and(|own| key.is(own))
    }

    /// The length of the wire form and its sum, if the item can be sent as it lies and a read
    /// leaves it as it is: it has not ended at `second`, is none of those stored before the CAS id
    /// `flushed_below`, was read in the epoch and second of `stamp`, and its sum is known.
    #[inline(always)]
    pub(super) fn sent_again(
        self,
        stamp: Stamp,
        second: u32,
        flushed_below: u64,
    ) -> Option<(usize, u16)> {
        let word =
            |at: usize| self.header[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        // The CAS id behind two other bytes; length and sum behind three.
        let (cas, length_and_sum) = (word(CAS - 2) >> 16, word(LENGTH - 3) >> 24);
        let length = length_and_sum as u32;
        let (len, sum) = ((length & MAX_WIRE) as usize, (length_and_sum >> 24) as u16);
        if sum == 0 || cas < flushed_below || !Stamp((word(NEXT) >> 32) as u32).is_of(stamp) {
            return None;
        }
        if length & HAS_END != 0 && self.end(len).is_past(second) {
            return None;
        }
        Some((len, sum))
    }

    /// When it ends, if it has room to say so behind `len` bytes.
    #[inline(always)]
    fn end(self, len: usize) -> Expiry {
        let marks = Marks(self.header[SUFFIX] & !SUFFIX_BITS);
        let at = chunk_len(len, marks, false) - HEADER;
        let end = self.rest.get(at..).and_then(|at| at.first_chunk());
        end.map_or(Expiry::NEVER, |at| Expiry(u32::from_le_bytes(*at)))
    }
}

/// What an item says of its last use: how, and in which second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u32);

impl Stamp {
    #[inline(always)]
    pub(super) fn new(state: State, used: u16) -> Self {
        Self(u32::from(state.0) | u32::from(used) << 16)
    }

    /// Whether a use now would leave the item as it is: it was read in this epoch and second.
    #[inline(always)]
    pub(super) fn is_of(self, now: Self) -> bool {
        (self.0 ^ now.0) & !u32::from(READS) == 0
    }

    #[inline(always)]
    fn state(self) -> State {
        State(self.0 as u16)
    }

    #[inline(always)]
    fn used(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// Offsets of the fields.
const NEXT: usize = 0;
const STATE: usize = 4;
const STAMP: usize = 4;
const CAS: usize = 8;
const PREV: usize = 8;
const KEY: usize = 14;
const SUFFIX: usize = 15;
const LENGTH: usize = 16;
const SUM: usize = 19;

/// The memory items live in.
///
/// The methods index by [`ItemRef`], and an index out of range would panic. A
/// reference is made only by the allocator, for a chunk within the heap, and
/// lengths only from what was allocated: no byte of a request reaches either
/// unchecked. A wrong one is a fault of the engine, and then stopping is better
/// than sending one client's memory to another.
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
            Some((bytes, rest)) => {
                let mut header = Header::decode(bytes);
                if header.has_end {
                    let end = rest.get(header.end_at()..).and_then(|at| at.first_chunk());
                    header.expiry = end.map_or(Expiry::NEVER, |at| Expiry(u32::from_le_bytes(*at)));
                }
                (header, rest)
            }
            None => unreachable!("an item reference near the end of the heap"),
        }
    }

    /// The same, not taken apart.
    #[inline(always)]
    pub(super) fn look(&self, item: ItemRef) -> Look<'_> {
        #[cfg(test)]
        self.reads.set(self.reads.get() + 1);
        match self.bytes[item.offset()..].split_first_chunk() {
            Some((header, rest)) => Look { header, rest },
            None => unreachable!("an item reference near the end of the heap"),
        }
    }

    /// The next item in the chain of this one, and the key of this one.
    #[inline(always)]
    pub(super) fn link(&self, item: ItemRef) -> (Option<ItemRef>, &[u8]) {
        let look = self.look(item);
        (look.next(), look.rest.get(..look.key_len()).unwrap_or_default())
    }

    /// The first `len` bytes of an item from its key on.
    #[inline(always)]
    pub(super) fn wire(&self, item: ItemRef, len: usize) -> &[u8] {
        let at = item.offset() + HEADER;
        &self.bytes[at..at + len]
    }

    #[inline(always)]
    pub(super) fn header(&self, item: ItemRef) -> Header {
        self.open(item).0
    }

    /// The sum of an item's bytes from its key on. Kept with it.
    pub(super) fn sum(&mut self, item: ItemRef, header: &Header) -> u16 {
        let wire = &self.open(item).1[..header.wire_len as usize];
        let sum = Sum::of(wire).as_field() as u16;
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

    #[inline(always)]
    pub(super) fn set_header(&mut self, item: ItemRef, header: &Header) {
        self.set(item, 0, header.encode());
        if header.has_end {
            self.set_end(item, header, header.expiry);
        }
    }

    pub(super) fn set_next(&mut self, item: ItemRef, next: Option<ItemRef>) {
        self.set(item, NEXT, ItemRef::raw(next).to_le_bytes());
    }

    pub(super) fn set_cas(&mut self, item: ItemRef, cas: u64) {
        let [bytes @ .., _, _] = cas.to_le_bytes();
        self.set(item, CAS, bytes);
    }

    /// Writes when an item ends that has room for that.
    pub(super) fn set_end(&mut self, item: ItemRef, header: &Header, end: Expiry) {
        debug_assert!(header.has_end);
        self.set(item, HEADER + header.end_at(), end.0.to_le_bytes());
    }

    #[inline(always)]
    pub(super) fn set_state(&mut self, item: ItemRef, state: State) {
        self.set(item, STATE, state.0.to_le_bytes());
    }

    #[inline(always)]
    pub(super) fn set_stamp(&mut self, item: ItemRef, stamp: Stamp) {
        self.set(item, STAMP, stamp.0.to_le_bytes());
    }

    pub(super) fn set_marks(&mut self, item: ItemRef, header: &Header, marks: Marks) {
        self.set(item, SUFFIX, [header.suffix_len | marks.0]);
    }

    /// The CAS id of an item.
    pub(super) fn cas(&self, item: ItemRef, header: &Header) -> u64 {
        if !header.marks.has(Marks::OWN_CAS) {
            return header.cas;
        }
        let own = self.open(item).1.get(header.wire_len as usize..).and_then(|at| at.first_chunk());
        own.map_or(0, |own| u64::from_le_bytes(*own))
    }

    /// Writes the CAS id that a client chose. The item has [`Marks::OWN_CAS`].
    pub(super) fn set_own_cas(&mut self, item: ItemRef, wire_len: usize, cas: u64) {
        self.set(item, HEADER + wire_len, cas.to_le_bytes());
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

    /// The two words before an item's header, where its policy keeps links.
    pub(super) fn before(&self, item: ItemRef) -> [u32; 2] {
        let at = item.offset() - 8;
        let b = &self.bytes[at..at + 8];
        [[b[0], b[1], b[2], b[3]], [b[4], b[5], b[6], b[7]]].map(u32::from_le_bytes)
    }

    pub(super) fn set_before(&mut self, item: ItemRef, words: [u32; 2]) {
        let at = item.offset() - 8;
        self.bytes[at..at + 4].copy_from_slice(&words[0].to_le_bytes());
        self.bytes[at + 4..at + 8].copy_from_slice(&words[1].to_le_bytes());
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
            cas: 0x1122_3344_5566,
            expiry: Expiry::at(77),
            has_end: true,
            wire_len: 99,
            key_len: 250,
            suffix_len: 21,
            marks: Marks::STALE.with(Marks::OWN_CAS),
            state: State::stored(now),
            sum: 0x0a0b,
            used: 0x0c0d,
        };
        heap.set_header(item, &header);
        heap.set_own_cas(item, 99, u64::MAX);
        assert_eq!(heap.header(item), header);
        assert_eq!(heap.cas(item, &header), u64::MAX);

        heap.set_next(item, None);
        heap.set_cas(item, 5);
        heap.set_end(item, &header, Expiry::NEVER);
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
