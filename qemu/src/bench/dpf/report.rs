//! What was measured, as tables for people and as JSON.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use super::figures::{Case, Figures, Outcome};
use super::goals::{PUBLISHED, SOURCE, Verdict, verdicts};
use crate::bench::conditions::Conditions;
use crate::bench::report::Stating;
use crate::figures::{self, Named};

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    unit: &'static str,
    better: &'static str,
    conditions: Conditions,
    goals: Vec<Verdict>,
    figures: Figures,
}

impl Stating for Report {
    /// Instructions per packet, uniform, as `SET.FILTERS.CONTENDER`, those of changes as
    /// `SET.FILTERS.insert` and `.remove`; what a goal's verdict rests on as `goal.NAME`, and the
    /// verdict as `goal.NAME.met`.
    fn stated(&self) -> Named {
        let mut stated = Named::new();
        for case in &self.figures.cases {
            let at = format!("{}.{}", case.set, case.filters);
            for (name, _) in &self.figures.contenders {
                if let Some(count) = self.figures.instructions(case, name, "uniform") {
                    stated.insert(format!("{at}.{name}"), figures::count(count.round()));
                }
            }
            let Some(ours) = self.figures.of(case, &self.figures.ours) else { continue };
            for (what, change) in [("insert", &ours.insert), ("remove", &ours.remove)] {
                let count = change.instructions.map(|count| figures::count(count.round()));
                stated.extend(count.map(|count| (format!("{at}.{what}"), count)));
            }
        }
        for Verdict { name, figure, met, .. } in &self.goals {
            stated.insert(format!("goal.{name}"), figure.clone());
            stated.insert(format!("goal.{name}.met"), figures::verdict(*met));
        }
        stated
    }
}

impl Report {
    pub(super) fn new(conditions: Conditions, figures: Figures) -> Self {
        let goals = verdicts(&figures);
        Self { unit: "instructions per packet", better: "lower", conditions, goals, figures }
    }

    pub(super) fn figures(&self) -> &Figures {
        &self.figures
    }

    pub(super) fn text(&self) -> Result<String> {
        let mut out = String::new();
        let Self { unit, better, figures, .. } = self;
        writeln!(out, "{unit}; {better} is better")?;
        write!(out, "{}", self.conditions.host_lines())?;
        writeln!(out, "counted by {}", figures.method)?;
        let libpcap = figures.libpcap.as_deref().unwrap_or("libpcap is missing");
        writeln!(out, "{libpcap}\n")?;
        for (name, what) in &figures.contenders {
            writeln!(out, "  {name:12}{what}")?;
        }
        writeln!(
            out,
            "\nPackets: of the first filter, of the last, of all alike, by Zipf's law, no filter's.\n\
             In brackets how many times as long as ours they took, the median of {} rounds in turn.\n\
             Changes: from a verified filter or bytecode; of the latest {} filters.",
            figures.rounds, 16
        )?;
        for case in &figures.cases {
            self.table(&mut out, case)?;
        }
        writeln!(out, "\npublished: {SOURCE}\n\ngoals, in instructions:")?;
        for Verdict { goal, measured, met, .. } in &self.goals {
            let verdict = if *met { "met" } else { "MISSED" };
            writeln!(out, "  {verdict:7}{goal}: {measured}")?;
        }
        Ok(out)
    }

