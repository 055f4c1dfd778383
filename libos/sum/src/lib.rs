//! The Internet checksum (RFC 1071), eight bytes at a time.
//!
//! Ones' complement addition does not care in which order or width words are
//! added, nor about byte order as long as it is the same throughout (RFC 1071,
//! section 2). So bytes are added as 64-bit words in the machine's order with
//! the carry brought back, and folded to 16 bits once at the end. What is left over
//! at the end is in the last eight bytes, which are loaded again and shifted.
//! **Cost** an eighth of an instruction per byte, about twenty for what is left over,
//! and about ten to fold.
//!
//! A crate of its own, because the store keeps the sum of an item with it, in Linux's kernel as
//! well, where there is no allocator for the library OS to be linked with. Steps 4 and 5 of a
//! packet's journey.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// A sum that is still to be folded, of data that begins at an even offset in
/// what is summed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Sum(
    /// Modulo 2^16 - 1 what is to be folded; zero only for nothing but zeros.
    u64,
);

/// The times that 2^16 - 1 goes into 2^64 - 1; and, negative, its inverse modulo 2^64.
const TIMES: u64 = 0x0001_0001_0001_0001;

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// The sum of `bytes`, as if a zero byte followed an odd number of them.
    #[inline(always)]
    pub fn of(bytes: &[u8]) -> Self {
        let Some(last) = bytes.last_chunk::<8>() else { return Self(last_word(bytes)) };
        let mut sum = 0;
        let (blocks, rest) = bytes.as_chunks().0.as_chunks::<8>();
        for block in blocks {
            sum = add_words(sum, block);
        }
        let sum = match rest {
            [] => sum,
            [a] => add_words(sum, &[*a]),
            [a, b] => add_words(sum, &[*a, *b]),
            [a, b, c] => add_words(sum, &[*a, *b, *c]),
            [a, b, c, d] => add_words(sum, &[*a, *b, *c, *d]),
            [a, b, c, d, e] => add_words(sum, &[*a, *b, *c, *d, *e]),
            [a, b, c, d, e, f] => add_words(sum, &[*a, *b, *c, *d, *e, *f]),
            [a, b, c, d, e, f, g, ..] => add_words(sum, &[*a, *b, *c, *d, *e, *f, *g]),
        };
        // Of the last eight bytes those that are in no word yet: none to seven.
        let others = 8 * (!bytes.len() & 7);
        Self(sum).and(Self(u64::from_le_bytes(*last) >> others >> 8))
    }

    /// The sum of `N` bytes, a multiple of four.
    #[inline(always)]
    pub fn of_all<const N: usize>(bytes: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(4)) };
        let (words, rest) = bytes.as_chunks::<8>();
        let half = rest.first_chunk().map_or(0, |half| u64::from(u32::from_le_bytes(*half)));
        let (mut sum, mut carry) = (half, false);
        for word in words {
            (sum, carry) = sum.carrying_add(u64::from_le_bytes(*word), carry);
        }
        Self(sum.wrapping_add(u64::from(carry)))
    }

    /// The sum of eight bytes that are at hand as a word, in the machine's order.
    #[inline(always)]
    pub const fn word(word: u64) -> Self {
        Self(word)
    }

    /// The sum of one 16-bit field that holds `value`.
    #[inline(always)]
    pub const fn field(value: u16) -> Self {
        Self(value.swap_bytes() as u64)
    }

    /// The sum of an IPv4 address.
    #[inline(always)]
    pub const fn address(address: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(address) as u64)
    }

    /// The sum of both.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        let (sum, carry) = self.0.overflowing_add(other.0);
        // Below 2^64 - 1 if there is a carry, so bringing it back makes no other.
        Self(sum.wrapping_add(carry as u64))
    }

    /// A field with the same sum, as a number that more can be added to before it becomes a
    /// [`Sum::word`].
    #[inline(always)]
    #[must_use]
    pub const fn as_field(self) -> u64 {
        self.fold() as u64
    }

    /// Whether data that includes its own checksum is intact: its sum is a multiple of
    /// 2^16 - 1, and not zero.
    #[inline(always)]
    #[must_use]
    pub const fn is_intact(self) -> bool {
        // Multiplying by the inverse divides multiples, and sends everything else above
        // the largest quotient there is (Warren, "Hacker's Delight", 10-17).
        self.0.wrapping_mul(TIMES.wrapping_neg()).wrapping_sub(1) < TIMES
    }

    /// The checksum, in the two bytes in which it is sent.
    #[inline(always)]
    #[must_use]
    pub const fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_le_bytes()
    }

    #[inline(always)]
    const fn fold(self) -> u16 {
        // The upper half of the sum with the halves exchanged is upper plus lower plus
        // the carry out of lower plus upper, which is the same carry that leaves at the top.
        let sum = (self.0.wrapping_add(self.0.rotate_right(32)) >> 32) as u32;
        (sum.wrapping_add(sum.rotate_right(16)) >> 16) as u16
    }
}

