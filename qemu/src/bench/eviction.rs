//! Hit ratios of the store's eviction policies, beside memcached with as much memory.
//!
//! The package `bench-eviction` makes loads and plays them; here they are chosen and reported.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bench_eviction::contender::{Contender, Memcached, Ours};
use bench_eviction::mixes::MIXES;
use bench_eviction::play::{Outcome, play};
use bench_eviction::request::Load;
use bench_eviction::trace;
use kvstore::engine::Eviction;
use serde::Serialize;

use super::conditions::Conditions;
use super::report::{Stating, save};
use crate::figures::Named;
use crate::output::{self, note, say};
use crate::prerequisites::MEMCACHED;
use crate::signals::Signals;

/// How far behind memcached's, in hits of a hundred reads, the default may be.
const GOAL: f64 = 0.5;

/// Compare hit ratios of the store's eviction policies, and of memcached in the same memory
///
/// On the host: plays generated loads, and traces read from files, to the store's engine with each
/// policy and to the installed memcached, and prints how many of a hundred reads find their item.
/// A read that misses is followed by a store. The first third of each load is not counted. With
/// memcached it takes some ten minutes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Memory of each store, in MiB
    #[arg(long, default_value_t = 64, value_name = "N",
          value_parser = clap::value_parser!(u32).range(2..=4096))]
    memory_mib: u32,
    /// Requests of each load; of a trace, at most so many
    #[arg(long, default_value_t = 4_000_000, value_name = "N")]
    requests: usize,
    /// Play only generated loads with this in their name; none at all if it is empty
    #[arg(long, value_name = "NAME")]
    mix: Option<String>,
    /// Play this trace, too, decompressed: Twitter's CSV, or libCacheSim's oracleGeneral
    #[arg(long, value_name = "FILE")]
    trace: Vec<PathBuf>,
    /// Leave memcached out
    #[arg(long)]
    no_memcached: bool,
    /// Where to save everything as JSON
    /// [default: figures/out/eviction.json]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    unit: &'static str,
    better: &'static str,
    conditions: Conditions,
    memory_mib: u32,
    requests: usize,
    /// memcached's version, if it was played the loads.
    memcached: Option<String>,
    /// The policy that a store has unless another is chosen.
    default: &'static str,
    loads: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    load: String,
    /// By the name of the contender.
    outcomes: Vec<(String, Outcome)>,
}

/// The contender that is not ours.
const THEIRS: &str = "memcached";

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    if !args.no_memcached {
        MEMCACHED.require()?;
    }
    let memory = (args.memory_mib as usize) << 20;
    let mut report = Report {
        unit: "hits of a hundred reads",
        better: "higher",
        conditions: Conditions::on_host(),
        memory_mib: args.memory_mib,
        requests: args.requests,
        memcached: None,
        default: Eviction::default().name(),
        loads: Vec::new(),
    };
    let chosen = |name: &str| {
        args.mix.as_ref().is_none_or(|part| !part.is_empty() && name.contains(part.as_str()))
    };
    for mix in MIXES.iter().filter(|mix| chosen(mix.name)) {
        note!("bench: {}: {}", mix.name, mix.about);
        let row = compare(args, &mix.load(memory, args.requests), interrupt, &mut report)?;
        report.loads.push(row);
    }
    for file in &args.trace {
        note!("bench: {}", file.display());
        let load = trace::read(file, args.requests)?;
        let row = compare(args, &load, interrupt, &mut report)?;
        report.loads.push(row);
    }
    let path = save(&report, args.json.as_deref(), "eviction")?;
    output::print(report.text()?)?;
    say!("\nsaved to {}", path.display())?;
    Ok(())
}

fn compare(args: &Args, load: &Load, interrupt: &Signals, report: &mut Report) -> Result<Row> {
    let interrupted = || Ok(interrupt.check()?);
    let mut outcomes = Vec::new();
    for policy in Eviction::ALL {
        let mut memory = vec![0; (args.memory_mib as usize) << 20];
        let mut ours = Ours::new(&mut memory, policy)?;
        outcomes.push((policy.name().to_owned(), play(load, &mut ours, &interrupted)?));
    }
    if !args.no_memcached {
        let mut theirs = Memcached::start(args.memory_mib as usize)?;
        report.memcached = Some(theirs.version()?);
        let outcome = play(load, &mut theirs as &mut dyn Contender, &interrupted)
            .with_context(|| format!("memcached, {}", load.name))?;
        if outcome.late > 0.5 {
            note!("bench: memcached was {:.1} s late: too few hits, as more expired", outcome.late);
        }
        outcomes.push((THEIRS.to_owned(), outcome));
    }
    Ok(Row { load: load.name.clone(), outcomes })
}

impl Row {
    fn percent(&self, name: &str) -> Option<f64> {
        self.outcomes.iter().find(|(other, _)| other == name).map(|(_, outcome)| outcome.percent())
    }

    /// The best of ours.
    fn best(&self) -> Option<(&str, f64)> {
        let ours = self.outcomes.iter().filter(|(name, _)| name != THEIRS);
        let ours = ours.map(|(name, outcome)| (name.as_str(), outcome.percent()));
        ours.max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

impl Stating for Report {
    /// The document that states them says when they were taken.
    fn stated(&self) -> Named {
        Named::new()
    }
}

impl Report {
    fn text(&self) -> Result<String> {
        let mut out = String::new();
        let theirs = match &self.memcached {
            Some(version) => format!("memcached {version} with -m {}", self.memory_mib),
            None => "no memcached".to_owned(),
        };
        writeln!(
            out,
            "{}, {} MiB, {} requests of which the first third fills; {} is better; {theirs}\n{}",
            self.unit,
            self.memory_mib,
            self.requests,
            self.better,
            self.conditions.host_lines(),
        )?;
        let mut names: Vec<_> = Eviction::ALL.map(Eviction::name).to_vec();
        if self.memcached.is_some() {
            names.push(THEIRS);
        }
        writeln!(out, "| load | {} |", names.join(" | "))?;
        writeln!(out, "|---{}|", "|--:".repeat(names.len()))?;
        for row in &self.loads {
            write!(out, "| {}", row.load)?;
            for name in &names {
                write!(out, " | {:.1}", row.percent(name).unwrap_or(f64::NAN))?;
            }
            writeln!(out, " |")?;
        }
        writeln!(out)?;
        for policy in Eviction::ALL.map(Eviction::name) {
            let best = self.loads.iter().filter(|row| row.best().is_some_and(|b| b.0 == policy));
            let best = best.count();
            let behind = |row: &Row| Some(row.percent(policy)? - row.percent(THEIRS)?);
            let worst = self.loads.iter().filter_map(behind).min_by(f64::total_cmp);
            let beside = worst.map_or_else(String::new, |worst| {
                format!(", beside memcached at least {worst:+.1}")
            });
            let mark = if policy == self.default { " (the default)" } else { "" };
            writeln!(out, "{policy}{mark}: best on {best} of {}{beside}", self.loads.len())?;
            if policy == self.default && worst.is_some_and(|worst| worst < -GOAL) {
                writeln!(out, "missed: the default is to be at most {GOAL} behind memcached")?;
            }
        }
        Ok(out)
    }
}
