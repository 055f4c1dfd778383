//! What goes over the wire: requests as bytes, and replies that are checked.
//!
//! Every datagram begins with memcached's UDP header (`doc/protocol.txt`, "UDP protocol"):
//! request id, sequence number, number of datagrams, zero; 16 bits each, big endian.
//!
//! **Trust.** A reply is read as bytes of a stranger. It counts as an answer only if its
//! id belongs to a request that waits, it names the keys asked for, and every byte of
//! each value is the one that follows from the key.

mod reply;

use std::fmt;

use serde::{Serialize, Serializer};

use crate::workload::Items;

pub use reply::Verdict;
pub(crate) use reply::{Added, Parts, fragment};

/// Bytes of memcached's header in a UDP datagram.
pub const UDP_HEADER: usize = 8;

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// memcached's text protocol.
    Memcached,
    /// The server sends every datagram back as it is: the floor below any service.
    Echo,
}

/// A request. Items are meant by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads one item, or several.
    Get(u32, Vec<u32>),
    /// Stores an item.
    Set(u32),
    /// Asks for the version; echoed as it is.
    Version,
}

impl Protocol {
    /// Appends the datagram of `request` to `out`.
    pub fn write(self, items: &Items, id: u16, request: &Request, out: &mut Vec<u8>) {
        for field in [id, 0, 1, 0] {
            out.extend(field.to_be_bytes());
        }
        match (self, request) {
            (Self::Echo, Request::Get(n, _) | Request::Set(n)) => out.extend(items.value(*n)),
            (_, Request::Version) => out.extend(b"version\r\n"),
            (Self::Memcached, Request::Get(first, more)) => {
                out.extend(b"get");
                for n in std::iter::once(first).chain(more) {
                    out.push(b' ');
                    out.extend(items.key(*n));
                }
                out.extend(b"\r\n");
            }
            (Self::Memcached, Request::Set(n)) => {
                let value = items.value(*n);
                out.extend(b"set ");
                out.extend(items.key(*n));
                out.extend(b" 0 0 ");
                decimal(value.len(), out);
                out.extend(b"\r\n");
                out.extend(value);
                out.extend(b"\r\n");
            }
        }
    }

    /// What `text`, a reply without UDP headers, is as an answer to `request`.
    #[must_use]
    pub fn check(self, items: &Items, request: &Request, text: &[u8]) -> Verdict {
        match (self, request) {
            (Self::Echo, Request::Get(n, _) | Request::Set(n)) => match text == items.value(*n) {
                true => Verdict::Answer { hits: 0, misses: 0 },
                false => Verdict::Wrong,
            },
            (Self::Echo, Request::Version) => match text == b"version\r\n" {
                true => Verdict::Answer { hits: 0, misses: 0 },
                false => Verdict::Wrong,
            },
            (Self::Memcached, Request::Version) => {
                match text.starts_with(b"VERSION ") && text.ends_with(b"\r\n") {
                    true => Verdict::Answer { hits: 0, misses: 0 },
                    false => Verdict::Wrong,
                }
            }
            (Self::Memcached, Request::Set(_)) => match text == b"STORED\r\n" {
                true => Verdict::Answer { hits: 0, misses: 0 },
                false => Verdict::Wrong,
            },
            (Self::Memcached, Request::Get(first, more)) => {
                reply::values(items, *first, more, text)
            }
        }
    }
}

/// Appends a number in decimal.
fn decimal(number: usize, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut rest = number;
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend(&digits[at..]);
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memcached => "memcached",
            Self::Echo => "echo",
        })
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Sizes, Workload};

    fn items() -> Items {
        let workload = Workload {
            keys: 1296,
            key_sizes: Sizes::Fixed(2),
            value_sizes: Sizes::Fixed(3),
            ..Workload::default()
        };
        Items::new(&workload, 1472).unwrap()
    }

    #[test]
    fn writes_requests() {
        let items = items();
        let write = |protocol: Protocol, request: &Request| {
            let mut out = Vec::new();
            protocol.write(&items, 0x1234, request, &mut out);
            assert_eq!(&out[..8], [0x12, 0x34, 0, 0, 0, 1, 0, 0]);
            out.split_off(8)
        };
        let value = items.value(37);
        assert_eq!(write(Protocol::Memcached, &Request::Get(37, vec![])), b"get 11\r\n");
        assert_eq!(write(Protocol::Memcached, &Request::Get(0, vec![35])), b"get 00 0z\r\n");
        let set = [&b"set 11 0 0 3\r\n"[..], value, b"\r\n"].concat();
        assert_eq!(write(Protocol::Memcached, &Request::Set(37)), set);
        assert_eq!(write(Protocol::Memcached, &Request::Version), b"version\r\n");
        assert_eq!(write(Protocol::Echo, &Request::Get(37, vec![])), value);
    }

    #[test]
    fn numbers_in_decimal() {
        for number in [0, 9, 10, 1024, usize::MAX] {
            let mut out = Vec::new();
            decimal(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn checks_what_is_not_a_get() {
        let items = items();
        let good = Verdict::Answer { hits: 0, misses: 0 };
        let check =
            |request: &Request, text: &[u8]| Protocol::Memcached.check(&items, request, text);
        assert_eq!(check(&Request::Set(1), b"STORED\r\n"), good);
        for text in [&b"NOT_STORED\r\n"[..], b"SERVER_ERROR out of memory\r\n", b"STORED", b""] {
            assert_eq!(check(&Request::Set(1), text), Verdict::Wrong);
        }
        assert_eq!(check(&Request::Version, b"VERSION 1.6.18\r\n"), good);
        assert_eq!(check(&Request::Version, b"ERROR\r\n"), Verdict::Wrong);
        let echo = |text: &[u8]| Protocol::Echo.check(&items, &Request::Get(5, vec![]), text);
        assert_eq!(echo(items.value(5)), good);
        assert_eq!(echo(items.value(6)), Verdict::Wrong);
    }
}
