//! Generated loads.
//!
//! Keys have 16 bytes. An item's size follows from its key: 20 to 500 bytes of value, each
//! power of two as likely. There are about four times as many items as fit, asked for by the
//! Zipf distribution, unless the mix says otherwise.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Zipf};

use crate::request::{Load, Request};

/// Bytes of an item with what it takes beside key and value, roughly and in the middle.
const ITEM: usize = 220;
/// How many times as many items there are as fit.
const TIMES: usize = 4;
/// Requests a second where items expire.
const RATE: u32 = 40_000;

/// A kind of load, and what it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    make: fn(&mut Maker) -> Vec<Request>,
    expires: bool,
}

/// All mixes.
pub const MIXES: [Mix; 8] = [
    mix("zipf-0.99", "Zipf with exponent 0.99", |maker| maker.zipf(0.99)),
    mix("zipf-0.8", "Zipf with exponent 0.8", |maker| maker.zipf(0.8)),
    mix("scan", "the same with 0.99; a third of the requests go through items in turn", scan),
    mix(
        "one-hit",
        "Zipf with 0.99; half of the requests are for items never asked for again",
        once,
    ),
    mix("shift", "Zipf with 0.99; which items are popular changes ten times", shift),
    mix("write", "Zipf with 0.99; a fifth of the requests store, in sizes that change", write),
    mix("sizes", "Zipf with 0.99 of 1 KiB items; half-way, of 100-byte items instead", sizes),
    Mix {
        name: "ttl",
        about: "Zipf with 0.99; half of the items end after 2 to 8 seconds, of 40,000 requests",
        make: ttl,
        expires: true,
    },
];

const fn mix(name: &'static str, about: &'static str, make: fn(&mut Maker) -> Vec<Request>) -> Mix {
    Mix { name, about, make, expires: false }
}

impl Mix {
    /// So many requests of it, for a store of `memory` bytes. The same each time.
    #[must_use]
    pub fn load(&self, memory: usize, requests: usize) -> Load {
        let items = (memory / ITEM * TIMES) as u64;
        let mut maker = Maker { random: SmallRng::seed_from_u64(7), items, requests };
        let requests = (self.make)(&mut maker);
        Load { name: self.name.to_owned(), rate: self.expires.then_some(RATE), requests }
    }
}

struct Maker {
    random: SmallRng,
    items: u64,
    requests: usize,
}

/// A number that looks random, another for each `n`.
fn scrambled(n: u64) -> u64 {
    let n = (n ^ (n >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n ^ (n >> 32)
}

/// The item with this number.
fn item(number: u64) -> Request {
    let key = scrambled(number.wrapping_add(1));
    // 20, 40 … 320 to nearly twice as much.
    let least = 20_u64 << (key % 5);
    let value_len = (least + scrambled(key) % least).min(500) as u32;
    Request { key, key_len: 16, value_len, ttl: 0, write: false }
}

impl Maker {
    fn ranks(&self, exponent: f64) -> Zipf<f64> {
        Zipf::new(self.items.max(1) as f64, exponent).expect("items, and an exponent of a constant")
    }

    fn zipf(&mut self, exponent: f64) -> Vec<Request> {
        let ranks = self.ranks(exponent);
        (0..self.requests).map(|_| item(ranks.sample(&mut self.random) as u64)).collect()
    }
}

fn scan(maker: &mut Maker) -> Vec<Request> {
    let (ranks, items) = (maker.ranks(0.99), maker.items);
    let mut next = 0;
    let mut left = 0;
    let requests = (0..maker.requests).map(|_| {
        if left == 0 && maker.random.random_range(0..10_000) == 0 {
            left = 5_000;
        }
        if left == 0 {
            return item(ranks.sample(&mut maker.random) as u64);
        }
        left -= 1;
        next += 1;
        item((1 << 40) + next % items)
    });
    requests.collect()
}

fn once(maker: &mut Maker) -> Vec<Request> {
    let ranks = maker.ranks(0.99);
    let requests = (0..maker.requests as u64).map(|n| {
        if maker.random.random() {
            item((1 << 40) + n)
        } else {
            item(ranks.sample(&mut maker.random) as u64)
        }
    });
    requests.collect()
}

fn shift(maker: &mut Maker) -> Vec<Request> {
    let (ranks, items) = (maker.ranks(0.99), maker.items);
    let phase = maker.requests / 10 + 1;
    let requests = (0..maker.requests).map(|n| {
        let first = (n / phase) as u64 * items / 7;
        item((ranks.sample(&mut maker.random) as u64 + first) % items)
    });
    requests.collect()
}

fn write(maker: &mut Maker) -> Vec<Request> {
    let ranks = maker.ranks(0.99);
    let requests = (0..maker.requests).map(|_| {
        let request = item(ranks.sample(&mut maker.random) as u64);
        let write = maker.random.random_range(0..5) == 0;
        let more = if write { maker.random.random_range(0..100) } else { 0 };
        Request { write, value_len: request.value_len + more, ..request }
    });
    requests.collect()
}

fn sizes(maker: &mut Maker) -> Vec<Request> {
    // As many items of either size as make TIMES the memory.
    let memory = maker.items as usize / TIMES * ITEM;
    let count = maker.requests;
    let ranks = |len: usize| {
        Zipf::new((memory * TIMES / (len + 70)) as f64, 0.99).expect("items, and a constant")
    };
    let (large, small) = (ranks(1024), ranks(100));
    let requests = (0..count).map(|n| {
        let is_large = n < count / 2;
        let (ranks, first, value_len) =
            if is_large { (&large, 0, 1024) } else { (&small, 1 << 40, 100) };
        Request { value_len, ..item(first + ranks.sample(&mut maker.random) as u64) }
    });
    requests.collect()
}

fn ttl(maker: &mut Maker) -> Vec<Request> {
    let ranks = maker.ranks(0.99);
    let requests = (0..maker.requests).map(|_| {
        let request = item(ranks.sample(&mut maker.random) as u64);
        let ttl = if request.key & 1024 == 0 { 2 + (request.key >> 20) as u32 % 7 } else { 0 };
        Request { ttl, ..request }
    });
    requests.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn mixes_repeat_and_are_what_they_say() {
        for mix in MIXES {
            let load = mix.load(1 << 20, 20_000);
            assert_eq!(load.requests, mix.load(1 << 20, 20_000).requests, "{}", mix.name);
            assert_eq!(load.requests.len(), 20_000);
            assert_eq!(load.rate.is_some(), load.requests.iter().any(|r| r.ttl > 0));
            assert!(load.requests.iter().all(|r| (20..=1024).contains(&r.value_len)));
        }
        let once = MIXES[3].load(1 << 20, 20_000).requests;
        let keys: HashSet<_> = once.iter().map(|request| request.key).collect();
        assert!(keys.len() > 10_000, "half of them once");
    }
}
