//! DPF's table: demultiplexing among ten filters.

use anyhow::Result;

use super::experiments::Experiment;
use super::ours::{Effort, Grid, Ours};
use super::published::{Amount, Beside, Published, Unit, Work};
use crate::bench::dpf;
use crate::signals::Signals;

const WORK: Work = Work {
    cite: "D. Engler and M. F. Kaashoek, \"DPF: Fast, Flexible Message Demultiplexing using Dynamic \
           Code Generation\", SIGCOMM, 1996",
    conditions: "TCP/IP packets against 10 filters, machines of the DECstation 5000 class",
};

/// What the sources count.
const FILTERS: u32 = 10;

pub(super) const EXPERIMENT: Experiment = Experiment {
    name: "dpf",
    title: "Demultiplexing among ten filters",
    works: &[&WORK],
    published: &[
        Published {
            key: "mpf",
            what: "MPF",
            value: Amount::Is(35.0),
            unit: Unit::Microseconds,
            place: "table of demultiplexing",
            beside: &[Beside {
                key: "pcap-or",
                what: "libpcap, one program that merges ten UDP ports",
                unit: Unit::Instructions,
            }],
        },
        Published {
            key: "pathfinder",
            what: "PATHFINDER",
            value: Amount::Is(19.0),
            unit: Unit::Microseconds,
            place: "table of demultiplexing",
            beside: &[Beside {
                key: "merged",
                what: "Exo's merged filters, interpreted, ten UDP ports",
                unit: Unit::Instructions,
            }],
        },
        Published {
            key: "dpf",
            what: "DPF",
            value: Amount::Is(1.5),
            unit: Unit::Microseconds,
            place: "table of demultiplexing",
            beside: &[Beside {
                key: "exo",
                what: "Exo's merged filters as machine code, ten UDP ports",
                unit: Unit::Instructions,
            }],
        },
    ],
    differs: "Published are times of other engines on another processor for TCP/IP packets; ours \
              are instructions of today's nearest in kind, on the host, for UDP ports, the packet's \
              delivery not included.",
    left_out: &["MPF and PATHFINDER themselves: no program of either can be had."],
    minutes: 3,
    machine: None,
    measure,
};

fn measure(effort: Effort, interrupt: &Signals) -> Result<Ours> {
    let mut ours = Ours::default();
    let cases = dpf::ports(!effort.full, interrupt)?;
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in cases.iter().flat_map(|case| &case.instructions) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let of = |case: &dpf::Ports, name: &str| {
        case.instructions.iter().find(|(other, _)| other == name).map(|&(_, count)| count)
    };
    if let Some(ten) = cases.iter().find(|case| case.filters == FILTERS) {
        for key in ["pcap-or", "merged", "exo"] {
            ours.put(key, of(ten, key));
        }
    }
    let rows =
        names.iter().map(|&name| (name.clone(), cases.iter().map(|case| of(case, name)).collect()));
    ours.grids.push(Grid {
        title: "Instructions per packet, uniform over UDP ports, by their number; lower is better"
            .to_owned(),
        columns: cases
            .iter()
            .map(|case| match case.filters {
                1 => "1 port".to_owned(),
                filters => format!("{filters} ports"),
            })
            .collect(),
        rows: rows.collect(),
    });
    ours.facts.push("all contenders are described by `cargo exo bench dpf`".to_owned());
    Ok(ours)
}
