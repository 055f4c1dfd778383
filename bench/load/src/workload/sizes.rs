//! Lengths of keys and values.
//!
//! A length is a function of a uniform random number: the inverse of the distribution.
//! ETC and USR are two of the memcached pools that Atikoglu, Xu, Frachtenberg, Jiang and
//! Paleczny describe in "Workload Analysis of a Large-Scale Key-Value Store",
//! SIGMETRICS 2012, sections 3.1 and 5:
//!
//! - ETC keys: generalised extreme value distribution with μ = 30.7984, σ = 8.20449,
//!   k = 0.078688.
//! - ETC values: the lengths 0 to 14 with the probabilities of the paper's table 5; from
//!   15 on generalised Pareto with θ = 0 (above 15), σ = 214.476, k = 0.348238.
//! - USR: keys of 16 and of 21 bytes, values of 2 bytes. The paper names no shares for
//!   the two; here each key has one of them with probability 1/2.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Serialize, Serializer};

/// How long keys or values are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sizes {
    /// Always the same.
    Fixed(u32),
    /// Each length from the first to the last alike.
    Uniform(u32, u32),
    /// Lengths from the first to the last; the `k`-th in proportion to `1 / k^s`.
    Zipf(f64, u32, u32),
    /// Facebook's ETC pool: keys or values, as the place demands.
    Etc,
    /// Facebook's USR pool.
    Usr,
}

/// What the lengths are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Keys.
    Keys,
    /// Values.
    Values,
}

/// Table 5 of the paper: probabilities of values of 0 to 14 bytes.
const ETC_SHORT: [f64; 15] = [
    0.005_36, 0.000_47, 0.178_20, 0.092_39, 0.000_18, 0.027_40, 0.000_65, 0.006_06, 0.000_23,
    0.008_37, 0.008_37, 0.089_89, 0.000_92, 0.003_26, 0.019_80,
];

impl Sizes {
    /// The length at quantile `u`, 0 ≤ `u` < 1.
    pub(super) fn at(self, u: f64, of: Of) -> u32 {
        match (self, of) {
            (Self::Fixed(length), _) => length,
            (Self::Uniform(least, most), _) => {
                let count = f64::from(most - least) + 1.0;
                least + ((u * count) as u32).min(most - least)
            }
            (Self::Zipf(s, least, most), _) => {
                let weight = |k: u32| f64::from(k).powf(-s);
                let total: f64 = (1..=most - least + 1).map(weight).sum();
                least + quantile((1..=most - least + 1).map(|k| weight(k) / total), u)
            }
            // memcached takes keys of 250 bytes at most; the distribution has no such end.
            (Self::Etc, Of::Keys) => {
                (extreme_value(u, 30.7984, 8.20449, 0.078_688) as u32).min(250)
            }
            (Self::Etc, Of::Values) => {
                let short: f64 = ETC_SHORT.iter().sum();
                match u < short {
                    true => quantile(ETC_SHORT.into_iter(), u),
                    false => 15 + pareto((u - short) / (1.0 - short), 214.476, 0.348_238) as u32,
                }
            }
            (Self::Usr, Of::Keys) => [16, 21][usize::from(u >= 0.5)],
            (Self::Usr, Of::Values) => 2,
        }
    }
}

/// The index at which the sum of `probabilities` exceeds `u`.
fn quantile(probabilities: impl Iterator<Item = f64>, u: f64) -> u32 {
    let (mut sum, mut last) = (0.0, 0);
    for (index, probability) in (0..).zip(probabilities) {
        sum += probability;
        last = index;
        if u < sum {
            break;
        }
    }
    last
}

/// Inverse of the generalised extreme value distribution.
fn extreme_value(u: f64, location: f64, scale: f64, shape: f64) -> f64 {
    let u = u.clamp(f64::EPSILON, 1.0 - f64::EPSILON);
    location + scale * ((-u.ln()).powf(-shape) - 1.0) / shape
}

/// Inverse of the generalised Pareto distribution with location 0.
fn pareto(u: f64, scale: f64, shape: f64) -> f64 {
    scale * ((1.0 - u).max(f64::EPSILON).powf(-shape) - 1.0) / shape
}

