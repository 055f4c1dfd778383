//! What an application prints of what it has measured.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// What so many instructions that do nothing must count as.
const CHECK: &str = "check nops=1000 counted=1000";
/// The part that is all of an operation, and the one behind its last mark.
pub(super) const TOTAL: &str = "total";
const REST: &str = "rest";

/// Instructions of an operation, or of a part of it, in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Figure {
    pub(super) operation: String,
    pub(super) part: String,
    pub(super) samples: u64,
    pub(super) least: u64,
    pub(super) quarter: u64,
    pub(super) median: u64,
    pub(super) three_quarters: u64,
    pub(super) most: u64,
    pub(super) mean: f64,
}

impl Figure {
    /// Whether both are of the same part of the same operation.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        (&self.operation, &self.part) == (&other.operation, &other.part)
    }
}

/// The figures in `lines` that begin with `prefix`; each operation as a whole first, and what
/// is behind its last mark last.
///
/// # Errors
/// A line cannot be read, or the counter has not been shown to count instructions.
pub(super) fn read(lines: &[String], prefix: &str) -> Result<Vec<Figure>> {
    let lines = || lines.iter().filter_map(|line| line.strip_prefix(prefix));
    let checks: Vec<_> = lines().filter(|line| line.starts_with("check nops=")).collect();
    ensure!(
        checks == [CHECK],
        "the time-stamp counter was not shown to count instructions: {checks:?}"
    );
    let figures = lines().filter_map(|line| line.strip_prefix("measure "));
    let read = |line: &str| {
        serde_json::from_str(line).with_context(|| format!("the application printed \"{line}\""))
    };
    let mut figures = figures.map(read).collect::<Result<Vec<Figure>>>()?;
    let mut operations: Vec<String> = Vec::new();
    for figure in &figures {
        if !operations.contains(&figure.operation) {
            operations.push(figure.operation.clone());
        }
    }
    figures.sort_by_key(|figure| {
        let place = operations.iter().position(|operation| *operation == figure.operation);
        (place, figure.part != TOTAL, figure.part == REST)
    });
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(operation: &str, part: &str) -> String {
        format!(
            "mine: measure {{\"operation\":\"{operation}\",\"part\":\"{part}\",\"samples\":3,\"least\":1,\
             \"quarter\":2,\"median\":3,\"three_quarters\":4,\"most\":9,\"mean\":3.5}}"
        )
    }

    #[test]
    fn figures_are_in_order() {
        let lines = [
            "mine: check nops=1000 counted=1000".to_owned(),
            line("put", "rest"),
            "other: measure nonsense".to_owned(),
            line("put", "total"),
            line("get", "total"),
            line("put", "find"),
        ];
        let figures = read(&lines, "mine: ").unwrap();
        let names: Vec<_> = figures
            .iter()
            .map(|figure| (figure.operation.as_str(), figure.part.as_str()))
            .collect();
        assert_eq!(names, [("put", "total"), ("put", "find"), ("put", "rest"), ("get", "total")]);
        assert_eq!((figures[0].least, figures[0].most, figures[0].mean), (1, 9, 3.5));
    }

    #[test]
    fn a_clock_that_counts_something_else_is_refused() {
        for check in ["mine: check nops=1000 counted=1003", "mine: hello"] {
            let error = read(&[check.to_owned(), line("put", "total")], "mine: ").unwrap_err();
            assert!(error.to_string().contains("to count instructions"), "{error}");
        }
    }

    #[test]
    fn a_line_that_is_nearly_a_figure_is_an_error() {
        let check = "mine: check nops=1000 counted=1000".to_owned();
        let cut = line("put", "total").replace(",\"mean\":3.5", "");
        let error = read(&[check, cut], "mine: ").unwrap_err().to_string();
        assert!(error.contains("printed"), "{error}");
    }
}
