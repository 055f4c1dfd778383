//! `cargo exo run`: boot the machine, or several, and stay with them.

mod console;
mod network;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::builder::RangedU64ValueParser;

use crate::capture::Capture;
use crate::disk::Place;
use crate::hosted::Processes;
use crate::linux::Store;
use crate::lists::Lists;
use crate::machine::{
    self, Accel, Choice as AccelChoice, Config, ECHO_PORT, Forwarded, MAX_CPUS, MAX_MEMORY,
    Machine, Network, Protocol, Recording, STORE_PORT, ensure_distinct, ensure_free, free_port,
    keep_first, stated,
};
use crate::manifest::{App, Choice, Chosen, Forward, Manifest, Transport};
use crate::output::{note, say};
use crate::prerequisites::QEMU;
use crate::signals::{Interrupted, Signals};
use crate::{guest, shell, workspace};
pub(super) use console::Console;
use console::pass_on_all;
use network::Net;

/// How long the store may take to answer. It takes about a second.
const READY: Duration = Duration::from_secs(60);
/// Where clients expect a memcached.
const PORT: u16 = 11211;
/// Where a debugger connects, unless that is taken.
const GDB_PORT: u16 = 1234;
/// Most machines at once.
const MAX_INSTANCES: u16 = 64;
/// Where the proxy `nutcracker` listens, by its own custom.
const PROXY_PORT: u16 = 22121;
/// What to say if KVM was asked for and the machine takes much longer than it should.
const KVM_HINT: &str = "the store does not answer yet; if nothing comes, KVM may not run this \
                        kernel here (nested or emulated KVM does not): --accel tcg always does, \
                        --accel auto tries KVM first";

/// Boot the machine in QEMU: kernel, store, echo service; or another manifest's applications
///
/// Shows the machine's console, and says when the store answers. Ctrl-C ends it.
///
/// Exit codes: what the machine ended with, if it ended by itself. An application ends it
/// if the manifest says `on_exit = "power-off"`, with its own exit code, or 126 if that is
/// above 126 or if a fault ended it (an exception, a page fault, a stack overflow); of its
/// own codes 101 is a panic, and 102 that it found too little to begin with. 125: root
/// could not start an application. 127: the kernel panicked. 130: Ctrl-C. 0 as well when no
/// application is left, however they ended. 1: the machine could not be booted, or was
/// reset. 141: the reader of its output has gone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Port of the store on 127.0.0.1, UDP and TCP alike: whatever has port 11211 forwarded
    /// [default: what the manifest says, 11211]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// UDP port of the echo service on 127.0.0.1: whatever has port 7 forwarded; 0 for none
    /// [default: what the manifest says, 7007]
    #[arg(long, value_name = "PORT")]
    pub(crate) echo_port: Option<u16>,
    /// What the machine's network is connected to: QEMU's own user-mode network; the program
    /// passt, faster and without rights, too, which reaches one application; or a TAP device that
    /// you have made (exo0, or tap:NAME), over which applications are reached at their own addresses
    #[arg(long, default_value = "user", value_name = "user|passt|tap[:NAME]")]
    net: Net,
    /// So many machines, each with ports one higher than those of the one before; prints lists of the
    /// stores for clients and proxies that choose one by the key
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with_all = ["hosted", "gdb", "disk"],
          value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_INSTANCES)))]
    instances: u16,
    /// What executes the guest's instructions
    #[arg(long, value_enum, default_value_t)]
    accel: AccelChoice,
    /// Memory of the machine, in MiB or with M or G behind it; at most 3G
    #[arg(long, default_value = "128M", value_parser = mebibytes)]
    pub(crate) memory: u32,
    /// Processors of the machine, 1 to 4; with --hosted, threads of the store
    #[arg(
        long,
        default_value_t = 1,
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_CPUS.into())
    )]
    pub(crate) cpus: u32,
    /// The machine's disk: a file, which is made if it is not there, of 512M or the size behind
    /// it: 12K at least, for a table of extents and one of 4K. The default manifest gives the store
    /// an extent of 160M, and its answers are durable then. With --hosted, what the store writes to
    #[arg(long, value_name = "FILE[:SIZE]", value_parser = Place::parse)]
    disk: Option<Place>,
    /// Capture packets into this file, for Wireshark: an interface for the wire and one for each
    /// environment, with what it was given and what it gave, and why that was refused
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,
    /// Record what comes to the machine into this new folder, with all that it was booted from, so
    /// that --replay does the same again, to the instruction. Without KVM, with one processor
    #[arg(long, value_name = "FOLDER",
          conflicts_with_all = ["hosted", "icount", "gdb", "instances"])]
    record: Option<PathBuf>,
    /// Boot nothing anew, but do again what was recorded in this folder: no port of the host leads to
    /// it, and its disk stays as it was. With a debugger: cargo exo gdb --replay FOLDER
    #[arg(long, value_name = "FOLDER",
          conflicts_with_all = ["hosted", "icount", "gdb", "instances", "record", "port",
                                "echo_port", "net", "memory", "cpus", "disk", "pcap", "accel",
                                "name", "manifest", "app"])]
    replay: Option<PathBuf>,
    /// Let the guest's clock count instructions instead of time
    #[arg(long)]
    pub(crate) icount: bool,
    /// Wait for a debugger before the first instruction, and say how to start one; on this
    /// TCP port of 127.0.0.1, otherwise on 1234 or, if that is taken, on any
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) gdb: Option<Option<u16>>,
    /// Run the store as a process of this host instead, and boot nothing: the same library
    /// behind Linux's TCP and UDP sockets, with the memory and the arguments of the manifest.
    /// There is no echo service then. Of a manifest without a store, its application: the same source
    /// on the library's second platform (docs/libos/hosted.md)
    #[arg(long, conflicts_with_all = ["accel", "memory", "pcap", "icount", "gdb", "echo_port", "net"])]
    pub(crate) hosted: bool,
    /// Show how QEMU is called; the boot bundle stays in target/guest, so that the command can
    /// be repeated
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match stay_with(args) {
        // The usual way out, not worth a word.
        Err(error) => error.downcast::<Interrupted>().map(Interrupted::exit_code),
        ended => ended,
    }
}

