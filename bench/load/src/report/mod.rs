//! What was found, as text and as JSON. A figure never stands without what it leaves out.

mod text;

use serde::Serialize;

use crate::account::{PERCENTILES, Percentile};
use crate::protocol::Protocol;
use crate::run::{Ended, Measured};
use crate::schedule::Schedule;
use crate::search::{Found, Objective};
use crate::workload::{Items, Workload};

/// One load, of one or more measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The server's address.
    pub server: String,
    /// What it says it is.
    pub version: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The back end.
    pub wire: String,
    /// What was asked for.
    pub workload: Workload,
    /// Mean bytes of a key.
    pub key_bytes_mean: f64,
    /// Mean bytes of a value.
    pub value_bytes_mean: f64,
    /// Values that were cut, to fit a datagram.
    pub values_cut: u32,
    /// Seconds after which a request is given up.
    pub timeout_s: f64,
    /// Seconds of load before each measurement.
    pub warm_up_s: f64,
    /// The measurements, in order.
    pub measurements: Vec<Row>,
    /// What a search found.
    pub knee: Option<Knee>,
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// When requests were sent.
    pub schedule: Schedule,
    /// Seconds measured.
    pub seconds: f64,
    /// How it ended, if not as planned.
    pub ended_early: Option<&'static str>,
    /// Requests that the schedule held.
    pub intended: u64,
    /// Of these, not sent.
    pub never_sent: u64,
    /// Of these, sent.
    pub sent: u64,
    /// Of those sent: answered, rightly and in time.
    pub answered: u64,
    /// Of those sent: not answered.
    pub timed_out: u64,
    /// Of those sent: answered wrongly.
    pub wrong: u64,
    /// Of those sent: answered when they had been given up.
    pub late: u64,
    /// Sent, but later than `late_after_us` after their time.
    pub late_sent: u64,
    /// What counts as sent late, in microseconds.
    pub late_after_us: f64,
    /// Of the answered: those that read.
    pub gets: u64,
    /// Of the answered: those that stored.
    pub sets: u64,
    /// Keys found.
    pub hits: u64,
    /// Keys not found.
    pub misses: u64,
    /// Replies to nothing that was asked.
    pub unasked: u64,
    /// Replies too short to be any.
    pub malformed: u64,
    /// Answers a second, until the end of the measurement.
    pub answers_per_second: f64,
    /// Why there are no percentiles, if so.
    pub refused: Option<String>,
    /// Percentiles of the answered, beside what they leave out.
    pub percentiles: Vec<Percentile>,
    /// The longest time to an answer.
    pub longest_us: Option<f64>,
    /// The first wrong reply.
    pub first_wrong: Option<String>,
    /// What the back end counted.
    pub wire_counts: Vec<(&'static str, u64)>,
}

/// The knee that a search found.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Knee {
    /// What was to be kept.
    pub objective: Objective,
    /// The highest rate that kept it, in requests a second.
    pub kept: Option<f64>,
    /// The lowest rate that broke it.
    pub broken: Option<f64>,
}

impl Knee {
    /// What a search for `objective` found.
    #[must_use]
    pub fn new(objective: Objective, found: Found) -> Self {
        Self { objective, kept: found.kept, broken: found.broken }
    }
}

impl Row {
    /// A measurement's row.
    #[must_use]
    pub fn new(measured: &Measured) -> Self {
        let account = &measured.account;
        Self {
            schedule: measured.schedule,
            seconds: measured.seconds,
            ended_early: match measured.ended {
                Ended::Complete => None,
                Ended::Interrupted => Some("interrupted"),
                Ended::Silent => Some("the server stopped answering"),
                Ended::Broken => Some("the way to the server broke"),
            },
            intended: account.intended,
            never_sent: account.never_sent,
            sent: account.sent,
            answered: account.answered,
            timed_out: account.timed_out,
            wrong: account.wrong,
            late: account.late,
            late_sent: account.late_sent,
            late_after_us: account.late_after as f64 / 1e3,
            gets: account.gets,
            sets: account.sets,
            hits: account.hits,
            misses: account.misses,
            unasked: account.strays.unasked,
            malformed: account.strays.malformed,
            answers_per_second: account.answered_in_time as f64 / measured.seconds.max(1e-9),
            refused: account.refusal(),
            percentiles: PERCENTILES.map(|percentile| account.percentile(percentile)).to_vec(),
            longest_us: account.longest_us(),
            first_wrong: measured.wrong.clone(),
            wire_counts: measured.counts.clone(),
        }
    }
}

impl Report {
    /// A report without measurements.
    #[must_use]
    pub fn new(
        server: String,
        version: String,
        protocol: Protocol,
        wire: String,
        workload: &Workload,
        items: &Items,
    ) -> Self {
        let (key_bytes_mean, value_bytes_mean) = items.means();
        Self {
            server,
            version,
            protocol,
            wire,
            workload: workload.clone(),
            key_bytes_mean,
            value_bytes_mean,
            values_cut: items.cut(),
            timeout_s: 0.0,
            warm_up_s: 0.0,
            measurements: Vec::new(),
            knee: None,
        }
    }
}
