//! Table 4.1: beside research systems.

use anyhow::Result;

use super::DISSERTATION;
use crate::bench::compare::contender::Contender;
use crate::bench::compare::measure::MACHINE;
use crate::bench::compare::scenario::{SATURATED, Scenario};
use crate::bench::load::Verb;
use crate::bench::repro::experiments::Experiment;
use crate::bench::repro::ours::{Effort, Ours, once};
use crate::bench::repro::published::{Amount, Beside, Published, Unit};
use crate::signals::Signals;

/// A figure of a system that is not measured here.
const fn quoted(key: &'static str, what: &'static str, value: f64) -> Published {
    let value = Amount::Is(value);
    Published { key, what, value, unit: Unit::RequestsPerSecond, place: "table 4.1", beside: &[] }
}

const fn lines(key: &'static str, what: &'static str, value: f64) -> Published {
    Published { unit: Unit::LinesOfCode, ..quoted(key, what, value) }
}

pub(in crate::bench::repro) const EXPERIMENT: Experiment = Experiment {
    name: "unbuckle-table-4.1",
    title: "Beside research systems: 16/64 and 128/1024 bytes",
    works: &[&DISSERTATION],
    published: &[
        Published {
            beside: &[
                Beside { key: "exo-small", what: "a GET 16/64 on Exo", unit: Unit::Instructions },
                Beside {
                    key: "module-small",
                    what: "a GET 16/64 by our store in Linux's kernel",
                    unit: Unit::Instructions,
                },
            ],
            ..quoted("unbuckle-small", "Unbuckle, small requests (16/64)", 1.9e6)
        },
        Published {
            beside: &[
                Beside {
                    key: "exo-large",
                    what: "a GET 128/1024 on Exo",
                    unit: Unit::Instructions,
                },
                Beside {
                    key: "module-large",
                    what: "a GET 128/1024 by our store in Linux's kernel",
                    unit: Unit::Instructions,
                },
            ],
            ..quoted("unbuckle-large", "Unbuckle, large requests (128/1024)", 2.5e6)
        },
        quoted("ramcloud-small", "RAMCloud, small requests", 2.3e6),
        quoted("ramcloud-large", "RAMCloud, large requests", 3.1e6),
        quoted("masstree-small", "Masstree, small requests", 4.9e6),
        quoted("masstree-large", "Masstree, large requests", 10.8e6),
        quoted("mica-small", "MICA, small requests", 9.4e6),
        quoted("mica-large", "MICA, large requests", 64.4e6),
        lines("unbuckle-lines", "Unbuckle, its part in the kernel", 3300.0),
        lines("ramcloud-lines", "RAMCloud", 96_000.0),
        lines("masstree-lines", "Masstree", 25_000.0),
        lines("mica-lines", "MICA, without DPDK", 8700.0),
    ],
    differs: "Published are requests a second of whole machines with several processors, quoted for \
              three of the four and with the columns of those three swapped as it seems (more large \
              requests than small ones); ours are instructions of one GET.",
    left_out: &[
        "Requests a second: one emulated processor says nothing of six real ones.",
        "RAMCloud, Masstree and MICA: none of them is a package.",
        "Lines of code: `cargo exo tcb` counts those of ring 0.",
    ],
    minutes: 2,
    machine: Some(MACHINE),
    measure,
};

fn measure(effort: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let scenarios = [(16, 64), (128, 1024)].map(|(key_bytes, value_bytes)| Scenario {
        verb: Verb::Get,
        key_bytes,
        value_bytes,
        outstanding: SATURATED,
    });
    let contenders = [Contender::Memcached, Contender::Module, Contender::Exo];
    let rows = ours.rows(&contenders, &scenarios, effort, interrupt)?;
    ours.grids_of(&rows, &scenarios);
    let [small, large] = scenarios;
    for (key, contender, scenario) in [
        ("exo-small", Contender::Exo, small),
        ("module-small", Contender::Module, small),
        ("exo-large", Contender::Exo, large),
        ("module-large", Contender::Module, large),
    ] {
        ours.put(key, once(&rows, contender, scenario));
    }
    Ok(ours)
}
