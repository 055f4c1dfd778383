//! All contenders side by side, as a table for people and as JSON.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::goals::{Verdict, verdicts};
use super::measure::{Figure, Row};
use super::scenario::Scenario;
use crate::bench::conditions::Conditions;
use crate::bench::report::Stating;
use crate::figures::{self, Named};

/// Passes that differ by more are pointed at.
const REPEATS: f64 = 0.01;

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    unit: &'static str,
    better: &'static str,
    command: String,
    conditions: Conditions,
    scenarios: Vec<Scenario>,
    rows: Vec<Row>,
    goals: Vec<Verdict>,
}

impl Stating for Report {
    /// `NAME.GET-16/64-32` and so on: instructions of each contender, with default
    /// mitigations, a repeated string instruction counted once.
    fn stated(&self) -> Named {
        let rows = self.rows.iter().filter(|row| row.mitigations != Some("off"));
        rows.flat_map(|row| {
            row.figures.iter().map(|figure| {
                let Scenario { verb, key_bytes, value_bytes, outstanding } = figure.scenario;
                let name = format!("{}.{verb:?}-{key_bytes}/{value_bytes}-{outstanding}", row.name);
                (name.to_lowercase(), figures::count(figure.repeats_once))
            })
        })
        .collect()
    }
}

impl Report {
    pub(crate) fn new(conditions: Conditions, scenarios: &[Scenario], rows: Vec<Row>) -> Self {
        let goals = verdicts(&rows);
        Self {
            unit: "guest instructions per request",
            better: "lower",
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            conditions,
            scenarios: scenarios.to_vec(),
            rows,
            goals,
        }
    }

    /// The contenders that have no figures.
    pub(crate) fn failed(&self) -> Vec<&'static str> {
        self.rows.iter().filter(|row| row.failure.is_some()).map(|row| row.name).collect()
    }

    /// The tables.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("{}; {} is better\n", self.unit, self.better);
        out += &self.conditions.lines();
        for &scenario in &self.scenarios {
            let _ = writeln!(out, "\n{}\n{}", scenario.title(), self.table(scenario));
        }
        out += "\nrep once: a repeated string instruction counts as one instruction, otherwise each of \
                its rounds does.\nuser, kernel: of all, where they lie. calls: system calls. returns: \
                from interrupts and exceptions.\ntimes: as many times the instructions of our store on \
                Exo, rep once.\n";
        for Verdict { goal, measured, met } in &self.goals {
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
        let exo = self.rows.iter().find(|row| row.name == "exo").and_then(figure);
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
            let times = exo.as_ref().map(|exo| figure.repeats_once / exo.repeats_once);
            table.add_row(cells(title, &figure, times));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

fn label(row: &Row) -> String {
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
