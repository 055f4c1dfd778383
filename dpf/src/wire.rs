//! How a filter crosses the system-call boundary.
//!
//! | bytes | field |
//! |---|---|
//! | 0 | version, 1 |
//! | 1 | number of atoms, 1 to 16 |
//! | then per atom: 2 | offset |
//! | 1 | width |
//! | 8 | mask |
//! | 8 | value |
//!
//! Integers are little-endian and nothing is padded. `mask` and `value` are the
//! numbers of [`Atom`], that is, of a load in network byte order. The length must
//! be exact. A sender may write any atoms; the receiver verifies them.

use crate::language::{Atom, Filter, MAX_ATOMS};
use crate::verify::FilterError;

const VERSION: u8 = 1;
const HEADER: usize = 2;
const ATOM: usize = 19;

/// Longest wire form of a filter in bytes.
pub const MAX_WIRE: usize = HEADER + MAX_ATOMS * ATOM;

impl Filter {
    /// Reads and verifies a wire form. Errors: all of [`FilterError`].
    ///
    /// **Trust**: the bytes may be hostile, but must not change during the call.
    pub fn decode(bytes: &[u8]) -> Result<Self, FilterError> {
        match Self::decode_first(bytes)? {
            (filter, []) => Ok(filter),
            _ => Err(FilterError::Length),
        }
    }

    /// Reads and verifies the first of several wire forms that follow each
    /// other, and returns what is behind it. Errors and trust as for
    /// [`Filter::decode`].
    pub fn decode_first(bytes: &[u8]) -> Result<(Self, &[u8]), FilterError> {
        let (count, rest) = match bytes {
            [VERSION, count, rest @ ..] => (usize::from(*count), rest),
            [VERSION] | [] => return Err(FilterError::Length),
            _ => return Err(FilterError::Version),
        };
        let (body, behind) = rest.split_at_checked(count * ATOM).ok_or(FilterError::Length)?;
        Ok((Self::verify(body.chunks_exact(ATOM).map(read))?, behind))
    }

    /// Writes the canonical form to the front of `out` and returns its length,
    /// or `None` if `out` is too short. [`MAX_WIRE`] bytes are always enough.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let count = self.atoms().len();
        let size = HEADER + count * ATOM;
        let (header, body) = out.get_mut(..size)?.split_first_chunk_mut::<HEADER>()?;
        *header = [VERSION, count as u8];
        for (to, atom) in body.chunks_exact_mut(ATOM).zip(self.atoms()) {
            let head = atom.offset.to_le_bytes().into_iter().chain([atom.width]);
            let rest = atom.mask.to_le_bytes().into_iter().chain(atom.value.to_le_bytes());
            to.iter_mut().zip(head.chain(rest)).for_each(|(to, byte)| *to = byte);
        }
        Some(size)
    }
}

/// Total: a missing byte would read as zero.
fn read(bytes: &[u8]) -> Atom {
    let mut bytes = bytes.iter().copied();
    let mut little_endian = |width: u32| {
        (0..width).fold(0, |sum, i| sum | u64::from(bytes.next().unwrap_or(0)) << (8 * i))
    };
    Atom {
        offset: little_endian(2) as u16,
        width: little_endian(1) as u8,
        mask: little_endian(8),
        value: little_endian(8),
    }
}
