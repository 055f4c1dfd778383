//! How much comes from where: contenders of which each differs from the next in one thing.

use serde::Serialize;

use super::measure::Row;
use super::scenario::{SATURATED, Scenario};
use super::speed::Speed;
use super::speed::plan::{self, SMALL_GET};
use crate::bench::load::Verb;

/// What changes, from which contender to which.
const STEPS: [(&str, &str, &str); 3] = [
    ("engine and protocol code", "memcached", "process"),
    ("being in the kernel", "process", "module"),
    ("the exokernel", "module", "exo"),
];

/// One thing that changes, and what it changes of a GET 16/64, with the Linux guest's own choice
/// of mitigations. The factors of a column multiply.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Origin {
    pub(crate) what: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    /// How many times fewer instructions, one at a time; below 1 it is more.
    pub(crate) fewer_from_sleep: Option<f64>,
    /// The same, [`SATURATED`] at a time.
    pub(crate) fewer_in_batch: Option<f64>,
    /// How many times the throughput, [`plan::SATURATED`] outstanding. Of two that were not
    /// loaded in turn: through Exo, beside which each was.
    pub(crate) throughput: Option<f64>,
}

/// All of them, as far as they were measured.
pub(crate) fn origins(rows: &[Row], speed: Option<&Speed>) -> Vec<Origin> {
    let rate = |name: &str| {
        if name == "exo" {
            return Some(1.0);
        }
        let compared = speed?.against(name)?.at(SMALL_GET, plan::SATURATED)?;
        Some(1.0 / compared.throughput.median)
    };
    let steps = STEPS.map(|(what, from, to)| {
        let fewer = |outstanding| {
            Some(small_get(rows, from, outstanding)? / small_get(rows, to, outstanding)?)
        };
        Origin {
            what,
            from,
            to,
            fewer_from_sleep: fewer(1),
            fewer_in_batch: fewer(SATURATED),
            throughput: rate(to).zip(rate(from)).map(|(to, from)| to / from),
        }
    });
    let measured = |origin: &Origin| {
        let Origin { fewer_from_sleep, fewer_in_batch, throughput, .. } = origin;
        [fewer_from_sleep, fewer_in_batch, throughput].iter().any(|factor| factor.is_some())
    };
    steps.into_iter().filter(measured).collect()
}

/// Instructions of a GET 16/64 of the contender of this name, a repeated string instruction
/// counted once.
pub(super) fn small_get(rows: &[Row], name: &str, outstanding: u32) -> Option<f64> {
    let usual = |row: &&Row| row.name == name && row.mitigations != Some("off");
    let row = rows.iter().find(usual).filter(|row| row.failure.is_none())?;
    let small = |scenario: Scenario| {
        (scenario.verb, scenario.key_bytes) == (Verb::Get, 16)
            && (scenario.value_bytes, scenario.outstanding) == (64, outstanding)
    };
    let figure = row.figures.iter().find(|figure| small(figure.scenario))?;
    Some(figure.repeats_once)
}
