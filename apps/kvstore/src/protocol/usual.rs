//! The two requests that nearly all to a cache are, recognised as a whole: alone in a datagram, or
//! at the front of a stream.
//!
//! What is written here decides nothing that [`Request`](super::Request) would decide
//! otherwise: a request in its usual form is taken apart at once, any other is left to the
//! reading of lines and tokens.

use crate::engine::{Key, WireForm};
use crate::wide;

/// What follows the verb, if `datagram` is one whole request of that verb.
#[inline(always)]
fn text_of(datagram: &[u8], verb: [u8; 4]) -> Option<&[u8]> {
    // Of the frame the number of datagrams; request id, sequence and what is reserved do not
    // matter.
    const MATTERS: u64 = u64::from_le_bytes([0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    let [a, b, c, d] = verb;
    let (head, text) = datagram.split_first_chunk::<12>()?;
    let [_, _, _, _, number_and_verb @ ..] = *head;
    let wanted = u64::from_le_bytes([0, 1, 0, 0, a, b, c, d]);
    (u64::from_le_bytes(number_and_verb) & MATTERS == wanted).then_some(text)
}

/// The key, if `datagram` is one whole request, and that one `get` of one key and nothing
/// else.
///
/// That is what nearly all datagrams to a cache are, and then the length alone says
/// where the key ends: nothing has to be searched. (`None`, too, for a key with a control
/// character in it, which is rare and costs more to check.) Reading the same through
/// [`Frame`](super::Frame) and [`Input`](super::Input) comes to the same, at a higher cost.
#[inline(always)]
#[must_use]
pub fn single_get(datagram: &[u8]) -> Option<Key<'_>> {
    let (text, end) = text_of(datagram, *b"get ")?.split_last_chunk::<2>()?;
    if *end == *b"\r\n" { Key::new_plain(text) } else { None }
}

/// A `set` of one item, to be answered.
pub struct SingleSet<'a> {
    /// The item as it is kept.
    pub item: WireForm<'a>,
    /// Its expiry time.
    pub exptime: i32,
}

/// What is set, if `datagram` is one whole request, and that one `set` and nothing else.
#[inline(always)]
#[must_use]
pub fn single_set(datagram: &[u8]) -> Option<SingleSet<'_>> {
    let text = text_of(datagram, *b"set ")?;
    let (set, len) = set_of(text)?;
    (len == text.len()).then_some(set)
}

/// The key, and the length of the request, if the front of `stream` is a whole `get` of one key
/// without a control character.
#[inline(always)]
#[must_use]
pub fn first_get(stream: &[u8]) -> Option<(Key<'_>, usize)> {
    let text = stream.strip_prefix(b"get ")?;
    let key_len = token(text);
    let key = text.get(..key_len).filter(|key| !key.is_empty())?;
    let is_whole = text.get(key_len..key_len + 2)? == b"\r\n";
    let len = b"get ".len() + key_len + b"\r\n".len();
    if is_whole { Some((Key::from_token(key)?, len)) } else { None }
}

/// What is set, and the length of the request, if the front of `stream` is a whole `set`, to be
/// answered.
#[inline(always)]
#[must_use]
pub fn first_set(stream: &[u8]) -> Option<(SingleSet<'_>, usize)> {
    let (set, len) = set_of(stream.strip_prefix(b"set ")?)?;
    Some((set, b"set ".len() + len))
}

/// What is set, and the length of the request behind its verb, with
/// numbers as they are usually written: no sign, no zero in front, at most seven digits.
///
/// Then key and flags lie in it as the item keeps them, and so do the number of bytes and all
/// that follows: nothing has to be written out.
#[inline(always)]
fn set_of(text: &[u8]) -> Option<(SingleSet<'_>, usize)> {
    let key_len = token(text);
    let (_, flags_end) = number(text, key_len + 1, b' ')?;
    let (exptime, exptime_end) = number(text, flags_end + 1, b' ')?;
    let (bytes, bytes_end) = number(text, exptime_end + 1, b'\r')?;
    // What ends line and value.
    let (len, value_len) = (bytes_end + 4 + bytes as usize, bytes as usize);
    let (rest, end) = text.get(bytes_end..len)?.split_last_chunk::<2>()?;
    let line_end = rest.first_chunk::<2>()?;
    let fits = *line_end == *b"\r\n" && *end == *b"\r\n";
    if text.get(key_len) != Some(&b' ') || !fits || !(1..=Key::MAX_LEN).contains(&key_len) {
        return None;
    }
    let key = Key::from_token(text.get(..key_len)?)?;
    let (head, tail) = (text.get(..=flags_end)?, text.get(exptime_end + 1..len)?);
    let item = WireForm { key, head, tail, value_len };
    Some((SingleSet { item, exptime: exptime as i32 }, len))
}

/// Bytes before the first blank or control character. (Behind the end of a text it meets zeros.)
#[inline(always)]
fn token(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let marks = wide::blanks(wide::word_at(text, at));
        if marks != 0 {
            return at + wide::first_mark(marks);
        }
        at += 8;
    }
}

