//! What a request costs a client on the same machine: through the store's gate and by protected
//! control transfer here, over sockets in Linux, and over the network.
//!
//! Both clients count themselves around their call, as primitives do, in the same machine: the
//! figures are those of kernel, store and client together. Over the network of Exo only the
//! machine that serves is counted: the client is outside.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::conditions::Conditions;
use super::get::{Plan, count};
use super::load::Transport;
use super::primitives::{self, LARGE_REPETITIONS};
use super::report::{Stating, save};
use crate::figures::{self, Named};
use crate::linux::{self, Guest, Kernel, Memcached};
use crate::machine::{Config, Machine, Network};
use crate::manifest;
use crate::output::{self, note, say};
use crate::signals::Signals;
use crate::workspace;

/// The program of the Linux guest.
const PROGRAM: &str = "linux-colocated";
/// The client of this system.
const CLIENT: &str = "ycsb";
/// How both are run.
pub(super) const MACHINE: &str = primitives::MACHINE;

/// Ways to the store: what figures are called, and what people read.
pub(super) const WAYS: [(&str, &str); 5] = [
    ("gate", "Exo, gate with protection keys"),
    ("transfer", "Exo, protected control transfer"),
    ("unix", "Linux, memcached, Unix socket"),
    ("udp", "Linux, memcached, UDP loopback"),
    ("tcp", "Linux, memcached, TCP loopback"),
];

/// Requests: what figures are called, and what people read.
pub(super) const REQUESTS: [(&str, &str); 4] = [
    ("get/64", "GET 16/64"),
    ("set/64", "SET 16/64"),
    ("get/1024", "GET 16/1,024"),
    ("set/1024", "SET 16/1,024"),
];

/// Ways of this system with the most instructions that a GET is to take.
const GOALS: [(&str, &str, f64); 2] =
    [("gate", "through the gate", 350.0), ("transfer", "by transfer", 600.0)];
/// How many times fewer than over a Unix socket that is to be.
const FEWER: f64 = 56.0;

/// Others' figures, of processors, in time.
const PUBLISHED: &str = "published, in time, not comparable: Hodor's protected memcached 11 to 56x lower latency than \
over sockets; UKL's shortcuts +26 % throughput (Redis); Privbox 2.2x per system call, Redis +7.6 %";

/// Count guest instructions per GET and SET of a client on the same machine
///
/// Boots the store with one client that enters it through its gate, then one that calls it, then Debian's kernel with memcached and a small
/// client, over a Unix socket, UDP and TCP loopback, in the same machine. The packages are fetched
/// through apt at the first call. Counts say how much the code does, not how fast a processor does
/// it: what changing address spaces costs in time is not in them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave Linux out
    #[arg(long)]
    exo_only: bool,
    /// Where to save everything as JSON
    /// [default: figures/out/colocated.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    unit: &'static str,
    better: &'static str,
    conditions: Conditions,
    /// Instructions by `WAY/REQUEST`.
    instructions: BTreeMap<String, f64>,
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    let report = measure(args.exo_only, interrupt)?;
    let path = save(&report, args.json.as_deref(), "colocated")?;
    output::print(report.text()?)?;
    say!("\nsaved to {}", path.display())?;
    Ok(())
}

/// Measures this system and, unless it is left out, Linux.
///
/// # Errors
/// A machine does not start, is not done in time, or prints what makes no sense.
pub(super) fn measure(exo_only: bool, interrupt: &Signals) -> Result<Report> {
    let mut instructions = BTreeMap::new();
    for (way, does) in [("gate", "enters the store"), ("transfer", "calls the store")] {
        note!("bench: a client that {does}");
        let machine = Machine::boot(&called(way)?)?;
        let measured = primitives::read(&machine, &format!("{CLIENT}: "), interrupt)?;
        drop(machine);
        for (name, figure) in measured.figures {
            instructions.insert(format!("{way}/{name}"), figure.instructions);
        }
    }
    note!("bench: a client of the network");
    let config = Config::new(manifest::read(&workspace::manifest("bench"))?);
    let (_, scenarios) = count(config, &Plan::gets(Transport::Udp, 32, 1024), interrupt)?;
    let one = scenarios.first().context("nothing was counted")?;
    instructions.insert("network/get/64".to_owned(), one.total());
    if !exo_only {
        note!("bench: clients of memcached in Linux");
        let machine = linux(None)?;
        for (name, figure) in primitives::read(&machine, "", interrupt)?.figures {
            instructions.insert(name, figure.instructions);
        }
    }
    Ok(Report {
        unit: "guest instructions, kernel, store and client",
        better: "lower",
        conditions: Conditions::now(MACHINE),
        instructions,
    })
}

