//! A key that has been checked.

use crate::wide;

/// A key: 1 to 250 bytes, none of them a space or a control character
/// (`protocol.txt`, "Keys").
///
/// The rule matters beyond politeness: items are kept in the form in which they
/// are sent, so a key with a line end in it could forge part of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a>(&'a [u8]);

impl<'a> Key<'a> {
    /// The longest key, in bytes.
    pub const MAX_LEN: usize = 250;

    /// Checks `bytes`; `None` if they are not a key.
    #[must_use]
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let valid = (1..=Self::MAX_LEN).contains(&bytes.len()) && !wide::has_blank(bytes);
        valid.then_some(Self(bytes))
    }

    /// A token, already known to be neither empty nor to have blanks in it: what is
    /// left to check is its length.
    #[inline(always)]
    pub(crate) fn from_token(bytes: &'a [u8]) -> Option<Self> {
        debug_assert!(bytes.len() > Self::MAX_LEN || Self::new(bytes).is_some());
        if bytes.len() > Self::MAX_LEN { None } else { Some(Self(bytes)) }
    }

    /// The bytes of the key.
    #[must_use]
    #[inline(always)]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
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
                    assert_eq!(Key::new(&key[..len]).is_some(), byte > b' ');
                }
            }
        }
    }
}
