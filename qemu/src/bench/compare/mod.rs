//! One store, several places, one command: guest instructions per request of everything that
//! could serve the same clients, under the same load on the same virtual NIC.
//!
//! *Instructions.* Every contender is booted alone in the same `microvm`, with the same NIC behind the same
//! socket, and counted by the same plugin, which knows nothing of the guest but whether an
//! instruction lies in user space. The guest is held where it goes to sleep while requests are
//! put into its NIC's ring, and let go: so many requests are there at once, for every guest
//! alike, and nothing outside comes between. Every reply is compared to the last byte;
//! a contender that fails is shown as failed.
//!
//! *Throughput and latency.* Exo's store and each other contender are booted in pairs and
//! loaded in turn through `vhost-user` ([`speed`]). Counts say what the code does, clocks what
//! that costs here.
//!
//! | file | what it is |
//! |---|---|
//! | [`contender`] | what is compared, and how each is booted |
//! | [`scenario`] | which requests, how many at a time |
//! | [`measure`] | boots one and counts |
//! | [`speed`] | boots two and takes the time |
//! | [`report`] | the table, and JSON |
//! | [`page`] | the same for a browser or a printer |
//! | [`origins`] | how much comes from engine, kernel and exokernel |
//! | [`goals`] | what Exo promises of the ratios |
//! | [`against`] | this run beside an earlier one |
//! | [`baseline`] | what may not grow unnoticed (`--check`) |

mod against;
mod baseline;
pub(crate) mod contender;
mod goals;
pub(crate) mod measure;
mod origins;
mod page;
mod report;
pub(crate) mod scenario;
pub(crate) mod speed;

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, bail, ensure};

use super::report::save;
use crate::linux::Mitigations;
use crate::output::{self, note, say};
use crate::signals::Signals;
use against::Earlier;
use contender::Contender;
use measure::Row;
use report::{Ledger, Report};
use scenario::Scenario;
use speed::plan::Plan;

/// Contenders that are counted at the same time, at most; each keeps a processor busy.
const AT_ONCE: usize = 2;
/// About how many seconds a counted contender takes to boot, and each scenario.
const COUNTED_BOOT: f64 = 15.0;
const COUNTED_SCENARIO: f64 = 1.5;

/// Compare the store in its places, and what else serves its clients: instructions, throughput,
/// latency
///
/// Boots each contender alone in the same machine, asks each the same, and counts every
/// instruction of the guest, in user space and in the kernel. Contenders on Linux run with
/// the kernel's default mitigations and, in the full run, without; what they need is fetched
/// through apt once and kept in target/linux. Counts say how much the code does, not how fast a
/// processor does it: so Exo's store is then booted beside each other contender, and both are
/// loaded in turn, several times, by a generator that is their network interface; the ratios'
/// median and spread are told. The full run also looks for the highest rate at which 99 % of
/// the requests are answered in a millisecond.
///
/// Writes a table, JSON, and a page for browsers that needs no other file. How long it is
/// going to take is said first: the quick run less than six minutes on two idle processors.
/// Interrupted, either begins anew.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Fewer kinds of requests, and Linux with its default mitigations only
    #[arg(long)]
    quick: bool,
    /// Only contenders whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Leave out instructions per request
    #[arg(long, conflicts_with = "no_speed")]
    no_instructions: bool,
    /// Leave out throughput and latency
    #[arg(long)]
    no_speed: bool,
    /// Fail if an Exo placement takes more than 2 % more instructions than the committed
    /// baseline says; measures nothing else
    #[arg(long, conflicts_with_all = ["quick", "only", "no_instructions", "no_speed"])]
    check: bool,
    /// Write what `--check` compares with
    #[arg(
        long,
        conflicts_with_all = ["quick", "only", "no_instructions", "no_speed", "check"]
    )]
    update_baseline: bool,
    /// Name what differs from an earlier run, by the JSON it saved: the circumstances, and
    /// instructions by more than 1 %. With another QEMU (`EXO_QEMU=PROGRAM`), or just again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "update_baseline"])]
    against: Option<PathBuf>,
    /// Where to save everything as JSON
    /// [default: figures/out/compare.json]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
    /// Where to save the page
    /// [default: figures/out/compare.html]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    html: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    if args.check || args.update_baseline {
        return baseline::run(args.update_baseline, interrupt);
    }
    let earlier = args.against.as_deref().map(Earlier::read).transpose()?;
    let contenders = chosen(&args.only)?;
    let scenarios = if args.quick { Scenario::quick() } else { Scenario::all() };
    let mitigations: &[_] = if args.quick {
        &[Mitigations::Default]
    } else {
        &[Mitigations::Default, Mitigations::Off]
    };
    let plan: Vec<_> = contenders
        .iter()
        .flat_map(|&contender| contender.variants(mitigations).map(move |with| (contender, with)))
        .collect();
    let plan = if args.no_instructions { Vec::new() } else { plan };
    let opponents = speed::opponents(&contenders, mitigations);
    if args.no_instructions && opponents.is_empty() {
        bail!("there is nothing to set beside Exo's store: --only has named nothing else");
    }
    let opponents = if args.no_speed { Vec::new() } else { opponents };
    let durations = if args.quick { Plan::quick() } else { Plan::full() };
    let counting = plan.len() as f64 * (COUNTED_BOOT + COUNTED_SCENARIO * scenarios.len() as f64);
    let racing = durations.seconds(opponents.iter().map(|(other, _)| *other));
    let minutes = (counting + racing) / 60.0;
    note!("compare: about {minutes:.1} minutes on two idle processors; Ctrl-C keeps nothing");

    let rows = rows(&plan, &scenarios, interrupt)?;
    let speed = match &opponents[..] {
        [] => None,
        opponents => Some(speed::run(durations, opponents, interrupt)?),
    };
    let report = Report::new(Ledger::now(), &scenarios, rows, speed);
    let path = save(&report, args.json.as_deref(), "compare")?;
    let page = page::save(&report, args.html.as_deref())?;
    output::print(report.text())?;
    if let Some(earlier) = earlier {
        output::print(earlier.differences(&report)?)?;
    }
    say!("\nsaved to {} and {}", path.display(), page.display())?;
    let failed = report.failed();
    ensure!(failed.is_empty(), "these could not be measured: {}", failed.join(", "));
    Ok(())
}

/// Measures all of `plan`, two at the same time: what is counted does not depend on what else
/// the host does.
fn rows(
    plan: &[(Contender, Option<Mitigations>)],
    scenarios: &[Scenario],
    interrupt: &Signals,
) -> Result<Vec<Row>> {
    let next = AtomicUsize::new(0);
    let rows: Mutex<Vec<(usize, Result<Row>)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |cores| cores.get().min(AT_ONCE)) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    let Some(&(contender, mitigations)) = plan.get(number) else { break };
                    note!("compare: {} of {}: {}", number + 1, plan.len(), contender.title());
                    let row = measure::row(contender, mitigations, scenarios, interrupt);
                    let interrupted = row.is_err();
                    rows.lock().unwrap_or_else(PoisonError::into_inner).push((number, row));
                    if interrupted {
                        break;
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|&(number, _)| number);
    rows.into_iter().map(|(_, row)| row).collect()
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
