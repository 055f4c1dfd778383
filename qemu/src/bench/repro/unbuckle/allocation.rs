//! Figure 4.4: memory taken in the pipeline against memory taken before.
//!
//! Our engine never takes memory for an item from a system: it has its slabs from the start.
//! What is left of allocation in the pipeline is the first touch of a page, which Linux
//! answers with a page fault and Exo's library OS has behind it when the store begins. So the
//! first SETs of a size of item, whose slab is new, stand beside the same SETs once more.

use anyhow::Result;

use super::{DISSERTATION, KEY, LARGE, SMALL};
use crate::bench::compare::contender::Contender;
use crate::bench::compare::measure::{self, MACHINE};
use crate::bench::compare::scenario::SATURATED;
use crate::bench::load::{KEYS, Offer, Verb, Workload};
use crate::bench::repro::experiments::Experiment;
use crate::bench::repro::ours::{Effort, Grid, Ours};
use crate::bench::repro::published::{Amount, Beside, Published, Unit};
use crate::output::note;
use crate::signals::Signals;

pub(in crate::bench::repro) const EXPERIMENT: Experiment = Experiment {
    name: "unbuckle-4.4",
    title: "Memory taken in the pipeline, and before",
    works: &[&DISSERTATION],
    published: &[
        Published {
            key: "median",
            what: "median latency saved by taking memory beforehand",
            value: Amount::Is(100.0),
            unit: Unit::Microseconds,
            place: "4.4.3, figure 4.4",
            beside: &[Beside {
                key: "median",
                what: "our process: a SET into memory not touched yet, less one into touched memory",
                unit: Unit::Instructions,
            }],
        },
        Published {
            key: "percentile",
            what: "percentile from which on GETs gain, too",
            value: Amount::Is(20.0),
            unit: Unit::Percent,
            place: "4.4.3",
            beside: &[],
        },
    ],
    differs: "Published is the kernel's allocator called for each SET against buckets filled \
              beforehand; our engine never had the former, so the figures here are for what \
              remains in the pipeline, the first touch of a page of its slabs.",
    left_out: &[
        "An engine that asks an allocator for each item: there never was one here, and one \
         written to lose would show nothing.",
        "Latency, and what GETs gain behind such a SET.",
    ],
    minutes: 1,
    machine: Some(MACHINE),
    measure,
};

fn measure(_: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let mut rows = Vec::new();
    for contender in [Contender::Memcached, Contender::Process, Contender::Module, Contender::Exo] {
        note!("repro: {}: first and later SETs", contender.title());
        let counted = first_and_later(contender, interrupt);
        interrupt.check()?;
        match counted {
            Ok([first, later]) => {
                if contender == Contender::Process {
                    ours.put("median", Some(first - later));
                }
                let cells = [first, later, first - later].map(Some).into();
                rows.push((contender.title().to_owned(), cells));
                ours.facts.push(format!("{}: {}", contender.name(), contender.facts()?.join("; ")));
            }
            Err(error) => ours.failures.push(format!("{}: {error:#}", contender.title())),
        }
    }
    ours.grids.push(Grid {
        title: format!(
            "Guest instructions per SET {KEY}/{LARGE}, {SATURATED} at a time, a repeated string \
             instruction counted once; lower is better"
        ),
        columns: ["first", "later", "difference"].map(ToOwned::to_owned).into(),
        rows,
    });
    Ok(ours)
}

/// Instructions per SET of all keys with large values, the first time and the third.
fn first_and_later(contender: Contender, interrupt: &Signals) -> Result<[f64; 2]> {
    let set = |value_bytes| Workload { verb: Verb::Set, key_bytes: KEY, value_bytes };
    let mitigations = contender.variants(&[Default::default()]).next().flatten();
    measure::asking(contender, mitigations, set(SMALL), interrupt, |load| {
        // The code is warm, the memory of large items untouched.
        load.pass(Offer::Held(SATURATED), KEYS)?;
        load.change_only(set(LARGE));
        let mut pass = || -> Result<f64> {
            let counts = load.pass(Offer::Held(SATURATED), KEYS)?;
            Ok(counts.repeats_once() as f64 / f64::from(KEYS))
        };
        let first = pass()?;
        pass()?;
        Ok([first, pass()?])
    })
}