impl FromStr for Sizes {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| -> Result<u32> {
            let number: u32 = text.parse().with_context(|| format!("\"{text}\" is no length"))?;
            ensure!(number <= 1 << 20, "a length of {number} is more than 1 MiB");
            Ok(number)
        };
        let range = |text: &str| -> Result<(u32, u32)> {
            let (least, most) = text.split_once('-').context("a range is written LEAST-MOST")?;
            let (least, most) = (number(least)?, number(most)?);
            ensure!(least <= most, "in {text} the first is greater than the last");
            Ok((least, most))
        };
        Ok(match text.split_once(':') {
            Some(("zipf", rest)) => {
                let (s, lengths) = rest.split_once(':').context("write zipf:S:LEAST-MOST")?;
                let s: f64 = s.parse().with_context(|| format!("\"{s}\" is no exponent"))?;
                ensure!(s.is_finite() && s >= 0.0, "the exponent of zipf must be 0 or more");
                let (least, most) = range(lengths)?;
                Self::Zipf(s, least, most)
            }
            Some(_) => bail!("unknown sizes: use N, LEAST-MOST, zipf:S:LEAST-MOST, etc or usr"),
            None => match text {
                "etc" => Self::Etc,
                "usr" => Self::Usr,
                _ if text.contains('-') => {
                    let (least, most) = range(text)?;
                    Self::Uniform(least, most)
                }
                _ => Self::Fixed(
                    number(text)
                        .context("use N, LEAST-MOST, zipf:S:LEAST-MOST, etc or usr for sizes")?,
                ),
            },
        })
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(length) => write!(f, "{length}"),
            Self::Uniform(least, most) => write!(f, "{least}-{most}"),
            Self::Zipf(s, least, most) => write!(f, "zipf:{s}:{least}-{most}"),
            Self::Etc => write!(f, "etc"),
            Self::Usr => write!(f, "usr"),
        }
    }
}

impl Serialize for Sizes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths at evenly spread quantiles.
    fn spread(sizes: Sizes, of: Of) -> Vec<u32> {
        (0..100_000).map(|i| sizes.at((f64::from(i) + 0.5) / 100_000.0, of)).collect()
    }

    fn mean(lengths: &[u32]) -> f64 {
        lengths.iter().map(|&length| f64::from(length)).sum::<f64>() / lengths.len() as f64
    }

    /// The means of the two distributions in closed form: μ + σ (Γ(1-k) - 1) / k with
    /// Γ(0.921312) = 1.0520, and σ / (1 - k); minus the half byte that truncation takes.
    #[test]
    fn etc_has_the_published_moments() {
        let keys = mean(&spread(Sizes::Etc, Of::Keys));
        assert!((keys - (36.22 - 0.5)).abs() < 0.3, "{keys}");
        let long: Vec<u32> =
            spread(Sizes::Etc, Of::Values).into_iter().filter(|&length| length >= 15).collect();
        let values = mean(&long) - 15.0;
        assert!((values - (329.1 - 0.5)).abs() < 8.0, "{values}");
    }

    #[test]
    fn etc_has_the_published_short_values() {
        let values = spread(Sizes::Etc, Of::Values);
        for (length, probability) in (0..).zip(ETC_SHORT) {
            let count = values.iter().filter(|&&value| value == length).count();
            let expected = probability * 100_000.0;
            assert!((count as f64 - expected).abs() <= 1.5, "{length}: {count}, {expected}");
        }
        let longer = values.iter().filter(|&&value| value >= 15).count();
        assert!((longer as f64 - 55_845.0).abs() < 5.0, "{longer}");
    }

    #[test]
    fn usr_and_the_plain_ones() {
        let keys = spread(Sizes::Usr, Of::Keys);
        assert_eq!(keys.iter().filter(|&&length| length == 16).count(), 50_000);
        assert!(keys.iter().all(|length| [16, 21].contains(length)));
        assert!(spread(Sizes::Usr, Of::Values).iter().all(|&length| length == 2));
        let uniform = spread(Sizes::Uniform(10, 13), Of::Values);
        for length in 10..=13 {
            assert_eq!(uniform.iter().filter(|&&value| value == length).count(), 25_000);
        }
        // 1 + 1/2 + 1/3: six elevenths, three, two.
        let zipf: Sizes = "zipf:1:5-7".parse().unwrap();
        let zipf = spread(zipf, Of::Values);
        for (length, share) in [(5, 6.0 / 11.0), (6, 3.0 / 11.0), (7, 2.0 / 11.0)] {
            let count = zipf.iter().filter(|&&value| value == length).count() as f64;
            assert!((count - share * 100_000.0).abs() <= 1.5, "{length}: {count}");
        }
    }

    #[test]
    fn reads_and_shows() {
        for text in ["64", "0", "1-1024", "zipf:0.9:1-1000", "etc", "usr"] {
            assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
        }
        for text in ["", "-", "9-1", "1-", "many", "zipf:1", "zipf:x:1-2", "zipf:-1:1-2", "2000000"]
        {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }
}
