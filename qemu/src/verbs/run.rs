//! `cargo exo run`: boot the machine and stay with it.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::builder::RangedU64ValueParser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::linux::Store;
use crate::machine::{
    Choice, Config, Filters, HostPort, MAX_CPUS, MAX_MEMORY, Machine, Network, ensure_free,
};
use crate::prerequisites::QEMU;
use crate::symbols::Symboliser;
use crate::{guest, manifest, workspace};

/// How long the store may take to answer. It takes about a second.
const READY: Duration = Duration::from_secs(60);
/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(100);
/// Where clients expect a memcached.
const PORT: u16 = 11211;
/// Where a debugger connects.
const GDB_PORT: u16 = 1234;

/// Boot the machine in QEMU: kernel, store, echo service
///
/// Shows the machine's console, and says when the store answers. Ctrl-C ends it.
///
/// Exit codes: what the machine ended with, if it ended by itself. An application ends it
/// if the manifest says `on_exit = "power-off"`, with its own exit code, or 126 if that is
/// above 126 or if a fault ended it (an exception, a page fault, a stack overflow); of its
/// own codes 101 is a panic, and 102 that it found too little to begin with. 125: root
/// could not start an application. 127: the kernel panicked. 130: Ctrl-C. 0 as well when no
/// application is left, however they ended. 1: the machine could not be booted, or was
/// reset.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// UDP port of the store on 127.0.0.1
    #[arg(long, default_value_t = PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// UDP port of the echo service on 127.0.0.1; 0 for none
    #[arg(long, default_value_t = 7007, value_name = "PORT")]
    pub(crate) echo_port: u16,
    /// Who executes the guest's instructions
    #[arg(long, value_enum, default_value_t)]
    accel: Choice,
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
    /// Boot manifest: which applications there are and what they may use
    /// [default: boot/manifests/default.toml]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// How the kernel applies packet filters
    #[arg(long, value_enum, default_value_t)]
    filters: Filters,
    /// Let the guest's clock count instructions instead of time
    #[arg(long)]
    pub(crate) icount: bool,
    /// Wait for a debugger before the first instruction, and say how to start one
    #[arg(long)]
    pub(crate) gdb: bool,
    /// Run the store as a process of this host instead, and boot nothing: the same library
    /// behind Linux's UDP sockets, with the memory and the arguments of the manifest. There
    /// is no echo service then
    #[arg(long, conflicts_with_all = ["accel", "memory", "filters", "icount", "gdb", "echo_port"])]
    pub(crate) hosted: bool,
    /// Show how QEMU is called
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let path = args.manifest.clone().unwrap_or_else(|| workspace::manifest("default"));
    let manifest = manifest::read(&path)?;
    if args.hosted {
        return run_hosted(args, &manifest);
    }
    let mut config = configure(args, Config::new(manifest))?;
    QEMU.require()?;
    guest::build(&config.manifest)?;
    config.accel = args.accel.decide(&config)?;
    let signals = Signals::register()?;
    let machine = Machine::boot(&config)?;
    if args.verbose {
        eprintln!("{}", machine.command());
    }
    if args.gdb {
        debugger_recipe(&config);
    }

    let mut console = Console { machine: &machine, symboliser: Symboliser::default(), next: 0 };
    if machine.udp_port().is_some() {
        match wait_until_ready(&mut console, &signals, !args.gdb)? {
            Readiness::Ready => say(&invitation(args, &config.manifest))?,
            Readiness::Signal(code) => return Ok(code),
            // What it said is all there is to see, and is shown below.
            Readiness::Ended => {}
        }
    } else {
        eprintln!("this manifest has no store to wait for; Ctrl-C ends the machine");
    }
    pass_console_on(&mut console, &signals)
}

/// Becomes the store as a process of this host; returns only if that fails. Ctrl-C and all
/// other signals are the store's own then.
fn run_hosted(args: &Args, manifest: &manifest::Manifest) -> Result<ExitCode> {
    ensure_free(args.port, "--port", "the store")?;
    let threads = u16::try_from(args.cpus)?;
    let mut command = Store::of_manifest(manifest, threads)?.on_this_host(args.port)?;
    if args.verbose {
        eprintln!("{command:?}");
    }
    eprintln!(
        "starting the store as a process of this host; try `cargo exo client {}set greeting \
         hello` in another terminal; Ctrl-C ends it",
        server(args.port)
    );
    Err(command.exec()).context("cannot start the store")
}

/// The option of `cargo exo client` that leads to this port.
fn server(port: u16) -> String {
    match port {
        PORT => String::new(),
        port => format!("--server 127.0.0.1:{port} "),
    }
}

