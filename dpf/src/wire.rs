//! How a filter crosses the system-call boundary, and what is checked there.
//!
//! A wire form is the tests one after the other, each three words of eight bytes, the lowest
//! byte first:
//!
//! | word | bits | of pinned bits | of a range | of a shift |
//! |---|---|---|---|---|
//! | 0 | 0 to 7 | 0 | 1 | 2 |
//! | | 8 to 15 | 0 | how many bits the field has, 1 to 64 | the same, 1 to 4 |
//! | | 16 to 23 | 0 | 0 | its scale, at most 6 |
//! | | 32 to 47 | first byte of the window | first bit of the field | the same |
//! | 1 | | mask | least value | the same |
//! | 2 | | value, within the mask | greatest value, which fits the field | the same |
//!
//! Other bits are zero. There are 1 to 12 tests, of which at most two are shifts; none looks
//! beyond the longest frame, and each at no more than a window of eight bytes, a shift at one.
//! That is all that the code which is made of filters relies on. Whether a filter
//! says a thing twice, or contradicts itself, is nothing to the kernel.

use crate::filter::{Filter, MAX_ATOMS, MAX_FRAME, MAX_SHIFTS};
use crate::test::{Field, Test, WINDOW, ones};

/// Words of a test.
pub(crate) const WORDS: usize = 3;
/// Bytes of a word.
pub(crate) const WORD: usize = size_of::<u64>();
/// Longest wire form of a filter, in bytes. Longer ones are refused.
pub const MAX_WIRE: usize = MAX_ATOMS * WORDS * WORD;

impl Filter {
    /// Reads and checks a wire form; `None` if it is none.
    ///
    /// **Trust**: the bytes may be hostile, but must not change during the call.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (tests, rest) = bytes.as_chunks::<{ WORDS * WORD }>();
        let mut filter = Self::EMPTY;
        for test in tests {
            filter.push(Test::decode(test)?)?;
        }
        let shifts = filter.tests().filter(|test| matches!(test, Test::Shift { .. })).count();
        (rest.is_empty() && filter.length() > 0 && shifts <= MAX_SHIFTS).then_some(filter)
    }
}

impl Test {
    fn decode(bytes: &[u8; WORDS * WORD]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<WORD>();
        let [head, a, b] = words else { return None };
        let [kind, bits, scale, _, low, high, _, _] = *head;
        let [a, b] = [a, b].map(|word| u64::from_le_bytes(*word));
        let field = Field { first: u16::from_le_bytes([low, high]), bits };
        let test = match kind {
            0 => Self::Bits { at: field.first, mask: a, value: b },
            1 => Self::Range { field, lo: a, hi: b },
            2 => Self::Shift { field, scale, lo: a as u8, hi: b as u8 },
            _ => return None,
        };
        // What it says beside that would be lost.
        let whole = test.words() == [u64::from_le_bytes(*head), a, b];
        (whole && test.is_sound()).then_some(test)
    }

    pub(crate) fn words(&self) -> [u64; WORDS] {
        let head = |kind: u8, Field { first, bits }, scale| {
            let [low, high] = first.to_le_bytes();
            u64::from_le_bytes([kind, bits, scale, 0, low, high, 0, 0])
        };
        match *self {
            Self::Bits { at, mask, value } => {
                [head(0, Field { first: at, bits: 0 }, 0), mask, value]
            }
            Self::Range { field, lo, hi } => [head(1, field, 0), lo, hi],
            Self::Shift { field, scale, lo, hi } => [head(2, field, scale), lo.into(), hi.into()],
        }
    }

    /// Whether it looks at no more than it may, and asks for what can be there.
    fn is_sound(&self) -> bool {
        let holds = |field: Field, lo, hi| {
            let (first, bits) = (usize::from(field.first), usize::from(field.bits));
            let end = (first + bits).div_ceil(8);
            bits > 0
                && end <= MAX_FRAME
                && first / 8 >= end.saturating_sub(WINDOW)
                && lo <= hi
                && hi <= ones(field.bits)
        };
        match *self {
            Self::Bits { at, mask, value } => {
                usize::from(at) + WINDOW <= MAX_FRAME && value & !mask == 0
            }
            Self::Range { field, lo, hi } => holds(field, lo, hi),
            Self::Shift { field, scale, lo, hi } => {
                let in_byte = field.first % 8 + u16::from(field.bits) <= 8;
                field.bits <= 4 && in_byte && scale <= 6 && holds(field, lo.into(), hi.into())
            }
        }
    }
}
