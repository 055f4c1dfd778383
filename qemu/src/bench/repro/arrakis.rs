//! Arrakis' UDP table: what echoing a packet costs beside the network.

use anyhow::Result;

use super::experiments::Experiment;
use super::ours::{Effort, Ours, figure};
use super::published::{Amount, Beside, Published, Unit, Work};
use super::stages;
use crate::bench::compare::contender::Contender;
use crate::bench::compare::measure::MACHINE;
use crate::bench::compare::scenario::{SATURATED, Scenario};
use crate::bench::load::{Verb, Workload};
use crate::signals::Signals;

const WORK: Work = Work {
    cite: "S. Peter et al., \"Arrakis: The Operating System is the Control Plane\", OSDI, 2014",
    conditions: "UDP echo, 10 Gbit/s Ethernet; overhead per packet beside the network's time",
};

const fn overhead(
    key: &'static str,
    what: &'static str,
    value: f64,
    beside: &'static [Beside],
) -> Published {
    let (value, unit) = (Amount::Is(value), Unit::Microseconds);
    Published { key, what, value, unit, place: "UDP echo table", beside }
}

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "arrakis-udp",
    title: "UDP echo: stack, scheduler, copy and crossing",
    works: &[&WORK],
    published: &[
        overhead(
            "linux-running",
            "Linux, receiver running",
            3.36,
            &[Beside {
                key: "linux-batch",
                what: "Linux's kernel for a GET by our process, 32 at a time",
                unit: Unit::Instructions,
            }],
        ),
        overhead(
            "linux-idle",
            "Linux, receiver idle",
            6.19,
            &[Beside {
                key: "linux-one",
                what: "Linux's kernel for a GET by our process, one from sleep",
                unit: Unit::Instructions,
            }],
        ),
        overhead("posix", "Arrakis, POSIX sockets", 1.44, &[]),
        overhead(
            "native",
            "Arrakis, native interface",
            0.38,
            &[
                Beside {
                    key: "exo-batch",
                    what: "echo through Exo's library OS, 32 at a time, kernel and library",
                    unit: Unit::Instructions,
                },
                Beside {
                    key: "exo-one",
                    what: "the same, one from sleep",
                    unit: Unit::Instructions,
                },
            ],
        ),
    ],
    differs: "Published are times on a processor with a NIC that demultiplexes in hardware; ours are \
              instructions with an emulated NIC, the driver included, and for Linux what its kernel \
              does for a GET, the process's own instructions left out.",
    left_out: &[
        "Linux's share by stack, scheduler, copy and crossing: its package has no symbols to tell \
         them apart; repetitions of string instructions, which are copies, are given.",
        "A socket-like shim: the library OS has none.",
    ],
    minutes: 3,
    machine: Some(MACHINE),
    measure,
};

/// A request of this size, in the middle of those that are measured elsewhere.
const KEY: usize = 16;
const VALUE: usize = 64;

fn measure(effort: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let echo = Workload { verb: Verb::Echo, key_bytes: KEY, value_bytes: VALUE };
    let title = "Echo through Exo's library OS";
    let [one, batch] = stages::put_grid(&mut ours, "floor-udp", title, echo, interrupt)?;
    ours.put("exo-one", Some(one.total()));
    ours.put("exo-batch", Some(batch.total()));

    let get =
        |outstanding| Scenario { verb: Verb::Get, key_bytes: KEY, value_bytes: VALUE, outstanding };
    let scenarios = [get(1), get(SATURATED)];
    let contenders = [Contender::Process, Contender::Exo, Contender::ExoEcho, Contender::ExoRing];
    let rows = ours.rows(&contenders, &scenarios, effort, interrupt)?;
    ours.grids_of(&rows, &scenarios);
    ours.grid("Of all, in the kernel", &rows, &scenarios, |figure| figure.kernel);
    ours.grid("Repetitions of string instructions after the first", &rows, &scenarios, |figure| {
        figure.instructions - figure.repeats_once
    });
    ours.grid("How often the processor slept", &rows, &scenarios, |figure| figure.sleeps);
    let process = rows.iter().find(|row| row.name == Contender::Process.name());
    for (key, scenario) in [("linux-one", get(1)), ("linux-batch", get(SATURATED))] {
        ours.put(key, process.and_then(|row| Some(figure(row, scenario)?.kernel)));
    }
    Ok(ours)
}