/// Adds whole words. A carry out of the last addition leaves a sum below 2^64 - 1
/// (by induction over the additions: only all ones plus all ones plus a carry
/// gives all ones with a carry, and there is none at the first), so bringing it
/// back makes no other.
#[inline(always)]
fn add_words<const N: usize>(sum: u64, words: &[[u8; 8]; N]) -> u64 {
    let (mut sum, mut carry) = (sum, false);
    for word in words {
        (sum, carry) = sum.carrying_add(u64::from_le_bytes(*word), carry);
    }
    sum.wrapping_add(u64::from(carry))
}

/// Up to seven bytes, zero padded.
#[cold]
fn last_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Sum;

    /// RFC 1071, section 1, word for word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn example_of_the_rfc() {
        // Section 3: the words 0001 f203 f4f5 f6f7 sum to ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(u16::from_be_bytes(Sum::of(&bytes).checksum()), !0xddf2);
    }

    #[test]
    fn carries_of_all_ones() {
        for length in 0..=1500 {
            let bytes = vec![0xff; length];
            assert_eq!(u16::from_be_bytes(Sum::of(&bytes).checksum()), reference(&bytes));
        }
    }

    #[test]
    fn fields_and_addresses() {
        let bytes = [0x12, 0x34, 10, 0, 2, 15, 0xff, 0xfe];
        let parts = Sum::field(0x1234).and(Sum::address([10, 0, 2, 15])).and(Sum::field(0xfffe));
        assert_eq!(parts.checksum(), Sum::of(&bytes).checksum());
    }

    #[test]
    fn a_header_is_summed_like_bytes() {
        let header: [u8; 20] = core::array::from_fn(|i| (i * 41 + 200) as u8);
        assert_eq!(Sum::of_all(&header).checksum(), Sum::of(&header).checksum());
        assert_eq!(Sum::of_all(&[0xff; 20]).checksum(), [0, 0]);
        let word = u64::from_le_bytes(*header.first_chunk().unwrap());
        assert_eq!(Sum::word(word).checksum(), Sum::of(&header[..8]).checksum());
    }

    #[test]
    fn intact_are_exactly_the_sums_that_fold_to_ones() {
        let multiples = (0..300).map(|n| n * 0xffff).chain([u64::MAX, u64::MAX - 0xffff]);
        for sum in multiples.flat_map(|n| (0..5).map(move |d| n.wrapping_add(d).wrapping_sub(2))) {
            assert_eq!(Sum(sum).is_intact(), Sum(sum).fold() == 0xffff, "{sum:#x}");
        }
        assert!(!Sum::ZERO.is_intact());
    }

    proptest! {
        #[test]
        fn agrees_with_the_rfc(bytes in prop::collection::vec(any::<u8>(), 0..1600), split in 0usize..800) {
            let sum = u16::from_be_bytes(Sum::of(&bytes).checksum());
            prop_assert_eq!(sum, reference(&bytes));
            let (a, b) = bytes.split_at((2 * split).min(bytes.len()));
            prop_assert_eq!(u16::from_be_bytes(Sum::of(a).and(Sum::of(b)).checksum()), sum);
            let mut whole = bytes.clone();
            if whole.len() % 2 == 0 {
                whole.extend(sum.to_be_bytes());
                prop_assert!(Sum::of(&whole).is_intact());
            }
        }
    }
}
