//! One store, several places, one command: guest instructions per request of everything that
//! could serve the same clients, under the same load on the same virtual NIC.
//!
//! Every contender is booted alone in the same `microvm`, with the same NIC behind the same
//! socket, and counted by the same plugin, which knows nothing of the guest but whether an
//! instruction lies in user space. The guest is held where it goes to sleep while requests are
//! put into its NIC's ring, and let go: so many requests are there at once, for every guest
//! alike, and nothing outside comes between. Every reply is compared to the last byte;
//! a contender that fails is shown as failed.
//!
//! | file | what it is |
//! |---|---|
//! | [`contender`] | what is compared, and how each is booted |
//! | [`scenario`] | which requests, how many at a time |
//! | [`measure`] | boots one and counts |
//! | [`report`] | the table, and JSON |
//! | [`goals`] | what Exo promises of the ratios |
//! | [`baseline`] | what may not grow unnoticed (`--check`) |

mod baseline;
pub(crate) mod contender;
mod goals;
pub(crate) mod measure;
mod report;
pub(crate) mod scenario;

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use super::conditions::Conditions;
use super::report::save;
use crate::linux::Mitigations;
use crate::output::{self, note, say};
use crate::signals::Signals;
use contender::Contender;
use measure::Row;
use report::Report;
use scenario::Scenario;

/// Compare the store in its places, and what else serves its clients: instructions per request
///
/// Boots each contender alone in the same machine, asks each the same, and counts every
/// instruction of the guest, in user space and in the kernel. Contenders on Linux run with
/// the kernel's default mitigations and, in the full run, without; what they need is fetched
/// through apt once and kept in target/linux. The quick run takes some minutes, the full one
/// about three times as long; interrupted, either begins anew. Counts say how much the code
/// does, not how fast a processor does it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fewer kinds of requests, and Linux with its default mitigations only
    #[arg(long)]
    quick: bool,
    /// Only contenders whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Fail if an Exo placement takes more than 2 % more instructions than the committed
    /// baseline says; measures nothing else
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    check: bool,
    /// Write what `--check` compares with
    #[arg(long, conflicts_with_all = ["quick", "only", "check"])]
    update_baseline: bool,
    /// Where to save everything as JSON
    /// [default: figures/out/compare.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    if args.check || args.update_baseline {
        return baseline::run(args.update_baseline, interrupt);
    }
    let contenders = chosen(&args.only)?;
    let scenarios = if args.quick { Scenario::quick() } else { Scenario::all() };
    let mitigations: &[_] = if args.quick {
        &[Mitigations::Default]
    } else {
        &[Mitigations::Default, Mitigations::Off]
    };
    let mut rows: Vec<Row> = Vec::new();
    let plan: Vec<_> = contenders
        .iter()
        .flat_map(|&contender| contender.variants(mitigations).map(move |with| (contender, with)))
        .collect();
    for (number, &(contender, mitigations)) in plan.iter().enumerate() {
        note!("compare: {} of {}: {}", number + 1, plan.len(), contender.title());
        rows.push(measure::row(contender, mitigations, &scenarios, interrupt)?);
    }
    let conditions = Conditions::now(measure::MACHINE);
    let report = Report::new(conditions, &scenarios, rows);
    let path = save(&report, args.json.as_deref(), "compare")?;
    output::print(report.text())?;
    say!("\nsaved to {}", path.display())?;
    let failed = report.failed();
    ensure!(failed.is_empty(), "these could not be measured: {}", failed.join(", "));
    Ok(())
}

/// The contenders whose names were asked for: all if none was.
fn chosen(only: &[String]) -> Result<Vec<Contender>> {
    let wanted = |contender: &Contender| {
        only.is_empty() || only.iter().any(|name| contender.name().contains(name.as_str()))
    };
    let chosen: Vec<_> = Contender::ALL.into_iter().filter(wanted).collect();
    if chosen.is_empty() {
        let names = Contender::ALL.map(Contender::name).join(", ");
        bail!("no contender's name contains {}; there are: {names}", only.join(" or "));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap(), Contender::ALL);
        assert_eq!(chosen(&["exo".to_owned()]).unwrap()[0], Contender::Exo);
        let error = chosen(&["redis".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("memcached"), "{error}");
    }
}
