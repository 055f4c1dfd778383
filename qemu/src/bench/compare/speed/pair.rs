//! Two contenders in turn.

use anyhow::{Context, Result, ensure};
use exo_load::progress::Bar;
use exo_load::{Account, Measured, Schedule};
use serde::Serialize;

use super::super::contender::Contender;
use super::super::measure::label;
use super::plan::{OUTSTANDING, Plan, Requests};
use super::side::{self, Side};
use super::sweep::{self, Sweep};
use crate::linux::Mitigations;
use crate::signals::Signals;

/// The percentiles of a report.
pub(crate) const PERCENTILES: [f64; 4] = [50.0, 99.0, 99.9, 99.99];
/// A percentile is refused if fewer answers took longer than it.
pub(crate) const TAIL_LEAST: f64 = 10.0;

/// Where a distribution of latency is given: enough of it for a plot.
pub(crate) const DISTRIBUTION: [f64; 9] = [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0];

/// Exo's store and another contender.
#[derive(Debug, Serialize)]
pub(crate) struct Pair {
    pub(crate) other: &'static str,
    pub(crate) title: &'static str,
    /// The other's version, command line and settings.
    pub(crate) facts: Vec<String>,
    /// Of a contender on Linux: "default" or "off".
    pub(crate) mitigations: Option<&'static str>,
    /// The device as negotiated with Exo, and with the other.
    pub(crate) negotiated: Vec<String>,
    /// QEMU's command lines, in the same order.
    pub(crate) machines: Vec<String>,
    /// Where the guests' processors ran.
    pub(crate) pinned: String,
    /// One for each kind of request and number outstanding; none if one of them failed.
    pub(crate) compared: Vec<Compared>,
    /// Up to the knee of Exo, and of the other.
    pub(crate) sweeps: Vec<Sweep>,
    /// Why there is no figure.
    pub(crate) failure: Option<String>,
}

/// One load on both.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) requests: Requests,
    /// Requests outstanding at any time.
    pub(crate) outstanding: u32,
    pub(crate) exo: Told,
    pub(crate) other: Told,
    /// How many times the other's throughput Exo's is.
    pub(crate) throughput: Ratio,
    /// How many times Exo's median latency the other's is.
    pub(crate) p50: Option<Ratio>,
    /// The same of the 99th percentile.
    pub(crate) p99: Option<Ratio>,
}

/// What one contender did in all its turns.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Told {
    /// Answers a second: the round in the middle.
    pub(crate) per_second: f64,
    /// Of each round, in order.
    pub(crate) rounds: Vec<f64>,
    /// Microseconds at [`PERCENTILES`], of all rounds together; none where fewer than
    /// [`TAIL_LEAST`] answers took longer, or too much was never sent.
    pub(crate) latency_us: Vec<(f64, Option<f64>)>,
    /// The same at [`DISTRIBUTION`].
    pub(crate) distribution_us: Vec<(f64, Option<f64>)>,
    pub(crate) answered: u64,
    /// Share of the sent requests without an answer.
    pub(crate) unanswered: f64,
    /// Notifications of the guest's per request, that had been asked for.
    pub(crate) kicks: f64,
    /// Interrupts sent to the guest per request.
    pub(crate) calls: f64,
}

/// A ratio of two contenders, over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Measures Exo's store against `other`.
pub(super) fn measure(
    plan: &Plan,
    other: Contender,
    mitigations: Option<Mitigations>,
    interrupt: &Signals,
) -> Pair {
    let mut pair = Pair {
        other: other.name(),
        title: other.title(),
        facts: Vec::new(),
        mitigations: mitigations.map(label),
        negotiated: Vec::new(),
        machines: Vec::new(),
        pinned: String::new(),
        compared: Vec::new(),
        sweeps: Vec::new(),
        failure: None,
    };
    if let Err(error) = pair.fill(plan, other, mitigations, interrupt) {
        pair.failure = Some(format!("{error:#}"));
        pair.compared.clear();
        pair.sweeps.clear();
    }
    pair
}

