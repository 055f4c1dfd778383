//! `cargo exo figures`: what the documents state, measured anew or checked.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::bench::conditions::Conditions;
use crate::figures::{Named, SETS, Set, Stated, Taken, differ, of_report, update};
use crate::output::{note, say};
use crate::prerequisites::QEMU;
use crate::workspace;

/// How far what repeats may be from what is stated, as a share: another compiler makes other
/// code of the same source.
const TOLERANCE: f64 = 0.05;

/// Measure anew what README, SPEC and docs state, and write it there
///
/// Runs the commands whose figures the documents state, all or those named, keeps what they
/// find in figures/stated.json, and writes it into the documents, where each figure has its
/// name behind it in a comment: `1,980<!--get.1-->`. All of them take some minutes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which; all if none are named
    #[arg(value_name = "SET", value_parser = SETS.map(|set| set.name))]
    sets: Vec<String>,
    /// Measure nothing, only write the documents
    #[arg(long, conflicts_with_all = ["check", "sets"])]
    documents: bool,
    /// Write nothing, but fail if what repeats is not as stated: lines exactly, instructions
    /// within 5 %. Of all sets those that repeat quickly are checked, and the others named; one
    /// of these that is asked for is an error
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let wanted = |set: &&Set| args.sets.is_empty() || args.sets.iter().any(|name| name == set.name);
    let sets: Vec<_> = SETS.iter().filter(wanted).collect();
    if args.check {
        return check(&sets, !args.sets.is_empty());
    }
    let mut stated =
        if args.documents { Stated::read()? } else { Stated::read().unwrap_or_default() };
    if !args.documents {
        for set in sets {
            note!("figures: {}", set.name);
            let (figures, conditions) = measure(set.arguments)?;
            let command = format!("cargo exo {}", set.arguments.join(" "));
            let taken = Taken { command, date: today()?, conditions, figures };
            stated.0.insert(set.name.to_owned(), taken);
            // What was measured is kept, whatever becomes of the rest.
            stated.write()?;
        }
    }
    let changed = update(&stated)?;
    for path in &changed {
        say!("figures: changed {}", path.display())?;
    }
    if changed.is_empty() {
        say!("figures: the documents state what was measured")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares what repeats with what is stated.
fn check(sets: &[&'static Set], are_named: bool) -> Result<ExitCode> {
    let stated = Stated::read()?;
    let (repeating, others) = apart(sets);
    if !others.is_empty() {
        let others = others.join(", ");
        ensure!(
            !are_named,
            "nothing that can be checked in a short time: {others}; `cargo exo figures {}` measures \
             anew",
            others.replace(',', "")
        );
        note!("figures: not checked: {others}");
    }
    let (mut compared, mut differences) = (0, Vec::new());
    for (set, quick) in repeating {
        if quick.first() != Some(&"tcb") {
            QEMU.require()?;
        }
        note!("figures: checking {}", set.name);
        let tolerance = if set.name == "tcb" { 0.0 } else { TOLERANCE };
        let (now, _) = measure(quick)?;
        for (name, now) in now {
            let name = format!("{}.{name}", set.name);
            let Some(stated) = stated.get(&name) else { continue };
            compared += 1;
            if differ(stated, &now, tolerance) {
                differences.push(format!("{name}: stated {stated}, now {now}"));
            }
        }
    }
    ensure!(compared > 0, "nothing of this is stated");
    if differences.is_empty() {
        say!("figures: {compared} are as stated")?;
        return Ok(ExitCode::SUCCESS);
    }
    say!("{}", differences.join("\n"))?;
    bail!(
        "{} of {compared} figures are not as stated; `cargo exo figures` measures anew",
        differences.len()
    );
}

/// The sets of which something repeats in a short time, with the command for that, and the names of
/// the others.
fn apart(
    sets: &[&'static Set],
) -> (Vec<(&'static Set, &'static [&'static str])>, Vec<&'static str>) {
    let repeating = sets.iter().filter_map(|&set| Some((set, set.quick?)));
    let others = sets.iter().filter(|set| set.quick.is_none()).map(|set| set.name);
    (repeating.collect(), others.collect())
}

/// Runs one of this program's own commands, shown as it runs. Returns its figures and
/// conditions.
fn measure(arguments: &[&str]) -> Result<(Named, Value)> {
    let directory = tempfile::Builder::new().prefix("exo-figures-").tempdir()?;
    let file = directory.path().join("report.json");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).arg("--json").current_dir(workspace::root());
    let shown = format!("cargo exo {}", arguments.join(" "));
    let text = if arguments.first() == Some(&"tcb") {
        let output = command.output().with_context(|| format!("{shown}: cannot start"))?;
        ensure!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    } else {
        let status =
            command.arg(&file).status().with_context(|| format!("{shown}: cannot start"))?;
        ensure!(status.success(), "{shown}: {status}");
        std::fs::read(&file)?
    };
    let json: Value = serde_json::from_slice(&text)?;
    let conditions = ["/conditions", "/ledger/conditions"];
    let conditions = conditions.iter().find_map(|path| json.pointer(path).cloned());
    // What runs on the host alone may say nothing of it.
    let conditions = match conditions {
        Some(conditions) if !conditions.is_null() => conditions,
        _ => serde_json::to_value(Conditions::on_host())?,
    };
    Ok((of_report(&json).with_context(|| shown)?, conditions))
}

/// The day, UTC, as 2026-11-28.
fn today() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%F"]).output().context("cannot start date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_and_does_not_repeat_is_no_success() {
        let sets: Vec<_> =
            SETS.iter().filter(|set| ["tcb", "elevate"].contains(&set.name)).collect();
        let error = check(&sets, true).unwrap_err().to_string();
        assert!(error.contains("short time: elevate; `cargo exo figures elevate`"), "{error}");
    }
}
