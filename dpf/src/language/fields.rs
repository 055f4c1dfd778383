//! From fields as they are written to those of tests, and back.

use super::Atom;
use crate::test::{Bits, Field, Test, WINDOW, ones};

/// A field and what it may be: the fields of [`Test::Range`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) field: Field,
    pub(crate) lo: u64,
    pub(crate) hi: u64,
}

impl Range {
    /// Written as an atom, eight bytes wide.
    pub(crate) fn atom(&self) -> Atom {
        let Self { field, lo, hi } = *self;
        let low = field.low();
        let (offset, width, mask) = (field.at(), WINDOW as u8, ones(field.bits) << low);
        Atom { offset, width, mask, lo: lo << low, hi: hi << low }
    }
}

impl Field {
    /// The bits `mask`, one run, of the `width` bytes at `offset`.
    pub(crate) fn of(offset: u16, width: u8, mask: u64) -> Self {
        let above = mask.leading_zeros() as u16 - (64 - 8 * u16::from(width));
        Self { first: 8 * offset + above, bits: mask.count_ones() as u8 }
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.first < other.end_bit() && other.first < self.end_bit()
    }
}

impl Bits {
    /// The window that ends where `atom` ends, with its lower bound for value.
    /// `atom.width` must be 1 to 8.
    pub(crate) fn of(atom: &Atom) -> Self {
        let at = (atom.offset + u16::from(atom.width)).saturating_sub(WINDOW as u16);
        let to_window = |field: u64| {
            let first_byte_low = (field << (64 - 8 * atom.width)).swap_bytes();
            first_byte_low << (8 * (atom.offset - at))
        };
        Self { at, mask: to_window(atom.mask), value: to_window(atom.lo) }
    }

    /// The bits `mask` of `field`, pinned to those of `value`.
    pub(crate) fn in_field(field: Field, mask: u64, value: u64) -> Self {
        let to_window = |bits: u64| (bits << field.low()).swap_bytes();
        Self { at: field.at(), mask: to_window(mask), value: to_window(value & mask) }
    }

    pub(crate) fn test(self) -> Test {
        Test::Bits { at: self.at, mask: self.mask, value: self.value }
    }
}
