//! The workload: which items there are, and which of them are asked for.
//!
//! Everything about an item follows from its number and the seed: key, lengths,
//! contents. So a reply is checked without remembering what was stored, and a second run
//! asks for the same.

mod items;
mod popularity;
mod sizes;

use anyhow::{Result, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use crate::protocol::Request;

pub use items::{Items, MOST_KEYS};
pub use popularity::Popularity;
pub use sizes::Sizes;

/// Keys of one request at most.
pub const MOST_KEYS_AT_ONCE: u32 = 100;

/// What is stored and asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Workload {
    /// Different keys.
    pub keys: u32,
    /// Bytes of a key.
    pub key_sizes: Sizes,
    /// Bytes of a value; for echo, of a datagram.
    pub value_sizes: Sizes,
    /// How often each key is asked for.
    pub popularity: Popularity,
    /// Share of requests that read, 0 to 1; the others store.
    pub get_share: f64,
    /// Keys of one reading request.
    pub keys_per_get: u32,
    /// What all random choices start from.
    pub seed: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            keys: 10_000,
            key_sizes: Sizes::Fixed(16),
            value_sizes: Sizes::Fixed(64),
            popularity: Popularity::Uniform,
            get_share: 0.9,
            keys_per_get: 1,
            seed: 1,
        }
    }
}

impl Workload {
    /// Rules between the fields.
    pub fn check(&self) -> Result<()> {
        ensure!(
            (1..=MOST_KEYS).contains(&self.keys),
            "there can be 1 to {MOST_KEYS} keys, not {}",
            self.keys
        );
        ensure!(
            (0.0..=1.0).contains(&self.get_share),
            "the share of GET must lie between 0 and 1, not at {}",
            self.get_share
        );
        ensure!(
            (1..=MOST_KEYS_AT_ONCE).contains(&self.keys_per_get),
            "one GET asks for 1 to {MOST_KEYS_AT_ONCE} keys, not {}",
            self.keys_per_get
        );
        self.popularity.check()
    }

    /// The choice of requests.
    pub(crate) fn chooser(&self) -> Chooser<'_> {
        Chooser {
            workload: self,
            picker: self.popularity.picker(self.keys),
            rng: SmallRng::seed_from_u64(self.seed),
        }
    }
}

/// Chooses the next request.
pub(crate) struct Chooser<'w> {
    workload: &'w Workload,
    picker: popularity::Picker,
    rng: SmallRng,
}

impl Chooser<'_> {
    pub(crate) fn next(&mut self) -> Request {
        let share = self.workload.get_share;
        // The common case without a draw: the stream of keys is the same either way.
        let reads = share >= 1.0 || (share > 0.0 && self.rng.random_bool(share));
        let first = self.picker.pick(&mut self.rng);
        if !reads {
            return Request::Set(first);
        }
        let more = self.workload.keys_per_get - 1;
        Request::Get(first, (0..more).map(|_| self.picker.pick(&mut self.rng)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(workload: &Workload, requests: u32) -> (u32, u32) {
        let mut chooser = workload.chooser();
        let (mut gets, mut sets) = (0, 0);
        for _ in 0..requests {
            match chooser.next() {
                Request::Get(_, more) => {
                    assert_eq!(more.len() as u32, workload.keys_per_get - 1);
                    gets += 1;
                }
                Request::Set(_) => sets += 1,
                other => panic!("{other:?}"),
            }
        }
        (gets, sets)
    }

    #[test]
    fn mixes_as_asked() {
        let all = Workload { get_share: 1.0, keys_per_get: 3, ..Workload::default() };
        assert_eq!(count(&all, 100), (100, 0));
        assert_eq!(count(&Workload { get_share: 0.0, ..all.clone() }, 100), (0, 100));
        let (gets, _) = count(&Workload { get_share: 0.75, ..all }, 10_000);
        assert!((7_200..7_800).contains(&gets), "{gets}");
    }

    #[test]
    fn the_same_seed_asks_the_same() {
        let workload = Workload { popularity: Popularity::Zipf(0.99), ..Workload::default() };
        let (mut one, mut two) = (workload.chooser(), workload.chooser());
        for _ in 0..1000 {
            assert_eq!(one.next(), two.next());
        }
        let other = Workload { seed: 2, ..workload.clone() };
        let (mut one, mut two) = (workload.chooser(), other.chooser());
        assert!((0..100).any(|_| one.next() != two.next()));
    }

    #[test]
    fn refuses_nonsense() {
        let good = Workload::default();
        assert!(good.check().is_ok());
        for bad in [
            Workload { keys: 0, ..good.clone() },
            Workload { get_share: 1.1, ..good.clone() },
            Workload { get_share: f64::NAN, ..good.clone() },
            Workload { keys_per_get: 0, ..good.clone() },
            Workload { popularity: Popularity::Zipf(-1.0), ..good.clone() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
