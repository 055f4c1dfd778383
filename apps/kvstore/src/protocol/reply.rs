//! The reply under construction.
//!
//! A buffer of fixed size. What does not fit is refused before any
//! of it is written, and the caller then goes back to where the answer began and
//! says so instead: a client gets a whole answer or an error, never a part.
//!
//! In a stream a long item may follow the buffer: then the reply holds it, and its bytes are
//! sent from where they lie as there is room. A reply to a datagram may have a second, larger
//! buffer, which it moves to when the first is full: it is then sent as several datagrams, and
//! one long item may stand in the middle of it.

use crate::engine::Held;
use crate::number::Decimal;

/// A reply, of which some is written.
#[derive(Debug)]
pub struct Reply<'b> {
    buf: &'b mut [u8],
    len: usize,
    /// Where the reply moves when `buf` is full.
    larger: Option<&'b mut [u8]>,
    /// Whether it has moved there.
    has_moved: bool,
    /// Whether an item may follow piece by piece.
    in_pieces: bool,
    /// The item that follows, and how much was written before it.
    rest: Option<(Rest, usize)>,
}

/// Bytes of an item that are still to be sent, counted from its key on.
#[derive(Debug, PartialEq, Eq)]
pub struct Rest {
    /// The item.
    pub held: Held,
    /// The next byte.
    pub at: u32,
    /// The byte behind the last.
    pub end: u32,
}

/// There is no room for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl<'b> Reply<'b> {
    /// An empty reply, to be written to `buf`.
    #[inline(always)]
    pub fn new(buf: &'b mut [u8]) -> Self {
        Self { buf, len: 0, larger: None, has_moved: false, in_pieces: false, rest: None }
    }

    /// The same, which moves to `larger` when `buf` is full; there one long item may stand
    /// in it, whose bytes are not copied.
    pub fn in_datagrams(buf: &'b mut [u8], larger: &'b mut [u8]) -> Self {
        Self { larger: Some(larger), in_pieces: true, ..Self::new(buf) }
    }

    /// The same, of a stream: a long item that does not fit may follow piece by piece.
    pub fn of_stream(buf: &'b mut [u8]) -> Self {
        Self { in_pieces: true, ..Self::new(buf) }
    }

    /// Whether a long item may follow piece by piece: one at a time.
    #[must_use]
    pub fn in_pieces(&self) -> bool {
        self.in_pieces && self.rest.is_none()
    }

    /// Whether the reply is in its larger buffer.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// Bytes of an item follow what is written.
    pub fn set_rest(&mut self, rest: Rest) {
        self.rest = Some((rest, self.len));
    }

    /// The bytes of an item that follow what is written, if there are any. The caller sends
    /// them.
    #[must_use]
    pub fn take_rest(&mut self) -> Option<Rest> {
        self.take_rest_behind(0).map(|(rest, _)| rest)
    }

    /// The same, if more than `len` bytes were written before it; and how many.
    #[must_use]
    pub fn take_rest_behind(&mut self, len: usize) -> Option<(Rest, usize)> {
        self.rest.take_if(|(_, before)| *before > len)
    }

    /// Bytes written.
    #[must_use]
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that can still be written.
    #[must_use]
    #[inline(always)]
    pub fn room(&self) -> usize {
        self.larger.as_ref().map_or(self.buf.len(), |larger| larger.len()) - self.len
    }

    /// Forgets what was written after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// If they do not fit. Nothing is written then.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        let place = self.buf.get_mut(self.len..).and_then(|rest| rest.get_mut(..bytes.len()));
        let Some(place) = place else { return self.put_moved(bytes) };
        place.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// Adds bytes that lie in three places.
    ///
    /// # Errors
    /// If they do not fit. Nothing is written then.
    #[inline(always)]
    pub fn put_all(&mut self, [first, second, third]: [&[u8]; 3]) -> Result<(), TooLarge> {
        let len = first.len() + second.len() + third.len();
        let place = self.buf.get_mut(self.len..).and_then(|rest| rest.get_mut(..len));
        let (head, rest) = place.ok_or(TooLarge)?.split_at_mut(first.len());
        let (body, tail) = rest.split_at_mut(second.len());
        head.copy_from_slice(first);
        body.copy_from_slice(second);
        tail.copy_from_slice(third);
        self.len += len;
        Ok(())
    }

    /// The same, in the larger buffer.
    #[cold]
    #[inline(never)]
    fn put_moved(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        let larger = self.larger.take().ok_or(TooLarge)?;
        let written = self.buf.get(..self.len).unwrap_or_default();
        larger.get_mut(..self.len).ok_or(TooLarge)?.copy_from_slice(written);
        self.buf = larger;
        self.has_moved = true;
        self.put(bytes)
    }

    /// Adds a line with a number.
    ///
    /// # Errors
    /// If it does not fit. Part may be written then.
    pub fn put_number(&mut self, number: u64) -> Result<(), TooLarge> {
        self.put(Decimal::new(number).text())?;
        self.put(b"\r\n")
    }

    /// Adds a flag of a meta command's answer, with a number.
    ///
    /// # Errors
    /// If it does not fit. Part may be written then.
    pub fn put_flag(&mut self, flag: u8, number: u64) -> Result<(), TooLarge> {
        self.put(&[b' ', flag])?;
        self.put(Decimal::new(number).text())
    }
}
