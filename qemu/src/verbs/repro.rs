//! `cargo exo repro`: published figures, repeated.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use crate::bench::repro;
use crate::signals::Signals;

/// The name that stands for the list.
const LIST: &str = "list";

/// Repeat a published experiment: its figures, ours beside them, and what differs
///
/// Prints the figures of the source with their units and places, what is measured here
/// beside them, in one sentence why the two are not the same, and what cannot be had
/// honestly. Saves JSON and a page of HTML. What a Linux guest needs is fetched through apt
/// once and kept in target/linux; neither KVM nor root is needed. Ctrl-C ends it, and
/// nothing is saved then. docs/artifact.md says what to expect of each.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which experiment; `list` says what each is and how long it takes
    #[arg(value_name = "NAME", default_value = LIST, hide_possible_values = true,
          value_parser = PossibleValuesParser::new(std::iter::once(LIST).chain(repro::names())))]
    name: String,
    /// Print what is published and what would be measured; measure nothing
    #[arg(long)]
    published: bool,
    /// Linux also with mitigations=off, and filters up to 10,000: up to twice as long
    #[arg(long, conflicts_with = "published")]
    full: bool,
    /// Where to save everything as JSON, and the page as .html beside it
    /// [default: figures/out/repro-NAME.json; nothing of the list and of what is published]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Args { name, published, full, json } = args;
    let json = json.as_deref();
    if name == LIST {
        repro::list(json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let signals = Signals::register()?;
    let result = repro::run(name, *published, *full, json, &signals);
    // A signal has many consequences; whichever came first, it is the cause.
    if result.is_err() {
        signals.check()?;
    }
    result.map(|()| ExitCode::SUCCESS)
}
