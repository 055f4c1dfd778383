//! Buffers, lent to connections while they have data in them.
//!
//! All are of one size and taken from memory given at the start. A connection holds at most
//! two: what it has received and not yet consumed, and what it has sent and its peer has not
//! yet acknowledged. An idle connection holds none.

use alloc::vec::Vec;

/// Bytes of a buffer: the largest window offered, and the most that is under way to a peer.
pub const BUFFER: usize = 16 * 1024;

/// A buffer.
pub(super) type Block = [u8; BUFFER];

/// The buffers that no connection holds.
pub(super) struct Pool<'m>(Vec<&'m mut Block>);

impl<'m> Pool<'m> {
    /// As many buffers as fit into `memory`.
    pub(super) fn new(memory: &'m mut [u8]) -> Self {
        Self(memory.as_chunks_mut::<BUFFER>().0.iter_mut().collect())
    }

    #[inline]
    pub(super) fn take(&mut self) -> Option<&'m mut Block> {
        self.0.pop()
    }

    /// Takes back a buffer. **Cost** no allocation: there was room for all of them.
    #[inline]
    pub(super) fn give(&mut self, block: &'m mut Block) {
        self.0.push(block);
    }

    pub(super) fn free(&self) -> usize {
        self.0.len()
    }
}

/// Bytes in a buffer that is held only while there are any.
#[derive(Default)]
pub(super) struct Held<'m> {
    block: Option<&'m mut Block>,
    start: u16,
    len: u16,
}

const _: () = assert!(BUFFER <= u16::MAX as usize);

impl<'m> Held<'m> {
    #[inline(always)]
    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    #[inline(always)]
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    pub(super) const fn is_held(&self) -> bool {
        self.block.is_some()
    }

    /// Holds a buffer of `pool` from now on. Returns whether there was one.
    #[inline]
    pub(super) fn hold(&mut self, pool: &mut Pool<'m>) -> bool {
        if self.block.is_none() {
            self.block = pool.take();
            self.start = 0;
        }
        self.block.is_some()
    }

    /// Gives the buffer back, and forgets what is in it.
    #[inline]
    pub(super) fn release(&mut self, pool: &mut Pool<'m>) {
        if let Some(block) = self.block.take() {
            pool.give(block);
        }
        (self.start, self.len) = (0, 0);
    }

    /// Begins at the front again, if nothing is in it.
    #[inline(always)]
    pub(super) fn rewind(&mut self) {
        if self.len == 0 {
            self.start = 0;
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        let start = usize::from(self.start);
        let block = self.block.as_ref().and_then(|block| block.get(start..start + self.len()));
        block.unwrap_or_default()
    }

    /// Forgets the first `count` bytes.
    #[inline]
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.len()) as u16;
        // What lies beyond keeps its place, so an empty buffer does not begin anew.
        self.len -= count;
        self.start += count;
    }

    /// The room behind the bytes.
    #[inline]
    pub(super) fn room(&mut self) -> &mut [u8] {
        let end = usize::from(self.start + self.len);
        self.block.as_mut().and_then(|block| block.get_mut(end..)).unwrap_or_default()
    }

    /// Counts the first `count` bytes of the room as bytes.
    #[inline]
    pub(super) fn extend(&mut self, count: usize) {
        let most = BUFFER - usize::from(self.start + self.len);
        self.len += count.min(most) as u16;
    }

    /// Moves the bytes, and `more` behind them, to the front. Returns whether that made room.
    pub(super) fn compact(&mut self, more: usize) -> bool {
        let start = usize::from(self.start);
        let end = (start + self.len() + more).min(BUFFER);
        if let Some(block) = &mut self.block {
            block.copy_within(start..end, 0);
        }
        self.start = 0;
        start > 0
    }

    /// The same, but only if at least as much becomes free as is moved: then all moves together
    /// cost no more than a copy of all bytes that ever pass.
    pub(super) fn compact_cheaply(&mut self) -> bool {
        self.start > 0 && self.start >= self.len && self.compact(0)
    }

    /// Writes `data` at `offset` bytes behind the bytes, without counting it as bytes; `kept`
    /// is how much else lies behind them. Returns whether it fitted.
    pub(super) fn write_beyond(&mut self, offset: usize, data: &[u8], kept: usize) -> bool {
        let end = usize::from(self.start) + self.len() + offset + data.len();
        if end > BUFFER && end - usize::from(self.start) <= BUFFER {
            self.compact(kept);
        }
        let place = self.room().get_mut(offset..offset + data.len());
        place.map(|place| place.copy_from_slice(data)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER, Held, Pool};

    #[test]
    fn bytes_stay_in_order_through_moves_and_the_buffer_goes_back() {
        let mut memory = vec![0; 2 * BUFFER + 5];
        let mut pool = Pool::new(&mut memory);
        assert_eq!(pool.free(), 2);
        let mut held = Held::default();
        assert!(held.room().is_empty() && held.bytes().is_empty());
        assert!(held.hold(&mut pool) && held.hold(&mut pool));
        assert_eq!(pool.free(), 1);
        for (at, byte) in held.room().iter_mut().enumerate() {
            *byte = at as u8;
        }
        held.extend(BUFFER + 7);
        assert_eq!(held.len(), BUFFER);
        held.consume(BUFFER - 100);
        let rest: Vec<u8> = (BUFFER - 100..BUFFER).map(|at| at as u8).collect();
        assert!(held.bytes() == rest && held.room().is_empty());
        assert!(held.compact_cheaply() && held.bytes() == rest);
        assert!(!held.compact_cheaply(), "nothing is free at the front");
        // Beyond what is there, at the end of a full buffer: what lies there moves along.
        held.consume(50);
        assert!(held.write_beyond(10, b"abc", 0));
        assert!(held.write_beyond(BUFFER - 51, b"z", 13));
        assert!(!held.write_beyond(BUFFER - 50, b"z", 13));
        held.extend(BUFFER - 50);
        assert_eq!(
            (held.bytes()[..50].to_vec(), &held.bytes()[60..63]),
            (rest[50..].to_vec(), &b"abc"[..])
        );
        assert_eq!(held.bytes()[BUFFER - 1], b'z');
        held.release(&mut pool);
        assert!(held.is_empty() && !held.is_held() && pool.free() == 2);
    }
}
