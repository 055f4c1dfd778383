//! Figure 4.3: the socket interface against a server low in the network stack.

use anyhow::Result;

use super::{DISSERTATION, KEY, LARGE, MEDIUM, SMALL, get};
use crate::bench::compare::contender::Contender;
use crate::bench::compare::measure::{self, MACHINE};
use crate::bench::compare::scenario::SATURATED;
use crate::bench::load::{Verb, Workload};
use crate::bench::repro::experiments::Experiment;
use crate::bench::repro::ours::{Effort, Grid, Ours, times};
use crate::bench::repro::published::{Amount, Beside, Published, Unit};
use crate::output::note;
use crate::signals::Signals;

/// Requests that are in the NIC's ring when the guest wakes; the ring has 256 buffers.
const BURST: u32 = 192;

pub(in crate::bench::repro) const EXPERIMENT: Experiment = Experiment {
    name: "unbuckle-4.3",
    title: "Two network stacks: through a socket, and below it",
    works: &[&DISSERTATION],
    published: &[
        Published {
            key: "gain",
            what: "throughput of the low-level server over the socket's, large requests",
            value: Amount::About(50.0),
            unit: Unit::Percent,
            place: "4.4.2, figure 4.3a",
            beside: &[Beside {
                key: "gain",
                what: "how many more instructions a GET of 1024 bytes takes with the socket",
                unit: Unit::Percent,
            }],
        },
        Published {
            key: "lost-low",
            what: "packets that the low-level server loses in a whole run",
            value: Amount::UpTo(5.0),
            unit: Unit::Packets,
            place: "4.4.2, figure 4.3b",
            beside: &[Beside {
                key: "lost-low",
                what: "of 192 SETs of 1024 bytes at once, unanswered by the module",
                unit: Unit::Packets,
            }],
        },
        Published {
            key: "lost-socket",
            what: "packets that the socket's queue rejects, medium and large requests",
            value: Amount::Above(1.0),
            unit: Unit::PacketsPerSecond,
            place: "4.4.2, figure 4.3b",
            beside: &[Beside {
                key: "lost-socket",
                what: "of 192 SETs of 1024 bytes at once, unanswered by the process",
                unit: Unit::Packets,
            }],
        },
    ],
    differs: "Both published servers are in the kernel, while our socket is a process's (the module \
              has no socket), so that ours has the system calls in it, too, and loss is counted for \
              one burst and not over a run.",
    left_out: &[
        "Requests a second: counts of instructions stand for throughput of one processor.",
        "A socket inside the kernel: the module has none.",
    ],
    minutes: 3,
    machine: Some(MACHINE),
    measure,
};

fn measure(effort: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let scenarios = [SMALL, MEDIUM, LARGE].map(|value_bytes| get(value_bytes, SATURATED));
    let contenders = [Contender::Process, Contender::Module];
    let rows = ours.rows(&contenders, &scenarios, effort, interrupt)?;
    ours.grids_of(&rows, &scenarios);
    let [.., large] = scenarios;
    let ratio = times(&rows, Contender::Process, Contender::Module, large);
    ours.put("gain", ratio.map(|ratio| (ratio - 1.0) * 100.0));

    let mut lost = Vec::new();
    for contender in [Contender::Process, Contender::Module, Contender::Exo] {
        note!("repro: {}: bursts of {BURST}", contender.title());
        let found = unanswered(contender, interrupt);
        interrupt.check()?;
        match found {
            Ok(found) => lost.push((contender, found)),
            Err(error) => ours.failures.push(format!("{}: {error:#}", contender.title())),
        }
    }
    for (key, contender) in [("lost-socket", Contender::Process), ("lost-low", Contender::Module)] {
        let found = lost.iter().find(|(other, _)| *other == contender);
        ours.put(key, found.and_then(|(_, cells)| *cells.last()?));
    }
    ours.grids.push(Grid {
        title: format!(
            "Unanswered of {BURST} SETs that are in the NIC's ring at once; lower is better"
        ),
        columns: [SMALL, MEDIUM, LARGE].map(|bytes| format!("SET {KEY}/{bytes}")).into(),
        rows: lost.into_iter().map(|(one, cells)| (one.title().to_owned(), cells)).collect(),
    });
    Ok(ours)
}

/// How many of a burst stay unanswered, for each size.
fn unanswered(contender: Contender, interrupt: &Signals) -> Result<Vec<Option<f64>>> {
    let set = |value_bytes| Workload { verb: Verb::Set, key_bytes: KEY, value_bytes };
    let mitigations = contender.variants(&[Default::default()]).next().flatten();
    measure::asking(contender, mitigations, set(SMALL), interrupt, |load| {
        let mut cells = Vec::new();
        for value_bytes in [SMALL, MEDIUM, LARGE] {
            load.change(set(value_bytes))?;
            let answered = load.burst(BURST)?;
            cells.push(Some(f64::from(BURST - answered.min(BURST))));
        }
        Ok(cells)
    })
}
