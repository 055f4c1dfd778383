//! What is promised of the ratios between contenders, met or missed.

use serde::Serialize;

use super::measure::Row;
use super::origins::small_get;
use super::scenario::SATURATED;
use super::speed::Speed;
use super::speed::plan::{self, SMALL_GET};

/// A promise: Exo takes so many times fewer instructions than another contender, for a GET
/// of 16 and 64 bytes, repeated string instructions counted once.
struct Goal {
    beside: &'static str,
    outstanding: u32,
    times: f64,
}

const GOALS: [Goal; 4] = [
    Goal { beside: "module", outstanding: SATURATED, times: 7.0 },
    Goal { beside: "module", outstanding: 1, times: 5.0 },
    Goal { beside: "memcached", outstanding: SATURATED, times: 20.0 },
    Goal { beside: "memcached", outstanding: 1, times: 15.0 },
];
/// Of a GET in a batch, this share is what the echo floor takes.
const FLOOR_SHARE: f64 = 0.7;
/// Exo answers so many times as many saturated GETs as the kernel module.
const THROUGHPUT: f64 = 5.0;

/// A promise held against what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// By which documents state it.
    pub(crate) name: String,
    pub(crate) goal: String,
    pub(crate) measured: f64,
    pub(crate) met: bool,
}

/// All promises that can be judged from `rows`.
pub(crate) fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    let get = |name, outstanding| small_get(rows, name, outstanding);
    let ratios = GOALS.iter().filter_map(|goal| {
        let exo = get("exo", goal.outstanding)?;
        let measured = get(goal.beside, goal.outstanding)? / exo;
        let Goal { beside, outstanding, times } = goal;
        let text = format!(
            "GET 16/64, {outstanding} at a time: at least {times} times fewer instructions than \
             {beside}"
        );
        let name = format!("{beside}-{outstanding}");
        Some(Verdict { name, goal: text, measured, met: measured >= *times })
    });
    let floor = get("exo-echo", SATURATED).zip(get("exo", SATURATED)).map(|(floor, exo)| {
        let text = format!(
            "GET 16/64, {SATURATED} at a time: the echo floor is at least {FLOOR_SHARE} of it"
        );
        let (name, measured) = ("floor".to_owned(), floor / exo);
        Verdict { name, goal: text, measured, met: measured >= FLOOR_SHARE }
    });
    ratios.chain(floor).collect()
}

/// The promise of throughput, if it can be judged.
pub(crate) fn throughput(speed: &Speed) -> Option<Verdict> {
    let measured = speed.against("module")?.at(SMALL_GET, plan::SATURATED)?.throughput.median;
    let goal = format!(
        "GET 16/64, {} outstanding: at least {THROUGHPUT} times the throughput of module",
        plan::SATURATED
    );
    Some(Verdict { name: "throughput".to_owned(), goal, measured, met: measured >= THROUGHPUT })
}

#[cfg(test)]
mod tests {
    use super::super::measure::Figure;
    use super::super::scenario::Scenario;
    use super::*;

    fn row(name: &'static str, repeats_once: f64) -> Row {
        let figure = |scenario| Figure {
            scenario,
            instructions: 0.0,
            repeats_once,
            user: 0.0,
            kernel: 0.0,
            system_calls: 0.0,
            interrupt_returns: 0.0,
            sleeps: 0.0,
            passes: Vec::new(),
        };
        Row {
            name,
            title: String::new(),
            facts: Vec::new(),
            mitigations: None,
            figures: Scenario::quick().into_iter().map(figure).collect(),
            failure: None,
        }
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert_eq!(verdicts(&[row("exo", 1000.0)]), []);
        let mut failed = row("memcached", 19_000.0);
        failed.failure = Some("it lied".to_owned());
        assert_eq!(verdicts(&[row("exo", 1000.0), failed]), []);
    }

    #[test]
    fn missed_is_missed() {
        let met = |rows: &[Row]| verdicts(rows).iter().map(|one| one.met).collect::<Vec<_>>();
        let exo = || row("exo", 1000.0);
        assert_eq!(met(&[exo(), row("memcached", 19_000.0)]), [false, true]);
        assert_eq!(met(&[exo(), row("exo-echo", 700.0)]), [true]);
        assert_eq!(met(&[exo(), row("exo-echo", 600.0)]), [false]);
    }
}
