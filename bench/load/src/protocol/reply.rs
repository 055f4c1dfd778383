//! Replies: fragments put together, and values compared with what they should be.

use std::ops::Range;

use super::UDP_HEADER;
use crate::workload::Items;

/// What a reply is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer: of the keys asked for, so many were there and so many not.
    Answer {
        /// Keys with their values.
        hits: u32,
        /// Keys that the server does not have.
        misses: u32,
    },
    /// Right so far, but not all. memcached answers a `get` of several keys with a
    /// datagram for each, every one numbered as if it were the only one.
    More,
    /// Not an answer to this request.
    Wrong,
}

/// The UDP header of a reply, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment<'d> {
    pub(crate) id: u16,
    number: u16,
    total: u16,
    pub(crate) text: &'d [u8],
}

/// Reads a datagram's header; none if it is no reply at all.
pub(crate) fn fragment(datagram: &[u8]) -> Option<Fragment<'_>> {
    let (header, text) = datagram.split_first_chunk::<UDP_HEADER>()?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    Some(Fragment { id: field(0), number: field(2), total: field(4), text })
}

/// A reply of which something is still missing.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// The text so far, of whole replies.
    text: Vec<u8>,
    /// Datagrams of a numbered reply that has not all come.
    numbered: Vec<Option<Vec<u8>>>,
}

/// What a fragment adds.
pub(crate) enum Added {
    /// Text that can be checked.
    Text,
    /// Nothing to check yet.
    Nothing,
    /// It does not belong to those before it.
    Misfit,
}

impl Fragment<'_> {
    /// Whether this datagram is a whole reply by its own account.
    pub(crate) fn whole(&self) -> bool {
        self.total == 1 && self.number == 0
    }
}

impl Parts {
    /// Takes a fragment in.
    pub(crate) fn add(&mut self, fragment: &Fragment<'_>) -> Added {
        if fragment.whole() && self.numbered.is_empty() {
            self.text.extend(fragment.text);
            return Added::Text;
        }
        let (number, total) = (usize::from(fragment.number), usize::from(fragment.total));
        if self.numbered.is_empty() {
            self.numbered.resize(total, None);
        }
        if self.numbered.len() != total {
            return Added::Misfit;
        }
        match self.numbered.get_mut(number) {
            // A second datagram of this number is a duplicate, or a lie.
            Some(part @ None) => *part = Some(fragment.text.to_vec()),
            _ => return Added::Misfit,
        }
        if self.numbered.contains(&None) {
            return Added::Nothing;
        }
        self.text.extend(self.numbered.drain(..).flatten().flatten());
        Added::Text
    }

