//! The figures that the documents state: printed by commands, kept in one file, compared.
//!
//! `figures/stated.json` holds, for each command below, what it measured last, by name, and
//! under which conditions. A document names what it states right behind it, in a comment that
//! is not shown ([`markers`]): `1,980<!--get.1-->`. `cargo exo figures` measures, and brings file
//! and documents up to date; a test compares the two, and another what repeats with what the
//! commands print now.

mod documents;
mod markers;
mod number;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::workspace;

pub(crate) use documents::update;
pub(crate) use number::{count, differ, millions, ratio, verdict};

/// Figures by name, as they stand in documents.
pub(crate) type Named = BTreeMap<String, String>;

/// A command whose figures documents state.
#[derive(Debug)]
pub(crate) struct Set {
    /// What its figures' names begin with.
    pub(crate) name: &'static str,
    /// Its arguments; `--json FILE` is added.
    pub(crate) arguments: &'static [&'static str],
    /// Those that measure in a short time what repeats in it, if anything does.
    pub(crate) quick: Option<&'static [&'static str]>,
}

/// All of them, cheap ones first.
pub(crate) const SETS: [Set; 13] = [
    Set { name: "tcb", arguments: &["tcb"], quick: Some(&["tcb"]) },
    Set {
        name: "get",
        arguments: &["bench", "get"],
        quick: Some(&["bench", "get", "--requests", "256", "--passes", "1"]),
    },
    Set { name: "get-tcp", arguments: &["bench", "get", "--transport", "tcp"], quick: None },
    Set {
        name: "set-tcp",
        arguments: &["bench", "get", "--transport", "tcp", "--verb", "set"],
        quick: None,
    },
    Set {
        name: "get-crowded",
        arguments: &[
            "bench",
            "get",
            "--outstanding",
            "1",
            "--manifest",
            "boot/manifests/crowded.toml",
        ],
        quick: None,
    },
    Set {
        name: "boot",
        arguments: &["bench", "boot"],
        quick: Some(&["bench", "boot", "--runs", "0", "--counted", "1"]),
    },
    Set { name: "idle", arguments: &["bench", "idle"], quick: None },
    Set { name: "storage", arguments: &["bench", "storage"], quick: None },
    Set {
        name: "primitives",
        arguments: &["bench", "primitives"],
        quick: Some(&["bench", "primitives", "--exo-only"]),
    },
    Set { name: "elevate", arguments: &["bench", "elevate"], quick: None },
    Set { name: "colocated", arguments: &["bench", "colocated"], quick: None },
    Set { name: "dpf", arguments: &["bench", "dpf"], quick: None },
    Set { name: "compare", arguments: &["bench", "compare", "--quick", "--no-speed"], quick: None },
];

/// What one command measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// The command.
    pub(crate) command: String,
    /// The day, UTC.
    pub(crate) date: String,
    /// Commit, emulator, processor.
    pub(crate) conditions: Value,
    /// Without what the names begin with.
    pub(crate) figures: Named,
}

/// All that documents may state, by name of the command's set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Stated(pub(crate) BTreeMap<String, Taken>);

impl Stated {
    /// Reads `figures/stated.json`.
    pub(crate) fn read() -> Result<Self> {
        let path = path();
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
    }

    pub(crate) fn write(&self) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path(), text).with_context(|| format!("cannot write {}", path().display()))
    }

    /// The figure that a document names `SET.FIGURE`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (set, figure) = name.split_once('.')?;
        Some(self.0.get(set)?.figures.get(figure)?)
    }
}

fn path() -> PathBuf {
    workspace::root().join("figures/stated.json")
}

/// The figures that a command saved or printed as JSON: what it calls `stated`.
pub(crate) fn of_report(json: &Value) -> Result<Named> {
    let stated = json.get("stated").context("the report states nothing")?;
    Ok(serde_json::from_value(stated.clone())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_set_and_name() {
        let stated: Stated = serde_json::from_value(serde_json::json!({
            "get": { "command": "", "date": "", "conditions": null, "figures": { "1.classify": "40" } }
        }))
        .unwrap();
        assert_eq!(stated.get("get.1.classify"), Some("40"));
        assert_eq!(
            (stated.get("get.2"), stated.get("put.1"), stated.get("get")),
            (None, None, None)
        );
    }

    #[test]
    fn every_set_is_a_command_that_has_been_run() {
        let stated = Stated::read().unwrap();
        let names: Vec<_> = stated.0.keys().map(String::as_str).collect();
        let mut sets: Vec<_> = SETS.iter().map(|set| set.name).collect();
        sets.sort_unstable();
        assert_eq!(names, sets);
        for taken in stated.0.values() {
            assert!(!taken.figures.is_empty() && taken.date.len() == 10, "{taken:?}");
        }
    }

    /// What is counted in the source is what the documents state, to the line.
    #[test]
    fn the_trusted_base_is_as_stated() {
        let survey = crate::tcb::survey().unwrap();
        let stated = Stated::read().unwrap();
        assert_eq!(
            stated.get("tcb.lines"),
            Some(count(survey.total.lines as f64).as_str()),
            "run `cargo exo figures tcb`"
        );
    }
}
