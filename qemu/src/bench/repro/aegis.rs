//! The primitives of Aegis beside Ultrix's, and those of L4Re.

use anyhow::Result;

use super::experiments::Experiment;
use super::ours::{Effort, Grid, Ours};
use super::published::{Amount, Beside, Published, Unit, Work, instructions, microseconds};
use crate::bench::primitives;
use crate::signals::Signals;

const AEGIS: Work = Work {
    cite: "D. Engler, M. F. Kaashoek and J. O'Toole, \"Exokernel\" (Aegis), SOSP, 1995",
    conditions: "DECstation 5000/125; Ultrix on the same machine, L3 on another and normalised",
};
const L4RE: Work = Work {
    cite: "L4Re, published counts of retired instructions, read in November 2026",
    conditions: "a processor's counter of retired instructions",
};

/// Retired instructions of L4Re.
const L4RE_CALL: f64 = 147.0;
const L4RE_IPC: f64 = 613.0;

const fn time(key: &'static str, what: &'static str, value: Amount) -> Published {
    microseconds("Aegis, primitives", key, what, value, &[])
}

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "aegis",
    title: "Primitive operations",
    works: &[&AEGIS, &L4RE],
    published: &[
        Published {
            beside: &[instructions("null", "null system call on Exo")],
            ..time("aegis-null", "Aegis, null system call", Amount::Between(1.6, 2.3))
        },
        Published {
            beside: &[instructions("getpid", "getpid on Linux")],
            ..time("ultrix-null", "Ultrix, null system call", Amount::Is(21.3))
        },
        Published {
            beside: &[instructions("exception", "exception to a bare handler and back on Exo")],
            ..time("aegis-exception", "Aegis, exception dispatch", Amount::Is(1.5))
        },
        Published {
            beside: &[instructions("sigill", "exception to a signal handler and back on Linux")],
            ..time("ultrix-exception", "Ultrix, exception dispatch", Amount::Between(130.0, 154.0))
        },
        Published {
            beside: &[instructions("transfer", "half a protected call and reply on Exo")],
            ..time("aegis-transfer", "Aegis, protected control transfer, one way", Amount::Is(1.4))
        },
        Published {
            key: "aegis-ipc",
            what: "the same, how many times faster than L3's IPC",
            value: Amount::Is(6.6),
            unit: Unit::Times,
            place: "Aegis, primitives",
            beside: &[Beside {
                key: "pipe-transfer",
                what: "half a ping-pong over pipes of Linux over Exo's",
                unit: Unit::Times,
            }],
        },
        Published {
            key: "l4re-call",
            what: "L4Re, system call",
            value: Amount::Is(L4RE_CALL),
            unit: Unit::Instructions,
            place: "L4Re, retired instructions",
            beside: &[instructions("null", "null system call on Exo")],
        },
        Published {
            key: "l4re-ipc",
            what: "L4Re, IPC between address spaces",
            value: Amount::Is(L4RE_IPC),
            unit: Unit::Instructions,
            place: "L4Re, retired instructions",
            beside: &[instructions("transfer", "half a protected call and reply on Exo")],
        },
    ],
    differs: "Aegis and Ultrix are times on a MIPS processor and L4Re's counts those of a real one \
              for operations whose bounds are not said, while ours are instructions in an emulator, \
              with Linux in Ultrix's stead.",
    left_out: &["Whether L4Re's IPC is one way or a round trip: the figure does not say."],
    minutes: 1,
    machine: Some(primitives::MACHINE),
    measure,
};

fn measure(_: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let report = primitives::measure(false, None, interrupt)?;
    let mut rows = Vec::new();
    for (exo, linux, what, l4re) in [
        ("null", "getpid", "system call; getpid", Some(L4RE_CALL)),
        ("exception", "sigill", "exception to a handler and back; signal", None),
        ("transfer", "pipe-one-way", "transfer one way; pipe", Some(L4RE_IPC)),
    ] {
        let (ours_count, linux_count) = report.pair(exo, linux);
        ours.put(exo, ours_count);
        let ratio = linux_count.zip(ours_count).map(|(linux, exo)| linux / exo);
        match linux {
            "pipe-one-way" => ours.put("pipe-transfer", ratio),
            _ => ours.put(linux, linux_count),
        }
        rows.push((what.to_owned(), vec![ours_count, linux_count, ratio, l4re]));
    }
    ours.grids.push(Grid {
        title: "Instructions per operation, kernel and program, median; lower is better".to_owned(),
        columns: ["Exo", "Linux", "Linux / Exo", "L4Re (published)"].map(ToOwned::to_owned).into(),
        rows,
    });
    ours.facts.push("all operations: `cargo exo bench primitives`".to_owned());
    Ok(ours)
}
