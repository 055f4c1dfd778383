//! What outsiders must not guess: which bucket a peer falls into, first sequence numbers, and
//! SYN cookies.
//!
//! All three are SipHash of the peer under one secret, for different purposes. The cookie is the
//! server's first sequence number in place of a connection's state (RFC 4987, section 3.6):
//! five bits of time, three that name the peer's segment size, and 24 of the hash over both
//! and the peer's own first number. Window scale and selective acknowledgements do not fit
//! into it, so a connection made of a cookie goes without them.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::seq::Seq;
use super::wheel::Millis;
use crate::net::Endpoint;

/// Segment sizes that a cookie can name, ascending; the largest that the peer takes is named.
const SIZES: [u16; 8] = [64, 256, 536, 966, 1200, 1360, 1440, 1460];
/// How long a cookie's bits of time stay the same; it is good for up to twice that.
const PERIOD_BITS: u32 = 16;

/// A server's secret.
pub(super) struct Secret([u64; 2]);

#[derive(Clone, Copy)]
#[repr(u8)]
enum Purpose {
    Bucket,
    FirstNumber,
    Cookie,
}

impl Secret {
    pub(super) const fn new(seed: [u64; 2]) -> Self {
        Self(seed)
    }

    /// The hash of a peer for the table of connections.
    #[inline]
    pub(super) fn bucket(&self, peer: Endpoint) -> u64 {
        self.hasher(Purpose::Bucket, peer).finish()
    }

    /// The first sequence number for a connection with `peer` (RFC 6528, section 3): a clock
    /// that counts every four microseconds, from a place that differs by peer.
    pub(super) fn first_number(&self, peer: Endpoint, micros: u64) -> Seq {
        let place = self.hasher(Purpose::FirstNumber, peer).finish();
        Seq((micros / 4).wrapping_add(place) as u32)
    }

    /// The cookie for a peer whose first sequence number is `first` and that takes segments of
    /// `mss` bytes.
    pub(super) fn cookie(&self, peer: Endpoint, first: Seq, mss: u16, now: Millis) -> Seq {
        let size = SIZES.iter().rposition(|size| *size <= mss).unwrap_or(0);
        self.make(peer, first, now >> PERIOD_BITS, size)
    }

    /// The segment size in a cookie, if it is one that this server gave out not long ago.
    pub(super) fn open(&self, cookie: Seq, peer: Endpoint, first: Seq, now: Millis) -> Option<u16> {
        let size = cookie.0 as usize >> 24 & 7;
        let period = now >> PERIOD_BITS;
        let is_of = |period| self.make(peer, first, period, size) == cookie;
        (is_of(period) || is_of(period.wrapping_sub(1))).then(|| SIZES.get(size).copied())?
    }

    fn make(&self, peer: Endpoint, first: Seq, period: u32, size: usize) -> Seq {
        let period = period & (u32::MAX >> PERIOD_BITS);
        let mut hasher = self.hasher(Purpose::Cookie, peer);
        hasher.write_u64(u64::from(first.0) | u64::from(period) << 32);
        hasher.write_u64(size as u64);
        Seq(period << 27 | (size as u32) << 24 | hasher.finish() as u32 >> 8)
    }

    #[inline]
    fn hasher(&self, purpose: Purpose, peer: Endpoint) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_keys(self.0[0], self.0[1]);
        let address = u64::from(u32::from_be_bytes(peer.address));
        hasher.write_u64(address | u64::from(peer.port) << 32 | (purpose as u64) << 48);
        hasher
    }
}

#[cfg(test)]
mod tests {
    use super::{PERIOD_BITS, Secret};
    use crate::net::Endpoint;
    use crate::net::tcp::seq::Seq;

    const PEER: Endpoint = Endpoint { address: [10, 0, 0, 9], port: 40_000 };
    const PERIOD: u32 = 1 << PERIOD_BITS;

    #[test]
    fn a_cookie_opens_for_its_peer_and_for_a_while() {
        let secret = Secret::new([1, 2]);
        for (mss, named) in [(0, 64), (64, 64), (1459, 1440), (1460, 1460), (9000, 1460)] {
            for now in [0, PERIOD - 1, 40 * PERIOD, u32::MAX] {
                let cookie = secret.cookie(PEER, Seq(77), mss, now);
                for later in [0, PERIOD] {
                    let now = now.wrapping_add(later);
                    assert_eq!(secret.open(cookie, PEER, Seq(77), now), Some(named));
                }
                let other = Endpoint { port: 40_001, ..PEER };
                assert_eq!(secret.open(cookie, other, Seq(77), now), None);
                assert_eq!(secret.open(cookie, PEER, Seq(78), now), None);
                assert_eq!(secret.open(cookie + 1, PEER, Seq(77), now), None);
                assert_eq!(secret.open(cookie, PEER, Seq(77), now.wrapping_add(2 * PERIOD)), None);
                assert_eq!(Secret::new([1, 3]).open(cookie, PEER, Seq(77), now), None);
            }
        }
    }

    #[test]
    fn first_numbers_differ_by_peer_and_grow_with_time() {
        let secret = Secret::new([1, 2]);
        let number = secret.first_number(PEER, 0);
        assert_eq!(secret.first_number(PEER, 4_000_000) - number, 1_000_000);
        let other = Endpoint { port: 40_001, ..PEER };
        assert!(secret.first_number(other, 0) - number > 1_000_000);
        assert_ne!(Secret::new([3, 2]).first_number(PEER, 0), number);
        assert_ne!(secret.bucket(PEER), secret.bucket(other));
    }
}