fn stay_with(args: &Args) -> Result<ExitCode> {
    if let Some(folder) = &args.replay {
        return replay(folder, args.verbose);
    }
    let Chosen { manifest, path, package } = args.choice.read("default")?;
    if args.hosted {
        return run_hosted(args, manifest, package.as_deref());
    }
    let mut configs = (0..args.instances)
        .map(|number| configure(args, Config::new(manifest.clone()), number))
        .collect::<Result<Vec<_>>>()?;
    ensure_apart(&configs)?;
    let several = configs.len() > 1;
    ensure!(!several || args.pcap.is_none(), "--pcap captures one machine, not several");
    for config in &mut configs {
        config.package.clone_from(&package);
    }
    let Some(mut first) = configs.first().cloned() else { return Ok(ExitCode::SUCCESS) };
    if let Some(disk) = &first.disk
        && disk.provide()?
    {
        note!("made the disk {}", disk.path.display());
    }
    QEMU.require()?;
    guest::build_with(&first.manifest, package.as_deref())?;
    let signals = Signals::register()?;
    let accel = match args.record {
        Some(_) => Accel::Tcg,
        None => args.accel.decide(&first, &signals)?,
    };
    first.accel = accel;
    for config in &mut configs {
        config.accel = accel;
        if args.verbose {
            config.keep_bundle = Some(guest::kept_bundle(&path));
        }
    }
    // So that `cargo exo top` can look into them.
    configs.iter_mut().for_each(|config| config.shared_memory = true);
    let recording = match (&args.record, configs.first_mut()) {
        (Some(folder), Some(config)) => {
            config.recording = Some(Recording::create(folder, config)?);
            config.recording.clone()
        }
        _ => None,
    };
    let capture = match (&args.pcap, configs.first_mut()) {
        (Some(file), Some(config)) => Some(Capture::new(file, config)?),
        _ => None,
    };
    let machines = configs.iter().map(Machine::boot).collect::<Result<Vec<_>>>()?;
    let capturing = match (capture, machines.first()) {
        (Some(capture), Some(machine)) => Some(capture.begin(machine.process_id())?),
        _ => None,
    };
    if args.verbose {
        for machine in &machines {
            note!("{}", machine.command());
            note!("its process id is {}", machine.process_id());
        }
    }
    if let Some(port) = first.gdb {
        note!("{}", debugger_recipe(&args.choice, port));
    }

    let number = |index: usize| (machines.len() > 1).then_some(index + 1);
    let mut consoles: Vec<_> = (machines.iter().enumerate())
        .map(|(index, machine)| Console::new(machine, number(index)))
        .collect();
    let without = machines.iter().find(|machine| machine.store_address(Transport::Udp).is_none());
    let ready = if let Some(machine) = without {
        note!(
            "this manifest has no store to wait for{}; Ctrl-C ends the machine",
            ways_in(machine.forwards())
        );
        false
    } else {
        // What one that has ended said is all there is to see, and is shown below.
        matches!(wait_until_ready(&mut consoles, &signals, &first)?, Readiness::Ready)
    };
    if let ([machine], true) = (&machines[..], ready) {
        say!("{}", invitation(machine.forwards()))?;
    } else if ready {
        say!("{}", tell_of_all(&machines)?)?;
    }
    let ended = pass_on_all(&mut consoles, &signals);
    if let (Some(folder), Some(recording), Some(machine)) =
        (&args.record, &recording, machines.first())
    {
        recording.finish(machine.end()?)?;
        note!(
            "recorded; to have it again: cargo exo run --replay {0}, cargo exo gdb --replay {0}",
            shell::quote(folder.as_os_str())
        );
    }
    if let (Some(capturing), Some(file)) = (capturing, &args.pcap) {
        note!("{}: {} packets", file.display(), capturing.end()?);
    }
    ended
}