    fn table(&self, out: &mut String, case: &Case) -> Result<()> {
        let figures = &self.figures;
        let published = case.set == "ports" && case.filters == 10;
        writeln!(out, "\n{} of {}", case.filters, case.set)?;
        write!(out, "{:12}", "")?;
        for mix in ["first", "last", "uniform", "zipf", "miss"] {
            write!(out, "{mix:>18}")?;
        }
        write!(
            out,
            "{:>10}{:>10}{:>10}{:>10}{:>9}{:>9}",
            "insert", "ns", "remove", "ns", "code B", "data B"
        )?;
        writeln!(out, "{}", if published { "  published" } else { "" })?;
        for ((name, _), result) in figures.contenders.iter().zip(&case.results) {
            write!(out, "{name:12}")?;
            let measured = match result {
                Outcome::Cannot(reason) => {
                    writeln!(out, "  -  {reason}")?;
                    continue;
                }
                Outcome::Measured(measured) => measured,
            };
            for packets in &measured.packets {
                let ratio = match packets.ratio {
                    ratio if ratio >= 99.95 => format!("{ratio:.0}x"),
                    ratio if ratio >= 9.995 => format!("{ratio:.1}x"),
                    ratio => format!("{ratio:.2}x"),
                };
                let cell = format!("{:.0} ({ratio})", packets.instructions);
                write!(out, "{cell:>18}")?;
            }
            for change in [&measured.insert, &measured.remove] {
                let count = change.instructions.map_or("all anew".into(), |n| format!("{n:.0}"));
                write!(out, "{count:>10}{:>10.0}", change.ns)?;
            }
            write!(out, "{:>9.0}{:>9.0}", measured.code_bytes, measured.data_bytes)?;
            let known = PUBLISHED.iter().find(|it| published && it.contender == name);
            writeln!(out, "{}", known.map_or(String::new(), |it| format!("  {}", it.figure)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Change, Measured, PerPacket};
    use super::*;

    /// Instructions per packet of each contender, for ten and a thousand filters.
    fn figures(costs: [(&str, f64, f64); 4]) -> Figures {
        let measured = |instructions: f64| {
            let packets = ["first", "last", "uniform", "zipf", "miss"].map(|mix| PerPacket {
                mix: mix.into(),
                count: 1,
                instructions,
                ns: 1.0,
                ratio: 1.0,
            });
            let change = || Change { instructions: Some(instructions), ns: 1.0 };
            Outcome::Measured(Measured {
                packets: packets.into(),
                insert: change(),
                remove: change(),
                code_bytes: 0.0,
                data_bytes: 8.0,
                tells_who: true,
            })
        };
        let case = |filters, results: [Outcome; 4]| Case {
            set: "ports".into(),
            filters,
            results: results.into(),
        };
        Figures {
            method: "hand".into(),
            libpcap: None,
            rounds: 1,
            contenders: costs.map(|(name, ..)| (name.into(), "a way".into())).into(),
            ours: "exo".into(),
            cases: vec![
                case(10, costs.map(|(_, ten, _)| measured(ten))),
                case(1000, costs.map(|(_, _, thousand)| measured(thousand))),
                case(10_000, costs.map(|(_, _, thousand)| measured(thousand))),
            ],
        }
    }

    fn text(figures: Figures) -> String {
        Report::new(Conditions::on_host(), figures).text().unwrap()
    }

    #[test]
    fn goals_are_met_or_missed() {
        let good = text(figures([
            ("filters", 1000.0, 9.0),
            ("ebpf-jit", 100.0, 6000.0),
            ("demux-ports", 40.0, 40.0),
            ("exo", 50.0, 52.0),
        ]));
        assert!(
            good.contains("met    10 ports, uniform: filters takes at least 20x: 20.0x"),
            "{good}"
        );
        assert!(
            good.contains("met    1000 ports, uniform: ebpf-jit takes at least 100x"),
            "{good}"
        );
        assert!(good.contains("met    everywhere at most 1.3x demux-ports"), "{good}");
        assert!(good.contains("insert 1.04x, remove 1.04x"), "{good}");
        assert!(!good.contains("MISSED"), "{good}");
        let bad = text(figures([
            ("filters", 900.0, 9.0),
            ("ebpf-jit", 99.0, 5000.0),
            ("demux-ports", 30.0, 30.0),
            ("exo", 50.0, 200.0),
        ]));
        assert_eq!(bad.matches("MISSED").count(), 5, "{bad}");
    }

    #[test]
    fn reasons_are_in_the_table_and_published_times_beside_ten_filters() {
        let mut figures = figures([
            ("filters", 1.0, 1.0),
            ("ebpf", 1.0, 1.0),
            ("pcap", 1.0, 1.0),
            ("exo", 1.0, 1.0),
        ]);
        figures.cases[0].results[2] = Outcome::Cannot("libpcap is not installed".into());
        let text = text(figures);
        assert!(text.contains("pcap          -  libpcap is not installed"), "{text}");
        assert_eq!(text.matches("DPF 1.5 us").count(), 1, "{text}");
    }
}
