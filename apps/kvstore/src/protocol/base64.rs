//! Keys that come in base64 (RFC 4648, section 4), with the flag `b` of the meta commands.

use crate::engine::Key;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A key taken out of base64.
pub(crate) struct Decoded {
    bytes: [u8; Key::MAX_LEN],
    len: usize,
}

impl Decoded {
    /// Decodes `text`. `None` if it is no base64 in whole groups, or of nothing.
    pub(crate) fn new(text: &[u8]) -> Option<Self> {
        let mut decoded = Self { bytes: [0; Key::MAX_LEN], len: 0 };
        let (groups, []) = text.as_chunks::<4>() else { return None };
        for (i, group) in groups.iter().enumerate() {
            let padding = group.iter().rev().take_while(|&&byte| byte == b'=').count();
            if padding > 2 || (padding > 0 && i + 1 < groups.len()) {
                return None;
            }
            let mut bits = 0;
            for &byte in group.get(..4 - padding)? {
                bits = bits << 6 | digit(byte)?;
            }
            let [_, bytes @ ..] = (bits << (6 * padding)).to_be_bytes();
            for byte in bytes.into_iter().take(3 - padding) {
                *decoded.bytes.get_mut(decoded.len)? = byte;
                decoded.len += 1;
            }
        }
        (decoded.len > 0).then_some(decoded)
    }

    /// The key.
    pub(crate) fn key(&self) -> Option<Key<'_>> {
        self.bytes.get(..self.len).and_then(Key::any)
    }
}

fn digit(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

/// Gives `bytes` in base64, in groups of four.
pub(crate) fn encode(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.chunks(3).map(|group| {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte));
        let bits = bits << (8 * (3 - group.len()));
        let mut text = [b'='; 4];
        for (i, place) in text.iter_mut().enumerate().take(group.len() + 1) {
            *place = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn every_length_goes_there_and_back() {
        for len in 1..=187 {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 89 + len) as u8).collect();
            let text: Vec<u8> = encode(&bytes).flatten().collect();
            assert_eq!(text.len(), bytes.len().div_ceil(3) * 4);
            assert_eq!(Decoded::new(&text).unwrap().key().unwrap().bytes(), bytes);
        }
    }

    #[test]
    fn examples_of_rfc_4648_and_what_is_none() {
        for (bytes, text) in [
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(encode(bytes.as_bytes()).flatten().collect::<Vec<_>>(), text.as_bytes());
        }
        for text in ["", "Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm9%", "Zm-_"] {
            assert!(Decoded::new(text.as_bytes()).is_none(), "{text}");
        }
    }
}
