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
/// `unsafe`, and the crates from elsewhere that are linked in.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Fail if there are more lines than this in total
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
    let mut stated = Named::from([("lines".to_owned(), count(survey.total.lines as f64))]);
    for Directory { path, size } in &survey.directories {
        stated.insert(format!("lines.{path}"), count(size.lines as f64));
    }
    if let Some(json) = json.as_object_mut() {
        json.insert("stated".to_owned(), serde_json::to_value(stated)?);
    }
    Ok(json)
}
