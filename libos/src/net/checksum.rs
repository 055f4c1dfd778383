//! The Internet checksum (RFC 1071), eight bytes at a time.
//!
//! Ones' complement addition does not care in which order or width words are
//! added, nor about byte order as long as it is the same throughout (RFC 1071,
//! section 2). So bytes are added as 64-bit words in the machine's order with
//! the carry brought back, and folded to 16 bits once at the end. **Cost** a
//! quarter of an instruction per byte, and about ten to fold.

/// A sum that is still to be folded, of data that begins at an even offset in
/// what is summed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Sum(
    /// Each part is below 2^32, so parts can be added without a carry.
    u64,
);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// The sum of `bytes`, as if a zero byte followed an odd number of them.
    #[inline(always)]
    pub fn of(bytes: &[u8]) -> Self {
        let mut sum = 0;
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            sum = add_words(sum, block);
        }
        let (half, rest) = rest.as_chunks::<16>();
        if let [half] = half {
            sum = add_words(sum, half);
        }
        let (word, rest) = rest.as_chunks::<8>();
        if let [word] = word {
            sum = add_words(sum, word);
        }
        Self(u64::from(halve(sum)) + last_word(rest))
    }

    /// The sum of an IPv4 header without options.
    #[inline(always)]
    pub fn of_header(header: &[u8; 20]) -> Self {
        let (words, rest) = header.as_chunks::<4>();
        let sum = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        debug_assert!(rest.is_empty());
        Self(sum)
    }

    /// The sum of one 16-bit field that holds `value`.
    #[inline(always)]
    pub const fn field(value: u16) -> Self {
        Self(value.to_be() as u64)
    }

    /// The sum of an IPv4 address.
    #[inline(always)]
    pub const fn address(address: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(address) as u64)
    }

    /// The sum of both.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// Whether data that includes its own checksum is intact.
    #[inline(always)]
    #[must_use]
    pub const fn is_intact(self) -> bool {
        self.fold() == 0xffff
    }

    /// The checksum, in the two bytes in which it is sent.
    #[inline(always)]
    #[must_use]
    pub const fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    #[inline(always)]
    const fn fold(self) -> u16 {
        let sum = halve(self.0);
        // As in `halve`.
        (sum.wrapping_add(sum.rotate_right(16)) >> 16) as u16
    }
}

/// Folds 64 bits to 32. The upper half of the sum with the halves exchanged is
/// upper plus lower plus the carry out of lower plus upper, which is the same
/// carry that leaves at the top.
#[inline(always)]
const fn halve(sum: u64) -> u32 {
    (sum.wrapping_add(sum.rotate_right(32)) >> 32) as u32
}

/// Adds whole words. A carry out of the last addition leaves a sum below 2^64 - 1
/// (by induction over the additions: only all ones plus all ones plus a carry
/// gives all ones with a carry, and there is none at the first), so bringing it
/// back makes no other.
#[inline(always)]
fn add_words<const N: usize>(sum: u64, bytes: &[u8; N]) -> u64 {
    let (mut sum, mut carry) = (sum, false);
    for word in bytes.as_chunks::<8>().0 {
        (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*word), carry);
    }
    sum.wrapping_add(u64::from(carry))
}

/// Up to seven bytes, zero padded, in a form that can be added to a sum.
#[inline(always)]
fn last_word(bytes: &[u8]) -> u64 {
    let mut rest = bytes;
    let mut sum = 0;
    if let Some((four, after)) = rest.split_first_chunk() {
        sum += u64::from(u32::from_ne_bytes(*four));
        rest = after;
    }
    if let Some((two, after)) = rest.split_first_chunk() {
        sum += u64::from(u16::from_ne_bytes(*two));
        rest = after;
    }
    if let [last] = rest {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    sum
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
    fn header_is_summed_like_bytes() {
        let header = core::array::from_fn(|i| (i * 41 + 200) as u8);
        assert_eq!(Sum::of_header(&header).checksum(), Sum::of(&header).checksum());
        assert_eq!(Sum::of_header(&[0xff; 20]).checksum(), [0, 0]);
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
