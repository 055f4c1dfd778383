//! Figure 4.2: what each stage of a request's pipeline costs.

use anyhow::Result;

use super::{DISSERTATION, KEY, LARGE, get};
use crate::bench::compare::contender::Contender;
use crate::bench::compare::measure::MACHINE;
use crate::bench::compare::scenario::SATURATED;
use crate::bench::load::Workload;
use crate::bench::repro::experiments::Experiment;
use crate::bench::repro::ours::{Effort, Ours, once};
use crate::bench::repro::published::{Amount, Beside, Published, Unit};
use crate::bench::repro::stages;
use crate::bench::rows::Row;
use crate::signals::Signals;

pub(in crate::bench::repro) const EXPERIMENT: Experiment = Experiment {
    name: "unbuckle-4.2",
    title: "What each stage of a request costs",
    works: &[&DISSERTATION],
    published: &[
        Published {
            key: "total",
            what: "a request, all stages, in Linux's kernel",
            value: Amount::About(5800.0),
            unit: Unit::Cycles,
            place: "4.4.1, figure 4.2",
            beside: &[
                Beside { key: "total", what: "a GET on Exo, all steps", unit: Unit::Instructions },
                Beside {
                    key: "in-kernel",
                    what: "a GET by our store in Linux's kernel, driver and stack included",
                    unit: Unit::Instructions,
                },
            ],
        },
        Published {
            key: "process",
            what: "of these, processing the request",
            value: Amount::Is(2500.0),
            unit: Unit::Cycles,
            place: "4.4.1",
            beside: &[Beside {
                key: "process",
                what: "step 5, protocol and engine",
                unit: Unit::Instructions,
            }],
        },
        Published {
            key: "udp-decode",
            what: "decoding the UDP header, of all",
            value: Amount::Is(1.0),
            unit: Unit::Percent,
            place: "4.4.1, \"Header decoding\"",
            beside: &[Beside {
                key: "udp-decode",
                what: "step 4, headers read and written, of all",
                unit: Unit::Percent,
            }],
        },
        Published {
            key: "user-send",
            what: "for comparison, sending a datagram from user space",
            value: Amount::About(20_000.0),
            unit: Unit::Cycles,
            place: "4.4.1",
            beside: &[],
        },
    ],
    differs: "Published are cycles of a processor from the module's hook on, for requests of 1024 \
              bytes; ours are instructions of a GET of 1024 bytes from the guest's waking until it \
              sleeps, driver included, 32 requests in one batch.",
    left_out: &["Cycles: an emulator's say nothing of a processor's."],
    minutes: 3,
    machine: Some(MACHINE),
    measure,
};

fn measure(effort: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let workload = Workload::gets(KEY, LARGE);
    let [_, batch] =
        stages::put_grid(&mut ours, "bench", "GET 64/1024 on Exo", workload, interrupt)?;
    ours.put("total", Some(batch.total()));
    ours.put("process", batch.of(Row::Answer));
    ours.put("udp-decode", batch.of(Row::UdpIp).map(|count| count / batch.total() * 100.0));
    let scenarios = [get(LARGE, 1), get(LARGE, SATURATED)];
    let rows = ours.rows(&[Contender::Module], &scenarios, effort, interrupt)?;
    ours.grids_of(&rows, &scenarios);
    ours.put("in-kernel", once(&rows, Contender::Module, get(LARGE, SATURATED)));
    Ok(ours)
}
