//! A picture of the medians, with least and most of the middle half of the samples.

use anyhow::Result;

use super::lines::{Figure, TOTAL};
use super::report::Report;
use crate::plots::{Bar, bars};

/// Letters of a bar's name for which there is room.
const NAME: usize = 46;

/// Bars for the operations as a whole, of both variants side by side.
pub(super) fn svg(report: &Report) -> Result<String> {
    let totals = report.own.figures.iter().filter(|figure| figure.part == TOTAL);
    let mut all = Vec::new();
    for figure in totals {
        all.push(bar(figure, format!("{}, {}", figure.operation, report.own.name), true));
        if let (Some(other), Some(against)) = (report.other(figure), &report.against) {
            all.push(bar(other, against.name.clone(), false));
        }
    }
    bars(&all, "guest instructions of one operation, median; lower is better", 1.0)
}

fn bar(figure: &Figure, mut name: String, ours: bool) -> Bar {
    if let Some((end, _)) = name.char_indices().nth(NAME) {
        name.replace_range(end.., "…");
    }
    let value = (figure.median as f64).max(1.0);
    let ends = [figure.quarter, figure.three_quarters].map(|end| (end as f64).max(1.0));
    Bar {
        name,
        value,
        ends: Some((ends[0], ends[1])),
        label: crate::figures::count(figure.median as f64),
        ours,
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    #[test]
    fn both_variants_are_drawn() {
        let svg = svg(&report()).unwrap();
        for text in ["put, mine", "stock", "250", "lower is better"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert!(!svg.contains("find"), "parts are not drawn");
    }
}
