//! All contenders side by side, as a table for people and as JSON.

use std::fmt::Write;
use std::time::SystemTime;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::goals::{Verdict, throughput, verdicts};
use super::measure::{self, Figure, Row};
use super::origins::{Origin, origins};
use super::scenario::{SATURATED, Scenario};
use super::speed::{self, Speed};
use crate::bench::conditions::Conditions;
use crate::bench::report::Stating;
use crate::figures::{self, Named};
use crate::linux::Kernel;

/// Below the tables of counts.
const NOTES: &str = "
rep once: a repeated string instruction counts as one instruction, otherwise each of its rounds does.
user, kernel: of all, where they lie. calls: system calls. returns: from interrupts and exceptions.
times: as many times the instructions of our store on Exo, over the same transport, rep once.
Over TCP, requests of a batch are written to one connection together.
Still to come: our store in Exo's ring 0, clients on the same machine.
";
/// Passes that differ by more are pointed at.
const REPEATS: f64 = 0.01;

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    unit: &'static str,
    better: &'static str,
    pub(crate) ledger: Ledger,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) rows: Vec<Row>,
    /// Throughput and latency, if they were measured.
    pub(crate) speed: Option<Speed>,
    /// How much comes from engine, kernel and exokernel.
    pub(crate) origins: Vec<Origin>,
    pub(crate) goals: Vec<Verdict>,
}

/// What the figures are worthless without. Devices and QEMU's command lines are in each pair,
/// versions and settings in each row.
#[derive(Debug, Serialize)]
pub(crate) struct Ledger {
    /// What was typed.
    pub(crate) command: String,
    /// When it ended, in seconds since 1970.
    pub(crate) unix_time: u64,
    pub(crate) conditions: Conditions,
    /// The processor model that QEMU was asked for.
    pub(crate) processor_model: &'static str,
    /// The host's kernel.
    pub(crate) host_kernel: String,
    /// The guests', with its package's version; none if it is not there.
    pub(crate) guest_kernel: Option<String>,
    /// How the machines are made whose instructions are counted.
    pub(crate) counted_on: &'static str,
    /// How those are made whose time is taken.
    pub(crate) timed_on: &'static str,
}

impl Ledger {
    /// Of now.
    pub(crate) fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let kernel = Kernel::of_distribution().ok();
        let guest_kernel = kernel.map(|kernel| {
            let version = kernel.version().unwrap_or("unknown");
            format!("Linux {} (package {version})", kernel.release())
        });
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        Self {
            command: format!("cargo exo {}", arguments.join(" ")),
            unix_time: now.map_or(0, |now| now.as_secs()),
            conditions: Conditions::now("TCG"),
            processor_model: "max",
            host_kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            guest_kernel,
            counted_on: measure::MACHINE,
            timed_on: speed::MACHINE,
        }
    }

    /// As lines.
    pub(crate) fn lines(&self) -> String {
        let guest = self.guest_kernel.as_deref().unwrap_or("not here");
        format!(
            "{}\n{}host's kernel: {}; Linux guests': {guest}\nprocessor model: {}\ncounted on: {}\n\
             timed on: {}\n",
            self.command,
            self.conditions.lines(),
            self.host_kernel,
            self.processor_model,
            self.counted_on,
            self.timed_on
        )
    }
}