/// Does again what was recorded in `folder`.
fn replay(folder: &Path, verbose: bool) -> Result<ExitCode> {
    QEMU.require()?;
    let (recording, config, about) = Recording::open(folder)?;
    let signals = Signals::register()?;
    let machine = Machine::replay(&config, &recording)?;
    if verbose {
        note!("{}", machine.command());
    }
    let code = pass_on_all(&mut [Console::new(&machine, None)], &signals)?;
    if let Some(end) = about.end {
        note!("when it was recorded: {end}");
    }
    Ok(code)
}

/// Fails if two machines are to have one port of the host.
fn ensure_apart(configs: &[Config]) -> Result<()> {
    let all: Vec<_> = configs.iter().flat_map(|config| stated(&config.manifest)).collect();
    let several = configs.len() > 1;
    ensure!(
        !(several && configs.iter().any(|config| matches!(config.network, Network::Tap(_)))),
        "--instances with --net tap: all machines have the same addresses, so one device leads to one"
    );
    ensure_distinct(&all)
}

/// What can be done with several stores; writes the configuration of a proxy to a file.
fn tell_of_all(machines: &[Machine]) -> Result<String> {
    let stores = machines.iter().filter_map(|machine| machine.store_address(Transport::Tcp));
    let stores: Vec<SocketAddr> = stores.collect();
    ensure!(
        stores.len() == machines.len(),
        "--instances: the manifest does not forward the store's TCP port"
    );
    let port = free_port_from(PROXY_PORT)?;
    let lists = Lists::new(stores);
    let file = workspace::guest_target_dir().join("nutcracker.yml");
    let proxy = lists.nutcracker((Ipv4Addr::LOCALHOST, port).into());
    std::fs::write(&file, proxy).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(format!(
        "ready: memcached TCP and UDP on {}; Ctrl-C ends all machines\n\
         pylibmc:    {}\n\
         pymemcache: {}\n\
         nutcracker: nutcracker -c {}   (then a memcached on 127.0.0.1:{port})",
        lists.plain(),
        lists.pylibmc(),
        lists.pymemcache(),
        shell::quote(file.as_os_str())
    ))
}

