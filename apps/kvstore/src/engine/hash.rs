//! The keyed hash.
//!
//! A client that may store keys may try to store many that fall into one chain of the
//! index, so that every lookup walks it. The defence is a hash no client can
//! predict: which keys collide depends on a seed drawn at start.
//!
//! The first step is NH, the sum of products at the base of UMAC (Black, Halevi,
//! Krawczyk, Krovetz, Rogaway, CRYPTO 1999; RFC 4418 uses it with 32-bit words).
//! Each 16 bytes `(m0, m1)` add `(m0 + k0) * (m1 + k1)` modulo 2^128, every block
//! with secret words of its own. Two different keys of one length, chosen without
//! knowing the secret, have equal sums with probability at most 2^-64: a proof,
//! not an experiment. One multiplication serves 16 bytes of key.
//!
//! The second step folds the sum to the 32 bits the index wants, by one more
//! keyed multiplication. It only has to distribute well; no proof is claimed.
//!
//! **Limit.** The bound is for keys chosen beforehand. A client that could measure
//! the length of chains exactly, over many probes, could learn from it.

use super::key::Key;
use crate::wide;

/// Blocks of 16 bytes in the longest key, rounded up.
const BLOCKS: usize = Key::MAX_LEN.div_ceil(16);

/// The secret of one store, and the hash it defines.
pub(super) struct HashKey {
    blocks: [[u64; 2]; BLOCKS],
    /// For the last 16 bytes of a key longer than 16, which may overlap a block.
    last: [u64; 2],
    fold: [u64; 2],
}

impl HashKey {
    /// Expands `seed` into the secret words. The seed should come from a source
    /// that clients cannot guess.
    pub(super) fn new(seed: [u64; 2]) -> Self {
        let mut state = seed;
        let mut pair = || [next(&mut state), next(&mut state)];
        Self { blocks: core::array::from_fn(|_| pair()), last: pair(), fold: pair() }
    }

    /// 32 well-mixed bits.
    #[inline(always)]
    pub(super) fn hash(&self, key: Key<'_>) -> u32 {
        let bytes = key.bytes();
        let sum = if bytes.len() > 16 {
            self.sum_of_long(bytes)
        } else {
            nh(key.words(), self.blocks[0])
        };
        // The length tells apart keys whose words are alike.
        let (low, high) = (sum as u64 ^ bytes.len() as u64, (sum >> 64) as u64);
        let folded = nh((low, high), self.fold);
        ((folded >> 64) as u64 ^ folded as u64) as u32
    }

    #[inline(never)]
    fn sum_of_long(&self, bytes: &[u8]) -> u128 {
        let last = bytes.last_chunk::<16>().map_or(0, |last| nh(wide::pair(last), self.last));
        let blocks = bytes.as_chunks::<16>().0.iter().zip(&self.blocks);
        blocks.fold(last, |sum, (block, key)| sum.wrapping_add(nh(wide::pair(block), *key)))
    }
}

#[inline(always)]
fn nh((a, b): (u64, u64), key: [u64; 2]) -> u128 {
    u128::from(a.wrapping_add(key[0])) * u128::from(b.wrapping_add(key[1]))
}

/// One output of `SplitMix64` (Steele, Lea, Flood, OOPSLA 2014) keyed by both
/// halves of the seed.
fn next(state: &mut [u64; 2]) -> u64 {
    state[0] = state[0].wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mix = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    mix(mix(state[0]) ^ state[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::format;
    use std::vec::Vec;

    fn hash(key: &HashKey, bytes: &[u8]) -> u32 {
        key.hash(Key::new(bytes).unwrap())
    }

    #[test]
    fn every_bit_of_every_length_matters() {
        let secret = HashKey::new([1, 2]);
        for len in 1..=Key::MAX_LEN {
            let key: Vec<u8> = (0..len).map(|i| b'A' + (i % 23) as u8).collect();
            let whole = hash(&secret, &key);
            let changed = (0..len).filter(|&i| {
                let mut other = key.clone();
                other[i] ^= 0x20;
                hash(&secret, &other) != whole
            });
            assert_eq!(changed.count(), len);
        }
    }

    #[test]
    fn lengths_of_one_repeated_byte_differ() {
        let secret = HashKey::new([3, 4]);
        let hashes: HashSet<u32> =
            (1..=Key::MAX_LEN).map(|len| hash(&secret, &[b'z'; Key::MAX_LEN][..len])).collect();
        assert_eq!(hashes.len(), Key::MAX_LEN);
    }

    #[test]
    fn numbered_keys_fill_chains_evenly() {
        for seed in 0..8 {
            let secret = HashKey::new([seed, seed]);
            let mut chains = [0u32; 4096];
            for i in 0..4096 * 8 {
                chains[hash(&secret, format!("user:{i:011}").as_bytes()) as usize % 4096] += 1;
            }
            // Poisson with mean 8: more than 30 has probability below 1e-9 a chain.
            assert!(*chains.iter().max().unwrap() <= 30);
            // Sum of squares against its expectation for a random function, 8*8 + 8.
            let squares: u32 = chains.iter().map(|n| n * n).sum::<u32>() / 4096;
            assert!((68..=76).contains(&squares), "{squares}");
        }
    }

    #[test]
    fn keys_that_collide_under_one_seed_do_not_under_another() {
        let (known, secret) = (HashKey::new([5, 5]), HashKey::new([6, 5]));
        let colliding: Vec<_> = (0..200_000)
            .map(|i| format!("attack{i}"))
            .filter(|key| hash(&known, key.as_bytes()).is_multiple_of(1024))
            .collect();
        assert!(colliding.len() > 100);
        let chains: HashSet<u32> =
            colliding.iter().map(|key| hash(&secret, key.as_bytes()) % 1024).collect();
        assert!(chains.len() > colliding.len() / 2, "{} of {}", chains.len(), colliding.len());
    }
}
