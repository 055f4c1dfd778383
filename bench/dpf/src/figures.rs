//! What was measured, as it goes from the program that measures to the one that reports.

use serde::{Deserialize, Serialize};

/// Everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// How instructions were counted.
    pub method: String,
    /// What libpcap says of itself, if it was found.
    pub libpcap: Option<String>,
    /// Rounds of each timing, run in turn.
    pub rounds: u32,
    /// Names and what they stand for, in the order of reports.
    pub contenders: Vec<(String, String)>,
    /// The contender that the others are held against.
    pub ours: String,
    /// One for each set and number of filters.
    pub cases: Vec<Case>,
}

/// A number of filters of one set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// The set.
    pub set: String,
    /// Filters.
    pub filters: u32,
    /// By contender, in the order of [`Figures::contenders`].
    pub results: Vec<Outcome>,
}

/// What became of one contender.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did it.
    Measured(Measured),
    /// It cannot, and why.
    Cannot(String),
}

/// The figures of one contender.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// By kind of traffic.
    pub packets: Vec<PerPacket>,
    /// Of one filter more, if there is such a thing.
    pub insert: Change,
    /// Of that filter, the latest.
    pub remove: Change,
    /// Bytes of machine code for each filter.
    pub code_bytes: f64,
    /// Other bytes for each filter.
    pub data_bytes: f64,
    /// Whether it tells which filter takes a frame, and not only whether one does.
    pub tells_who: bool,
}

/// The cost of one packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PerPacket {
    /// Which packets came.
    pub mix: String,
    /// How many different ones.
    pub count: u32,
    /// The mean.
    pub instructions: f64,
    /// Nanoseconds, the median of the rounds.
    pub ns: f64,
    /// How many times as long as ours: the median of the ratios of each round.
    pub ratio: f64,
}

/// The cost of one change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    /// The mean; not counted where everything is made anew.
    pub instructions: Option<f64>,
    /// Nanoseconds, the median of the rounds.
    pub ns: f64,
}
