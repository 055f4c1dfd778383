//! What this system is to reach, and what others have published.

use serde::Serialize;

use super::figures::{Case, Figures, Measured, Outcome};

/// A published time, beside the contender that is nearest in kind.
pub(super) struct Published {
    pub(super) contender: &'static str,
    pub(super) figure: &'static str,
}

/// For ten filters.
pub(super) const PUBLISHED: [Published; 3] = [
    Published { contender: "exo", figure: "DPF 1.5 us" },
    Published { contender: "merged", figure: "PATHFINDER 19 us" },
    Published { contender: "pcap-or", figure: "MPF 35 us" },
];
/// Where from.
pub(super) const SOURCE: &str = "Engler and Kaashoek, \"DPF\", SIGCOMM 1996: TCP/IP packets against 10 filters \
     on machines of the DECstation 5000 class. Times of another processor: not comparable.";

/// One goal, and what was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verdict {
    /// What documents call it.
    pub(super) name: String,
    pub(super) goal: String,
    pub(super) measured: String,
    /// The figure that decides.
    pub(super) figure: String,
    pub(super) met: bool,
}

impl Figures {
    pub(super) fn case(&self, set: &str, filters: u32) -> Option<&Case> {
        self.cases.iter().find(|case| case.set == set && case.filters == filters)
    }

    /// What was measured of a contender.
    pub(super) fn of<'a>(&self, case: &'a Case, name: &str) -> Option<&'a Measured> {
        let at = self.contenders.iter().position(|(other, _)| other == name)?;
        match case.results.get(at)? {
            Outcome::Measured(measured) => Some(measured),
            Outcome::Cannot(_) => None,
        }
    }

    /// Instructions per packet.
    pub(super) fn instructions(&self, case: &Case, name: &str, mix: &str) -> Option<f64> {
        let packets = &self.of(case, name)?.packets;
        packets.iter().find(|packets| packets.mix == mix).map(|packets| packets.instructions)
    }
}

/// Numbers of filters, contenders, and how many times as many instructions they are to
/// take as ours.
const FACTORS: [(u32, &str, f64); 4] =
    [(10, "filters", 20.0), (10, "merged", 10.0), (10, "ebpf-jit", 2.0), (1000, "ebpf-jit", 100.0)];
/// How many times as many as a table written by hand ours may take.
const HAND: f64 = 1.3;
/// How many times as many a change may take among 10,000 filters as among ten.
const CHANGE: f64 = 3.0;

/// All goals that these figures can tell of.
pub(super) fn verdicts(figures: &Figures) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (filters, name, factor) in FACTORS {
        let Some(case) = figures.case("ports", filters) else { continue };
        let ratio = |mix| {
            let theirs = figures.instructions(case, name, mix)?;
            Some(theirs / figures.instructions(case, &figures.ours, mix)?)
        };
        let (Some(uniform), Some(last), Some(miss)) =
            (ratio("uniform"), ratio("last"), ratio("miss"))
        else {
            continue;
        };
        verdicts.push(Verdict {
            name: format!("{filters}.{name}"),
            figure: format!("{uniform:.1}"),
            goal: format!("{filters} ports, uniform: {name} takes at least {factor}x"),
            measured: format!("{uniform:.1}x (last {last:.1}x, miss {miss:.1}x)"),
            met: uniform >= factor,
        });
    }
    verdicts.extend(by_hand(figures, "demux", "all fields of the sets"));
    verdicts.extend(by_hand(figures, "demux-ports", "UDP ports alone"));
    verdicts.extend(changes(figures));
    verdicts
}

/// The worst case against one written by hand.
fn by_hand(figures: &Figures, name: &str, what: &str) -> Option<Verdict> {
    let mut all: Vec<(f64, String)> = Vec::new();
    for case in &figures.cases {
        let Some(theirs) = figures.of(case, name) else { continue };
        for packets in &theirs.packets {
            let ours = figures.instructions(case, &figures.ours, &packets.mix)?;
            let at = format!("{} {}, {}", case.filters, case.set, packets.mix);
            all.push((ours / packets.instructions, at));
        }
    }
    let (ratio, at) = all.iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
    let within = all.iter().filter(|(ratio, _)| *ratio <= HAND).count();
    Some(Verdict {
        name: name.to_owned(),
        figure: format!("{ratio:.2}"),
        goal: format!("everywhere at most {HAND}x {name} (by hand, for {what})"),
        measured: format!("{ratio:.2}x at worst ({at}); {within} of {} within", all.len()),
        met: *ratio <= HAND,
    })
}

fn changes(figures: &Figures) -> Option<Verdict> {
    let of = |filters| {
        let measured = figures.of(figures.case("ports", filters)?, &figures.ours)?;
        Some((measured.insert.instructions?, measured.remove.instructions?))
    };
    let (few, many) = (of(10)?, of(10_000)?);
    let (insert, remove) = (many.0 / few.0, many.1 / few.1);
    Some(Verdict {
        name: "changes".to_owned(),
        figure: format!("{:.2}", insert.max(remove)),
        goal: format!("insert and remove among 10,000 at most {CHANGE}x that among 10"),
        measured: format!("insert {insert:.2}x, remove {remove:.2}x"),
        met: insert.max(remove) <= CHANGE,
    })
}
