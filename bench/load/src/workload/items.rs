//! The items: key and value of each number.
//!
//! A key is its number in base 36, padded to the width that all numbers need, and then
//! filled up to its length; so keys differ whatever their lengths are. A value is a
//! section of one long text of printable characters; where it begins depends on the
//! number, so a value that belongs to another key is noticed.

use anyhow::{Result, ensure};

use super::Workload;
use super::sizes::{Of, Sizes};

/// Items at most: their keys are kept in memory.
pub const MOST_KEYS: u32 = 10_000_000;
/// Longest key in bytes (memcached's `KEY_MAX_LENGTH`).
const LONGEST_KEY: usize = 250;
/// Different beginnings of values.
const BEGINNINGS: u64 = 1 << 16;
/// What is around key and value in the longest datagrams: request `set … 0 0 N\r\n…\r\n`,
/// reply `VALUE … 0 N\r\n…\r\nEND\r\n`, and eight bytes of UDP header.
const AROUND: usize = 8 + "VALUE  0 1234567\r\n\r\nEND\r\n".len();

/// All items of a workload.
#[derive(Debug)]
pub struct Items {
    seed: u64,
    keys: Vec<u8>,
    /// Where key `n` begins in `keys`; one more for the end of the last.
    begins: Vec<u32>,
    lengths: Vec<u32>,
    text: Vec<u8>,
    cut: u32,
}

impl Items {
    /// The items of `workload`, each of which fits datagrams of `payload` bytes, both as
    /// a request that stores it and as a reply. Longer values are cut;
    /// [`Items::cut`] tells how many. An error if a key cannot be as short as asked for.
    pub fn new(workload: &Workload, payload: usize) -> Result<Self> {
        workload.check()?;
        let width = digits(workload.keys - 1);
        let short = match workload.key_sizes {
            Sizes::Fixed(length) | Sizes::Uniform(length, _) | Sizes::Zipf(_, length, _) => length,
            Sizes::Etc | Sizes::Usr => width,
        };
        ensure!(
            short >= width,
            "{} different keys cannot have {short} bytes; use at least {width}, or fewer keys",
            workload.keys
        );
        let mut items = Self {
            seed: workload.seed,
            keys: Vec::new(),
            begins: vec![0],
            lengths: Vec::new(),
            text: Vec::new(),
            cut: 0,
        };
        for number in 0..workload.keys {
            items.push(workload, number, width as usize, payload)?;
        }
        let longest = items.lengths.iter().max().copied().unwrap_or(0);
        items.text = (0..BEGINNINGS + u64::from(longest))
            .map(|at| b'!' + (mix(items.seed ^ 0x7465_7874, at) % 94) as u8)
            .collect();
        Ok(items)
    }

    fn push(&mut self, workload: &Workload, n: u32, width: usize, payload: usize) -> Result<()> {
        let quantile = |salt: u64| (mix(self.seed ^ salt, n.into()) >> 11) as f64 / 2_f64.powi(53);
        let key = workload.key_sizes.at(quantile(0x006b_6579), Of::Keys) as usize;
        ensure!(key <= LONGEST_KEY, "a key of {key} bytes: memcached takes at most {LONGEST_KEY}");
        // The extreme value distribution has no lower end.
        let key = key.max(width);
        let value = workload.value_sizes.at(quantile(0x0076_616c), Of::Values);
        ensure!(
            payload > AROUND + key,
            "datagrams of {payload} bytes have no room for a key of {key} bytes"
        );
        let most = (payload - AROUND - key) as u32;
        self.cut += u32::from(value > most);
        self.lengths.push(value.min(most));

        let start = self.keys.len();
        self.keys.resize(start + width, b'0');
        let mut rest = n;
        for digit in self.keys[start..].iter_mut().rev() {
            *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
            rest /= 36;
        }
        let fill = (width..key).map(|at| b'a' + (mix(u64::from(n), at as u64) % 26) as u8);
        self.keys.extend(fill);
        self.begins.push(u32::try_from(self.keys.len())?);
        Ok(())
    }

