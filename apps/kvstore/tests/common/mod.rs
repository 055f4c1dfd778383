//! What several tests need: a service, datagrams, and repeatable chance.
#![allow(dead_code, reason = "not every test file uses all of it")]

pub(crate) mod oracle;

use std::cell::RefCell;

use kvstore::{Config, Service, Time};

/// A seed of its own for the index; any would do.
pub(crate) const SEED: [u64; 2] = [0x5eed, 0xcafe];

/// The time at which tests start.
pub(crate) const START: Time = Time { unix: 1_700_000_000, uptime: 100 };

/// The default configuration, seeded.
pub(crate) fn config() -> Config {
    Config { seed: SEED, ..Config::default() }
}

/// A UDP payload with this text in it.
pub(crate) fn datagram(text: &[u8]) -> Vec<u8> {
    [&[0xab, 0xcd, 0, 0, 0, 1, 0, 0], text].concat()
}

/// The text the service answers, empty if it is silent. Checks the frame.
pub(crate) fn ask(service: &mut Service<'_>, text: &[u8], now: Time) -> Vec<u8> {
    // One for all: clearing so much again costs more than the answer.
    thread_local! {
        static REPLY: RefCell<Vec<u8>> = RefCell::new(vec![0; 4 << 20]);
    }
    REPLY.with_borrow_mut(|reply| match service.answer(&datagram(text), now, reply) {
        Some(len) => {
            assert_eq!(&reply[..8], [0xab, 0xcd, 0, 0, 0, 1, 0, 0]);
            assert!(len > 8);
            reply[8..len].to_vec()
        }
        None => Vec::new(),
    })
}

/// A small random number generator (`SplitMix64`): the same seed, the same test.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}
