//! How a filter crosses the system-call boundary.
//!
//! The bytes are those that the format [postcard] gives this Rust value:
//!
//! ```text
//! struct Wire { version: u8, steps: Vec<Step> }          // version is 2
//! enum Step {
//!     Equal { offset: u16, width: u8, mask: u64, value: u64 },
//!     Range { offset: u16, width: u8, mask: u64, lo: u64, hi: u64 },
//!     Shift { offset: u16, mask: u8, scale: u8 },
//! }
//! ```
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version |
//! | 1 | number of steps, 1 to 12 |
//! | then per step: 1 | 0 `Equal`, 1 `Range`, 2 `Shift` |
//! | its fields | `u8` as it is; `u16` and `u64` seven bits a byte, the lowest first, with the top bit set in all but the last |
//!
//! Only the shortest encoding of a number is accepted, so a description has one wire
//! form, and none is longer than [`MAX_WIRE`]. The fields are those of [`Atom`] and
//! [`Shift`]. A sender may write any steps; the receiver verifies them. Version 1 had
//! equality only and fields of fixed length; it is refused.
//!
//! [postcard]: https://postcard.jamesmunns.com/wire-format

use crate::language::{Atom, Filter, MAX_ATOMS, MAX_RANGES, Shift, Step};
use crate::verify::FilterError;

const VERSION: u8 = 2;

/// Longest wire form of a filter in canonical form, in bytes: every number as long as
/// it can be. Longer descriptions are refused.
pub const MAX_WIRE: usize = 2 + (MAX_ATOMS - MAX_RANGES) * (5 + 2 * 10) + MAX_RANGES * (5 + 3 * 10);

impl Filter {
    /// Reads and verifies a wire form. Errors: all of [`FilterError`].
    ///
    /// **Trust**: the bytes may be hostile, but must not change during the call.
    pub fn decode(bytes: &[u8]) -> Result<Self, FilterError> {
        match Self::decode_first(bytes)? {
            (filter, []) => Ok(filter),
            _ => Err(FilterError::Encoding),
        }
    }

    /// Reads and verifies the first of several wire forms that follow each
    /// other, and returns what is behind it. Errors and trust as for
    /// [`Filter::decode`].
    pub fn decode_first(bytes: &[u8]) -> Result<(Self, &[u8]), FilterError> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return Err(FilterError::Version);
        }
        let mut left = reader.byte()?;
        let mut failed = None;
        let steps = core::iter::from_fn(|| {
            left = left.checked_sub(1)?;
            reader.step().map_err(|error| failed = Some(error)).ok()
        });
        let filter = Self::verify(steps);
        match failed {
            Some(error) => Err(error),
            None if bytes.len() - reader.0.len() > MAX_WIRE => Err(FilterError::Encoding),
            None => Ok((filter?, reader.0)),
        }
    }

    /// Writes the canonical form to the front of `out` and returns its length,
    /// or `None` if `out` is too short. [`MAX_WIRE`] bytes are always enough.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let room = out.len();
        let mut writer = Writer(out);
        writer.bytes(&[VERSION, self.steps().count() as u8])?;
        for step in self.steps() {
            match step {
                Step::Atom(Atom { offset, width, mask, lo, hi }) => {
                    writer.bytes(&[u8::from(lo != hi)])?;
                    writer.number(offset.into())?;
                    writer.bytes(&[width])?;
                    writer.number(mask)?;
                    writer.number(lo)?;
                    if lo != hi {
                        writer.number(hi)?;
                    }
                }
                Step::Shift(Shift { offset, mask, scale }) => {
                    writer.bytes(&[2])?;
                    writer.number(offset.into())?;
                    writer.bytes(&[mask, scale])?;
                }
            }
        }
        Some(room - writer.0.len())
    }
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, FilterError> {
        let (&byte, rest) = self.0.split_first().ok_or(FilterError::Encoding)?;
        self.0 = rest;
        Ok(byte)
    }

    /// A number of at most this many bits.
    fn number(&mut self, bits: u32) -> Result<u64, FilterError> {
        let mut number = 0;
        for at in (0..bits).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if byte == 0 && at > 0 || part >> (bits - at).min(7) != 0 {
                break;
            }
            number |= part << at;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(FilterError::Encoding)
    }

    fn step(&mut self) -> Result<Step, FilterError> {
        let kind = self.byte()?;
        let offset = self.number(16)? as u16;
        Ok(match kind {
            0 | 1 => {
                let (width, mask, lo) = (self.byte()?, self.number(64)?, self.number(64)?);
                let hi = if kind == 0 { lo } else { self.number(64)? };
                Step::Atom(Atom { offset, width, mask, lo, hi })
            }
            2 => Step::Shift(Shift { offset, mask: self.byte()?, scale: self.byte()? }),
            _ => return Err(FilterError::Encoding),
        })
    }
}

struct Writer<'b>(&'b mut [u8]);

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let room = core::mem::take(&mut self.0);
        let (to, rest) = room.split_at_mut_checked(bytes.len())?;
        to.copy_from_slice(bytes);
        self.0 = rest;
        Some(())
    }

    fn number(&mut self, mut number: u64) -> Option<()> {
        while number >= 0x80 {
            self.bytes(&[number as u8 | 0x80])?;
            number >>= 7;
        }
        self.bytes(&[number as u8])
    }
}
