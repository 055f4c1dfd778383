//! `cargo exo load`: a load on any memcached or echo service over UDP.

mod back_end;
mod options;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use exo_load::progress::Bar;
use exo_load::report::{Knee, Report, Row};
use exo_load::{Ended, Items, Load, Measured, Schedule, run as loading, search};
use serde::Serialize;

use crate::bench::conditions::Conditions;
use crate::output::{self, note};
use crate::signals::Signals;
use options::Options;

/// Put load on a server: memcached or echo over UDP; check every reply, account for every loss
///
/// Sends with so many requests outstanding (closed loop), at a rate of its own (open loop,
/// --rate), or looks for the highest rate that keeps a latency objective (--search).
/// Replies are checked for id, key and contents. What a percentile leaves out stands
/// beside it; it is refused if more than 0.1 % of the intended requests were never sent.
///
/// Exits with 0, or 1 if the server does not answer, stops answering or answers wrongly.
/// Ctrl-C ends the load, and what was measured until then is printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    cargo exo load                                    the store of `cargo exo run`\n  \
    cargo exo load --exo                              boot Exo, be its network interface\n  \
    cargo exo load --server HOST:PORT --rate 10000    10,000 requests a second\n  \
    cargo exo load --search p99=1ms                   how fast with 99 % within 1 ms\n  \
    cargo exo load --key-size etc --value-size etc --get 96.8\n\
    docs/load.md says more.")]
pub(crate) struct Args {
    #[command(flatten)]
    back_end: back_end::Place,
    #[command(flatten)]
    options: Options,
    /// Save all figures in this file
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
}

/// What is saved.
#[derive(Serialize)]
struct Saved<'r> {
    conditions: &'r Conditions,
    #[serde(flatten)]
    report: &'r Report,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let interrupt = Signals::register()?;
    let outcome = measure(args, &interrupt);
    // A signal has many consequences; whichever came first, it is the cause.
    match (outcome, interrupt.check()) {
        (Err(_) | Ok(()), Err(interrupted)) => {
            note!("{interrupted}");
            Ok(interrupted.exit_code())
        }
        (outcome, Ok(())) => outcome.map(|()| ExitCode::SUCCESS),
    }
}

fn measure(args: &Args, interrupt: &Signals) -> Result<()> {
    let options = &args.options;
    let workload = options.workload();
    let protocol = options.protocol.into();
    workload.check()?;
    let mut end = args.back_end.open(protocol, interrupt)?;
    let items = Items::new(&workload, end.wire().payload_max())?;
    let mut bar = Bar::new(|| interrupt.check().is_err());

    let patience = Duration::from_secs_f64(options.patience);
    let version = loading::probe(end.wire(), protocol, patience, &mut bar).map_err(|error| {
        bar.clear();
        anyhow!("{}: {error:#}\n{}", end.server(), end.trouble())
    })?;
    let mut report = Report::new(
        end.server().to_owned(),
        version,
        protocol,
        end.wire().describe(),
        &workload,
        &items,
    );
    (report.timeout_s, report.warm_up_s) = (options.timeout, options.warm_up);
    let conditions = end.conditions();
    bar.clear();
    output::print(format!("{report}{}", end.note()))?;

    let timeout = Duration::from_secs_f64(options.timeout);
    let mut load = Load::new(end.wire(), &workload, &items, protocol, timeout);
    let stores = matches!(protocol, exo_load::protocol::Protocol::Memcached);
    let filled = !stores || options.no_prefill || load.prefill(&mut bar)?;
    let mut last = Ended::Complete;
    if filled {
        last = match options.search {
            None => in_turn(options, &mut load, &mut bar, &mut report)?,
            Some(_) => find_knee(options, &mut load, &mut bar, &mut report)?,
        };
    }
    bar.clear();
    if let Some(path) = &args.json {
        let json =
            serde_json::to_string_pretty(&Saved { conditions: &conditions, report: &report })?;
        fs::write(path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if last == Ended::Broken {
        bail!(
            "the way to the server broke; what was measured until then stands above\n{}",
            end.trouble()
        );
    }
    if last == Ended::Silent {
        bail!(
            "{} has answered nothing for {} s; what was measured until then stands above\n{}",
            report.server,
            options.silence,
            end.trouble()
        );
    }
    let wrong: u64 = report.measurements.iter().map(|row| row.wrong).sum();
    if wrong > 0 {
        bail!("{wrong} replies were wrong: these figures are worth nothing");
    }
    Ok(())
}

/// One schedule after the other.
fn in_turn(
    options: &Options,
    load: &mut Load<'_>,
    bar: &mut Bar<impl Fn() -> bool>,
    report: &mut Report,
) -> Result<Ended> {
    let mut ended = Ended::Complete;
    for schedule in options.schedules() {
        let measured = load.run(&options.plan(schedule), bar)?;
        bar.clear();
        let row = Row::new(&measured);
        output::print(format!("\n{row}"))?;
        report.measurements.push(row);
        ended = measured.ended;
        if ended != Ended::Complete {
            break;
        }
    }
    Ok(ended)
}

/// Looks for the highest rate that keeps the objective.
fn find_knee(
    options: &Options,
    load: &mut Load<'_>,
    bar: &mut Bar<impl Fn() -> bool>,
    report: &mut Report,
) -> Result<Ended> {
    let Some(objective) = options.search else { return Ok(Ended::Complete) };
    output::print(format!("\nlooking for the knee: {objective}\n"))?;
    let mut ended = Ended::Complete;
    let mut best: Option<(f64, Row)> = None;
    let resolution = options.resolution / 100.0;
    let found = search::knee(options.search_from, options.search_to, resolution, |rate| {
        let schedule = Schedule::Open(rate, options.arrivals.into());
        let measured = load.run(&options.plan(schedule), bar)?;
        bar.clear();
        ended = measured.ended;
        let row = Row::new(&measured);
        report.measurements.push(row.clone());
        if ended != Ended::Complete {
            return Ok(None);
        }
        let kept = objective.kept(&measured.account);
        output::print(trial(rate, kept, &measured))?;
        if kept && best.as_ref().is_none_or(|(before, _)| rate > *before) {
            best = Some((rate, row));
        }
        Ok(Some(kept))
    })?;
    let knee = Knee::new(objective, found);
    report.knee = Some(knee);
    let row = best.map_or(String::new(), |(_, row)| format!("\nat the knee: {row}"));
    output::print(format!("{knee}{row}"))?;
    Ok(ended)
}

/// A trial of a search, in a line.
fn trial(rate: f64, kept: bool, measured: &Measured) -> String {
    let account = &measured.account;
    let time = |percentile: f64| match account.percentile(percentile).latency_us {
        Some(time) => format!("{time:.0} µs"),
        None => "refused".to_owned(),
    };
    format!(
        "  {rate:>10.0} requests/s: {}; p50 {}, p99 {}; unanswered {:.3} %, never sent {:.3} %, sent \
         late {:.3} %\n",
        if kept { "kept  " } else { "broken" },
        time(50.0),
        time(99.0),
        account.unanswered_share() * 100.0,
        account.never_sent_share() * 100.0,
        account.percentile(50.0).late_sent * 100.0
    )
}
