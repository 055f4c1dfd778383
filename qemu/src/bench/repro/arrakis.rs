//! Arrakis' UDP table: what echoing a packet costs beside the network, and where.

use anyhow::Result;

use super::experiments::Experiment;
use super::ours::{Effort, Ours, figure, once};
use super::published::{Amount, Beside, Published, Unit, Work, instructions, microseconds};
use super::stages;
use crate::bench::compare::contender::Contender;
use crate::bench::compare::measure::MACHINE;
use crate::bench::compare::scenario::{SATURATED, Scenario};
use crate::bench::load::{Verb, Workload};
use crate::bench::report::Scenario as StepCounts;
use crate::bench::rows::Row;
use crate::signals::Signals;

pub(super) const WORK: Work = Work {
    cite: "S. Peter et al., \"Arrakis: The Operating System is the Control Plane\", OSDI, 2014",
    conditions: "UDP echo, 10 Gbit/s Ethernet: overhead per packet beside the network's time; \
                 Redis with an append-only log: time at the server",
};

/// A line of the table, or of what it sums up.
const fn part(
    key: &'static str,
    what: &'static str,
    value: f64,
    beside: &'static [Beside],
) -> Published {
    microseconds("table 1", key, what, Amount::Is(value), beside)
}

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "arrakis-udp",
    title: "UDP echo: stack, scheduler, copy and crossing",
    works: &[&WORK],
    published: &[
        part(
            "linux-running",
            "Linux, receiver running, all",
            3.36,
            &[instructions("linux-batch", "echo through a Linux socket, 32 at a time")],
        ),
        part("linux-running-in", "its stack, in", 1.26, &[]),
        part("linux-running-out", "its stack, out", 1.05, &[]),
        part("linux-running-scheduler", "its scheduler", 0.17, &[]),
        part(
            "linux-running-copy-in",
            "its copy, in",
            0.24,
            &[instructions(
                "linux-batch-rep",
                "repetitions of string instructions: copying and clearing",
            )],
        ),
        part("linux-running-copy-out", "its copy, out", 0.44, &[]),
        part("linux-running-return", "its crossing, return", 0.1, &[]),
        part(
            "linux-running-call",
            "its crossing, system call",
            0.1,
            &[Beside {
                key: "linux-batch-calls",
                what: "system calls per echo",
                unit: Unit::SystemCalls,
            }],
        ),
        part(
            "linux-idle",
            "Linux, receiver idle, all",
            6.19,
            &[instructions("linux-one", "echo through a Linux socket, one from sleep")],
        ),
        part("linux-idle-in", "its stack, in", 1.24, &[]),
        part("linux-idle-out", "its stack, out", 1.42, &[]),
        part(
            "linux-idle-scheduler",
            "its scheduler",
            2.40,
            &[instructions("linux-wake", "one from sleep less 32 at a time: more than waking")],
        ),
        part(
            "linux-idle-copy-in",
            "its copy, in",
            0.25,
            &[instructions(
                "linux-one-rep",
                "repetitions of string instructions: copying and clearing",
            )],
        ),
        part("linux-idle-copy-out", "its copy, out", 0.55, &[]),
        part("linux-idle-return", "its crossing, return", 0.2, &[]),
        part(
            "linux-idle-call",
            "its crossing, system call",
            0.13,
            &[Beside {
                key: "linux-one-calls",
                what: "system calls per echo",
                unit: Unit::SystemCalls,
            }],
        ),
        part(
            "posix",
            "Arrakis, POSIX sockets, all",
            1.44,
            &[
                instructions("socket-batch", "echo by tasks that await datagrams, 32 at a time"),
                instructions("socket-one", "the same, one from sleep"),
            ],
        ),
        part(
            "posix-in",
            "its stack, in",
            0.32,
            &[
                instructions("socket-in", "steps 1 to 3 of 32 at a time"),
                instructions("socket-headers", "step 4, smoltcp and copies, in and out"),
            ],
        ),
        part(
            "posix-out",
            "its stack, out",
            0.27,
            &[instructions("socket-out", "step 6: transmit")],
        ),
        part("posix-copy-in", "its copy, in", 0.27, &[]),
        part("posix-copy-out", "its copy, out", 0.58, &[]),
        part(
            "native",
            "Arrakis, native interface, all",
            0.38,
            &[
                instructions("exo-batch", "echo through Exo's library OS, 32 at a time"),
                instructions("exo-one", "the same, one from sleep"),
            ],
        ),
        part(
            "native-in",
            "its stack, in",
            0.21,
            &[
                instructions("exo-in", "steps 1 to 3 of 32 at a time: receive, classify, deliver"),
                instructions("exo-headers", "step 4: headers, in and out"),
            ],
        ),
        part("native-out", "its stack, out", 0.17, &[instructions("exo-out", "step 6: transmit")]),
    ],
    differs: "Published are times on a processor with a NIC that demultiplexes in hardware; ours are \
              instructions with an emulated NIC, of kernel and receiver together, the driver \
              included, and Linux's receiver takes and sends a batch with one system call each.",
    left_out: &[
        "Linux's instructions by stack, scheduler and crossing: its package has no symbols to tell \
         them apart.",
        "Copies of Exo's as a part of their own: a copy is counted for the step that makes it.",
    ],
    minutes: 4,
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
    let taken_in = |batch: &StepCounts| -> Option<f64> {
        [Row::Receive, Row::Classify, Row::Deliver].into_iter().map(|step| batch.of(step)).sum()
    };
    ours.put("exo-in", taken_in(&batch));
    ours.put("exo-headers", batch.of(Row::UdpIp));
    ours.put("exo-out", batch.of(Row::Transmit));
    let title = "Echo through the library OS's socket-like interface";
    let [one, batch] = stages::put_grid(&mut ours, "floor-socket", title, echo, interrupt)?;
    ours.put("socket-one", Some(one.total()));
    ours.put("socket-batch", Some(batch.total()));
    ours.put("socket-in", taken_in(&batch));
    ours.put("socket-headers", batch.of(Row::UdpIp));
    ours.put("socket-out", batch.of(Row::Transmit));

    // Of an echo: as long as such a GET.
    let get =
        |outstanding| Scenario { verb: Verb::Get, key_bytes: KEY, value_bytes: VALUE, outstanding };
    let scenarios = [get(1), get(SATURATED)];
    let contenders = [Contender::LinuxEcho, Contender::ExoEcho, Contender::ExoRing];
    let rows = ours.rows(&contenders, &scenarios, effort, interrupt)?;
    ours.grids_of(&rows, &scenarios);
    ours.grid("Of all, in the kernel", &rows, &scenarios, |figure| figure.kernel);
    ours.grid("Repetitions of string instructions after the first", &rows, &scenarios, |figure| {
        figure.instructions - figure.repeats_once
    });
    ours.grid("How often the processor slept", &rows, &scenarios, |figure| figure.sleeps);
    let linux = |scenario| once(&rows, Contender::LinuxEcho, scenario);
    let [one, batch] = scenarios;
    ours.put("linux-one", linux(one));
    ours.put("linux-batch", linux(batch));
    ours.put("linux-wake", linux(one).zip(linux(batch)).map(|(one, batch)| one - batch));
    let row = rows.iter().find(|row| row.name == Contender::LinuxEcho.name());
    for (repetitions, calls, scenario) in
        [("linux-one-rep", "linux-one-calls", one), ("linux-batch-rep", "linux-batch-calls", batch)]
    {
        let figure = row.and_then(|row| figure(row, scenario));
        ours.put(repetitions, figure.map(|figure| figure.instructions - figure.repeats_once));
        ours.put(calls, figure.map(|figure| figure.system_calls));
    }
    ours.facts.push(format!("an echo's datagram is that of a GET {KEY}/{VALUE}"));
    Ok(ours)
}