impl Pair {
    fn fill(
        &mut self,
        plan: &Plan,
        other: Contender,
        mitigations: Option<Mitigations>,
        interrupt: &Signals,
    ) -> Result<()> {
        self.facts = other.facts()?;
        let contenders = [(Contender::Exo, None), (other, mitigations)];
        let mut sides = Vec::new();
        for (contender, mitigations) in contenders {
            let side = Side::boot(contender, mitigations, interrupt);
            sides.push((contender, side.with_context(|| contender.name())?));
        }
        for (_, side) in &sides {
            self.negotiated.push(side.negotiated());
            self.machines.push(side.machine().command().to_owned());
        }
        let mut pinned = Vec::new();
        for (_, side) in &sides {
            pinned.push(side.machine().pin()?.map(|pinned| pinned.guest));
        }
        self.pinned = match pinned.first() {
            Some(Some(at)) => format!(
                "the guests' processors on processor {at} of the host, the rest on the others"
            ),
            _ => "nothing is pinned: the host has one processor".to_owned(),
        };
        let mut bar = Bar::new(|| interrupt.check().is_err());
        for &requests in plan.requests_for(other) {
            for (contender, side) in &mut sides {
                side.fill(requests, &mut bar).with_context(|| contender.name())?;
            }
            for outstanding in OUTSTANDING {
                let mut turns: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
                for _ in 0..plan.rounds {
                    for ((contender, side), turns) in sides.iter_mut().zip(&mut turns) {
                        let schedule = Schedule::Closed(outstanding);
                        let measured = side.load(plan, requests, schedule, &mut bar);
                        let measured = measured.with_context(|| contender.name())?;
                        let verdict = side::verdict(&measured);
                        let verdict = verdict.map(|why| format!("{}: {why}", contender.name()));
                        ensure!(
                            verdict.is_none(),
                            "{}, {outstanding} outstanding",
                            verdict.unwrap_or_default()
                        );
                        turns.push(measured);
                    }
                }
                let [exo, other] = &turns;
                self.compared.push(Compared::new(requests, outstanding, exo, other)?);
            }
        }
        if plan.sweeps {
            let requests = plan.requests.first().context("a plan without requests")?;
            for (contender, side) in &mut sides {
                let saturated = self.compared.get(OUTSTANDING.len() - 1);
                let about = saturated.map(|one| match contender {
                    Contender::Exo => one.exo.per_second,
                    _ => one.other.per_second,
                });
                let sweep = sweep::run(side, contender.name(), plan, *requests, about, &mut bar);
                self.sweeps.push(sweep.with_context(|| contender.name())?);
            }
        }
        Ok(())
    }

    /// The load with so many of these outstanding.
    pub(crate) fn at(&self, requests: Requests, outstanding: u32) -> Option<&Compared> {
        let mut compared = self.compared.iter();
        compared.find(|one| one.requests == requests && one.outstanding == outstanding)
    }
}

impl Compared {
    fn new(
        requests: Requests,
        outstanding: u32,
        exo: &[Measured],
        other: &[Measured],
    ) -> Result<Self> {
        let percentile = |which: f64| {
            let at = |one: &Measured| {
                let enough = one.account.beyond(which) >= TAIL_LEAST;
                one.account.percentile(which).latency_us.filter(|_| enough)
            };
            let ratios = exo.iter().zip(other).map(|(exo, other)| Some(at(other)? / at(exo)?));
            ratios.collect::<Option<Vec<_>>>().and_then(Ratio::of)
        };
        let throughput = exo.iter().zip(other).map(|(exo, other)| rate(exo) / rate(other));
        Ok(Self {
            requests,
            outstanding,
            exo: Told::new(exo),
            other: Told::new(other),
            throughput: Ratio::of(throughput.collect()).context("a plan without rounds")?,
            p50: percentile(50.0),
            p99: percentile(99.0),
        })
    }
}

impl Told {
    fn new(turns: &[Measured]) -> Self {
        let mut all = Account::new(0);
        let (mut kicks, mut calls) = (0, 0);
        for turn in turns {
            all.merge(&turn.account);
            let (more_kicks, more_calls) = side::notifications(turn);
            kicks += more_kicks;
            calls += more_calls;
        }
        let rounds: Vec<f64> = turns.iter().map(rate).collect();
        let latency = |which| {
            let enough = all.beyond(which) >= TAIL_LEAST;
            (which, all.percentile(which).latency_us.filter(|_| enough))
        };
        let sent = all.sent.max(1) as f64;
        Self {
            per_second: Ratio::of(rounds.clone()).map_or(0.0, |ratio| ratio.median),
            rounds,
            latency_us: PERCENTILES.map(latency).to_vec(),
            distribution_us: DISTRIBUTION.map(latency).to_vec(),
            answered: all.answered,
            unanswered: all.unanswered_share(),
            kicks: kicks as f64 / sent,
            calls: calls as f64 / sent,
        }
    }
}