/// The store and one client of `boot/manifests/colocated.toml`, which counts.
fn called(way: &str) -> Result<Config> {
    let mut manifest = manifest::read(&workspace::manifest("colocated"))?;
    manifest.apps.retain(|app| ["kvstore", CLIENT].contains(&app.name.as_str()));
    let names: Vec<String> = manifest.apps.iter().map(|app| app.name.clone()).collect();
    manifest.shares.retain(|share| share.apps.iter().all(|app| names.contains(app)));
    for app in &mut manifest.apps {
        let argument = if app.name == CLIENT { "as=count" } else { "seed=1" };
        app.args = vec![argument.to_owned(), format!("by={way}")];
        app.grants.keys &= way == "gate";
    }
    let mut config = Config::new(manifest);
    (config.icount, config.network) = (true, Network::Frames);
    Ok(config)
}

/// Linux with memcached and the client. Default mitigations.
fn linux(kernel: Option<&Path>) -> Result<Machine> {
    let kernel =
        kernel.map_or_else(Kernel::of_distribution, |kernel| Ok(Kernel::from_file(kernel)))?;
    let mut guest = Guest::new(kernel);
    guest.program(&Memcached::packages()?, "usr/bin/memcached")?;
    guest.file(&format!("usr/bin/{PROGRAM}"), &linux::build(PROGRAM)?);
    guest.command("ip link set lo up");
    guest.command(PROGRAM);
    guest.parameters.push(LARGE_REPETITIONS.to_owned());
    let mut config = guest.config();
    (config.icount, config.network) = (true, Network::Frames);
    guest.boot(&config)
}

impl Report {
    /// Instructions of a request, if they were counted.
    pub(super) fn of(&self, way: &str, request: &str) -> Option<f64> {
        self.instructions.get(&format!("{way}/{request}")).copied()
    }

    /// How many times as many a request takes one way as it takes another, `than`.
    pub(super) fn times(&self, way: &str, than: &str, request: &str) -> Option<f64> {
        Some(self.of(way, request)? / self.of(than, request)?)
    }

    fn text(&self) -> Result<String> {
        let mut text = format!("{}, {} is better\n\n{:34}", self.unit, self.better, "");
        for (_, title) in REQUESTS {
            write!(text, "{title:>15}")?;
        }
        for (way, title) in WAYS {
            write!(text, "\n{title:34}")?;
            for (request, _) in REQUESTS {
                let figure = self.of(way, request).map_or_else(|| "-".to_owned(), figures::count);
                write!(text, "{figure:>15}")?;
            }
        }
        let network = self.of("network", "get/64").map_or_else(|| "-".to_owned(), figures::count);
        writeln!(text, "\n{:34}{network:>15}  (without the client)", "Exo, UDP over the NIC")?;
        if let Some(many) = self.of("transfer", "get-many/64") {
            writeln!(text, "\none of 16 keys looked up by one transfer: {}", figures::count(many))?;
        }
        for (way, how, goal) in GOALS {
            if let Some(get) = self.of(way, "get/64") {
                let met = if get <= goal { "met" } else { "missed" };
                writeln!(text, "a GET {how}: goal at most {goal}, {met}")?;
            }
            if let Some(times) = self.times("unix", way, "get/64") {
                let met = if times >= FEWER { "met" } else { "missed" };
                writeln!(
                    text,
                    "  over a Unix socket {times:.1} times as many: goal {FEWER}, {met}"
                )?;
            }
        }
        if let Some(visit) = self.of("gate", "visit") {
            writeln!(
                text,
                "of each through the gate {}: going in and out, the key register's two changes included",
                figures::count(visit)
            )?;
        }
        writeln!(text, "{PUBLISHED}\n\n{}", self.conditions.lines())?;
        Ok(text)
    }
}

impl Stating for Report {
    fn stated(&self) -> Named {
        let mut stated = Named::new();
        for (name, value) in &self.instructions {
            stated.insert(name.replace('/', "."), figures::count(*value));
        }
        for (way, _) in WAYS {
            for (than, name) in [("transfer", "times"), ("gate", "gate-times")] {
                for (request, _) in REQUESTS.into_iter().filter(|_| way != than) {
                    if let Some(times) = self.times(way, than, request) {
                        let name = format!("{way}-{name}.{}", request.replace('/', "."));
                        stated.insert(name, format!("{times:.1}"));
                    }
                }
            }
        }
        stated
    }
}
