//! Unikraft's UDP key-value table: the same store on a unikernel's raw device and on Linux.

use anyhow::Result;

use super::experiments::Experiment;
use super::ours::{Effort, Ours, once, times};
use super::published::{Amount, Beside, Published, Unit, Work};
use crate::bench::compare::contender::Contender;
use crate::bench::compare::measure::MACHINE;
use crate::bench::compare::scenario::{SATURATED, Scenario};
use crate::bench::load::Verb;
use crate::signals::Signals;

const WORK: Work = Work {
    cite: "S. Kuenzer et al., \"Unikraft: Fast, Specialized Unikernels the Easy Way\", EuroSys, 2021",
    conditions: "UDP key-value store under KVM; Unikraft on its raw network device, polled",
};

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "unikraft-udp",
    title: "A UDP key-value store in a Linux guest and without Linux",
    works: &[&WORK],
    published: &[
        Published {
            key: "linux-single",
            what: "Linux guest, a system call for each request",
            value: Amount::Is(105_000.0),
            unit: Unit::RequestsPerSecond,
            place: "UDP key-value table",
            beside: &[Beside {
                key: "process-one",
                what: "a GET by our process, one outstanding",
                unit: Unit::Instructions,
            }],
        },
        Published {
            key: "linux-batched",
            what: "Linux guest, batched system calls",
            value: Amount::Is(276_000.0),
            unit: Unit::RequestsPerSecond,
            place: "UDP key-value table",
            beside: &[Beside {
                key: "process-batch",
                what: "a GET by our process, 32 at a time",
                unit: Unit::Instructions,
            }],
        },
        Published {
            key: "unikraft",
            what: "Unikraft, raw network device",
            value: Amount::Is(6.0e6),
            unit: Unit::RequestsPerSecond,
            place: "UDP key-value table",
            beside: &[
                Beside {
                    key: "exo-batch",
                    what: "a GET on Exo, 32 at a time",
                    unit: Unit::Instructions,
                },
                Beside {
                    key: "process-exo",
                    what: "our process's instructions over Exo's, 32 at a time",
                    unit: Unit::Times,
                },
            ],
        },
    ],
    differs: "Published are requests a second of a store without protection between it and the \
              device, under KVM; ours are instructions of a store in ring 3, in an emulator.",
    left_out: &["Requests a second: the emulator's time is not a processor's."],
    minutes: 2,
    machine: Some(MACHINE),
    measure,
};

fn measure(effort: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let get =
        |outstanding| Scenario { verb: Verb::Get, key_bytes: 16, value_bytes: 64, outstanding };
    let scenarios = [get(1), get(SATURATED)];
    let contenders = [Contender::Process, Contender::Exo, Contender::ExoRing];
    let rows = ours.rows(&contenders, &scenarios, effort, interrupt)?;
    ours.grids_of(&rows, &scenarios);
    let [one, batch] = scenarios;
    ours.put("process-one", once(&rows, Contender::Process, one));
    ours.put("process-batch", once(&rows, Contender::Process, batch));
    ours.put("exo-batch", once(&rows, Contender::Exo, batch));
    ours.put("process-exo", times(&rows, Contender::Process, Contender::Exo, batch));
    Ok(ours)
}