/// This port, or one that is free if this is not.
fn free_port_from(usual: u16) -> Result<u16> {
    match ensure_free(Protocol::Tcp, usual, "", "a proxy") {
        Ok(()) => Ok(usual),
        Err(_) => free_port(Protocol::Tcp),
    }
}

/// Becomes the store as a process of this host; returns only if that fails. Ctrl-C and all
/// other signals are the store's own then.
fn run_hosted(args: &Args, mut manifest: Manifest, package: Option<&Path>) -> Result<ExitCode> {
    if !manifest.apps.iter().any(|app| app.image == "kvstore") {
        ensure!(args.disk.is_none(), "--disk with --hosted is the store's, and there is none");
        if let Some(port) = args.port {
            redirect(&mut manifest, STORE_PORT, port, "--port")?;
        }
        return run_app_hosted(args, &manifest, package);
    }
    let manifest = &manifest;
    let store = store_of(&stated(manifest));
    let port = args.port.unwrap_or_else(|| store.map_or(PORT, |store| store.port()));
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        ensure_free(protocol, port, "--port", "the store")?;
    }
    let threads = u16::try_from(args.cpus)?;
    let store = Store::of_manifest(manifest, threads)?;
    args.disk.as_ref().map_or(Ok(()), Place::provide_blank)?;
    let mut command = store.on_this_host(port)?;
    if let Some(disk) = &args.disk {
        command.arg("--durable").arg(&disk.path);
    }
    if args.verbose {
        note!("{command:?}");
    }
    note!(
        "starting the store as a process of this host; try `cargo exo client {}set greeting \
         hello` in another terminal; Ctrl-C ends it",
        server((Ipv4Addr::LOCALHOST, port).into())
    );
    Err(command.exec()).context("cannot start the store")
}

/// Runs the manifest's applications as processes of this host. A single one this process becomes.
fn run_app_hosted(args: &Args, manifest: &Manifest, package: Option<&Path>) -> Result<ExitCode> {
    ensure!(args.cpus == 1, "--cpus: how many threads it has, the application decides itself");
    let forwards = stated(manifest);
    for Forwarded { app, host, .. } in &forwards {
        ensure_free(Protocol::Udp, *host, "`forward` in the manifest", &format!("\"{app}\""))?;
    }
    let mut processes = Processes::new(manifest, package, args.disk.as_ref())?;
    if args.verbose {
        for command in processes.commands() {
            note!("{command:?}");
        }
    }
    let what = if manifest.apps.len() == 1 { "a process" } else { "processes" };
    note!("starting {what} of this host{}; Ctrl-C ends it", ways_in(&forwards));
    if let Some(command) = processes.alone() {
        return Err(command.exec()).context("cannot start the application");
    }
    Ok(ExitCode::from(processes.run(&Signals::register()?)?))
}

/// Where the host reaches the store, if it does.
fn store_of(forwards: &[Forwarded]) -> Option<SocketAddr> {
    let is_store =
        |forward: &&Forwarded| forward.transport == Transport::Udp && forward.guest.1 == STORE_PORT;
    forwards.iter().find(is_store).map(Forwarded::reached)
}

/// The option of `cargo exo client` that leads there.
fn server(store: SocketAddr) -> String {
    if store == SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)) {
        return String::new();
    }
    format!("--server {store} ")
}

/// What can be done with a machine whose store answers: it is reached where the host reaches it,
/// which is not always where its own lines say.
fn invitation(forwards: &[Forwarded]) -> String {
    let store = store_of(forwards).unwrap_or_else(|| (Ipv4Addr::LOCALHOST, PORT).into());
    let server = server(store);
    let is_tcp = |forward: &Forwarded| forward.transport == Transport::Tcp;
    let both = forwards.iter().any(|forward| is_tcp(forward) && forward.reached() == store);
    let protocols = if both { "TCP and UDP" } else { "UDP" };
    let others = forwards.iter().filter(|forward| forward.reached() != store);
    format!(
        "ready: memcached {protocols} on {store}{}; try `cargo exo client {server}set greeting \
         hello` in another terminal; Ctrl-C ends the machine",
        ways_in(others)
    )
}

