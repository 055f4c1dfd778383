//! How often each key is asked for.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use rand_distr::{Distribution, Zipf};
use serde::{Serialize, Serializer};

/// How often each key is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// All alike.
    Uniform,
    /// Key number `k`, counted from 1, in proportion to `1 / k^s`.
    Zipf(f64),
}

impl Popularity {
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::Zipf(s) => ensure!(
                s.is_finite() && s >= 0.0,
                "the exponent of a Zipf distribution must be 0 or more, not {s}"
            ),
            Self::Uniform => {}
        }
        Ok(())
    }

    pub(super) fn picker(self, keys: u32) -> Picker {
        match self {
            Self::Zipf(s) if s.is_finite() && s >= 0.0 => {
                match Zipf::new(f64::from(keys.max(1)), s) {
                    Ok(zipf) => Picker::Zipf(zipf, keys),
                    Err(_) => Picker::Uniform(keys),
                }
            }
            _ => Picker::Uniform(keys),
        }
    }
}

/// Draws key numbers below the number of keys.
pub(super) enum Picker {
    Uniform(u32),
    Zipf(Zipf<f64>, u32),
}

impl Picker {
    pub(super) fn pick(&self, rng: &mut impl Rng) -> u32 {
        match self {
            Self::Uniform(keys) => rng.random_range(0..(*keys).max(1)),
            Self::Zipf(zipf, keys) => (zipf.sample(rng) as u32).clamp(1, (*keys).max(1)) - 1,
        }
    }
}

impl FromStr for Popularity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let popularity = match text.split_once(':') {
            None if text == "uniform" => Self::Uniform,
            Some(("zipf", s)) => {
                Self::Zipf(s.parse().context("the exponent of zipf:S is not a number")?)
            }
            _ => bail!("not a popularity: use uniform, or zipf:S such as zipf:0.99"),
        };
        popularity.check()?;
        Ok(popularity)
    }
}

impl fmt::Display for Popularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => write!(f, "uniform"),
            Self::Zipf(s) => write!(f, "zipf:{s}"),
        }
    }
}

impl Serialize for Popularity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn zipf_follows_its_law() {
        let mut rng = SmallRng::seed_from_u64(7);
        let picker = Popularity::Zipf(1.0).picker(100);
        let mut seen = [0_u32; 100];
        for _ in 0..200_000 {
            seen[picker.pick(&mut rng) as usize] += 1;
        }
        // The 100th harmonic number is 5.187: the first key has 19.3 % of all.
        assert!((36_000..41_000).contains(&seen[0]), "{}", seen[0]);
        let ratio = f64::from(seen[0]) / f64::from(seen[9]);
        assert!((8.5..11.5).contains(&ratio), "{ratio}");
    }

    #[test]
    fn reads_and_shows() {
        for text in ["uniform", "zipf:0.99", "zipf:0"] {
            assert_eq!(text.parse::<Popularity>().unwrap().to_string(), text);
        }
        for text in ["", "zipf", "zipf:", "zipf:-1", "zipf:nan", "hot"] {
            assert!(text.parse::<Popularity>().is_err(), "{text}");
        }
    }
}
