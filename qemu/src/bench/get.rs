//! Guest instructions per request: a GET or a SET, by UDP or TCP.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::builder::RangedU64ValueParser;

use super::conditions::Conditions;
use super::counter::Counter;
use super::load::{Capture, KEYS, Load, Offer, SHORTEST_KEY, Transport, Verb, Workload};
use super::report::{Report, Scenario, save};
use super::steps::Steps;
use super::table::Table;
use crate::machine::{Config, Machine, Network, STORE_PORT};
use crate::manifest::{self, App, Manifest};
use crate::output::{self, note, say};
use crate::signals::Signals;
use crate::{guest, workspace};

/// How long the store may take until it serves. Every instruction costs a call, so
/// this is slow.
const READY: Duration = Duration::from_secs(120);

/// Count guest instructions per GET or SET, by step of a packet's journey
///
/// Boots a machine, fills its store with 1024 items and asks for them, or stores them again, in
/// turn. The count is
/// exact and, with requests that are all in the ring when the guest wakes, the same in every
/// run. Counts say how much the code does, not how fast a processor does it.
///
/// Over TCP, requests that are outstanding at the same time are written to one connection
/// together, as clients do that pipeline; acknowledgements ride on the next.
///
/// What an application does is step 5, unless its `Cargo.toml` says of some of its source
/// that it is another (`[package.metadata.exo.steps]`, see docs/libos/own-application.md).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests in each pass
    #[arg(long, default_value_t = 4096, value_name = "N",
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=10_000_000))]
    requests: u32,
    /// What is asked
    #[arg(long, value_enum, default_value_t)]
    verb: Verb,
    /// What carries it
    #[arg(long, value_enum, default_value_t)]
    transport: Transport,
    /// Passes; they should not differ
    #[arg(long, default_value_t = 3, value_name = "N",
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=1000))]
    passes: u32,
    /// Requests outstanding at a time, at most 64: the answers that one application can
    /// have with the device at once; may be given several times
    /// [default: 1 and 32; over TCP 1, 32 and 50]
    #[arg(long, value_name = "W",
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=64))]
    outstanding: Vec<u32>,
    /// Bytes of a key
    #[arg(long, default_value_t = 16, value_name = "B",
          value_parser = RangedU64ValueParser::<usize>::new().range(SHORTEST_KEY as u64..=250))]
    key_bytes: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 64, value_name = "B",
          value_parser = RangedU64ValueParser::<usize>::new().range(0..=1024))]
    value_bytes: usize,
    /// How many functions to list for each kind of load
    #[arg(long, default_value_t = 20, value_name = "N")]
    top: usize,
    /// What to boot: a store, alone or beside others, which are waited for until they have
    /// said something. The store is the application that has UDP port 11211 forwarded, and it
    /// says `serving` when it does
    /// [default: boot/manifests/bench.toml]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Where to save everything as JSON
    /// [default: figures/out/get.json, set.json, get-tcp.json or set-tcp.json]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    let path = args.manifest.clone().unwrap_or_else(|| workspace::manifest("bench"));
    let config = Config::new(manifest::read(&path)?);
    let Args { verb, transport, key_bytes, value_bytes, .. } = *args;
    let workload = Workload { verb, key_bytes, value_bytes };
    let plan = Plan {
        workload,
        transport,
        offers: offers(transport, &args.outstanding),
        requests: args.requests,
        passes: args.passes,
        beside: None,
    };
    let (table, scenarios) = count(config, &plan, interrupt)?;
    let conditions = Conditions::now("TCG, -icount shift=0,sleep=off");
    let report = Report::new(conditions, transport, workload, scenarios);
    let name = match (verb, transport) {
        (Verb::Set, Transport::Udp) => "set",
        (Verb::Set, Transport::Tcp) => "set-tcp",
        (_, Transport::Udp) => "get",
        (_, Transport::Tcp) => "get-tcp",
    };
    let path = save(&report, args.json.as_deref(), name)?;
    output::print(report.text(args.top, table.functions())?)?;
    say!("\nsaved to {}", path.display())?;
    Ok(())
}

/// How many instructions a GET takes in the machine of `manifest`, from sleep to sleep: one at a
/// time, and 32 that are there at once. Before each request a datagram arrives for the address
/// and port `beside`.
///
/// # Errors
/// If the machine does not start, or does not answer.
pub fn cost(manifest: Manifest, beside: Option<([u8; 4], u16)>) -> Result<[f64; 2]> {
    let beside = beside.map(|(address, port)| (address.into(), port));
    totals(manifest, &Plan { beside, ..Plan::gets(Transport::Udp, 32, KEYS) })
}

/// The same over a connection: one at a time, and 50 that are written to it together.
///
/// # Errors
/// If the machine does not start, or does not answer.
pub fn cost_over_tcp(manifest: Manifest) -> Result<[f64; 2]> {
    totals(manifest, &Plan::gets(Transport::Tcp, 50, KEYS))
}

/// Instructions per request, for each of two offers.
fn totals(manifest: Manifest, plan: &Plan) -> Result<[f64; 2]> {
    let (_, scenarios) = count(Config::new(manifest), plan, &Signals::register()?)?;
    let costs: Vec<f64> = scenarios.iter().map(Scenario::total).collect();
    costs.try_into().ok().context("nothing was counted")
}

/// What is asked for.
pub(super) struct Plan {
    pub(super) workload: Workload,
    pub(super) transport: Transport,
    pub(super) offers: Vec<Offer>,
    pub(super) requests: u32,
    pub(super) passes: u32,
    /// Where a datagram goes before each request of a held load.
    pub(super) beside: Option<(Ipv4Addr, u16)>,
}

