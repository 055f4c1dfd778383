//! Both guests' figures side by side, as a table for people and as JSON.

use std::fmt::Write;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::lines::{Figure, Measured};
use super::rows::{Goal, ROWS, Row};
use crate::bench::conditions::Conditions;
use crate::bench::report::Stating;
use crate::figures::{Named, count, ratio, verdict};

/// What stands where there is nothing.
const NONE: &str = "-";

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    unit: &'static str,
    better: &'static str,
    conditions: Conditions,
    /// What Linux says of itself; nothing if it was left out.
    linux: Vec<(String, String)>,
    /// What a string instruction of so many repetitions counts as.
    string: Option<(u64, u64)>,
    rows: Vec<Compared>,
}

/// A row with its figures, as far as there are any.
#[derive(Debug, Serialize)]
struct Compared {
    name: &'static str,
    operation: &'static str,
    exo: Option<Figure>,
    linux_name: &'static str,
    linux_operation: &'static str,
    linux: Option<Figure>,
    /// How many times fewer instructions here.
    ratio: Option<f64>,
    goal: Option<String>,
    met: Option<bool>,
    /// Published ratio of Aegis, in time.
    aegis: Option<&'static str>,
}

impl Stating for Report {
    /// Of an operation `NAME` and what Linux has, `LINUX`: instructions as `NAME` and
    /// `linux.LINUX`, how many times fewer as `NAME/LINUX`, whether the goal is met as
    /// `NAME/LINUX.met`.
    fn stated(&self) -> Named {
        let mut stated = Named::new();
        for row in &self.rows {
            let pair = format!("{}/{}", row.name, row.linux_name);
            let exo = row.exo.map(|figure| (row.name.to_owned(), count(figure.instructions)));
            let linux = row
                .linux
                .map(|figure| (format!("linux.{}", row.linux_name), count(figure.instructions)));
            let times = row.ratio.map(|times| (pair.clone(), ratio(times)));
            let met = row.met.map(|met| (format!("{pair}.met"), verdict(met)));
            stated.extend([exo, linux, times, met].into_iter().flatten());
        }
        stated
    }
}

impl Report {
    /// Fails if a guest printed a figure that no row names.
    pub(crate) fn new(conditions: Conditions, exo: &Measured, linux: &Measured) -> Result<Self> {
        for name in exo.figures.keys() {
            ensure!(ROWS.iter().any(|row| row.exo == name), "no row is for \"{name}\"");
        }
        for name in linux.figures.keys() {
            ensure!(ROWS.iter().any(|row| row.linux == name), "no row is for Linux's \"{name}\"");
        }
        Ok(Self {
            unit: "guest instructions per operation, kernel and program, median",
            better: "lower",
            conditions,
            linux: linux.facts.clone(),
            string: linux.string,
            rows: ROWS.iter().map(|row| Compared::new(row, exo, linux)).collect(),
        })
    }

