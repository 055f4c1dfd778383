//! What an answer of a store that keeps its changes promises.
//!
//! | | when an answer leaves, what it says is | the power ends | the program or QEMU is killed |
//! |---|---|---|---|
//! | `always` | on the device, flushed | nothing is lost | nothing is lost |
//! | `group:MS` | with the device, flushed after MS milliseconds at the latest | the last MS may be | nothing is lost |
//! | `async:MS` | in memory, written and flushed after MS milliseconds at the latest | the last MS may be | the last MS may be |
//!
//! Whatever is lost, what is left is what the store was at one moment: all changes up to it, and
//! none after. The time counts up to the beginning of the flush, between two batches of requests:
//! while one is under way, nothing is answered.

use core::fmt;

/// A promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Promise {
    /// Durable before its answer leaves.
    #[default]
    Always,
    /// Written before its answer leaves, and durable so many milliseconds later.
    Group(u32),
    /// Written and durable so many milliseconds after its answer.
    Async(u32),
}

/// Longest time that can be asked for, in milliseconds: an hour.
pub const LONGEST: u32 = 3_600_000;

impl Promise {
    /// Reads `always`, `group:MS` or `async:MS`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let millis = |number: &str| {
            let millis = number.parse().ok()?;
            (1..=LONGEST).contains(&millis).then_some(millis)
        };
        match text.split_once(':') {
            None => (text == "always").then_some(Self::Always),
            Some(("group", number)) => millis(number).map(Self::Group),
            Some(("async", number)) => millis(number).map(Self::Async),
            Some(_) => None,
        }
    }

    /// For how many microseconds an acknowledged change may not be durable yet.
    #[must_use]
    pub fn lag_micros(self) -> u64 {
        match self {
            Self::Always => 0,
            Self::Group(millis) | Self::Async(millis) => u64::from(millis) * 1000,
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Group(millis) => write!(f, "group:{millis}"),
            Self::Async(millis) => write!(f, "async:{millis}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_read_and_written() {
        for promise in [Promise::Always, Promise::Group(5), Promise::Async(LONGEST)] {
            assert_eq!(Promise::parse(&std::format!("{promise}")), Some(promise));
        }
        for wrong in
            ["", "always:1", "group", "group:", "group:0", "async:3600001", "async:x", "a:1"]
        {
            assert_eq!(Promise::parse(wrong), None, "{wrong}");
        }
        assert_eq!((Promise::Always.lag_micros(), Promise::Group(5).lag_micros()), (0, 5000));
    }
}