/// The number that stands at `at`, and where it ends: before a byte `next`.
#[inline(always)]
fn number(text: &[u8], at: usize, next: u8) -> Option<(u32, usize)> {
    let (first, mut word) = (wide::word_at(text, at), wide::word_at(text, at));
    let (mut value, mut len) = (0, 0);
    // Behind the eighth byte of the word there are zeros.
    loop {
        let digit = (word as u8).wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value * 10 + u32::from(digit);
        word >>= 8;
        len += 1;
    }
    let is_usual = len > 0 && (first as u8 != b'0' || len == 1);
    (is_usual && word as u8 == next).then_some((value, at + len))
}

#[cfg(test)]
mod tests {
    use super::{Key, first_get, first_set, single_get, single_set};
    use std::vec::Vec;

    fn framed(text: &[u8]) -> Vec<u8> {
        [&[7, 7, 7, 7, 0, 1, 9, 9], text].concat()
    }

    #[test]
    fn usual_requests_are_recognised() {
        let datagram = framed(b"get some-key\r\n");
        assert_eq!(single_get(&datagram).map(Key::bytes), Some(&b"some-key"[..]));
        for key in ["k", "some-key", "a-key-of-more-than-sixteen-bytes"] {
            let text = std::format!("set {key} 17 0 5\r\nvalue\r\n");
            let datagram = framed(text.as_bytes());
            let set = single_set(&datagram).unwrap();
            assert_eq!((set.item.key.bytes(), set.exptime), (key.as_bytes(), 0));
            assert_eq!(set.item.head, std::format!("{key} 17 ").as_bytes());
            assert_eq!((set.item.tail, set.item.value_len), (&b"5\r\nvalue\r\n"[..], 5));
        }
        let long = b"set k 9999999 60 0\r\n\r\n";
        assert!(single_set(&framed(long)).is_some());
    }

    #[test]
    fn at_the_front_of_a_stream_they_end_where_the_next_begins() {
        for more in ["", "g", "get other\r\n", "\r\n"] {
            for key in ["k", "some-key", "a-key-of-more-than-sixteen-bytes"] {
                let stream = std::format!("get {key}\r\n{more}");
                let (found, len) = first_get(stream.as_bytes()).unwrap();
                assert_eq!((found.bytes(), &stream[len..]), (key.as_bytes(), more));
                let stream = std::format!("set {key} 17 0 5\r\nvalue\r\n{more}");
                let (set, len) = first_set(stream.as_bytes()).unwrap();
                assert_eq!((set.item.key.bytes(), &stream[len..]), (key.as_bytes(), more));
                assert_eq!(set.item.head, std::format!("{key} 17 ").as_bytes());
                assert_eq!(set.item.tail, b"5\r\nvalue\r\n");
            }
        }
        let long = "k".repeat(251);
        let (get, set) = (std::format!("get {long}\r\n"), std::format!("set {long} 0 0 0\r\n\r\n"));
        assert!(first_get(get.as_bytes()).is_none() && first_set(set.as_bytes()).is_none());
        for text in [
            "",
            "get",
            "get \r\n",
            "get k",
            "get k\r",
            "get k\n",
            "get k \r\n",
            "get a b\r\n",
            "gets k\r\n",
            "get k\t\r\n",
        ] {
            assert!(first_get(text.as_bytes()).is_none(), "{text:?}");
        }
        let whole = b"set k 0 0 5\r\nvalue\r\n";
        assert_eq!(first_set(whole).unwrap().1, whole.len());
        for len in 0..whole.len() {
            assert!(first_set(&whole[..len]).is_none(), "{len}");
        }
    }

    #[test]
    fn others_are_left_to_the_reading_of_lines() {
        for text in [
            "set k 0 0 5\r\nvalue\r\n ",
            "set k 0 0 5 noreply\r\nvalue\r\n",
            "set k 0 0 5\nvalue\r\n",
            "set k 0 0 5\r\nvalue\n\n",
            "set k 0 0 4\r\nvalue\r\n",
            "set k 0 0 6\r\nvalue\r\n",
            "set k 00 0 5\r\nvalue\r\n",
            "set k 0 0 05\r\nvalue\r\n",
            "set k +0 0 5\r\nvalue\r\n",
            "set k 0 -1 5\r\nvalue\r\n",
            "set k 10000000 0 5\r\nvalue\r\n",
            "set k 0 0 10000000\r\nvalue\r\n",
            "set k 0 0 4294967301\r\nvalue\r\n",
            "set k 0 0 99999999999999999999\r\nvalue\r\n",
            "set k  0 0 5\r\nvalue\r\n",
            "set  0 0 5\r\nvalue\r\n",
            "set k\t0 0 5\r\nvalue\r\n",
            "set k 0 0\r\nvalue\r\n",
            "set k 0 0 5",
            "set k",
            "set ",
            "set",
            "add k 0 0 5\r\nvalue\r\n",
        ] {
            assert!(single_set(&framed(text.as_bytes())).is_none(), "{text:?}");
        }
        let long = std::format!("set {} 0 0 5\r\nvalue\r\n", "k".repeat(251));
        assert!(single_set(&framed(long.as_bytes())).is_none());
        let mut parts = framed(b"set k 0 0 5\r\nvalue\r\n");
        parts[5] = 2;
        assert!(single_set(&parts).is_none(), "one of two datagrams");
    }
}