    /// Number of items.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.lengths.len() as u32
    }

    /// The key of item `n`.
    #[must_use]
    pub fn key(&self, n: u32) -> &[u8] {
        let n = n as usize;
        &self.keys[self.begins[n] as usize..self.begins[n + 1] as usize]
    }

    /// The value of item `n`.
    #[must_use]
    pub fn value(&self, n: u32) -> &[u8] {
        let begin = (mix(self.seed, n.into()) % BEGINNINGS) as usize;
        &self.text[begin..begin + self.lengths[n as usize] as usize]
    }

    /// Items whose value was cut, to fit a datagram.
    #[must_use]
    pub fn cut(&self) -> u32 {
        self.cut
    }

    /// Mean bytes of keys and of values.
    #[must_use]
    pub fn means(&self) -> (f64, f64) {
        let count = self.lengths.len().max(1) as f64;
        let values: u64 = self.lengths.iter().map(|&length| u64::from(length)).sum();
        (self.keys.len() as f64 / count, values as f64 / count)
    }
}

/// Digits of `number` in base 36.
fn digits(number: u32) -> u32 {
    let mut digits = 1;
    let mut rest = number / 36;
    while rest > 0 {
        digits += 1;
        rest /= 36;
    }
    digits
}

/// A hash of two numbers: the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA
/// 2014). Not a crate's generator: contents must not change with a crate's version.
fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(number);
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_differ_and_fit() {
        for sizes in ["3", "16", "3-250", "etc", "usr", "zipf:1:3-9"] {
            let key_sizes = sizes.parse().unwrap();
            let workload = Workload { keys: 40_000, key_sizes, ..Workload::default() };
            let items = Items::new(&workload, 1472);
            if sizes.starts_with("3") || sizes.starts_with("zipf") {
                // 36^3 is 46,656.
                assert!(items.is_ok(), "{sizes}");
            }
            let items = items.unwrap();
            let keys: HashSet<_> = (0..items.count()).map(|n| items.key(n)).collect();
            assert_eq!(keys.len(), 40_000, "{sizes}");
            assert!(keys.iter().all(|key| key.iter().all(u8::is_ascii_alphanumeric)));
            assert!(keys.iter().all(|key| key.len() <= LONGEST_KEY));
        }
    }

    #[test]
    fn values_belong_to_their_keys() {
        let items = Items::new(&Workload::default(), 1472).unwrap();
        let values: HashSet<_> = (0..1000).map(|n| items.value(n).to_vec()).collect();
        // Two of a thousand may begin at the same of 65,536 places.
        assert!(values.len() > 980, "{}", values.len());
        assert!(values.iter().all(|value| value.len() == 64 && value.is_ascii()));
        let again = Items::new(&Workload::default(), 1472).unwrap();
        assert!((0..1000).all(|n| again.value(n) == items.value(n)));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_counted() {
        let workload = Workload { value_sizes: Sizes::Etc, ..Workload::default() };
        let items = Items::new(&workload, 1472).unwrap();
        // (1 + 0.348 (1422 - 15) / 214.5)^(-1 / 0.348) = 3.3 % of 55.8 %.
        assert!((100..300).contains(&items.cut()), "{}", items.cut());
        let most = (0..items.count()).map(|n| items.value(n).len()).max();
        assert_eq!(most, Some(1472 - AROUND - 16));
        assert_eq!(Items::new(&workload, 1 << 20).unwrap().cut(), 0);
    }

    #[test]
    fn refuses_what_cannot_be() {
        let keys = |key_sizes| Workload { key_sizes, ..Workload::default() };
        assert!(Items::new(&keys(Sizes::Fixed(2)), 1472).is_err(), "36^2 is too few");
        assert!(Items::new(&keys(Sizes::Fixed(251)), 1472).is_err());
        assert!(Items::new(&keys(Sizes::Fixed(200)), 100).is_err());
    }
}