impl Stating for Report {
    /// Of each contender with default mitigations, instructions with a repeated string
    /// instruction counted once: `memcached.get-16/64-32`. Of each goal its ratio and whether it
    /// is met: `goal.memcached-32`, `goal.memcached-32.met`. What comes from where:
    /// `from.process.1`, `from.process.32`, by the contender with which it begins.
    fn stated(&self) -> Named {
        let mut stated = Named::new();
        for row in self.rows.iter().filter(|row| row.mitigations != Some("off")) {
            for figure in &row.figures {
                let Scenario { verb, key_bytes, value_bytes, outstanding } = figure.scenario;
                let name = format!("{}.{verb:?}-{key_bytes}/{value_bytes}-{outstanding}", row.name);
                stated.insert(name.to_lowercase(), figures::count(figure.repeats_once));
            }
        }
        for Verdict { name, measured, met, .. } in &self.goals {
            let ratio = match name.as_str() {
                "floor" => format!("{measured:.2}"),
                _ => figures::ratio(*measured),
            };
            stated.insert(format!("goal.{name}"), ratio);
            stated.insert(format!("goal.{name}.met"), figures::verdict(*met));
        }
        for origin in &self.origins {
            let factors = [(1, origin.fewer_from_sleep), (SATURATED, origin.fewer_in_batch)];
            for (outstanding, factor) in factors {
                if let Some(factor) = factor {
                    let name = format!("from.{}.{outstanding}", origin.to);
                    stated.insert(name, figures::ratio(factor));
                }
            }
        }
        stated
    }
}

impl Report {
    pub(crate) fn new(
        ledger: Ledger,
        scenarios: &[Scenario],
        rows: Vec<Row>,
        speed: Option<Speed>,
    ) -> Self {
        let mut goals = verdicts(&rows);
        goals.extend(speed.as_ref().and_then(throughput));
        let origins = origins(&rows, speed.as_ref());
        Self {
            unit: "guest instructions per request",
            better: "lower",
            ledger,
            scenarios: scenarios.to_vec(),
            rows,
            speed,
            origins,
            goals,
        }
    }

