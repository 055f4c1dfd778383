//! An experiment as it was published and as it was measured here, as text and as JSON.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::experiments::Experiment;
use super::ours::{Grid, Ours};
use super::published::{Unit, Work, number};
use crate::bench::conditions::Conditions;
use crate::bench::report::Stating;
use crate::figures::Named;

/// What stands where there is nothing.
const NONE: &str = "-";
/// Columns of a terminal, for all tables.
const WIDTH: u16 = 120;

/// All of one experiment.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) experiment: &'static Experiment,
    command: String,
    /// Nothing if nothing was measured.
    pub(super) measured: Option<Measured>,
}

/// What was measured, and where.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) conditions: Conditions,
    /// The conditions for people.
    #[serde(skip)]
    pub(super) where_and_how: String,
    #[serde(flatten)]
    pub(super) ours: Ours,
}

/// A line of the table of published figures.
pub(super) struct Line {
    /// What is published, how much, and where it stands; empty in a further line of the same.
    pub(super) published: [String; 3],
    /// What is measured here, and how much.
    pub(super) ours: [String; 2],
}

impl Stating for Report {
    /// What stands beside published figures, by its key.
    fn stated(&self) -> Named {
        let beside = self.measured.iter().flat_map(|measured| &measured.ours.beside);
        beside.map(|&(key, value)| (key.to_owned(), number(value))).collect()
    }
}

impl Report {
    pub(super) fn new(experiment: &'static Experiment, measured: Option<Measured>) -> Self {
        let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        Self { experiment, command, measured }
    }

    /// What could not be measured.
    pub(super) fn failures(&self) -> &[String] {
        self.measured.as_ref().map_or(&[], |measured| &measured.ours.failures)
    }

    /// The published figures, and what stands beside them.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for figure in self.experiment.published {
            let mut published = [
                figure.what.to_owned(),
                amount(&figure.value.to_string(), figure.unit),
                figure.place.to_owned(),
            ];
            if figure.beside.is_empty() {
                let ours = ["nothing honest".to_owned(), NONE.to_owned()];
                lines.push(Line { published, ours });
                continue;
            }
            for beside in figure.beside {
                let value = self.value(beside.key);
                let value = value.map_or(NONE.to_owned(), |it| amount(&number(it), beside.unit));
                let ours = [beside.what.to_owned(), value];
                lines.push(Line { published: std::mem::take(&mut published), ours });
            }
        }
        lines
    }

    fn value(&self, key: &str) -> Option<f64> {
        let beside = &self.measured.as_ref()?.ours.beside;
        beside.iter().find(|(other, _)| *other == key).map(|&(_, value)| value)
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut out = format!("{}: {}\n", self.experiment.name, self.experiment.title);
        for Work { cite, conditions } in self.experiment.works {
            let _ = writeln!(out, "published: {cite}\n  on: {conditions}");
        }
        match &self.measured {
            Some(measured) => {
                out += "here:\n";
                for line in measured.where_and_how.lines() {
                    let _ = writeln!(out, "  {line}");
                }
            }
            None => out += "here: nothing was measured\n",
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(WIDTH).set_header(["published", "", "where", "beside it, here", ""]);
        for Line { published, ours } in self.lines() {
            table.add_row(published.into_iter().chain(ours));
        }
        let _ = writeln!(out, "\n{table}");
        let _ = writeln!(out, "\nWhat differs: {}", self.experiment.differs);
        for left_out in self.experiment.left_out {
            let _ = writeln!(out, "Left out: {left_out}");
        }
        let Some(Measured { ours, .. }) = &self.measured else { return out };
        for grid in &ours.grids {
            let _ = writeln!(out, "\n{}\n{}", grid.title, text_of(grid));
        }
        if !ours.facts.is_empty() {
            out.push('\n');
        }
        for fact in &ours.facts {
            let _ = writeln!(out, "{fact}");
        }
        for failure in &ours.failures {
            let _ = writeln!(out, "FAILED: {failure}");
        }
        out
    }
}

/// A figure of a grid.
pub(super) fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), number)
}

fn amount(value: &str, unit: Unit) -> String {
    match unit {
        Unit::Times => format!("{value}x"),
        Unit::Percent => format!("{value} %"),
        _ => format!("{value} {}", unit.name()),
    }
}

fn text_of(grid: &Grid) -> Table {
    let mut table = Table::new();
    // Columns of a grid with many sizes would not fit beside each other on one line.
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    table.set_header(std::iter::once("").chain(grid.columns.iter().map(String::as_str)));
    for (name, cells) in &grid.rows {
        table.add_row(std::iter::once(name.clone()).chain(cells.iter().map(|&it| cell(it))));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::experiments::{ALL, find};
    use super::*;

    fn report(beside: Vec<(&'static str, f64)>, failures: Vec<String>) -> Report {
        let grid = Grid {
            title: "Apples per tree".to_owned(),
            columns: vec!["old".to_owned(), "young".to_owned()],
            rows: vec![("orchard".to_owned(), vec![Some(1234.0), None])],
        };
        let ours = Ours { grids: vec![grid], beside, facts: vec!["a fact".to_owned()], failures };
        let conditions = Conditions::now("TCG");
        let measured = Measured { where_and_how: conditions.lines(), conditions, ours };
        Report::new(find("unbuckle-4.2").unwrap(), Some(measured))
    }

    #[test]
    fn both_sides_and_the_difference_are_told() {
        let text = report(vec![("total", 1320.0), ("process", 512.5)], Vec::new()).text();
        for part in [
            "about 5,800 cycles",
            "2,500 cycles",
            "4.4.1, figure 4.2",
            "1,320 instructions",
            "513 instructions",
            "What differs: Published are cycles",
            "Left out: Cycles",
            "nothing honest",
            "Huxtable",
            "3.3 GHz",
            "commit ",
            "a fact",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let row = text.lines().find(|line| line.trim_start().starts_with("orchard")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["orchard", "1,234", "-"]);
        assert!(!text.contains("FAILED"), "{text}");
        assert!(report(Vec::new(), vec!["it lied".to_owned()]).text().contains("FAILED: it lied"));
    }

    #[test]
    fn each_experiment_tells_what_is_published_without_a_measurement() {
        for experiment in ALL {
            let text = Report::new(experiment, None).text();
            assert!(text.contains("nothing was measured"), "{text}");
            assert!(text.contains(experiment.differs), "{text}");
            let lines = Report::new(experiment, None).lines();
            let wanted: usize =
                experiment.published.iter().map(|figure| figure.beside.len().max(1)).sum();
            assert_eq!(lines.len(), wanted, "{}", experiment.name);
            assert!(lines.iter().all(|line| line.ours[1] == NONE), "{}", experiment.name);
        }
    }

    #[test]
    fn json_has_numbers_with_units_and_places() {
        let json = serde_json::to_value(report(vec![("total", 1320.0)], Vec::new())).unwrap();
        let total = &json["published"][0];
        assert_eq!((&total["value"]["from"], &total["unit"]), (&5800.0.into(), &"cycles".into()));
        assert_eq!(total["beside"][0]["key"], "total");
        assert_eq!(json["measured"]["beside"][0], serde_json::json!(["total", 1320.0]));
        assert_eq!(report(vec![("total", 1320.0)], Vec::new()).stated()["total"], "1,320");
    }
}
