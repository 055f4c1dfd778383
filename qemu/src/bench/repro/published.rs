//! What others have published, as data: each figure with its unit and its place in the source.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::figures;

/// A publication, and the machines its figures were taken on.
#[derive(Debug, Serialize)]
pub(super) struct Work {
    /// Authors or system, title, where and when.
    pub(super) cite: &'static str,
    /// As far as they are published with the figures.
    pub(super) conditions: &'static str,
}

/// A figure of a work.
#[derive(Debug, Serialize)]
pub(super) struct Published {
    /// Its name in JSON; no other of the experiment has it.
    pub(super) key: &'static str,
    pub(super) what: &'static str,
    pub(super) value: Amount,
    pub(super) unit: Unit,
    /// Section, figure or table of the work.
    pub(super) place: &'static str,
    /// What is measured here to stand beside it; empty if nothing honest can.
    pub(super) beside: &'static [Beside],
}

/// What stands beside a published figure.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Beside {
    /// What the measurement calls it.
    pub(super) key: &'static str,
    pub(super) what: &'static str,
    pub(super) unit: Unit,
}

/// A time of a work.
pub(super) const fn microseconds(
    place: &'static str,
    key: &'static str,
    what: &'static str,
    value: Amount,
    beside: &'static [Beside],
) -> Published {
    Published { key, what, value, unit: Unit::Microseconds, place, beside }
}

/// Instructions that are measured here.
pub(super) const fn instructions(key: &'static str, what: &'static str) -> Beside {
    Beside { key, what, unit: Unit::Instructions }
}

/// How a source states a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Amount {
    /// It.
    Is(f64),
    /// "Around", "approximately", "just over".
    About(f64),
    /// From, to.
    Between(f64, f64),
    /// "Over", "in excess of".
    Above(f64),
    /// "Up to", "no more than".
    UpTo(f64),
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unit {
    Cycles,
    Microseconds,
    RequestsPerSecond,
    LinesOfCode,
    Bytes,
    SystemCalls,
    /// A ratio.
    Times,
    Percent,
    Packets,
    PacketsPerSecond,
    Instructions,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Is(value) => f.write_str(&number(value)),
            Self::About(value) => write!(f, "about {}", number(value)),
            Self::Between(from, to) => write!(f, "{} to {}", number(from), number(to)),
            Self::Above(value) => write!(f, "over {}", number(value)),
            Self::UpTo(value) => write!(f, "up to {}", number(value)),
        }
    }
}

impl Serialize for Amount {
    /// An object: how it is stated, and the number or numbers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (stated, from, to) = match *self {
            Self::Is(value) => ("is", Some(value), Some(value)),
            Self::About(value) => ("about", Some(value), Some(value)),
            Self::Between(from, to) => ("between", Some(from), Some(to)),
            Self::Above(value) => ("above", Some(value), None),
            Self::UpTo(value) => ("up-to", None, Some(value)),
        };
        serde_json::json!({ "stated": stated, "from": from, "to": to }).serialize(serializer)
    }
}

impl Amount {
    /// All numbers in it.
    #[cfg(test)]
    pub(super) fn numbers(self) -> Vec<f64> {
        match self {
            Self::Is(value) | Self::About(value) | Self::Above(value) | Self::UpTo(value) => {
                vec![value]
            }
            Self::Between(from, to) => vec![from, to],
        }
    }
}

impl Unit {
    /// Behind a number.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cycles => "cycles",
            Self::Microseconds => "µs",
            Self::RequestsPerSecond => "requests/s",
            Self::LinesOfCode => "lines of code",
            Self::Bytes => "bytes",
            Self::SystemCalls => "system calls",
            Self::Times => "x",
            Self::Percent => "%",
            Self::Packets => "packets",
            Self::PacketsPerSecond => "packets/s",
            Self::Instructions => "instructions",
        }
    }
}

/// A measured or published number for people: as many places as tell something.
pub(super) fn number(value: f64) -> String {
    if value.abs() < 10.0 && value.fract() != 0.0 {
        let text = format!("{value:.2}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    figures::count(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_they_are_stated() {
        for (amount, text) in [
            (Amount::Is(1.5), "1.5"),
            (Amount::Is(0.38), "0.38"),
            (Amount::About(5800.0), "about 5,800"),
            (Amount::Between(9.3, 13.3), "9.3 to 13.3"),
            (Amount::Above(100.0), "over 100"),
            (Amount::UpTo(5.0), "up to 5"),
            (Amount::Is(64.4e6), "64,400,000"),
        ] {
            assert_eq!(amount.to_string(), text);
        }
        let json = serde_json::to_value(Amount::UpTo(5.0)).unwrap();
        assert_eq!(json, serde_json::json!({ "stated": "up-to", "from": null, "to": 5.0 }));
    }
}