    /// The contenders that have no figures.
    pub(crate) fn failed(&self) -> Vec<&'static str> {
        let rows = self.rows.iter().filter(|row| row.failure.is_some()).map(|row| row.name);
        rows.chain(self.speed.iter().flat_map(Speed::failed)).collect()
    }

    /// The tables.
    pub(crate) fn text(&self) -> String {
        let mut out = self.ledger.lines();
        if !self.rows.is_empty() {
            let _ = writeln!(out, "\n{}; {} is better", self.unit, self.better);
            for &scenario in &self.scenarios {
                let _ = writeln!(out, "\n{}\n{}", scenario.title(), self.table(scenario));
            }
            out += NOTES;
        }
        if let Some(speed) = &self.speed {
            let _ = write!(out, "\n{}", speed.text());
        }
        out.push('\n');
        for origin in &self.origins {
            let Origin { what, from, to, .. } = origin;
            let times = |factor: Option<f64>| {
                factor.map_or_else(|| "-".to_owned(), |factor| format!("{factor:.2}"))
            };
            let _ = writeln!(
                out,
                "GET 16/64, from {from} to {to}, {what}: {} times fewer instructions one at a time, \
                 {} times {SATURATED} at a time; {} times the throughput",
                times(origin.fewer_from_sleep),
                times(origin.fewer_in_batch),
                times(origin.throughput)
            );
        }
        for Verdict { goal, measured, met, .. } in &self.goals {
            let verdict = if *met { "met" } else { "MISSED" };
            let _ = writeln!(out, "goal: {goal}: {measured:.1}, {verdict}");
        }
        for row in &self.rows {
            let facts = row.facts.join("; ");
            let _ = writeln!(out, "{}: {facts}", label(row));
            if let Some(failure) = &row.failure {
                let _ = writeln!(out, "  FAILED: {failure}");
            }
            for figure in row.figures.iter().filter(|figure| figure.spread() > REPEATS) {
                let spread = figure.spread() * 100.0;
                let _ =
                    writeln!(out, "  passes differ by {spread:.1} %: {}", figure.scenario.title());
            }
        }
        out
    }

    fn table(&self, scenario: Scenario) -> Table {
        let figure =
            |row: &Row| row.figures.iter().find(|figure| figure.scenario == scenario).cloned();
        let cost = |name: &str| {
            let row = self.rows.iter().find(|row| row.name == name);
            row.and_then(figure).map(|exo| exo.repeats_once)
        };
        let (udp, tcp) = (cost("exo"), cost("exo-tcp"));
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header([
            "contender",
            "rep once",
            "all",
            "user",
            "kernel",
            "calls",
            "returns",
            "sleeps",
            "times",
        ]);
        for row in &self.rows {
            let title = format!("{} ({})", row.title, label(row));
            let Some(figure) = figure(row) else {
                table.add_row([title, "FAILED".to_owned()]);
                continue;
            };
            let exo = if row.name.ends_with("-tcp") { tcp } else { udp };
            let times = exo.map(|exo| figure.repeats_once / exo);
            table.add_row(cells(title, &figure, times));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

pub(crate) fn label(row: &Row) -> String {
    match row.mitigations {
        None => row.name.to_owned(),
        Some(mitigations) => format!("{}, mitigations={mitigations}", row.name),
    }
}

fn cells(title: String, figure: &Figure, times: Option<f64>) -> Vec<String> {
    let whole = |count: f64| format!("{count:.0}");
    let part = |count: f64| format!("{count:.2}");
    vec![
        title,
        whole(figure.repeats_once),
        whole(figure.instructions),
        whole(figure.user),
        whole(figure.kernel),
        part(figure.system_calls),
        part(figure.interrupt_returns),
        part(figure.sleeps),
        times.map_or_else(|| "-".to_owned(), |times| format!("{times:.1}")),
    ]
}

/// A report that was not measured, for tests of what is made of one.
#[cfg(test)]
pub(super) mod sample {
    use super::super::speed::pair;
    use super::super::speed::plan::Plan;
    use super::*;
    use crate::bench::load::Verb;

    fn row(name: &'static str, cost: f64, failure: Option<String>) -> Row {
        let figure = |scenario: Scenario| Figure {
            scenario,
            instructions: cost * 1.2,
            repeats_once: if scenario.verb == Verb::Get { cost } else { cost * 1.3 },
            user: cost * 0.5,
            kernel: cost * 0.7,
            system_calls: 2.0,
            interrupt_returns: 0.1,
            sleeps: 0.03,
            passes: vec![cost],
        };
        let on_linux = !name.starts_with("exo");
        let measured = failure.is_none();
        Row {
            name,
            title: format!("what {name} is"),
            facts: vec![format!("{name} 1.0")],
            mitigations: on_linux.then_some("default"),
            figures: Scenario::quick().into_iter().filter(|_| measured).map(figure).collect(),
            failure,
        }
    }

    pub(in super::super) fn report() -> Report {
        let rows = vec![
            row("memcached", 26_000.0, None),
            row("process", 0.0, Some("it <lied>".to_owned())),
            row("module", 9_300.0, None),
            row("exo", 1_070.0, None),
            row("exo-echo", 700.0, None),
        ];
        let pairs = vec![
            pair::sample("memcached", 12.0),
            pair::sample("module", 4.2),
            pair::sample("exo-echo", 0.7),
        ];
        let speed = Speed { machine: speed::MACHINE, plan: Plan::full(), pairs };
        let ledger = Ledger {
            command: "cargo exo bench compare".to_owned(),
            unix_time: 0,
            conditions: Conditions::now("TCG"),
            processor_model: "max",
            host_kernel: "Linux".to_owned(),
            guest_kernel: None,
            counted_on: measure::MACHINE,
            timed_on: speed::MACHINE,
        };
        Report::new(ledger, &Scenario::quick(), rows, Some(speed))
    }

    #[test]
    fn a_report_tells_goals_and_failures() {
        let report = report();
        assert_eq!(report.failed(), ["process"]);
        let text = report.text();
        for line in ["FAILED: it <lied>", "MISSED", "knee for", "4.20 (3.78 to 4.62)"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let throughput = report.goals.last().unwrap();
        assert!(throughput.goal.contains("throughput") && !throughput.met, "{throughput:?}");
    }
}
