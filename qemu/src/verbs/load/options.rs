//! What `cargo exo load` takes beside the server.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::builder::RangedU64ValueParser;
use exo_load::protocol::Protocol;
use exo_load::schedule::MOST_OUTSTANDING;
use exo_load::search::Objective;
use exo_load::workload::{MOST_KEYS, MOST_KEYS_AT_ONCE};
use exo_load::{Arrivals, Plan, Popularity, Schedule, Sizes, Workload};

/// Load and workload.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// What the server speaks
    #[arg(long, value_enum, default_value_t = Speaks::Memcached)]
    pub(super) protocol: Speaks,

    /// Closed loop: requests outstanding at any time [default: 32]
    #[arg(
        long,
        value_name = "N",
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(MOST_OUTSTANDING / 2)),
        conflicts_with_all = ["rate", "search"]
    )]
    outstanding: Option<u32>,
    /// Open loop: requests a second, whatever the server does; several rates, one after the
    /// other, with commas between
    #[arg(long, value_name = "RATE", value_delimiter = ',', value_parser = rate)]
    rate: Vec<f64>,
    /// Look for the highest rate that keeps this, such as p99=1ms: so many percent of the
    /// intended requests answered in that time
    #[arg(long, value_name = "OBJECTIVE", conflicts_with = "rate")]
    pub(super) search: Option<Objective>,
    /// Rate at which a search begins
    #[arg(long, value_name = "RATE", default_value = "1000", value_parser = rate)]
    pub(super) search_from: f64,
    /// Rate at which a search ends at the latest
    #[arg(long, value_name = "RATE", default_value = "10000000", value_parser = rate)]
    pub(super) search_to: f64,
    /// How close a search comes, in percent
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = percent)]
    pub(super) resolution: f64,
    /// Gaps between requests of an open loop
    #[arg(long, value_enum, default_value_t = Gaps::Poisson)]
    pub(super) arrivals: Gaps,

    /// Seconds to measure; for each rate
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    duration: f64,
    /// Seconds of load before each measurement that are not counted
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds_or_none)]
    pub(super) warm_up: f64,
    /// Seconds after which a request is given up
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(super) timeout: f64,
    /// Seconds to wait for the first answer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) patience: f64,
    /// Seconds without any answer after which the load ends
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(super) silence: f64,
    /// Microseconds after its time at which a request counts as sent late
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 100)]
    late_after: u64,
    /// Look for replies all the time instead of sleeping until there are some
    #[arg(long)]
    spin: bool,

    /// Different keys
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(MOST_KEYS))
    )]
    keys: u32,
    /// Bytes of a key: N, LEAST-MOST (uniform), zipf:S:LEAST-MOST, etc or usr (Facebook's)
    #[arg(long, value_name = "SIZES", default_value = "16")]
    key_size: Sizes,
    /// Bytes of a value, written likewise; with echo, of a datagram less 8
    #[arg(long, value_name = "SIZES", default_value = "64")]
    value_size: Sizes,
    /// How often each key is asked for: uniform, or zipf:S such as zipf:0.99
    #[arg(long, value_name = "LAW", default_value = "uniform")]
    popularity: Popularity,
    /// Percent of requests that read; the others store
    #[arg(long, value_name = "PERCENT", default_value = "90", value_parser = percent)]
    get: f64,
    /// Keys of one GET
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(MOST_KEYS_AT_ONCE))
    )]
    keys_per_get: u32,
    /// What random choices start from: the same seed asks for the same
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Do not store all items beforehand
    #[arg(long)]
    pub(super) no_prefill: bool,
}

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Speaks {
    /// memcached's text protocol
    Memcached,
    /// It sends every datagram back: the floor
    Echo,
}

/// Gaps between intended times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Gaps {
    /// Exponential, as of many independent clients
    Poisson,
    /// All alike
    Uniform,
}

impl Options {
    pub(super) fn workload(&self) -> Workload {
        Workload {
            keys: self.keys,
            key_sizes: self.key_size,
            value_sizes: self.value_size,
            popularity: self.popularity,
            get_share: self.get / 100.0,
            keys_per_get: self.keys_per_get,
            seed: self.seed,
        }
    }

    /// The schedules to be measured, in order.
    pub(super) fn schedules(&self) -> Vec<Schedule> {
        match &self.rate[..] {
            [] => vec![Schedule::Closed(self.outstanding.unwrap_or(32))],
            rates => rates.iter().map(|rate| Schedule::Open(*rate, self.arrivals.into())).collect(),
        }
    }

    pub(super) fn plan(&self, schedule: Schedule) -> Plan {
        Plan {
            schedule,
            warm_up: Duration::from_secs_f64(self.warm_up),
            duration: Duration::from_secs_f64(self.duration),
            silence: Duration::from_secs_f64(self.silence),
            late_after: Duration::from_micros(self.late_after),
            spin: self.spin,
        }
    }
}

impl From<Speaks> for Protocol {
    fn from(speaks: Speaks) -> Self {
        match speaks {
            Speaks::Memcached => Self::Memcached,
            Speaks::Echo => Self::Echo,
        }
    }
}

impl From<Gaps> for Arrivals {
    fn from(gaps: Gaps) -> Self {
        match gaps {
            Gaps::Poisson => Self::Poisson,
            Gaps::Uniform => Self::Uniform,
        }
    }
}

fn number(text: &str, least: f64, most: f64) -> Result<f64> {
    let number: f64 = text.parse()?;
    ensure!((least..=most).contains(&number), "must lie between {least} and {most}");
    Ok(number)
}

fn rate(text: &str) -> Result<f64> {
    number(text, 0.01, 1e9)
}

fn percent(text: &str) -> Result<f64> {
    number(text, 0.0, 100.0)
}

fn seconds(text: &str) -> Result<f64> {
    number(text, 0.001, 86_400.0)
}

fn seconds_or_none(text: &str) -> Result<f64> {
    number(text, 0.0, 86_400.0)
}
