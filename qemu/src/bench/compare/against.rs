//! This run beside an earlier one: another commit, another QEMU, or the same again.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::report::Report;

/// Figures that are closer to each other are the same.
const SAME: f64 = 0.01;
/// What is told of the two runs, where it differs.
const LEDGER: [&str; 7] = [
    "/ledger/conditions/commit",
    "/ledger/conditions/qemu",
    "/ledger/conditions/host",
    "/ledger/processor_model",
    "/ledger/host_kernel",
    "/ledger/guest_kernel",
    "/ledger/counted_on",
];

/// An earlier run's report.
pub(super) struct Earlier {
    path: PathBuf,
    report: Value,
}

/// Instructions of a request, once with repeated string instructions counted once and once with
/// all their rounds.
type Counts = [f64; 2];

impl Earlier {
    /// Reads what `--json` has saved.
    ///
    /// # Errors
    /// It cannot be read, or is no report of `bench compare`.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let report: Value = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no JSON", path.display()))?;
        ensure!(
            report.pointer("/ledger/counted_on").is_some(),
            "{} is no report of `cargo exo bench compare`",
            path.display()
        );
        Ok(Self { path: path.to_owned(), report })
    }

    /// What differs from `now`: the circumstances, and instructions by more than 1 %.
    pub(super) fn differences(&self, now: &Report) -> Result<String> {
        let now = serde_json::to_value(now)?;
        let mut out = format!("\nbeside {}:\n", self.path.display());
        for pointer in LEDGER {
            let [then, now] = [&self.report, &now].map(|report| report.pointer(pointer));
            if then != now {
                let name = pointer.rsplit('/').next().unwrap_or_default();
                let text = |value: Option<&Value>| match value {
                    Some(Value::String(text)) => text.clone(),
                    Some(value) => value.to_string(),
                    None => "not told".to_owned(),
                };
                let _ = writeln!(out, "{name}: then {}; now {}", text(then), text(now));
            }
        }
        let (then, now) = (figures(&self.report), figures(&now));
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header([
            "instructions",
            "rep once, then",
            "now",
            "",
            "all, then",
            "now",
            "",
        ]);
        let (mut both, mut same) = (0, 0);
        for (name, now) in now {
            let Some((_, then)) = then.iter().find(|(other, _)| *other == name) else { continue };
            let changes = [0, 1].map(|kind| now[kind] / then[kind] - 1.0);
            both += 1;
            if changes.iter().all(|change| change.abs() <= SAME) {
                same += 1;
                continue;
            }
            let cells = [0, 1].map(|kind| {
                [
                    format!("{:.0}", then[kind]),
                    format!("{:.0}", now[kind]),
                    format!("{:+.1} %", changes[kind] * 100.0),
                ]
            });
            table.add_row([name].into_iter().chain(cells.into_iter().flatten()));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let _ = writeln!(out, "{same} of {both} figures are the same within 1 %");
        if same < both {
            let _ = writeln!(out, "{table}");
        }
        Ok(out)
    }
}

/// All counts of a report, with their names.
fn figures(report: &Value) -> Vec<(String, Counts)> {
    let list = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let mut all = Vec::new();
    for row in list(report, "rows") {
        for figure in list(&row, "figures") {
            let number = |name: &str| figure.get(name).and_then(Value::as_f64);
            let Some(counts) = number("repeats_once").zip(number("instructions")) else {
                continue;
            };
            let text = |value: &Value, name: &str| {
                let value = value.get(name).filter(|value| !value.is_null());
                value.map(|value| value.to_string().replace('"', ""))
            };
            let scenario = figure.get("scenario").cloned().unwrap_or_default();
            let of = |name: &str| text(&scenario, name).unwrap_or_default();
            let mitigations = text(&row, "mitigations").filter(|which| which != "default");
            let name = format!(
                "{}{}: {} {}/{}, {} at a time",
                text(&row, "name").unwrap_or_default(),
                mitigations.map(|which| format!(", mitigations={which}")).unwrap_or_default(),
                of("verb"),
                of("key_bytes"),
                of("value_bytes"),
                of("outstanding")
            );
            all.push((name, counts.into()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::report::sample;
    use super::*;

    fn earlier(change: impl FnOnce(&mut Value)) -> Earlier {
        let mut report = serde_json::to_value(sample::report()).unwrap();
        change(&mut report);
        Earlier { path: "before.json".into(), report }
    }

    #[test]
    fn a_difference_of_known_size_is_told() {
        let now = sample::report();
        let same = earlier(|_| {}).differences(&now).unwrap();
        assert!(same.contains("16 of 16 figures are the same"), "{same}");
        assert_eq!(same.lines().filter(|line| line.contains("then")).count(), 0, "{same}");

        let changed = earlier(|report| {
            let figure = report.pointer_mut("/rows/0/figures/0/repeats_once").unwrap();
            *figure = (figure.as_f64().unwrap() / 1.02).into();
            *report.pointer_mut("/ledger/conditions/qemu").unwrap() = "QEMU 1.0".into();
        });
        let text = changed.differences(&now).unwrap();
        assert!(text.contains("15 of 16 figures are the same"), "{text}");
        assert!(text.contains("memcached: GET 16/64, 1 at a time"), "{text}");
        assert!(text.contains("+2.0 %") && text.contains("then QEMU 1.0"), "{text}");
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.json");
        for (text, said) in [("{}", "is no report"), ("x", "is no JSON")] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", Earlier::read(&path).err().unwrap());
            assert!(error.contains(said), "{error}");
        }
    }
}
