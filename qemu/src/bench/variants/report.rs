//! One or two variants, as a table for people and as JSON.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::lines::{Figure, TOTAL};
use crate::bench::conditions::Conditions;
use crate::figures::{count, ratio};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    unit: &'static str,
    better: &'static str,
    conditions: Conditions,
    samples: u32,
    pub(super) own: Variant,
    pub(super) against: Option<Variant>,
    /// Of what both have measured.
    pub(super) ratios: Vec<Ratio>,
}

/// An application, or one with other arguments.
#[derive(Debug, Serialize)]
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) figures: Vec<Figure>,
}

/// How many times the instructions of the first the second takes.
#[derive(Debug, Serialize)]
pub(super) struct Ratio {
    operation: String,
    part: String,
    /// Of the medians.
    median: f64,
    /// Of the means.
    mean: f64,
    /// Of the half of the samples in the middle: what is least and most.
    least: f64,
    most: f64,
}

impl Ratio {
    /// None if there is nothing to divide by.
    fn new(own: &Figure, other: &Figure) -> Option<Self> {
        let divided = |above: u64, below: u64| above as f64 / below.max(1) as f64;
        (own.median > 0).then(|| Self {
            operation: own.operation.clone(),
            part: own.part.clone(),
            median: divided(other.median, own.median),
            mean: if own.mean > 0.0 { other.mean / own.mean } else { 1.0 },
            least: divided(other.quarter, own.three_quarters),
            most: divided(other.three_quarters, own.quarter),
        })
    }
}

impl Report {
    pub(super) fn new(
        conditions: Conditions,
        samples: u32,
        own: Variant,
        against: Option<Variant>,
    ) -> Self {
        let both = own.figures.iter().filter_map(|figure| {
            let others = &against.as_ref()?.figures;
            Ratio::new(figure, others.iter().find(|other| other.is_of(figure))?)
        });
        let ratios = both.collect();
        let (unit, better) = ("guest instructions of one operation", "lower");
        Self { unit, better, conditions, samples, own, against, ratios }
    }

    /// As a table.
    pub(super) fn text(&self) -> String {
        let Self { unit, better, samples, own, against, .. } = self;
        let mut out = format!("{unit}, {samples} samples; {better} is better\n");
        out.push_str(&self.conditions.lines());
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let mut head = vec!["operation", "median", "mean", "least", "most"];
        if against.is_some() {
            head.extend(["median", "mean", "ratio", "from", "to"]);
        }
        let mut names = vec![String::new(), own.name.clone()];
        if let Some(against) = against {
            names.extend(["", "", "", &against.name].map(str::to_owned));
        }
        table.add_row(names);
        table.add_row(&head);
        for figure in &own.figures {
            let mut row = cells(figure);
            if let Some(other) = self.other(figure) {
                row.extend([count(other.median as f64), count(other.mean)]);
            }
            if let Some(Ratio { median, least, most, .. }) = self.ratio(figure) {
                row.extend([*median, *least, *most].map(ratio));
            }
            table.add_row(row);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if index > 0 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for line in table.lines() {
            let _ = writeln!(out, "{}", line.trim_end());
        }
        if let Some(against) = against {
            if self.ratios.is_empty() {
                let _ = writeln!(out, "{} and {}: no operation in common", own.name, against.name);
            } else {
                let _ = writeln!(
                    out,
                    "ratio: how many times as many instructions {0} takes as {1}, by medians: \
                     above 1, {1} takes fewer; from and to: by the quartiles that are nearest and \
                     furthest",
                    against.name, own.name
                );
            }
            // Their parts go without saying.
            let only: Vec<_> = { &against.figures }
                .iter()
                .filter(|other| other.part == TOTAL && !self.is_own(other))
                .map(|other| other.operation.as_str())
                .collect();
            if !only.is_empty() {
                let _ = writeln!(out, "only of {}: {}", against.name, only.join("; "));
            }
        }
        out
    }

    pub(super) fn other(&self, figure: &Figure) -> Option<&Figure> {
        self.against.as_ref()?.figures.iter().find(|other| other.is_of(figure))
    }

    fn is_own(&self, other: &Figure) -> bool {
        self.own.figures.iter().any(|figure| figure.is_of(other))
    }

    fn ratio(&self, figure: &Figure) -> Option<&Ratio> {
        let is_it =
            |ratio: &&Ratio| (&ratio.operation, &ratio.part) == (&figure.operation, &figure.part);
        self.ratios.iter().find(is_it)
    }
}

/// An operation, or indented a part of one.
pub(super) fn title(figure: &Figure) -> String {
    if figure.part == TOTAL { figure.operation.clone() } else { format!("  {}", figure.part) }
}

fn cells(figure: &Figure) -> Vec<String> {
    let Figure { median, mean, least, most, .. } = *figure;
    let whole = |value: u64| count(value as f64);
    vec![title(figure), whole(median), count(mean), whole(least), whole(most)]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn figure(operation: &str, part: &str, middle: u64) -> Figure {
        Figure {
            operation: operation.into(),
            part: part.into(),
            samples: 10,
            least: middle - 2,
            quarter: middle - 1,
            median: middle,
            three_quarters: middle + 1,
            most: middle + 500,
            mean: middle as f64 + 0.5,
        }
    }

    pub(in super::super) fn report() -> Report {
        let own = vec![figure("put", "total", 100), figure("put", "find", 40)];
        let other = vec![figure("put", "total", 250), figure("get", "total", 9)];
        let variant = |name: &str, figures| Variant { name: name.into(), figures };
        let conditions = Conditions::now("TCG");
        Report::new(conditions, 10, variant("mine", own), Some(variant("stock", other)))
    }

    #[test]
    fn what_is_many_times_dearer_has_a_ratio_that_says_so() {
        let variant = |name: &str, middle| Variant {
            name: name.into(),
            figures: vec![figure("put", "total", middle)],
        };
        let (own, other) = (variant("mine", 2700), variant("stock", 100));
        let text = Report::new(Conditions::now("TCG"), 10, own, Some(other)).text();
        let row = text.lines().find(|line| line.starts_with("put")).unwrap();
        assert_eq!(row.split_whitespace().nth(7), Some("0.037"), "{text}");
        assert!(text.contains("above 1, mine takes fewer"), "{text}");
    }

    #[test]
    fn variants_that_have_nothing_in_common_are_said_to_have_none() {
        let variant = |name: &str, operation| Variant {
            name: name.into(),
            figures: vec![figure(operation, "total", 9), figure(operation, "find", 4)],
        };
        let (own, other) = (variant("mine", "put"), variant("stock", "get"));
        let text = Report::new(Conditions::now("TCG"), 10, own, Some(other)).text();
        assert!(text.contains("mine and stock: no operation in common\n"), "{text}");
        assert!(text.contains("only of stock: get\n") && !text.contains("ratio:"), "{text}");
    }

    #[test]
    fn variants_stand_side_by_side() {
        let report = report();
        assert_eq!(report.ratios.len(), 1);
        assert_eq!((report.ratios[0].median, report.ratios[0].least), (2.5, 249.0 / 101.0));
        let text = report.text();
        for line in ["put", "  find", "only of stock: get", "lower is better"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let row = text.lines().find(|line| line.starts_with("put")).unwrap();
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(words, ["put", "100", "101", "98", "600", "250", "251", "2.5", "2.5", "2.5"]);
    }
}
