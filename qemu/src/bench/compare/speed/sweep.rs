//! Offered load up to the knee: how fast a contender may be asked until its clients wait.

use anyhow::{Context, Result};
use exo_load::progress::Bar;
use exo_load::search::knee;
use exo_load::{Arrivals, Schedule};
use serde::Serialize;

use super::pair::{PERCENTILES, TAIL_LEAST};
use super::plan::{OBJECTIVE, Plan, RESOLUTION, Requests};
use super::side::{self, Side};

/// A search for the knee, and every rate that it tried.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sweep {
    pub(crate) name: &'static str,
    /// What was to be kept.
    pub(crate) objective: String,
    /// The highest rate that kept it, in requests a second.
    pub(crate) kept: Option<f64>,
    /// The lowest that broke it.
    pub(crate) broken: Option<f64>,
    /// By rate.
    pub(crate) points: Vec<Point>,
}

/// A rate that was tried.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    /// Requests intended a second.
    pub(crate) offered: f64,
    pub(crate) answers_per_second: f64,
    /// Microseconds from the intended time at [`PERCENTILES`]; none if refused.
    pub(crate) latency_us: Vec<(f64, Option<f64>)>,
    pub(crate) never_sent: f64,
    pub(crate) late_sent: f64,
    pub(crate) unanswered: f64,
    /// Whether the objective was kept.
    pub(crate) kept: bool,
}

/// Looks for the knee of `side`, which answers `about` so many requests a second.
pub(super) fn run(
    side: &mut Side,
    name: &'static str,
    plan: &Plan,
    requests: Requests,
    about: Option<f64>,
    bar: &mut Bar<impl Fn() -> bool>,
) -> Result<Sweep> {
    let about = about.context("how fast it is at most is not known")?;
    side.fill(requests, bar)?;
    let mut points = Vec::new();
    let found = knee(about / 8.0, about * 2.0, RESOLUTION, |rate| {
        let schedule = Schedule::Open(rate, Arrivals::Poisson);
        let measured = side.load(plan, requests, schedule, bar)?;
        let account = &measured.account;
        // Beyond the knee requests may be lost; what is answered must be right.
        anyhow::ensure!(account.wrong == 0, "{}", side::verdict(&measured).unwrap_or_default());
        let kept = OBJECTIVE.kept(account);
        points.push(Point {
            offered: rate,
            answers_per_second: account.answered_in_time as f64 / measured.seconds.max(1e-9),
            latency_us: PERCENTILES
                .map(|which| {
                    let enough = account.beyond(which) >= TAIL_LEAST;
                    (which, account.percentile(which).latency_us.filter(|_| enough))
                })
                .to_vec(),
            never_sent: account.never_sent_share(),
            late_sent: account.percentile(50.0).late_sent,
            unanswered: account.unanswered_share(),
            kept,
        });
        Ok(Some(kept))
    })?;
    points.sort_by(|a, b| a.offered.total_cmp(&b.offered));
    let objective = OBJECTIVE.to_string();
    Ok(Sweep { name, objective, kept: found.kept, broken: found.broken, points })
}
