//! Published experiments, repeated: the figures of the sources beside those of this system.
//!
//! The sources' figures are data ([`published`]), each with its unit and its place. Nothing is
//! measured in a new way here: contenders, loads and counters are those of the other
//! benchmarks, asked for what a source asked for. What an experiment cannot show here honestly
//! it says.
//!
//! | file | what it is |
//! |---|---|
//! | [`published`] | figures of others, typed |
//! | [`experiments`] | all experiments, by name |
//! | [`unbuckle`], [`arrakis`], [`arrakis_storage`], [`unikraft`], [`dpf`], [`aegis`], [`hodor`] | those of each source |
//! | [`ours`] | what is measured for them, by placement |
//! | [`stages`] | the same, by step of a packet's journey |
//! | [`report`], [`page`] | text, JSON, HTML |

mod aegis;
mod arrakis;
mod arrakis_storage;
mod dpf;
mod experiments;
mod hodor;
mod ours;
mod page;
mod published;
mod report;
mod stages;
mod unbuckle;
mod unikraft;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::conditions::Conditions;
use super::report::save;
use crate::output::{self, note, say};
use crate::prerequisites::QEMU;
use crate::signals::Signals;
use experiments::{ALL, Experiment};
use ours::Effort;
use report::{Measured, Report};

/// The names of all experiments, in the order of the list.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().map(|experiment| experiment.name)
}

/// Prints the list, and writes it to `json` if there is such a file.
///
/// # Errors
/// Standard output or the file cannot be written to.
pub(crate) fn list(json: Option<&Path>) -> Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["name", "minutes", "what", "source"]);
    for Experiment { name, title, works, minutes, .. } in ALL {
        let source = works.iter().map(|work| work.cite).collect::<Vec<_>>().join("; ");
        table.add_row([*name, &minutes.to_string(), title, &source]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    say!("{table}")?;
    if let Some(path) = json {
        let entry = |&Experiment { name, title, works, minutes, .. }: &Experiment| json!({ "name": name, "title": title, "works": works, "minutes": minutes });
        let list: Vec<_> = ALL.into_iter().map(entry).collect();
        let text = serde_json::to_string_pretty(&list)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Prints the experiment `name`, measured unless `published_only`; writes JSON and, if it is
/// measured, a page of HTML.
///
/// # Errors
/// There is no such experiment, something could not be measured, or `interrupt`.
pub(crate) fn run(
    name: &str,
    published_only: bool,
    full: bool,
    json: Option<&Path>,
    interrupt: &Signals,
) -> Result<()> {
    let experiment = experiments::find(name).with_context(|| {
        format!("there is no experiment {name}; `cargo exo repro list` names all")
    })?;
    if published_only {
        let report = Report::new(experiment, None);
        output::print(report.text())?;
        if json.is_some() {
            say!("\nsaved to {}", save(&report, json, "")?.display())?;
        }
        return Ok(());
    }
    let measured = measure(experiment, Effort { full }, interrupt)?;
    let report = Report::new(experiment, Some(measured));
    let path = save(&report, json, &format!("repro-{name}"))?;
    let page = page_beside(&path);
    fs::write(&page, page::html(&report))
        .with_context(|| format!("cannot write {}", page.display()))?;
    output::print(report.text())?;
    say!("\nsaved to {} and {}", path.display(), page.display())?;
    let failed = report.failures();
    ensure!(failed.is_empty(), "these could not be measured:\n{}", failed.join("\n"));
    Ok(())
}

fn measure(experiment: &Experiment, effort: Effort, interrupt: &Signals) -> Result<Measured> {
    let minutes = experiment.minutes;
    note!(
        "repro: {}; at most about {minutes} min if two processors have little else to do",
        experiment.name
    );
    let (conditions, where_and_how) = match experiment.machine {
        Some(machine) => {
            QEMU.require()?;
            let conditions = Conditions::now(machine);
            let lines = conditions.lines();
            (conditions, lines)
        }
        None => {
            let conditions = Conditions::on_host();
            let lines = conditions.host_lines();
            (conditions, lines)
        }
    };
    let ours = (experiment.measure)(effort, interrupt)?;
    for (key, _) in &ours.beside {
        let known = experiment.published.iter().flat_map(|figure| figure.beside);
        ensure!(
            known.into_iter().any(|beside| beside.key == *key),
            "no published figure has {key}"
        );
    }
    Ok(Measured { conditions, where_and_how, ours })
}

/// Where the page of a report goes that is saved at `path`.
fn page_beside(path: &Path) -> PathBuf {
    match path.extension() {
        Some(extension) if extension == "html" => path.with_extension("page.html"),
        _ => {
            // A name may have dots of its own: `repro-unbuckle-4.2.json`.
            let mut page = path.as_os_str().to_owned();
            if let Some(stem) = path.to_str().and_then(|path| path.strip_suffix(".json")) {
                page = stem.into();
            }
            page.push(".html");
            page.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_never_takes_the_place_of_its_report() {
        for (report, page) in [
            ("out/repro-unbuckle-4.2.json", "out/repro-unbuckle-4.2.html"),
            ("report", "report.html"),
            ("report.html", "report.page.html"),
            ("4.2", "4.2.html"),
        ] {
            assert_eq!(page_beside(Path::new(report)), Path::new(page));
        }
    }
}