/// Where applications are reached, each after a comma.
fn ways_in<'a>(forwards: impl IntoIterator<Item = &'a Forwarded>) -> String {
    let way = |forward: &Forwarded| match forward.guest.1 {
        ECHO_PORT => format!(", {} echo on {}", forward.protocol(), forward.reached()),
        _ => format!(", {} to {} on {}", forward.protocol(), forward.app, forward.reached()),
    };
    forwards.into_iter().map(way).collect()
}

/// The machine of this number that was asked for, after everything has been checked that needs
/// no build.
fn configure(args: &Args, mut config: Config, number: u16) -> Result<Config> {
    let is_tap = matches!(args.net, Net::Tap(_));
    for line in unreachable(&config.manifest).iter().filter(|_| number == 0 && !is_tap) {
        note!("{line}");
    }
    let options = [("--port", args.port.is_some()), ("--echo-port", args.echo_port.is_some())];
    let options: Vec<_> = options.iter().filter(|given| given.1).map(|given| given.0).collect();
    args.net.connect(&mut config, &options)?;
    if let Some(port) = args.port {
        redirect(&mut config.manifest, STORE_PORT, port, "--port")?;
    }
    match args.echo_port {
        Some(0) => {
            for app in &mut config.manifest.apps {
                app.forward.retain(|forward| forward.guest != ECHO_PORT);
            }
        }
        Some(port) => redirect(&mut config.manifest, ECHO_PORT, port, "--echo-port")?,
        None => {}
    }
    move_up(&mut config.manifest, number)?;
    let mut forwards = stated(&config.manifest);
    ensure_distinct(&forwards)?;
    if args.net == Net::Passt {
        for app in keep_first(&mut forwards).iter().filter(|_| number == 0) {
            note!("passt leads to one address: \"{app}\" cannot be reached from this host");
        }
    }
    for forward in forwards.into_iter().filter(|_| !is_tap) {
        let protocol = forward.protocol();
        let Forwarded { app, guest: (_, guest), host, .. } = forward;
        match guest {
            STORE_PORT => ensure_free(protocol, host, "--port", "the store")?,
            ECHO_PORT => {
                ensure_free(protocol, host, "--echo-port (0 for none)", "the echo service")?;
            }
            _ => ensure_free(
                protocol,
                host,
                &format!(
                    "`forward = [\"{}:{guest}:HOSTPORT\"]` in the manifest",
                    protocol.to_string().to_lowercase()
                ),
                &format!("\"{app}\""),
            )?,
        }
    }
    config.memory = args.memory;
    config.cpus = args.cpus;
    config.disk = args.disk.clone();
    if args.icount {
        config.count_instructions();
    }
    config.gdb = args.gdb.map(debugger_port).transpose()?;
    Ok(config)
}

/// Lets every forward begin at a port that is `number` higher.
fn move_up(manifest: &mut Manifest, number: u16) -> Result<()> {
    for forward in manifest.apps.iter_mut().flat_map(|app| &mut app.forward) {
        let host = forward.host.checked_add(number);
        forward.host = host.with_context(|| {
            format!("there are not {number} ports of this host above {}", forward.host)
        })?;
    }
    Ok(())
}

/// Lets the first forwards, one of UDP and one of TCP, of the guest's `port` begin at `host`,
/// which `option` asked for.
fn redirect(manifest: &mut Manifest, port: u16, host: u16, option: &str) -> Result<()> {
    let mut redirected = false;
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut forwards = manifest.apps.iter_mut().flat_map(|app| &mut app.forward);
        let leads =
            |forward: &&mut Forward| (forward.transport, forward.guest) == (transport, port);
        if let Some(forward) = forwards.find(leads) {
            forward.host = host;
            redirected = true;
        }
    }
    ensure!(
        redirected,
        "{option} {host} leads nowhere: no application of this manifest has its port {port} \
         forwarded; to the one that serves there add `forward = [\"udp:{port}:{host}\"]`"
    );
    Ok(())
}

