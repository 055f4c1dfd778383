//! `cargo exo run`: boot the machine and stay with it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::builder::RangedU64ValueParser;

use crate::machine::{
    self, Accel, Choice, Config, Filters, HostPort, MAX_CPUS, MAX_MEMORY, Machine, Network,
    Protocol, ensure_free, free_port,
};
use crate::output::{note, say};
use crate::prerequisites::QEMU;
use crate::signals::{Interrupted, Signals};
use crate::symbols::Symboliser;
use crate::{guest, manifest, shell, workspace};

/// How long the store may take to answer. It takes about a second.
const READY: Duration = Duration::from_secs(60);
/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(100);
/// Where clients expect a memcached.
const PORT: u16 = 11211;
/// Where a debugger connects, unless that is taken.
const GDB_PORT: u16 = 1234;
/// What to say if KVM was asked for and the machine takes much longer than it should.
const KVM_HINT: &str = "the store does not answer yet; if nothing comes, KVM may not run this \
                        kernel here (nested or emulated KVM does not): --accel tcg always does, \
                        --accel auto tries KVM first";

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
/// reset. 141: the reader of its output has gone.
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
    /// Processors of the machine, 1 to 4
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
    /// Wait for a debugger before the first instruction, and say how to start one; on this
    /// TCP port of 127.0.0.1, otherwise on 1234 or, if that is taken, on any
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) gdb: Option<Option<u16>>,
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
    let path = args.manifest.clone().unwrap_or_else(|| workspace::manifest("default"));
    let mut config = configure(args, Config::new(manifest::read(&path)?))?;
    QEMU.require()?;
    guest::build(&config.manifest)?;
    let signals = Signals::register()?;
    config.accel = args.accel.decide(&config, &signals)?;
    if args.verbose {
        config.keep_bundle = Some(guest::kept_bundle(&path));
    }
    let machine = Machine::boot(&config)?;
    if args.verbose {
        note!("{}", machine.command());
    }
    if let Some(port) = config.gdb {
        note!("{}", debugger_recipe(&config, port));
    }

    let mut console = Console { machine: &machine, symboliser: Symboliser::default(), next: 0 };
    if machine.udp_port().is_some() {
        match wait_until_ready(&mut console, &signals, &config)? {
            Readiness::Ready => say!("{}", invitation(args, &config.manifest))?,
            // What it said is all there is to see, and is shown below.
            Readiness::Ended => {}
        }
    } else {
        note!("this manifest has no store to wait for; Ctrl-C ends the machine");
    }
    pass_console_on(&mut console, &signals)
}

/// What can be done with a machine whose store answers: it is listening on the host's
/// ports, not on those that its own lines tell of.
fn invitation(args: &Args, manifest: &manifest::Manifest) -> String {
    let has_echo = args.echo_port != 0 && manifest.apps.iter().any(|app| app.image == "echo");
    let echo = match args.echo_port {
        port if has_echo => format!(", UDP echo on 127.0.0.1:{port}"),
        _ => String::new(),
    };
    let server = match args.port {
        PORT => String::new(),
        port => format!("--server 127.0.0.1:{port} "),
    };
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
        ensure_free(Protocol::Udp, args.port, "--port", "the store")?;
    }
    if let Some(port) = echo.filter(|_| has("echo")) {
        ensure!(port != args.port, "--port and --echo-port are both {port}");
        ensure_free(Protocol::Udp, port, "--echo-port (0 for none)", "the echo service")?;
    }
    config.network = Network::User {
        store: HostPort::Fixed(args.port),
        echo: echo.map_or(HostPort::None, HostPort::Fixed),
    };
    config.memory = args.memory;
    config.cpus = args.cpus;
    config.filters = args.filters;
    config.icount = args.icount;
    config.gdb = args.gdb.map(debugger_port).transpose()?;
    Ok(config)
}

enum Readiness {
    Ready,
    Ended,
}

/// Waits until the store answers over UDP, the whole way from the host and back.
fn wait_until_ready(
    console: &mut Console<'_>,
    signals: &Signals,
    config: &Config,
) -> Result<Readiness> {
    let machine = console.machine;
    let mut client = machine.store_client()?;
    let start = Instant::now();
    let mut hint = (config.accel == Accel::Kvm && config.gdb.is_none()).then_some(KVM_HINT);
    loop {
        let answers = machine.answers(&mut client)?;
        console.pass_on()?;
        if answers {
            return Ok(Readiness::Ready);
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
            say!("{line}")?;
            for frame in self.symboliser.explain(&line) {
                say!("{frame}")?;
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
        signals.check()?;
        if !machine.console().wait_for(console.next, Instant::now() + GLANCE)
            && machine.console().ended()
        {
            break;
        }
    }
    let exit = machine.exit_status(Duration::from_secs(10))?;
    note!("{exit}");
    Ok(ExitCode::from(exit.code()))
}

/// How to start a debugger, as a command for another terminal.
fn debugger_recipe(config: &Config, port: u16) -> String {
    let mut images: Vec<_> = config.manifest.apps.iter().map(|app| app.image.as_str()).collect();
    images.insert(0, guest::ROOT);
    images.dedup();
    let symbols: String = images
        .iter()
        .map(|image| {
            let mut command = b"add-symbol-file ".to_vec();
            command.extend(shell::quote_for_gdb(workspace::guest_elf(image).as_os_str()));
            format!("\n  -ex {}", shell::quote(OsStr::from_bytes(&command)))
        })
        .collect();
    format!(
        "the machine waits for a debugger; in another terminal:\n  \
         gdb {} -ex 'target remote 127.0.0.1:{port}'\n\
         break in the kernel with `hbreak FUNCTION` (it is not in memory yet), then `continue`;\n\
         for a program in ring 3, add its symbols to that line, of one at a time:{symbols}",
        shell::quote(workspace::guest_elf(guest::KERNEL).as_os_str())
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