    /// The text so far.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}

/// Compares the reply to a `get` with what the items are.
///
/// Items that the server does not have are left out of a reply; those that are there come
/// in the order in which they were asked for.
pub(super) fn values(items: &Items, first: u32, more: &[u32], text: &[u8]) -> Verdict {
    let (mut rest, mut hits, mut misses) = (text, 0, 0);
    for n in std::iter::once(first).chain(more.iter().copied()) {
        match value(items, n, rest) {
            Some(length) => {
                rest = &rest[length.end..];
                hits += 1;
            }
            None => misses += 1,
        }
    }
    match rest {
        b"END\r\n" => Verdict::Answer { hits, misses },
        // Whole values and no end: the others may be under way.
        b"" if hits > 0 && !more.is_empty() => Verdict::More,
        _ => Verdict::Wrong,
    }
}

/// The bytes of `text` that are item `n`; none if it does not begin with that.
fn value(items: &Items, n: u32, text: &[u8]) -> Option<Range<usize>> {
    let (key, value) = (items.key(n), items.value(n));
    let rest = text.strip_prefix(b"VALUE ")?.strip_prefix(key)?.strip_prefix(b" 0 ")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length = rest[..digits].iter().try_fold(0_usize, |sum, byte| {
        sum.checked_mul(10)?.checked_add(usize::from(byte - b'0'))
    })?;
    if digits == 0 || length != value.len() {
        return None;
    }
    let rest = rest[digits..].strip_prefix(b"\r\n")?.strip_prefix(value)?.strip_prefix(b"\r\n")?;
    Some(0..text.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Protocol, Request};
    use crate::workload::Workload;

    fn items() -> Items {
        Items::new(&Workload::default(), 1472).unwrap()
    }

    fn block(items: &Items, n: u32) -> Vec<u8> {
        let (key, value) = (items.key(n), items.value(n));
        [b"VALUE ", key, b" 0 64\r\n", value, b"\r\n"].concat()
    }

    fn check(items: &Items, keys: &[u32], text: &[u8]) -> Verdict {
        let request = Request::Get(keys[0], keys[1..].to_vec());
        Protocol::Memcached.check(items, &request, text)
    }

    #[test]
    fn one_value() {
        let items = items();
        let whole = [&block(&items, 7)[..], b"END\r\n"].concat();
        assert_eq!(check(&items, &[7], &whole), Verdict::Answer { hits: 1, misses: 0 });
        assert_eq!(check(&items, &[7], b"END\r\n"), Verdict::Answer { hits: 0, misses: 1 });
        assert_eq!(check(&items, &[8], &whole), Verdict::Wrong, "the value of another key");
        for length in 0..whole.len() {
            // Nothing but "END" alone is a prefix that means something.
            assert_eq!(check(&items, &[7], &whole[..length]), Verdict::Wrong, "{length}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(check(&items, &[7], &damaged), Verdict::Wrong, "at {at}");
        }
        assert_eq!(check(&items, &[7], b"SERVER_ERROR out of memory\r\n"), Verdict::Wrong);
    }

    #[test]
    fn several_values() {
        let items = items();
        let [a, b] = [block(&items, 1), block(&items, 2)];
        let both = [&a[..], &b, b"END\r\n"].concat();
        assert_eq!(check(&items, &[1, 2], &both), Verdict::Answer { hits: 2, misses: 0 });
        let second = [&b[..], b"END\r\n"].concat();
        assert_eq!(check(&items, &[1, 2], &second), Verdict::Answer { hits: 1, misses: 1 });
        assert_eq!(check(&items, &[1, 2], &a), Verdict::More);
        assert_eq!(check(&items, &[1, 2], &[&b[..], &a, b"END\r\n"].concat()), Verdict::Wrong);
        assert_eq!(
            check(&items, &[1, 1], &[&a[..], &a, b"END\r\n"].concat()),
            Verdict::Answer { hits: 2, misses: 0 }
        );
    }

    #[test]
    fn fragments_in_any_order() {
        let datagram = |number: u8, total: u8, text: &[u8]| {
            [&[0, 9, 0, number, 0, total, 0, 0], text].concat()
        };
        let mut parts = Parts::default();
        for (number, text, last) in [(2, "c", false), (0, "a", false), (1, "b", true)] {
            let datagram = datagram(number, 3, text.as_bytes());
            let fragment = fragment(&datagram).unwrap();
            assert_eq!(fragment.id, 9);
            assert_eq!(matches!(parts.add(&fragment), Added::Text), last);
        }
        assert_eq!(parts.text(), b"abc");
        let again = datagram(1, 3, b"b");
        let mut parts = Parts::default();
        assert!(matches!(parts.add(&fragment(&again).unwrap()), Added::Nothing));
        assert!(matches!(parts.add(&fragment(&again).unwrap()), Added::Misfit));
        let other = datagram(1, 4, b"b");
        assert!(matches!(parts.add(&fragment(&other).unwrap()), Added::Misfit));
        let beyond = datagram(5, 2, b"b");
        assert!(matches!(Parts::default().add(&fragment(&beyond).unwrap()), Added::Misfit));
        assert_eq!(fragment(&[0; 7]), None);
    }
}
