//! A key that has been checked.

use crate::wide;

/// A key: 1 to 250 bytes, none of them a space or a line feed if it came as a token.
///
/// `protocol.txt` ("Keys") rules out control characters, but memcached takes them, and
/// clients use them. The two bytes that remain matter: items are kept in the form in which
/// they are sent, so a key with a line feed in it could forge part of a reply.
///
/// The bytes of a short one are at hand as two words: checking, hashing and comparing a key
/// of usual length look at it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    bytes: &'a [u8],
    /// [`wide::pair`] of the bytes, if they are at most 16.
    words: (u64, u64),
}

/// Lengths of keys that are two whole words, which may overlap.
const TWO_WORDS: core::ops::RangeInclusive<usize> = 8..=16;

impl<'a> Key<'a> {
    /// The longest key, in bytes.
    pub const MAX_LEN: usize = 250;

    #[inline(always)]
    fn made_of(bytes: &'a [u8]) -> Self {
        Self { bytes, words: if bytes.len() <= 16 { wide::pair(bytes) } else { (0, 0) } }
    }

    /// Checks `bytes`; `None` if they are not a key.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let valid = (1..=Self::MAX_LEN).contains(&bytes.len())
            && (!wide::has_blank(bytes) || !bytes.iter().any(|byte| matches!(byte, b' ' | b'\n')));
        valid.then(|| Self::made_of(bytes))
    }

    /// Checks the length alone: keys of the binary protocol, and those that come encoded, may
    /// hold any byte. What stands in a reply to a line can be none with a space or a line feed,
    /// as no line asks for it.
    #[must_use]
    pub fn any(bytes: &'a [u8]) -> Option<Self> {
        (1..=Self::MAX_LEN).contains(&bytes.len()).then(|| Self::made_of(bytes))
    }

    /// Whether it can stand in a line as it is.
    #[must_use]
    pub fn is_token(self) -> bool {
        Self::new(self.bytes).is_some()
    }

    /// The same, if no control character is among `bytes`, which is quicker to see.
    #[inline(always)]
    pub(crate) fn new_plain(bytes: &'a [u8]) -> Option<Self> {
        if !TWO_WORDS.contains(&bytes.len()) {
            return Self::new_plain_of_any_length(bytes);
        }
        let words = wide::pair(bytes);
        let marks = wide::blanks(words.0) | wide::blanks(words.1);
        (marks == 0).then_some(Self { bytes, words })
    }

    #[inline(never)]
    fn new_plain_of_any_length(bytes: &'a [u8]) -> Option<Self> {
        let valid = (1..=Self::MAX_LEN).contains(&bytes.len()) && !wide::has_blank(bytes);
        valid.then(|| Self::made_of(bytes))
    }

    /// A token, already known to be neither empty nor to have a space in it: what is
    /// left to check is its length.
    #[inline(always)]
    pub(crate) fn from_token(bytes: &'a [u8]) -> Option<Self> {
        debug_assert!(bytes.len() > Self::MAX_LEN || Self::new(bytes).is_some());
        if bytes.len() > Self::MAX_LEN { None } else { Some(Self::made_of(bytes)) }
    }

    /// The bytes of the key.
    #[must_use]
    #[inline(always)]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes as two words, if they are at most 16; of no meaning otherwise.
    #[inline(always)]
    pub(super) fn words(self) -> (u64, u64) {
        self.words
    }

    /// Whether these are the same bytes.
    #[inline(always)]
    pub(super) fn is(self, bytes: &[u8]) -> bool {
        if bytes.len() != self.bytes.len() {
            return false;
        }
        if TWO_WORDS.contains(&bytes.len()) {
            wide::pair(bytes) == self.words
        } else {
            is_any_length(bytes, self.bytes)
        }
    }
}

#[inline(never)]
fn is_any_length(a: &[u8], b: &[u8]) -> bool {
    wide::equal(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_and_blanks_are_checked() {
        assert!(Key::new(b"").is_none());
        assert!(Key::new(&[b'k'; 250]).is_some());
        assert!(Key::new(&[b'k'; 251]).is_none());
        for len in 1..=40 {
            for place in 0..len {
                for byte in 0..=255 {
                    let mut key = [b'k'; 40];
                    key[place] = byte;
                    let valid = byte != b' ' && byte != b'\n';
                    assert_eq!(Key::new(&key[..len]).is_some(), valid);
                    assert_eq!(Key::new_plain(&key[..len]).is_some(), byte > b' ');
                }
            }
        }
    }
}
