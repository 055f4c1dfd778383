//! What crossing rings costs: the ladder from ring 3 to calls without a crossing.
//!
//! Single operations count themselves, as `primitives` do; GETs are counted as `get` does, of the
//! same store in three machines that differ in one word of the manifest.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::builder::RangedU64ValueParser;
use serde::Serialize;

use super::conditions::Conditions;
use super::get::{Plan, count};
use super::load::Transport;
use super::primitives;
use super::report::{Scenario, Stating, save};
use crate::figures::{self, Named};
use crate::machine::{Config, Machine};
use crate::manifest::{self, Elevate};
use crate::output::{self, note, say};
use crate::signals::Signals;
use crate::workspace;

/// The rungs: what the manifest says, what figures are called, and what people read.
const RUNGS: [(Elevate, &str, &str); 3] = [
    (Elevate::Never, "ring-3", "ring 3"),
    (Elevate::Serve, "ring-0", "ring 0, system calls"),
    (Elevate::Deep, "direct", "ring 0, direct calls"),
];

/// What is measured on each rung, and what people read.
const COLUMNS: [(&str, &str); 4] = [
    ("null", "null call"),
    ("env_status", "env_status"),
    ("get-1", "GET, 1 outstanding"),
    ("get-32", "GET, 32"),
];

/// Percent of a GET that crossing rings may be.
const GOALS: [(&str, &str, f64); 2] =
    [("get-1", "a GET with one outstanding", 15.0), ("get-32", "one of 32", 5.0)];

/// Others' figures, of processors, in time.
const PUBLISHED: &str = "published, in time, not comparable: UKL's shortcuts +26 % throughput (Redis); Privbox 2.2x \
per system call, Redis +7.6 %";

/// Count guest instructions per call and per GET in ring 3, in ring 0, and with direct calls
///
/// Boots a machine for single operations, and one for the store on each rung: in ring 3; in ring
/// 0, where it makes the same system calls; and there with direct calls. Counts say how much code
/// runs, not what crossing rings costs in time: under emulation that is not a processor's.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests of each kind, on each rung
    #[arg(long, default_value_t = 4096, value_name = "N",
          value_parser = RangedU64ValueParser::<u32>::new().range(32..=1_000_000))]
    requests: u32,
    /// Where to save everything as JSON
    /// [default: figures/out/elevate.json]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
}

/// Instructions by column, of one rung.
#[derive(Debug, Serialize)]
struct Rung {
    name: &'static str,
    instructions: [f64; COLUMNS.len()],
}

#[derive(Debug, Serialize)]
struct Report {
    unit: &'static str,
    better: &'static str,
    conditions: Conditions,
    rungs: Vec<Rung>,
    /// To ring 0 and back.
    there_and_back: f64,
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    let report = measure(args.requests, interrupt)?;
    let path = save(&report, args.json.as_deref(), "elevate")?;
    output::print(report.text()?)?;
    say!("\nsaved to {}", path.display())?;
    Ok(())
}

fn measure(requests: u32, interrupt: &Signals) -> Result<Report> {
    let mut config = Config::named("elevated")?;
    config.icount = true;
    let machine = Machine::boot(&config)?;
    note!("bench: single operations");
    let single = primitives::read(&machine, "elevated: ", interrupt)?;
    drop(machine);
    let single = |name: &str| {
        let figure = single.figures.get(name);
        figure.map(|figure| figure.instructions).with_context(|| format!("no figure of {name}"))
    };
    let mut rungs = Vec::new();
    for (elevate, name, title) in RUNGS {
        note!("bench: the store in {title}");
        let mut manifest = manifest::read(&workspace::manifest("bench"))?;
        for app in &mut manifest.apps {
            app.elevate = elevate;
        }
        let plan = Plan::gets(Transport::Udp, 32, requests);
        let (_, scenarios) = count(Config::new(manifest), &plan, interrupt)?;
        let gets: Vec<f64> = scenarios.iter().map(Scenario::total).collect();
        let [one, many] = gets[..] else { anyhow::bail!("nothing was counted") };
        let [null, status] = ["null", "env_status"].map(|call| single(&format!("{call}/{name}")));
        rungs.push(Rung { name, instructions: [null?, status?, one, many] });
    }
    Ok(Report {
        unit: "guest instructions",
        better: "lower",
        conditions: Conditions::now("TCG, -icount shift=0,sleep=off"),
        rungs,
        there_and_back: single("there-and-back")?,
    })
}

impl Report {
    fn of(&self, rung: &str, column: &str) -> f64 {
        let rung = self.rungs.iter().find(|it| it.name == rung);
        let column = COLUMNS.iter().position(|(name, _)| *name == column);
        rung.zip(column).and_then(|(rung, at)| rung.instructions.get(at).copied()).unwrap_or(0.0)
    }

    /// How many per cent of what `column` takes in ring 3 are spared on `rung`.
    fn spared(&self, rung: &str, column: &str) -> f64 {
        100.0 * (1.0 - self.of(rung, column) / self.of("ring-3", column))
    }

    fn text(&self) -> Result<String> {
        let mut text = String::from("guest instructions, lower is better\n\n");
        write!(text, "{:22}", "")?;
        for (_, title) in COLUMNS {
            write!(text, "{title:>20}")?;
        }
        for (_, name, title) in RUNGS {
            write!(text, "\n{title:22}")?;
            for (column, _) in COLUMNS {
                write!(text, "{:>20}", figures::count(self.of(name, column)))?;
            }
        }
        writeln!(text, "\n\nto ring 0 and back: {}", figures::count(self.there_and_back))?;
        for (column, title, goal) in GOALS {
            let (calls, direct) = (self.spared("ring-0", column), self.spared("direct", column));
            writeln!(
                text,
                "crossing rings is {direct:.1} % of {title} ({calls:.1} % with system calls \
                 from ring 0); goal: at most {goal} %, {}",
                if direct <= goal { "met" } else { "missed" }
            )?;
        }
        writeln!(text, "{PUBLISHED}\n\n{}", self.conditions.lines())?;
        Ok(text)
    }
}

impl Stating for Report {
    fn stated(&self) -> Named {
        let mut stated = Named::new();
        for (_, rung, _) in RUNGS {
            for (column, _) in COLUMNS {
                let figure = figures::count(self.of(rung, column));
                stated.insert(format!("{column}.{rung}"), figure);
            }
        }
        for (column, ..) in GOALS {
            let share = format!("{:.1}", self.spared("direct", column));
            stated.insert(format!("{column}.share"), share);
        }
        stated.insert("there-and-back".to_owned(), figures::count(self.there_and_back));
        stated
    }
}
