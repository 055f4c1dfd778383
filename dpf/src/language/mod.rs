//! What a filter can say.
//!
//! A [`Filter`] is a conjunction of [`Atom`]s: the bits of a field of the frame that a
//! mask picks, read in network order, lie in a range. Equality is a range of one
//! value. Atoms are written at offsets from a *base*, which is the start of the
//! Ethernet header until a [`Shift`] moves it on by a length that stands in the frame
//! itself, such as the IPv4 header's; what follows the shift is behind that header.
//! There is nothing else: no alternatives, no negation, no loops.
//!
//! The kernel takes a filter as the tests that this is brought to, and links nothing of what is
//! here: writing, comparing and explaining filters is for those that install them.
//!
//! | module | what it decides |
//! |---|---|
//! | [`verify`](FilterError) | which descriptions become a [`Filter`] |
//! | `conjunction` | the canonical form |
//! | [`packet`] | the filters that ordinary UDP/IP applications want |
//! | [`exact`] | what two filters have to do with each other |
//! | [`predicate`](compile) | one filter as code |
//! | `walk`, `check` | merged filters, interpreted, and what must hold of them |
//!
//! Between shifts a filter is a set of pinned bits, a few ranges over disjoint runs of bits,
//! and the length of the shortest frame that holds them. Each part has one form, which the
//! module `conjunction` computes, so that filters that begin alike share tests: `==` of
//! filters without shifts is equality of the sets of frames that match.

mod check;
mod conjunction;
mod encode;
mod error;
pub mod exact;
mod fields;
mod keys;
pub mod packet;
mod predicate;
mod verify;
mod walk;

use core::fmt;

pub use check::Inspect;
pub use exact::{implies, overlap, witness};
pub use keys::encode_keys;
pub use predicate::{PREDICATE, Predicate, compile};
pub use verify::FilterError;

use crate::filter::Filter;
use crate::test::{Field, Test, WINDOW, ones};
use fields::Range;

/// The most fields over which a filter has a range of more than one value.
pub const MAX_RANGES: usize = 4;

/// `lo <= load(base + offset, width) & mask <= hi`, the load in network byte order.
///
/// This is how a filter is written; [`FilterError`](crate::FilterError) says what is
/// refused. A frame that ends before `base + offset + width` does not match; with an
/// empty mask and zero as range that is all the atom says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atom {
    /// First byte of the field, counted from the base.
    pub offset: u16,
    /// Bytes loaded: 1, 2, 4 or 8.
    pub width: u8,
    /// The bits that count: none above `width` bytes. One run if `lo < hi`.
    pub mask: u64,
    /// The least that they may be. No bit outside `mask`.
    pub lo: u64,
    /// The most that they may be, not less than `lo`. No bit outside `mask`.
    pub hi: u64,
}

impl Atom {
    /// The whole field of `width` bytes at `offset` equals `value`.
    pub const fn exact(offset: u16, width: u8, value: u64) -> Self {
        Self::masked(offset, width, Self::field(width), value)
    }

    /// The bits `mask` of the field equal `value`.
    pub const fn masked(offset: u16, width: u8, mask: u64, value: u64) -> Self {
        Self { offset, width, mask, lo: value, hi: value }
    }

    /// The whole field of `width` bytes at `offset` is in `lo..=hi`.
    pub const fn range(offset: u16, width: u8, lo: u64, hi: u64) -> Self {
        Self { offset, width, mask: Self::field(width), lo, hi }
    }

    /// All ones in a field of `width` bytes.
    pub(super) const fn field(width: u8) -> u64 {
        match width {
            0..8 => (1 << (8 * width)) - 1,
            _ => u64::MAX,
        }
    }
}

/// `base += field << scale`, where the field is the bits `mask` of the byte at
/// `base + offset`, the lowest of them as bit 0.
///
/// The IPv4 header length is `Shift { offset: 14, mask: 0x0f, scale: 2 }`: the UDP
/// header then starts at offset 14. A frame that ends before the byte does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The byte, counted from the base so far.
    pub offset: u16,
    /// One run of one to four bits.
    pub mask: u8,
    /// At most 6, so that the base moves by at most 960 bytes.
    pub scale: u8,
}

/// One step of a filter. All atoms are meant relative to the shifts before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The frame must pass.
    Atom(Atom),
    /// The base moves.
    Shift(Shift),
}

impl From<Atom> for Step {
    fn from(atom: Atom) -> Self {
        Self::Atom(atom)
    }
}

impl Filter {
    /// The shifts: the field and the scale of each.
    pub(crate) fn shifts(&self) -> impl Iterator<Item = (Field, u8)> {
        self.tests().filter_map(|test| match *test {
            Test::Shift { field, scale, .. } => Some((field, scale)),
            _ => None,
        })
    }

    /// The canonical form as steps, at most [`MAX_ATOMS`](crate::MAX_ATOMS). Atoms are eight bytes wide.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        self.tests().flat_map(|test| {
            let range = |field, lo, hi| Some(Step::Atom(Range { field, lo, hi }.atom()));
            let (atom, shift) = match *test {
                Test::Bits { at, mask, value } => {
                    let [mask, value] = [mask, value].map(u64::swap_bytes);
                    (Some(Step::Atom(Atom::masked(at, WINDOW as u8, mask, value))), None)
                }
                Test::Range { field, lo, hi } => (range(field, lo, hi), None),
                Test::Shift { field, scale, lo, hi } => {
                    let (offset, last) = (field.first / 8, field.first % 8 + u16::from(field.bits));
                    let mask = (ones(field.bits) << (8 - last)) as u8;
                    let bounded = lo > 0 || u64::from(hi) < ones(field.bits);
                    let range = bounded.then(|| range(field, lo.into(), hi.into())).flatten();
                    (range, Some(Step::Shift(Shift { offset, mask, scale })))
                }
            };
            [atom, shift].into_iter().flatten()
        })
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps()).finish()
    }
}
