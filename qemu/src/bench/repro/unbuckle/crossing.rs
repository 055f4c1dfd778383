//! Figure 4.6: the same store as a process and in the kernel, by request size.

use anyhow::Result;

use super::{DISSERTATION, LARGE, get};
use crate::bench::compare::contender::Contender;
use crate::bench::compare::measure::MACHINE;
use crate::bench::repro::experiments::Experiment;
use crate::bench::repro::ours::{Effort, Ours, figure, once};
use crate::bench::repro::published::{Amount, Beside, Published, Unit};
use crate::signals::Signals;

/// Bytes of values: those of the dissertation's script (listing A.1).
const SIZES: [usize; 7] = [1, 16, 64, 300, 600, 900, LARGE];

pub(in crate::bench::repro) const EXPERIMENT: Experiment = Experiment {
    name: "unbuckle-4.6",
    title: "The same code as a process and in Linux's kernel, by request size",
    works: &[&DISSERTATION],
    published: &[
        Published {
            key: "extra",
            what: "what user space adds to the latency of a small request",
            value: Amount::Is(10.0),
            unit: Unit::Microseconds,
            place: "4.5.1, figure 4.6",
            beside: &[Beside {
                key: "extra",
                what: "process less module, value of 1 byte",
                unit: Unit::Instructions,
            }],
        },
        Published {
            key: "calls",
            what: "system calls per request",
            value: Amount::Is(2.0),
            unit: Unit::SystemCalls,
            place: "4.5.1",
            beside: &[Beside {
                key: "calls",
                what: "system calls per request of the process, one outstanding",
                unit: Unit::SystemCalls,
            }],
        },
        Published {
            key: "per-call",
            what: "overhead of a system call, its part of the socket path included",
            value: Amount::Is(5.0),
            unit: Unit::Microseconds,
            place: "4.5.1",
            beside: &[],
        },
        Published {
            key: "baseline",
            what: "latency of the network and of both hosts' stacks",
            value: Amount::Above(100.0),
            unit: Unit::Microseconds,
            place: "4.5.1",
            beside: &[],
        },
        Published {
            key: "kernel-latency",
            what: "latency in the kernel, the same for all sizes",
            value: Amount::Is(140.0),
            unit: Unit::Microseconds,
            place: "4.5.1",
            beside: &[Beside {
                key: "kernel-latency",
                what: "module, value of 1024 bytes less value of 1 byte",
                unit: Unit::Instructions,
            }],
        },
        Published {
            key: "widening",
            what: "request size from which on copies dominate the difference",
            value: Amount::Is(150.0),
            unit: Unit::Bytes,
            place: "4.5.1, \"Memory copy operations\"",
            beside: &[],
        },
    ],
    differs: "Published are latencies with a socket in both places and a tenth of SETs; ours are \
              instructions of GETs, with the module below the socket, so that the difference holds \
              the socket, too.",
    left_out: &["Latency: the emulator's is not a processor's."],
    minutes: 5,
    machine: Some(MACHINE),
    measure,
};

fn measure(effort: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let scenarios = SIZES.map(|value_bytes| get(value_bytes, 1));
    let contenders = [Contender::Process, Contender::Module, Contender::Exo];
    let rows = ours.rows(&contenders, &scenarios, effort, interrupt)?;
    ours.grids_of(&rows, &scenarios);
    let [small, .., large] = scenarios;
    let of = |contender, scenario| once(&rows, contender, scenario);
    let difference = |more: Option<f64>, less: Option<f64>| Some(more? - less?);
    ours.put("extra", difference(of(Contender::Process, small), of(Contender::Module, small)));
    ours.put(
        "kernel-latency",
        difference(of(Contender::Module, large), of(Contender::Module, small)),
    );
    let process = rows.iter().find(|row| row.name == Contender::Process.name());
    let calls = process.and_then(|row| figure(row, small)).map(|figure| figure.system_calls);
    ours.put("calls", calls);
    Ok(ours)
}
