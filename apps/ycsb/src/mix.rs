//! Which operation comes next, and on which record.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// Records that a scan looks up at most.
pub const LONGEST_SCAN: u32 = 100;
/// How much more often popular records are asked for: YCSB's.
pub const EXPONENT: f64 = 0.99;

/// A mix: how many of a hundred operations are of which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Its letter.
    pub name: char,
    /// Looks a record up.
    pub read: u32,
    /// Stores one that is there.
    pub update: u32,
    /// Stores a new one.
    pub insert: u32,
    /// Looks up several.
    pub scan: u32,
    /// Looks one up, changes it, and stores it if it has not changed meanwhile.
    pub modify: u32,
    /// The youngest records are the most popular, instead of random ones.
    pub latest: bool,
}

const NONE: Mix =
    Mix { name: ' ', read: 0, update: 0, insert: 0, scan: 0, modify: 0, latest: false };

/// The published ones.
pub const MIXES: [Mix; 6] = [
    Mix { name: 'A', read: 50, update: 50, ..NONE },
    Mix { name: 'B', read: 95, update: 5, ..NONE },
    Mix { name: 'C', read: 100, ..NONE },
    Mix { name: 'D', read: 95, insert: 5, latest: true, ..NONE },
    Mix { name: 'E', scan: 95, insert: 5, ..NONE },
    Mix { name: 'F', read: 50, modify: 50, ..NONE },
];

/// One operation. Records are numbers; those that are inserted follow those that were there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Looks this record up.
    Read(u32),
    /// Stores this one again.
    Update(u32),
    /// Stores this one for the first time.
    Insert(u32),
    /// Looks up so many from this one on.
    Scan(u32, u32),
    /// Looks this one up, changes it, and stores it.
    Modify(u32),
}

/// Chooses operations.
#[derive(Debug)]
pub struct Chooser {
    random: SmallRng,
    ranks: Zipf<f64>,
    /// Records there were at first, and are now.
    records: u32,
    now: u32,
}

impl Chooser {
    /// For `records` records. The same seed, the same operations. `None` if there are none.
    #[must_use]
    pub fn new(records: u32, seed: u64) -> Option<Self> {
        let ranks = Zipf::new(f64::from(records), EXPONENT).ok()?;
        Some(Self { random: SmallRng::seed_from_u64(seed), ranks, records, now: records })
    }

    /// The next operation of `mix`.
    pub fn step(&mut self, mix: &Mix) -> Step {
        let mut chance = self.random.random_range(0..100);
        let mut is = |share: u32| {
            let chosen = chance < share;
            chance = chance.wrapping_sub(share);
            chosen
        };
        if is(mix.read) {
            Step::Read(self.record(mix))
        } else if is(mix.update) {
            Step::Update(self.record(mix))
        } else if is(mix.insert) {
            self.now += 1;
            Step::Insert(self.now - 1)
        } else if is(mix.scan) {
            Step::Scan(self.record(mix), self.random.random_range(1..=LONGEST_SCAN))
        } else {
            Step::Modify(self.record(mix))
        }
    }

    /// A record: popular ones are spread over all that were there at first.
    fn record(&mut self, mix: &Mix) -> u32 {
        let rank = (self.ranks.sample(&mut self.random) as u32).clamp(1, self.records) - 1;
        if mix.latest {
            return self.now - 1 - rank.min(self.now - 1);
        }
        (u64::from(spread(rank)) % u64::from(self.records)) as u32
    }
}

/// FNV-1a of a number, as YCSB spreads its ranks.
fn spread(rank: u32) -> u32 {
    let hash = rank.to_le_bytes().into_iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_are_whole() {
        for mix in MIXES {
            let Mix { read, update, insert, scan, modify, .. } = mix;
            assert_eq!(read + update + insert + scan + modify, 100, "{mix:?}");
        }
        assert!(Chooser::new(0, 1).is_none());
    }

    #[test]
    fn operations_come_as_often_as_the_mix_says() {
        for mix in MIXES {
            let mut chooser = Chooser::new(1000, 7).unwrap();
            let mut counts = [0_u32; 5];
            let mut next = 1000;
            for _ in 0..100_000 {
                let (kind, record) = match chooser.step(&mix) {
                    Step::Read(record) => (0, record),
                    Step::Update(record) => (1, record),
                    Step::Insert(record) => {
                        assert_eq!(record, next);
                        next += 1;
                        (2, record)
                    }
                    Step::Scan(first, count) => {
                        assert!((1..=LONGEST_SCAN).contains(&count));
                        (3, first)
                    }
                    Step::Modify(record) => (4, record),
                };
                assert!(record < next);
                counts[kind] += 1;
            }
            let wanted = [mix.read, mix.update, mix.insert, mix.scan, mix.modify];
            for (count, wanted) in counts.into_iter().zip(wanted) {
                assert!(count.abs_diff(wanted * 1000) < 600, "{mix:?}: {counts:?}");
            }
        }
    }

    /// Of 1000 records with the exponent 0.99 the most popular one has 1/7.73 of the requests.
    #[test]
    fn popularity_is_zipfs() {
        let harmonic: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-EXPONENT)).sum();
        for (mix, most_popular) in [(MIXES[2], spread(0) % 1000), (MIXES[3], 999)] {
            let mut chooser = Chooser::new(1000, 3).unwrap();
            let mix = Mix { read: 100, insert: 0, ..mix };
            let hits = (0..100_000).filter(|_| chooser.step(&mix) == Step::Read(most_popular));
            let share = hits.count() as f64 / 100_000.0;
            // Others may be spread to the same record.
            assert!((0.97..1.1).contains(&(share * harmonic)), "{} {}", share, 1.0 / harmonic);
        }
    }
}
