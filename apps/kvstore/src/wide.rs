//! Bytes eight at a time, in safe code.
//!
//! Scanning, hashing and comparing a key byte by byte would cost more than the
//! rest of a lookup. Each of the three needs only this: an unaligned eight-byte
//! load, and a way to deal with an end that is not a multiple of eight. The end
//! is handled by loading the *last* eight bytes, which overlap those already
//! seen: no loop over a remainder.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The eight bytes of `buf` from `at`, little-endian, zeros where `buf` has ended.
#[inline(always)]
pub(crate) fn word_at(buf: &[u8], at: usize) -> u64 {
    if let Some(word) = buf.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        return u64::from_le_bytes(*word);
    }
    match buf.last_chunk::<8>() {
        Some(word) if at < buf.len() => {
            // 1 to 7 bytes are left; those before them are shifted out.
            u64::from_le_bytes(*word) >> (8 * (8 - (buf.len() - at)))
        }
        _ => word_in_short(buf, at),
    }
}

/// For a `buf` of less than eight bytes, or nothing left: rare, so kept out of the way.
#[cold]
#[inline(never)]
fn word_in_short(buf: &[u8], at: usize) -> u64 {
    let rest = buf.get(at..).unwrap_or_default();
    rest.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte))
}

/// Marks, with the high bit of each byte, the bytes of `word` that are a space or
/// a control character (0x00 to 0x20). Only the *lowest* mark is exact: a borrow
/// may set marks above it.
#[inline(always)]
pub(crate) fn blanks(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x21) & !word & HIGHS
}

/// Which of the eight bytes of a mask of high bits is marked first. 8 if none.
#[inline(always)]
pub(crate) fn first_mark(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// Where the first `wanted` is.
pub(crate) fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    let pattern = ONES * u64::from(wanted);
    for (i, word) in words.iter().enumerate() {
        // A byte that is wanted becomes zero; the lowest mark is exact.
        let other = u64::from_le_bytes(*word) ^ pattern;
        let marks = other.wrapping_sub(ONES) & !other & HIGHS;
        if marks != 0 {
            return Some(8 * i + first_mark(marks));
        }
    }
    let at = rest.iter().position(|&byte| byte == wanted)?;
    Some(bytes.len() - rest.len() + at)
}

/// Whether there is a space or a control character.
#[inline(always)]
pub(crate) fn has_blank(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().any(|&byte| byte <= b' ');
    };
    let words = bytes.as_chunks::<8>().0.iter();
    let marks = words.fold(0, |marks, word| marks | blanks(u64::from_le_bytes(*word)));
    marks | blanks(u64::from_le_bytes(*last)) != 0
}

/// Up to 16 bytes as two words, such that two inputs of the *same length* give
/// the same words only if they are equal.
#[inline(always)]
pub(crate) fn pair(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)));
    }
    (bytes.iter().fold(0, |word, &byte| (word << 8) | u64::from(byte)), 0)
}

/// Whether two slices hold the same bytes.
#[inline(always)]
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if a.len() <= 16 {
        return pair(a) == pair(b);
    }
    let (a_words, _) = a.as_chunks::<8>();
    let (b_words, _) = b.as_chunks::<8>();
    a_words.iter().zip(b_words).all(|(x, y)| u64::from_le_bytes(*x) == u64::from_le_bytes(*y))
        && a.last_chunk::<8>() == b.last_chunk::<8>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_word_is_padded_with_zeros_at_any_place() {
        for len in 0..20 {
            let buf: Vec<u8> = (1..=len).collect();
            for at in 0..24 {
                let mut expected = [0; 8];
                for (i, byte) in expected.iter_mut().enumerate() {
                    *byte = buf.get(at + i).copied().unwrap_or(0);
                }
                assert_eq!(word_at(&buf, at), u64::from_le_bytes(expected), "{len} at {at}");
            }
        }
    }

    #[test]
    fn the_first_blank_is_exact_for_every_byte_value_and_place() {
        for value in 0..=255u8 {
            for place in 0..8 {
                for filler in [b'!', b'a', 0x7f, 0x80, 0xff] {
                    let mut bytes = [filler; 8];
                    bytes[place] = value;
                    let expected = if value <= b' ' { place } else { 8 };
                    assert_eq!(first_mark(blanks(u64::from_le_bytes(bytes))), expected);
                }
            }
        }
    }

    #[test]
    fn the_first_of_a_byte_is_found_at_every_place() {
        for len in 0..30 {
            for place in 0..=len {
                for (filler, wanted) in [(0xff, b'\n'), (0x0b, b'\n'), (0, 1), (b' ', 0xff)] {
                    let mut bytes = std::vec![filler; len];
                    bytes[place..].fill(wanted);
                    assert_eq!(position(&bytes, wanted), (place < len).then_some(place));
                }
            }
        }
    }

    #[test]
    fn equality_sees_every_byte() {
        for len in 0..64usize {
            let a: Vec<u8> = (0..len as u8).collect();
            assert!(equal(&a, &a.clone()));
            assert!(!equal(&a, &[a.clone(), [0].to_vec()].concat()));
            for i in 0..len {
                let mut b = a.clone();
                b[i] ^= 0x40;
                assert!(!equal(&a, &b), "length {len}, byte {i}");
            }
        }
    }
}