impl Plan {
    /// One pass of GETs of 16/64 bytes, one at a time and `many` that are there at once.
    pub(super) fn gets(transport: Transport, many: u32, requests: u32) -> Self {
        let offers = vec![Offer::Held(1), Offer::Held(many)];
        let workload = Workload::gets(16, 64);
        Self { workload, transport, offers, requests, passes: 1, beside: None }
    }
}

/// Boots the machine of `config`, asks what `plan` says of its store and counts by step.
///
/// # Errors
/// If the machine does not start, or does not answer.
pub(super) fn count(
    mut config: Config,
    plan: &Plan,
    interrupt: &Signals,
) -> Result<(Table, Vec<Scenario>)> {
    guest::build(&config.manifest)?;
    note!("bench: reading the programs' debug information");
    let store = store_of(&config.manifest)?.clone();
    let address = store.address.context("the store has no address")?;
    let images = [guest::KERNEL, guest::ROOT, &store.image];
    let table = Table::of_programs(images, &Steps::of_workspace()?, interrupt)?;
    let counter = Counter::new(&table)?;
    config.network = Network::Frames;
    config.count_instructions();
    let capture = Capture::new()?;
    config.extra = counter.arguments();
    config.extra.extend(capture.arguments());

    let machine = Machine::boot(&config)?;
    note!("bench: booting, counting every instruction");
    wait_until_serving(&machine, &store.name, interrupt)?;
    for neighbour in config.manifest.apps.iter().filter(|app| app.name != store.name) {
        wait_for_line(&machine, interrupt, &format!("{}: ", neighbour.name))?;
    }
    counter.ensure_ready(&machine)?;
    let address = Ipv4Addr::from(address);
    let mut load = Load::start(&machine, &counter, interrupt, &capture, plan.workload, address)?;
    if let Some((address, port)) = plan.beside {
        load.send_beside(address, port);
    }
    if plan.transport == Transport::Tcp {
        load.connect()?;
    }

    let mut scenarios = Vec::new();
    for &offer in &plan.offers {
        let outstanding = offer.outstanding();
        note!("bench: {outstanding} outstanding, {} passes", plan.passes);
        // Whole batches only.
        let requests = plan.requests.next_multiple_of(outstanding);
        load.pass(offer, KEYS.max(outstanding))?;
        let passes = (0..plan.passes).map(|_| load.pass(offer, requests));
        let passes = passes.collect::<Result<Vec<_>>>()?;
        scenarios.extend(Scenario::new(offer, requests, &passes, table.functions()));
    }
    ensure!(machine.running(), "the guest ended\n{}", machine.report());
    drop(load);
    drop(machine);
    Ok((table, scenarios))
}

/// What to measure: one outstanding is the same either way. Over a connection nothing is offered
/// freely: when its peer acknowledges would be the host's doing.
fn offers(transport: Transport, outstanding: &[u32]) -> Vec<Offer> {
    let usual: &[u32] = if transport == Transport::Udp { &[1, 32] } else { &[1, 32, 50] };
    let outstanding = if outstanding.is_empty() { usual } else { outstanding };
    let offers = outstanding.iter().flat_map(|&count| [Offer::Held(count), Offer::Free(count)]);
    let is_measured = |offer: &Offer| match offer {
        Offer::Held(_) => true,
        Offer::Free(count) => *count > 1 && transport == Transport::Udp,
    };
    offers.filter(is_measured).collect()
}

/// The application that is the store: whatever it is called, and whatever program it runs.
pub(super) fn store_of(manifest: &Manifest) -> Result<&App> {
    let is_store = |app: &&App| app.forward.iter().any(|forward| forward.guest == STORE_PORT);
    manifest.apps.iter().find(is_store).with_context(|| {
        format!(
            "the manifest has no store: no application has UDP port {STORE_PORT} forwarded; to the \
             one that serves there add `forward = [\"udp:{STORE_PORT}\"]`"
        )
    })
}

/// **Blocking** until the application of that name says that it serves.
pub(super) fn wait_until_serving(machine: &Machine, name: &str, interrupt: &Signals) -> Result<()> {
    wait_for_line(machine, interrupt, &format!("{name}: serving"))
}

fn wait_for_line(machine: &Machine, interrupt: &Signals, line: &str) -> Result<()> {
    let start = std::time::Instant::now();
    loop {
        interrupt.check()?;
        match machine.wait_for_line(line, Duration::from_millis(100)) {
            Ok(_) => return Ok(()),
            Err(error) if !machine.running() || start.elapsed() > READY => return Err(error),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_may_be_called_anything() {
        let text = std::fs::read_to_string(workspace::manifest("crowded")).unwrap();
        let own = text.replace("\"kvstore\"", "\"mine\"\nimage = \"my-store\"");
        let manifest = manifest::parse(&own).unwrap();
        let store = store_of(&manifest).unwrap();
        assert_eq!((store.name.as_str(), store.image.as_str()), ("mine", "my-store"));
        let none = manifest::parse(&text.replace("forward = ", "# ")).unwrap();
        let error = store_of(&none).unwrap_err().to_string();
        assert!(error.contains("forward = [\"udp:11211\"]"), "{error}");
    }

    #[test]
    fn offers_each_load_both_ways() {
        let default = [Offer::Held(1), Offer::Held(32), Offer::Free(32)];
        let udp = |outstanding: &[u32]| offers(Transport::Udp, outstanding);
        assert_eq!(udp(&[]), default);
        assert_eq!(udp(&[1]), default[..1]);
        assert_eq!(udp(&[8, 1]), [Offer::Held(8), Offer::Free(8), Offer::Held(1)]);
        let tcp = offers(Transport::Tcp, &[]);
        assert_eq!(tcp, [Offer::Held(1), Offer::Held(32), Offer::Held(50)]);
    }
}