    /// The operations that this system has no figure for.
    pub(crate) fn unmeasured(&self) -> Vec<&'static str> {
        self.rows.iter().filter(|row| row.exo.is_none()).map(|row| row.operation).collect()
    }

    /// Instructions of an operation here, and of what Linux has; as far as they are known.
    pub(crate) fn pair(&self, exo: &str, linux: &str) -> (Option<f64>, Option<f64>) {
        let row = self.rows.iter().find(|row| row.name == exo && row.linux_name == linux);
        let count = |figure: Option<Figure>| figure.map(|figure| figure.instructions);
        row.map_or((None, None), |row| (count(row.exo), count(row.linux)))
    }

    /// The table, with its conditions before and what to know behind.
    pub(crate) fn text(&self) -> Result<String> {
        let mut out = String::new();
        writeln!(out, "{}; {} is better", self.unit, self.better)?;
        write!(out, "{}", self.conditions.lines())?;
        write!(out, "{}", self.linux_lines()?)?;
        writeln!(out)?;
        let heads = ["operation", "Exo", "nearest of Linux", "Linux", "ratio", "goal", "", "Aegis"];
        let rows = self.rows.iter().map(Compared::cells);
        let table: Vec<_> = std::iter::once(heads.map(ToOwned::to_owned)).chain(rows).collect();
        for row in &table {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let cells = table.iter().filter_map(|row| row.get(column));
                let width = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
                match column {
                    // Numbers.
                    1 | 3 | 4 => write!(line, "{cell:>width$}  ")?,
                    _ => write!(line, "{cell:width$}  ")?,
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        writeln!(
            out,
            "\nratio: how many times fewer instructions Exo takes. goal: of the ratio, and of Exo's \
             instructions.\n{NONE}: not there, not set or not published. Aegis: published ratio of \
             times to Ultrix (or L3) on a\nDECstation 5000/125 (SOSP 1995); its conditions were \
             others."
        )?;
        if let Some((repetitions, counted)) = self.string {
            writeln!(
                out,
                "A string instruction of {repetitions} repetitions counts as {counted}. \
                 Instructions are not time."
            )?;
        }
        Ok(out)
    }

    /// What Linux said of itself, in short.
    fn linux_lines(&self) -> Result<String> {
        let mut out = String::new();
        let (mut unaffected, mut mitigations) = (0, Vec::new());
        for (key, value) in &self.linux {
            match key.strip_prefix("mitigation ") {
                None => writeln!(out, "Linux {key}: {value}")?,
                Some(_) if value == "Not affected" => unaffected += 1,
                Some(name) => mitigations.push(format!("{name}: {value}")),
            }
        }
        if !self.linux.is_empty() {
            writeln!(out, "Linux mitigations, default ({unaffected} more not affected):")?;
        }
        for mitigation in mitigations {
            writeln!(out, "  {mitigation}")?;
        }
        Ok(out)
    }
}

impl Compared {
    fn new(row: &Row, exo: &Measured, linux: &Measured) -> Self {
        let exo = exo.figures.get(row.exo).copied();
        let linux = linux.figures.get(row.linux).copied();
        let both = exo.zip(linux).map(|(exo, linux)| (exo.instructions, linux.instructions));
        Self {
            name: row.exo,
            operation: row.operation,
            exo,
            linux_name: row.linux,
            linux_operation: row.beside,
            linux,
            ratio: both.filter(|&(exo, _)| exo > 0.0).map(|(exo, linux)| linux / exo),
            goal: row.goal.map(Goal::text),
            met: row.goal.zip(both).map(|(goal, (exo, linux))| goal.met(exo, linux)),
            aegis: row.aegis,
        }
    }

    fn cells(&self) -> [String; 8] {
        let none = || NONE.to_owned();
        let count = |figure: Option<Figure>| {
            figure.map_or_else(none, |figure| {
                // Halves and 32nds have a fraction.
                let places = usize::from(figure.instructions.fract() != 0.0);
                format!("{:.places$}", figure.instructions)
            })
        };
        let met = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        [
            self.operation.to_owned(),
            count(self.exo),
            self.linux_operation.to_owned(),
            count(self.linux),
            self.ratio.map_or_else(none, |ratio| format!("{ratio:.1}")),
            self.goal.clone().unwrap_or_else(none),
            met.to_owned(),
            self.aegis.unwrap_or(NONE).to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(lines: &[&str]) -> Measured {
        let mut all = vec!["check nops=1000 counted=1000".to_owned()];
        all.extend(lines.iter().map(|&line| line.to_owned()));
        Measured::read(&all, "").unwrap()
    }

    fn report(exo: &[&str], linux: &[&str]) -> Result<Report> {
        Report::new(Conditions::now("TCG"), &measured(exo), &measured(linux))
    }

    /// The words of the table's line that begins so.
    fn line<'a>(text: &'a str, begins: &str) -> Vec<&'a str> {
        let line = text.lines().find(|line| line.starts_with(begins)).unwrap();
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
    }

    #[test]
    fn compares_what_is_there() {
        let report = report(
            &["primitive null instructions=50", "primitive transfer instructions=151"],
            &[
                "linux version: Linux 6",
                "linux mitigation meltdown: Not affected",
                "linux mitigation spectre_v2: Mitigation: Retpolines",
                "primitive getpid instructions=310",
                "primitive pipe-one-way instructions=5293.5",
            ],
        );
        let report = report.unwrap();
        let text = report.text().unwrap();
        assert_eq!(
            line(&text, "null"),
            ["null system call", "50", "getpid", "310", "6.2", ">= 4x", "met", "9.3 to 13.3"]
        );
        assert_eq!(
            line(&text, "the same, one"),
            ["the same, one of a batch of 32", "-", "getpid", "310", "-", ">= 20x", "-"],
            "what is not there has neither ratio nor verdict"
        );
        let transfer = line(&text, "half");
        assert_eq!(
            transfer[1..],
            [
                "151",
                "half a ping-pong over two pipes",
                "5293.5",
                "35.1",
                ">= 10x, <= 150",
                "MISSED",
                "6.6 (L3)"
            ]
        );
        let stated = report.stated();
        for (name, figure) in [
            ("null", "50"),
            ("linux.getpid", "310"),
            ("null/getpid", "6.2"),
            ("null/getpid.met", "met"),
            ("transfer/pipe-one-way", "35"),
            ("transfer/pipe-one-way.met", "missed"),
        ] {
            assert_eq!(stated.get(name).map(String::as_str), Some(figure), "{name}");
        }
        assert!(text.contains("Linux version: Linux 6\n"), "{text}");
        assert!(text.contains("(1 more not affected):\n  spectre_v2: Mitigation:"), "{text}");
    }

    #[test]
    fn no_figure_gets_lost() {
        assert!(report(&["primitive novelty instructions=1"], &[]).is_err());
        assert!(report(&[], &["primitive novelty instructions=1"]).is_err());
    }

    #[test]
    fn knows_what_was_not_measured() {
        let all: Vec<_> = ROWS.iter().map(|row| row.operation).collect();
        assert_eq!(report(&[], &[]).unwrap().unmeasured(), all);
        let but_one = report(&["primitive null instructions=50"], &[]).unwrap().unmeasured();
        assert_eq!(but_one, all[1..]);
    }

    #[test]
    fn is_saved_with_names_and_figures() {
        let report = report(&["primitive null instructions=50 least=49 most=70 samples=9"], &[]);
        let json = serde_json::to_value(report.unwrap()).unwrap();
        let null = &json["rows"][0];
        assert_eq!(null["name"], "null");
        assert_eq!(null["exo"]["least"], 49.0);
        assert!(null["linux"].is_null() && null["met"].is_null());
    }
}
