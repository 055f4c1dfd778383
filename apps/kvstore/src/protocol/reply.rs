//! The reply under construction.
//!
//! A buffer of fixed size, one datagram. What does not fit is refused before any
//! of it is written, and the caller then goes back to where the answer began and
//! says so instead: a client gets a whole answer or an error, never a part.
//!
//! A reply in several datagrams would be built here too: the answer would be
//! written once, and each datagram sent from its part behind a frame of its own.

use crate::engine::Value;
use crate::number::Decimal;

/// A reply, of which some is written.
#[derive(Debug)]
pub struct Reply<'b> {
    buf: &'b mut [u8],
    len: usize,
}

/// There is no room for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl<'b> Reply<'b> {
    /// An empty reply, to be written to `buf`.
    #[inline(always)]
    pub fn new(buf: &'b mut [u8]) -> Self {
        Self { buf, len: 0 }
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
        self.buf.len() - self.len
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
        place.ok_or(TooLarge)?.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// Adds an item as `get` shows it.
    ///
    /// # Errors
    /// If not at least `spare` bytes would be left. Part may be written then.
    #[inline(always)]
    pub fn put_value(&mut self, value: &Value<'_>, spare: usize) -> Result<(), TooLarge> {
        if self.room() < b"VALUE ".len() + value.wire().len() + spare {
            return Err(TooLarge);
        }
        self.put(b"VALUE ")?;
        self.put(value.wire())
    }

    /// Adds an item as `gets` shows it: with its CAS id.
    ///
    /// # Errors
    /// As for [`Reply::put_value`].
    pub fn put_value_with_cas(&mut self, value: &Value<'_>, spare: usize) -> Result<(), TooLarge> {
        self.put(b"VALUE ")?;
        self.put(value.head())?;
        self.put(b" ")?;
        self.put(Decimal::new(value.cas()).text())?;
        self.put(value.tail())?;
        if self.room() < spare { Err(TooLarge) } else { Ok(()) }
    }

    /// Adds a line with a number.
    ///
    /// # Errors
    /// If it does not fit. Part may be written then.
    pub fn put_number(&mut self, number: u64) -> Result<(), TooLarge> {
        self.put(Decimal::new(number).text())?;
        self.put(b"\r\n")
    }

    /// Adds a line of `stats`.
    ///
    /// # Errors
    /// If it does not fit. Part may be written then.
    pub fn put_stat(&mut self, name: &str, number: u64) -> Result<(), TooLarge> {
        self.put(b"STAT ")?;
        self.put(name.as_bytes())?;
        self.put(b" ")?;
        self.put_number(number)
    }
}
