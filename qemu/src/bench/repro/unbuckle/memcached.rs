//! Figure 4.7: beside memcached, small to large requests, and latency at 320 bytes.

use anyhow::Result;

use super::{DISSERTATION, LARGE, MEDIUM, SMALL, get};
use crate::bench::compare::contender::Contender;
use crate::bench::compare::measure::MACHINE;
use crate::bench::compare::scenario::SATURATED;
use crate::bench::repro::experiments::Experiment;
use crate::bench::repro::ours::{Effort, Ours, times};
use crate::bench::repro::published::{Amount, Beside, Published, Unit};
use crate::signals::Signals;

pub(in crate::bench::repro) const EXPERIMENT: Experiment = Experiment {
    name: "unbuckle-4.7",
    title: "Beside memcached: small, medium and large requests",
    works: &[&DISSERTATION],
    published: &[
        Published {
            key: "user",
            what: "throughput in user space over memcached, small requests",
            value: Amount::About(40.0),
            unit: Unit::Percent,
            place: "4.5.2, figure 4.7a",
            beside: &[Beside {
                key: "memcached-process",
                what: "how many more instructions memcached takes than our process, GET 64/64",
                unit: Unit::Percent,
            }],
        },
        Published {
            key: "kernel",
            what: "throughput in the kernel over memcached, small requests",
            value: Amount::Is(90.0),
            unit: Unit::Percent,
            place: "4.5.2, figure 4.7a",
            beside: &[
                Beside {
                    key: "memcached-module",
                    what: "how many more instructions memcached takes than our module, GET 64/64",
                    unit: Unit::Percent,
                },
                Beside {
                    key: "memcached-exo",
                    what: "how many more instructions memcached takes than Exo, GET 64/64",
                    unit: Unit::Percent,
                },
            ],
        },
        Published {
            key: "median",
            what: "median latency in user space below memcached's, small requests",
            value: Amount::About(25.0),
            unit: Unit::Percent,
            place: "4.5.2",
            beside: &[],
        },
        Published {
            key: "first",
            what: "memcached's first percentile of latency above both, 320 bytes",
            value: Amount::Is(100.0),
            unit: Unit::Microseconds,
            place: "4.5.2, figure 4.7b",
            beside: &[],
        },
        Published {
            key: "threads",
            what: "throughput in the kernel over memcached, several threads, large requests",
            value: Amount::UpTo(50.0),
            unit: Unit::Percent,
            place: "4.5.3, figure 4.8",
            beside: &[],
        },
    ],
    differs: "Published are requests a second of one thread behind the socket interface, under \
              memaslap's load on a processor; ours are instructions of GETs, with the \
              module below the socket.",
    left_out: &[
        "Requests a second and the distribution of latency at 320 bytes: they need a load from \
         outside; of Exo `cargo exo load --exo --key-size 64 --value-size 320` prints them, in the \
         emulator's time.",
        "Several threads: one processor is counted.",
    ],
    minutes: 4,
    machine: Some(MACHINE),
    measure,
};

fn measure(effort: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let scenarios = [SMALL, MEDIUM, LARGE].map(|value_bytes| get(value_bytes, SATURATED));
    let contenders = [Contender::Memcached, Contender::Process, Contender::Module, Contender::Exo];
    let rows = ours.rows(&contenders, &scenarios, effort, interrupt)?;
    ours.grids_of(&rows, &scenarios);
    let [small, ..] = scenarios;
    for (key, than) in [
        ("memcached-process", Contender::Process),
        ("memcached-module", Contender::Module),
        ("memcached-exo", Contender::Exo),
    ] {
        let ratio = times(&rows, Contender::Memcached, than, small);
        ours.put(key, ratio.map(|ratio| (ratio - 1.0) * 100.0));
    }
    Ok(ours)
}
