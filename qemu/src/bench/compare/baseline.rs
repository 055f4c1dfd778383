//! What Exo's placements took when the baseline was last written, and how much more they may.
//!
//! The counts repeat to the instruction on any machine with the same QEMU and the same
//! compiler, so a small margin is enough to tell a change of the code from chance. The
//! baseline is a file of the source tree: to change it is a line of a reviewed diff.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::contender::Contender;
use super::measure;
use super::scenario::Scenario;
use crate::output::{note, say};
use crate::signals::Signals;
use crate::workspace;

/// How much more is let pass.
const MARGIN: f64 = 0.02;

/// Instructions per request, by contender and scenario.
type Baseline = BTreeMap<String, f64>;

/// Measures Exo's placements, and compares them with the baseline or writes it anew.
pub(super) fn run(update: bool, interrupt: &Signals) -> Result<()> {
    let path = path();
    let mut now = Baseline::new();
    for contender in Contender::OURS {
        note!("compare: {}", contender.title());
        for figure in measure::figures(contender, None, &Scenario::quick(), interrupt)? {
            let rounded = (figure.instructions * 10.0).round() / 10.0;
            now.insert(format!("{}: {}", contender.name(), figure.scenario.title()), rounded);
        }
    }
    if update {
        let text = serde_json::to_string_pretty(&now)? + "\n";
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        say!("written to {}: look at the difference before you commit it", path.display())?;
        return Ok(());
    }
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let then: Baseline = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no baseline", path.display()))?;
    let complaints = complaints(&then, &now);
    for (name, count) in &now {
        let before = then.get(name).map_or("-".to_owned(), |count| format!("{count:.1}"));
        say!("{name}: {count:.1} instructions, baseline {before}")?;
    }
    if !complaints.is_empty() {
        bail!(
            "{}\nIf this is meant, write the baseline anew:\n  cargo exo bench compare \
             --update-baseline",
            complaints.join("\n")
        );
    }
    Ok(())
}

fn path() -> PathBuf {
    workspace::root().join("bench/baseline.json")
}

/// What is wrong with `now`, a line for each.
fn complaints(then: &Baseline, now: &Baseline) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, &count) in now {
        match then.get(name) {
            None => complaints.push(format!("{name}: the baseline does not have it")),
            Some(&before) if count > before * (1.0 + MARGIN) => complaints.push(format!(
                "{name}: {count:.1} instructions, {:.1} % more than the baseline's {before:.1}",
                (count / before - 1.0) * 100.0
            )),
            Some(_) => {}
        }
    }
    let gone = then.keys().filter(|name| !now.contains_key(*name));
    complaints.extend(gone.map(|name| format!("{name}: in the baseline, but not measured")));
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(figures: &[(&str, f64)]) -> Baseline {
        figures.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    /// The gate: a change of 2 % passes, one of 2.1 % does not, and nothing comes or goes
    /// unnoticed.
    #[test]
    fn a_change_of_known_size_is_seen() {
        let then = baseline(&[("exo: GET", 1000.0), ("exo: SET", 2000.0)]);
        let with = |get: f64| baseline(&[("exo: GET", get), ("exo: SET", 2000.0)]);
        assert_eq!(complaints(&then, &with(1000.0)), Vec::<String>::new());
        assert_eq!(complaints(&then, &with(1020.0)), Vec::<String>::new());
        assert_eq!(complaints(&then, &with(900.0)), Vec::<String>::new());
        let said = complaints(&then, &with(1021.0));
        assert!(matches!(&said[..], [line] if line.contains("2.1 % more")), "{said:?}");
        assert_eq!(complaints(&then, &baseline(&[("exo: GET", 1.0)])).len(), 1);
        assert_eq!(complaints(&baseline(&[]), &with(1.0)).len(), 2);
    }

    #[test]
    fn the_committed_baseline_can_be_read() {
        let text = fs::read(path()).unwrap();
        let baseline: Baseline = serde_json::from_slice(&text).unwrap();
        assert_eq!(baseline.len(), Contender::OURS.len() * Scenario::quick().len());
    }
}
