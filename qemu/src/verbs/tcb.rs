//! `cargo exo tcb`: how much has to be trusted.

use std::process::ExitCode;

use anyhow::Result;

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
        true => say!("{}", serde_json::to_string_pretty(&survey)?)?,
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
