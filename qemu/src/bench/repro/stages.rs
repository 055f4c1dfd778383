//! Exo's instructions by step of a packet's journey.

use anyhow::{Context, Result};

use super::ours::{Grid, Ours};
use crate::bench::get::{self, Plan};
use crate::bench::load::{Offer, Transport, Workload};
use crate::bench::report::Scenario;
use crate::bench::rows::Row;
use crate::machine::Config;
use crate::output::note;
use crate::signals::Signals;

use crate::bench::compare::scenario::SATURATED;

/// Requests of a pass, and passes: they do not differ.
const REQUESTS: u32 = 512;
const PASSES: u32 = 3;

/// Adds what each step takes in the machine of a manifest. Returns one request from sleep to
/// sleep, and one of a batch.
pub(super) fn put_grid(
    ours: &mut Ours,
    manifest: &str,
    title: &str,
    workload: Workload,
    interrupt: &Signals,
) -> Result<[Scenario; 2]> {
    note!("repro: {title}, by step");
    let offers = vec![Offer::Held(1), Offer::Held(SATURATED)];
    let transport = Transport::Udp;
    let (requests, passes) = (REQUESTS, PASSES);
    let plan = Plan { workload, transport, offers, requests, passes, beside: None };
    let (_, scenarios) = get::count(Config::named(manifest)?, &plan, interrupt)?;
    let scenarios: [Scenario; 2] = scenarios.try_into().ok().context("a pass is missing")?;
    let line = |name: String, value: &dyn Fn(&Scenario) -> Option<f64>| {
        (name, scenarios.iter().map(value).collect())
    };
    let mut rows: Vec<_> = Row::ALL
        .into_iter()
        .map(|row| {
            let step = row.step().map_or(String::new(), |step| format!("step {step}: "));
            line(format!("{step}{row}"), &|scenario| scenario.of(row))
        })
        .collect();
    rows.push(line("all".to_owned(), &|scenario| Some(scenario.total())));
    rows.push(line("system calls".to_owned(), &|scenario| Some(scenario.crossings())));
    ours.grids.push(Grid {
        title: format!("{title}: guest instructions per request by step; lower is better"),
        columns: vec!["1 at a time".to_owned(), format!("{SATURATED} at a time")],
        rows,
    });
    ours.facts.push(format!("{title}: boot/manifests/{manifest}.toml"));
    Ok(scenarios)
}