/// What can be done with a machine whose store answers: it is listening on the host's
/// ports, not on those that its own lines tell of.
fn invitation(args: &Args, manifest: &manifest::Manifest) -> String {
    let has_echo = args.echo_port != 0 && manifest.apps.iter().any(|app| app.image == "echo");
    let echo = match args.echo_port {
        port if has_echo => format!(", UDP echo on 127.0.0.1:{port}"),
        _ => String::new(),
    };
    let server = server(args.port);
    format!(
        "ready: memcached UDP on 127.0.0.1:{}{echo}; try `cargo exo client {server}set greeting \
         hello` in another terminal; Ctrl-C ends the machine",
        args.port
    )
}

/// The machine that was asked for, after everything has been checked that needs no build.
fn configure(args: &Args, mut config: Config) -> Result<Config> {
    let has = |image: &str| config.manifest.apps.iter().any(|app| app.image == image);
    let echo = (args.echo_port != 0).then_some(args.echo_port);
    if has("kvstore") {
        ensure_free(args.port, "--port", "the store")?;
    }
    if let Some(port) = echo.filter(|_| has("echo")) {
        ensure!(port != args.port, "--port and --echo-port are both {port}");
        ensure_free(port, "--echo-port (0 for none)", "the echo service")?;
    }
    config.network = Network::User {
        store: HostPort::Fixed(args.port),
        echo: echo.map_or(HostPort::None, HostPort::Fixed),
    };
    config.memory = args.memory;
    config.cpus = args.cpus;
    config.filters = args.filters;
    config.icount = args.icount;
    config.gdb = args.gdb.then_some(GDB_PORT);
    Ok(config)
}

enum Readiness {
    Ready,
    Ended,
    Signal(ExitCode),
}

/// Waits until the store answers over UDP, the whole way from the host and back.
fn wait_until_ready(
    console: &mut Console<'_>,
    signals: &Signals,
    limited: bool,
) -> Result<Readiness> {
    let machine = console.machine;
    let mut client = machine.store_client()?;
    let start = Instant::now();
    loop {
        let answers = machine.answers(&mut client)?;
        console.pass_on()?;
        if answers {
            return Ok(Readiness::Ready);
        }
        if let Some(code) = signals.exit_code() {
            return Ok(Readiness::Signal(code));
        }
        if !machine.running() {
            return Ok(Readiness::Ended);
        }
        if limited && start.elapsed() > READY {
            bail!("the store does not answer after {READY:?}\n{}", machine.report());
        }
    }
}

/// The machine's console, as far as it was printed.
struct Console<'m> {
    machine: &'m Machine,
    symboliser: Symboliser,
    next: usize,
}

impl Console<'_> {
    /// Prints what has come.
    fn pass_on(&mut self) -> Result<()> {
        while let Some(line) = self.machine.console().line(self.next) {
            self.next += 1;
            say(&line)?;
            for frame in self.symboliser.explain(&line) {
                say(&frame)?;
            }
        }
        Ok(())
    }
}

/// Prints the console until the machine ends or is to end.
fn pass_console_on(console: &mut Console<'_>, signals: &Signals) -> Result<ExitCode> {
    let machine = console.machine;
    loop {
        console.pass_on()?;
        if let Some(code) = signals.exit_code() {
            return Ok(code);
        }
        if !machine.console().wait_for(console.next, Instant::now() + GLANCE)
            && machine.console().ended()
        {
            break;
        }
    }
    let exit = machine.exit_status(Duration::from_secs(10))?;
    eprintln!("{exit}");
    Ok(ExitCode::from(exit.code()))
}

/// A line to standard output, at once; an error if nobody is there to read it.
fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
}

fn debugger_recipe(config: &Config) {
    let elf = |program: &str| workspace::guest_elf(program).display().to_string();
    eprintln!(
        "the machine waits for a debugger; in another terminal:\n  \
         gdb {} -ex 'target remote 127.0.0.1:{GDB_PORT}'\n\
         break in the kernel with `hbreak FUNCTION` (it is not in memory yet), then `continue`;\n\
         for a program in ring 3, tell gdb its symbols first, one at a time:",
        elf(guest::KERNEL)
    );
    let mut images: Vec<_> = config.manifest.apps.iter().map(|app| app.image.as_str()).collect();
    images.insert(0, guest::ROOT);
    images.dedup();
    for image in images {
        eprintln!("  add-symbol-file {}", elf(image));
    }
}

/// Signals that ask this process to end, noted instead of obeyed at once.
pub(crate) struct Signals {
    last: Arc<AtomicUsize>,
}

impl Signals {
    /// Notes the signals that come from now on.
    pub(crate) fn register() -> Result<Self> {
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_usize(signal, Arc::clone(&last), signal as usize)
                .context("cannot handle signals")?;
        }
        Ok(Self { last })
    }

    /// What a shell would report of a process that a signal ended: 128 and its number.
    pub(crate) fn exit_code(&self) -> Option<ExitCode> {
        let signal = u8::try_from(self.last.load(Ordering::Relaxed)).ok()?;
        (signal != 0).then(|| ExitCode::from(128 + signal))
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
