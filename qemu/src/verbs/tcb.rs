//! `cargo exo tcb`: how much has to be trusted.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use crate::figures::{Named, count};
use crate::tcb::{Directory, Survey};

use crate::output::{self, note, say};

/// Measure the trusted base: everything that runs in ring 0
///
/// Counts the lines that carry code for the guest (no blank lines, comments,
/// documentation or tests; assembly and linker scripts included), the uses of
/// `unsafe`, and the lines of crates from elsewhere. Lines that run only before the first
/// environment does have a column of their own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Fail if there are more lines than this, without those that run once
    #[arg(long, value_name = "N")]
    max_lines: Option<usize>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let survey = crate::tcb::survey()?;
    match args.json {
        true => say!("{}", serde_json::to_string_pretty(&with_stated(&survey)?)?)?,
        false => output::print(&survey)?,
    }
    if let Some(max) = args.max_lines
        && survey.total.lines > max
    {
        note!("error: the trusted base has {} lines, its budget is {max}", survey.total.lines);
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// As JSON, with what documents state.
fn with_stated(survey: &Survey) -> Result<Value> {
    let mut json = serde_json::to_value(survey)?;
    let foreign: usize = survey.foreign.iter().map(|foreign| foreign.size.lines).sum();
    let mut stated = Named::from([
        ("lines".to_owned(), count(survey.total.lines as f64)),
        ("once".to_owned(), count(survey.total.once as f64)),
        ("circle".to_owned(), count(survey.circle.len() as f64)),
        ("foreign".to_owned(), count(foreign as f64)),
    ]);
    for Directory { path, size } in &survey.directories {
        stated.insert(format!("lines.{path}"), count(size.all_lines() as f64));
    }
    if let Some(json) = json.as_object_mut() {
        json.insert("stated".to_owned(), serde_json::to_value(stated)?);
    }
    Ok(json)
}