/// A line for each application that has an address, but cannot be reached from the host.
fn unreachable(manifest: &Manifest) -> Vec<String> {
    let alone = |app: &&App| app.forward.is_empty() && app.address.is_some();
    let line = |app: &App| {
        format!(
            "no port of this host leads to \"{}\"; `forward = [\"udp:PORT\"]` in the manifest \
             would",
            app.name
        )
    };
    manifest.apps.iter().filter(alone).map(line).collect()
}

enum Readiness {
    Ready,
    Ended,
}

/// Waits until all stores answer over UDP, the whole way from the host and back.
fn wait_until_ready(
    consoles: &mut [Console<'_>],
    signals: &Signals,
    config: &Config,
) -> Result<Readiness> {
    let start = Instant::now();
    let mut hint = (config.accel == Accel::Kvm && config.gdb.is_none()).then_some(KVM_HINT);
    let machines: Vec<_> = consoles.iter().map(|console| console.machine).collect();
    for machine in machines {
        let mut client = machine.store_client()?;
        loop {
            let answers = machine.answers(&mut client)?;
            consoles.iter_mut().try_for_each(Console::pass_on)?;
            if answers {
                break;
            }
            signals.check()?;
            if !machine.running() {
                return Ok(Readiness::Ended);
            }
            if start.elapsed() > machine::KVM_LIMIT
                && let Some(hint) = hint.take()
            {
                note!("{hint}");
            }
            if config.gdb.is_none() && start.elapsed() > READY {
                bail!("the store does not answer after {READY:?}\n{}", machine.report());
            }
        }
    }
    Ok(Readiness::Ready)
}

/// How to start a debugger, as a command for another terminal.
fn debugger_recipe(choice: &Choice, port: u16) -> String {
    format!(
        "the machine waits for a debugger; in another terminal:\n  cargo exo gdb {}--attach {port}",
        choice.typed()
    )
}

/// The port for a debugger: the one that was asked for, otherwise the usual one or any.
fn debugger_port(asked: Option<u16>) -> Result<u16> {
    let free = |port| ensure_free(Protocol::Tcp, port, "--gdb PORT", "a debugger");
    match asked {
        Some(port) => free(port).map(|()| port),
        None if free(GDB_PORT).is_ok() => Ok(GDB_PORT),
        None => free_port(Protocol::Tcp),
    }
}

/// Reads `128M`, `1G` or a plain number of MiB.
fn mebibytes(text: &str) -> Result<u32> {
    let (digits, factor) = match text.as_bytes() {
        [.., b'G' | b'g'] => (&text[..text.len() - 1], 1024),
        [.., b'M' | b'm'] => (&text[..text.len() - 1], 1),
        _ => (text, 1),
    };
    let amount = digits.parse::<u32>().ok().and_then(|amount| amount.checked_mul(factor));
    let amount = amount.filter(|&amount| amount > 0);
    let amount = amount.context("not an amount of memory such as 128M or 1G")?;
    ensure!(amount <= MAX_MEMORY, "the kernel uses at most {MAX_MEMORY} MiB (3G)");
    Ok(amount)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::machine::direct;
    use crate::manifest;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Args {
        Line::parse_from(std::iter::once("run").chain(line.split_whitespace())).args
    }

    /// An application of one's own, whose image is called otherwise.
    const OWN: &str = "gateway = \"10.0.2.2\"\nprefix_len = 24\n[[app]]\nname = \"mine\"\n\
        frames = 1024\nslots = 16\ngrants = [\"console\", \"net\"]\naddress = \"10.0.2.15\"\n";

    fn configured(line: &str, manifest: &str) -> Result<Vec<Forwarded>> {
        let config = Config::new(manifest::parse(manifest)?);
        Ok(stated(&configure(&parse(line), config, 0)?.manifest))
    }

    /// A port that was free a moment ago.
    fn free() -> u16 {
        let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        socket.local_addr().unwrap().port()
    }

    #[test]
    fn an_option_that_leads_nowhere_is_an_error() {
        let own = format!("{OWN}forward = [\"udp:9999:{}\"]\n", free());
        for (line, option, port) in
            [("--port 4711", "--port 4711", "11211"), ("--echo-port 4712", "--echo-port 4712", "7")]
        {
            for manifest in [OWN, &own] {
                let error = configured(line, manifest).unwrap_err().to_string();
                assert!(error.contains(&format!("{option} leads nowhere")), "{error}");
                let advice = format!("forward = [\"udp:{port}:{}\"]", &line[line.len() - 4..]);
                assert!(error.contains(&advice), "{error}");
            }
        }
        assert_eq!(
            configured("--echo-port 0", &own).unwrap().len(),
            1,
            "none is wanted, and none is"
        );
    }

    #[test]
    fn forwards_follow_the_manifest_and_options_the_port() {
        let (host, other) = (free(), free());
        let own = format!("{OWN}forward = [\"udp:11211:{host}\"]\n");
        let forwards = |line: &str| configured(line, &own).unwrap();
        assert_eq!((forwards("")[0].host, forwards("")[0].guest.1), (host, STORE_PORT));
        assert_eq!(forwards(&format!("--port {other}"))[0].host, other);
        let manifest = std::fs::read_to_string(workspace::manifest("default")).unwrap();
        let forwards = configured(&format!("--port {other} --echo-port 0"), &manifest).unwrap();
        assert_eq!(forwards.iter().map(|forward| forward.host).collect::<Vec<_>>(), [other, other]);
        let line = format!("--port {other} --echo-port {other}");
        let error = configured(&line, &manifest).unwrap_err().to_string();
        assert!(error.contains("\"kvstore\"") && error.contains("\"echo\""), "{error}");
    }

    #[test]
    fn every_machine_has_ports_of_its_own() {
        let (host, args) = (free(), parse("--instances 3"));
        let manifest = format!("{OWN}forward = [\"udp:11211:{host}\", \"tcp:11211:{host}\"]\n");
        let mut manifest = manifest::parse(&manifest).unwrap();
        move_up(&mut manifest, 2).unwrap();
        assert!(stated(&manifest).iter().all(|forward| forward.host == host + 2));
        let error = move_up(&mut manifest, u16::MAX).unwrap_err().to_string();
        assert!(error.contains("ports of this host above"), "{error}");
        assert_eq!(args.instances, 3);
        // Two of the manifest next to each other leave no room for another machine.
        let near = format!("{OWN}forward = [\"udp:11211:{host}\", \"udp:7:{}\"]\n", host + 1);
        let configs = [0, 1].map(|number| {
            let mut config = Config::new(manifest::parse(&near).unwrap());
            move_up(&mut config.manifest, number).unwrap();
            config
        });
        assert!(ensure_apart(&configs).is_err() && ensure_apart(&configs[..1]).is_ok());
    }

    #[test]
    fn says_how_to_get_in_and_where_there_is_no_way() {
        let forward = |app: &str, port, host| Forwarded {
            app: app.into(),
            transport: Transport::Udp,
            guest: (Ipv4Addr::LOCALHOST, port),
            host,
            on: Ipv4Addr::LOCALHOST,
        };
        let all = [forward("mine", 9, 10), forward("store", 11211, 12), forward("echo", 7, 8)];
        let text = invitation(&all);
        let tap = direct(&manifest::parse(&format!("{OWN}forward = [\"udp:11211:5\"]\n")).unwrap());
        assert!(invitation(&tap).contains("memcached UDP on 10.0.2.15:11211; "), "{tap:?}");
        let ways = "memcached UDP on 127.0.0.1:12, UDP to mine on 127.0.0.1:10, UDP echo on \
                    127.0.0.1:8; try `cargo exo client --server 127.0.0.1:12 set";
        assert!(text.contains(ways), "{text}");
        let lines = unreachable(&manifest::parse(OWN).unwrap());
        assert!(lines.len() == 1 && lines[0].contains("\"mine\""), "{lines:?}");
        let own = format!("{OWN}forward = [\"udp:9999\"]\n");
        assert_eq!(unreachable(&manifest::parse(&own).unwrap()), [""; 0]);
    }
}
