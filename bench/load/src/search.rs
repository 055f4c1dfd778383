//! The highest rate that keeps a latency objective.
//!
//! First the rate is doubled until the objective is broken, then the interval is halved
//! until its ends differ by less than the resolution. The objective is over *intended*
//! requests: one that was lost, wrong or never sent did not come in time.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use serde::{Serialize, Serializer};

use crate::account::Account;

/// Rates tried at most.
const TRIALS: u32 = 40;

/// A share of requests that must be answered in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// In percent.
    pub percentile: f64,
    /// In nanoseconds.
    pub within: u64,
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The highest rate that kept the objective; none if not even the first did.
    pub kept: Option<f64>,
    /// The lowest rate that broke it; none if none did.
    pub broken: Option<f64>,
}

impl Objective {
    /// Whether a measurement keeps it.
    #[must_use]
    pub fn kept(&self, account: &Account) -> bool {
        account.intended > 0 && account.within(self.within) * 100.0 >= self.percentile
    }
}

/// Looks for the knee between `first` and `most` requests a second. `keeps` tries a rate
/// and tells whether the objective was kept; none ends the search with what is known.
///
/// `resolution` is how far apart the ends may stay, as a share of the lower one.
pub fn knee(
    first: f64,
    most: f64,
    resolution: f64,
    mut keeps: impl FnMut(f64) -> Result<Option<bool>>,
) -> Result<Found> {
    let mut found = Found { kept: None, broken: None };
    let mut rate = first.min(most);
    for _ in 0..TRIALS {
        match keeps(rate)? {
            None => break,
            Some(true) => found.kept = Some(rate),
            Some(false) => found.broken = Some(rate),
        }
        rate = match found {
            Found { kept: Some(kept), broken: Some(broken) } => {
                if broken - kept <= kept * resolution {
                    break;
                }
                (kept + broken) / 2.0
            }
            Found { kept: Some(kept), broken: None } => {
                if kept >= most {
                    break;
                }
                (kept * 2.0).min(most)
            }
            // The first rate was too much already.
            Found { kept: None, .. } => {
                if rate < first / 1000.0 {
                    break;
                }
                rate / 2.0
            }
        };
    }
    Ok(found)
}

impl FromStr for Objective {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let form = "write an objective as pPERCENTILE=TIME, such as p99=1ms or p99.9=250us";
        let (percentile, time) =
            text.strip_prefix('p').and_then(|text| text.split_once('=')).context(form)?;
        let percentile: f64 = percentile.parse().context(form)?;
        ensure!((0.0..=100.0).contains(&percentile), "p{percentile} is no percentile");
        let digits = time.find(|c: char| !c.is_ascii_digit() && c != '.').context(form)?;
        let (number, unit) = time.split_at(digits);
        let number: f64 = number.parse().context(form)?;
        let unit = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            _ => anyhow::bail!(form),
        };
        let within = number * unit;
        ensure!((1.0..1e12).contains(&within), "{time} is no time that an answer could take");
        Ok(Self { percentile, within: within as u64 })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{} within {} µs", self.percentile, self.within as f64 / 1e3)
    }
}

impl Serialize for Objective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_bisected() {
        for knee_at in [3.0, 999.0, 1000.0, 123_456.0] {
            let mut trials = 0;
            let found = knee(1000.0, 1e9, 0.02, |rate| {
                trials += 1;
                Ok(Some(rate <= knee_at))
            })
            .unwrap();
            let (kept, broken) = (found.kept.unwrap(), found.broken.unwrap());
            assert!(kept <= knee_at && broken > knee_at, "{found:?}");
            assert!(broken - kept <= kept * 0.02, "{found:?}");
            assert!(trials < 25, "{trials}");
        }
    }

    #[test]
    fn a_search_ends_without_a_knee() {
        let most = knee(1000.0, 64_000.0, 0.02, |_| Ok(Some(true))).unwrap();
        assert_eq!(most, Found { kept: Some(64_000.0), broken: None });
        let none = knee(1000.0, 1e9, 0.02, |_| Ok(Some(false))).unwrap();
        assert_eq!(none.kept, None);
        let mut trials = 0;
        let cut = knee(1000.0, 1e9, 0.02, |_| {
            trials += 1;
            Ok((trials < 3).then_some(true))
        });
        assert_eq!(cut.unwrap(), Found { kept: Some(2000.0), broken: None });
    }

    #[test]
    fn reads_objectives() {
        let objective: Objective = "p99.9=250us".parse().unwrap();
        assert_eq!(objective, Objective { percentile: 99.9, within: 250_000 });
        assert_eq!("p99=1ms".parse::<Objective>().unwrap().within, 1_000_000);
        for text in ["", "99=1ms", "p99", "p101=1ms", "p99=1", "p99=ms", "p99=1h", "p99=0ns"] {
            assert!(text.parse::<Objective>().is_err(), "{text}");
        }
    }
}
