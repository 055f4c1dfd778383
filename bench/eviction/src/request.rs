//! A request, and a sequence of them.

use std::io::Write;

/// A read of an item, and what it is like if it has to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The number of its key.
    pub key: u64,
    /// Bytes of its key.
    pub key_len: u16,
    /// Bytes of its value.
    pub value_len: u32,
    /// Seconds after which it ends, from when it is stored; 0 for never.
    pub ttl: u32,
    /// Whether the item is stored in any case, not only if the read misses.
    pub write: bool,
}

/// The longest key of memcached.
pub const MAX_KEY: usize = 250;

impl Request {
    /// Writes the text of the key: its number, as many digits long as the key is, or as the number
    /// needs.
    pub fn key<'b>(&self, buffer: &'b mut [u8; MAX_KEY]) -> &'b [u8] {
        let width = usize::from(self.key_len).min(MAX_KEY);
        let mut rest = &mut buffer[..];
        // A number has at most 16 digits in hexadecimal: there is room.
        let _ = write!(rest, "{:0width$x}", self.key);
        let left = rest.len();
        &buffer[..MAX_KEY - left]
    }
}

/// Requests, and how time passes meanwhile.
pub struct Load {
    /// Its name in reports.
    pub name: String,
    /// Requests in a second, as far as expiry is concerned. `None` if nothing expires, and
    /// so time does not matter.
    pub rate: Option<u32>,
    /// The requests.
    pub requests: Vec<Request>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_length_and_differ() {
        let request = |key, key_len| Request { key, key_len, value_len: 1, ttl: 0, write: false };
        let mut buffer = [0; MAX_KEY];
        assert_eq!(request(0x2a, 6).key(&mut buffer), b"00002a");
        assert_eq!(request(u64::MAX, 6).key(&mut buffer), b"ffffffffffffffff");
        assert_eq!(request(1, 250).key(&mut buffer).len(), 250);
        assert_eq!(request(1, 999).key(&mut buffer).len(), 250);
    }
}