impl Ratio {
    /// The middle of `all` and its ends; of an even number, the mean of the two in the middle.
    fn of(mut all: Vec<f64>) -> Option<Self> {
        all.sort_by(f64::total_cmp);
        let (least, most) = (*all.first()?, *all.last()?);
        let median = f64::midpoint(*all.get((all.len() - 1) / 2)?, *all.get(all.len() / 2)?);
        Some(Self { median, least, most })
    }
}

/// Answers a second.
fn rate(measured: &Measured) -> f64 {
    measured.account.answered_in_time as f64 / measured.seconds.max(1e-9)
}

/// A pair that was not measured, whose Exo is so many `times` as fast.
#[cfg(test)]
pub(crate) fn sample(other: &'static str, times: f64) -> Pair {
    use super::sweep::Point;

    let told = |rate: f64| Told {
        per_second: rate,
        rounds: vec![rate; 3],
        latency_us: PERCENTILES
            .map(|which| (which, (which < 99.99).then_some(4e6 / rate)))
            .to_vec(),
        distribution_us: DISTRIBUTION.map(|which| (which, Some(4e6 / rate))).to_vec(),
        answered: 1000,
        unanswered: 0.0,
        kicks: 0.5,
        calls: 0.25,
    };
    let ratio = |median: f64| Ratio { median, least: median * 0.9, most: median * 1.1 };
    let compared = |outstanding| Compared {
        requests: super::plan::SMALL_GET,
        outstanding,
        exo: told(60_000.0),
        other: told(60_000.0 / times),
        throughput: ratio(times),
        p50: Some(ratio(times)),
        p99: Some(ratio(times)),
    };
    let sweep = |name, most: f64| {
        let point = |share: f64| Point {
            offered: most * share,
            answers_per_second: most * share.min(0.9),
            latency_us: PERCENTILES.map(|which| (which, Some(90.0 / (1.05 - share)))).to_vec(),
            never_sent: 0.0,
            late_sent: 0.0,
            unanswered: 0.0,
            kept: share < 0.95,
        };
        let points = [0.1, 0.2, 0.4, 0.8, 0.9, 1.0].map(point).to_vec();
        let (kept, broken) = (Some(most * 0.9), Some(most));
        Sweep { name, objective: "p99 within 1000 µs".to_owned(), kept, broken, points }
    };
    Pair {
        other,
        title: "another contender",
        facts: vec![format!("{other} 1.0")],
        mitigations: None,
        negotiated: vec!["a device".to_owned(); 2],
        machines: vec!["qemu-system-x86_64 -M microvm".to_owned(); 2],
        pinned: "the guests' processors on processor 0".to_owned(),
        compared: OUTSTANDING.map(compared).to_vec(),
        sweeps: vec![sweep("exo", 60_000.0), sweep(other, 60_000.0 / times)],
        failure: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::SMALL_GET;
    use super::super::side::tests::measured;
    use super::*;

    #[test]
    fn each_round_gives_one_ratio() {
        // The host slowed down between rounds: the ratio does not see it.
        let exo = [measured(30_000, 30_000), measured(3_000, 3_000), measured(6_000, 6_000)];
        let other = [measured(10_000, 10_000), measured(1_000, 1_000), measured(1_000, 1_000)];
        let compared = Compared::new(SMALL_GET, 1, &exo, &other).unwrap();
        assert_eq!(compared.throughput, Ratio { median: 3.0, least: 3.0, most: 6.0 });
        assert_eq!((compared.exo.per_second, compared.other.per_second), (6_000.0, 1_000.0));
        assert_eq!(compared.exo.answered, 39_000);
        assert!((compared.other.kicks - 9.0 / 12_000.0).abs() < 1e-12);
        assert!(Compared::new(SMALL_GET, 1, &[], &[]).is_err());
    }

    #[test]
    fn a_tail_of_few_samples_has_no_percentile() {
        let compared =
            Compared::new(SMALL_GET, 1, &[measured(50_000, 50_000)], &[measured(900, 900)]);
        let compared = compared.unwrap();
        let given = |told: &Told| told.latency_us.iter().filter(|one| one.1.is_some()).count();
        assert_eq!(given(&compared.exo), 3);
        assert_eq!(given(&compared.other), 1);
        assert!(compared.p99.is_none());
    }

    #[test]
    fn the_middle_of_an_even_number_is_between() {
        assert_eq!(Ratio::of(vec![4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Ratio::of(Vec::new()), None);
    }
}
