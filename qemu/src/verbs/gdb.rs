//! `cargo exo gdb`: a machine under a debugger.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::builder::RangedU64ValueParser;

use super::run::Console;
use crate::gdb::Files;
use crate::guest;
use crate::machine::{
    Config, HostPorts, MAX_CPUS, Machine, Network, Protocol, Recording, free_port,
};
use crate::manifest::{Choice, Chosen};
use crate::output::note;
use crate::prerequisites::{GDB, QEMU};
use crate::signals::Signals;

/// How often to look for what the machine says, and whether the debugger has ended.
const GLANCE: Duration = Duration::from_millis(50);

/// Debug kernel and applications with gdb: boot a machine, or attach to one
///
/// gdb has the kernel's symbols, and at each stop those of the environment that has the processor. A
/// backtrace goes on from the kernel into that environment. New commands: info environments;
/// environment NAME [COMMAND], for what an environment that waits was doing; break-in NAME LOCATION.
/// The machine stops before its first instruction, and ends with gdb.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Attach to the machine of the same manifest that `cargo exo run --gdb` has started, by its port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..),
          conflicts_with = "cpus")]
    attach: Option<u16>,
    /// Boot no machine, but do again what one did that `cargo exo run --record FOLDER` recorded, to
    /// the instruction; without a disk gdb goes back, too (reverse-stepi, reverse-step)
    #[arg(long, value_name = "FOLDER",
          conflicts_with_all = ["attach", "cpus", "name", "manifest", "app"])]
    replay: Option<PathBuf>,
    /// Processors of the machine, 1 to 4
    #[arg(long, default_value_t = 1,
          value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_CPUS.into()))]
    cpus: u32,
    /// Arguments for gdb, such as -batch -ex COMMAND
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    GDB.require()?;
    if let Some(folder) = &args.replay {
        return replay(folder, &args.arguments);
    }
    let Chosen { manifest, package, .. } = args.choice.read("default")?;
    guest::build_with(&manifest, package.as_deref())?;
    let files = Files::new(&manifest)?;
    // Ctrl-C is gdb's: it stops the machine.
    let _signals = Signals::register()?;
    if let Some(port) = args.attach {
        let status = files.command(port, &args.arguments)?.status()?;
        return Ok(exit_code(status));
    }
    QEMU.require()?;
    let port = free_port(Protocol::Tcp)?;
    let mut config = Config::new(manifest);
    config.package = package;
    config.cpus = args.cpus;
    config.network = Network::User(HostPorts::Free);
    config.gdb = Some(port);
    let machine = Machine::boot(&config)?;
    for forward in machine.forwards() {
        note!("gdb: {} to {} on 127.0.0.1:{}", forward.protocol(), forward.app, forward.host);
    }
    let gdb = files.command(port, &args.arguments)?.spawn()?;
    stay_with(gdb, &machine)
}

/// The recording in `folder` under gdb.
fn replay(folder: &Path, arguments: &[OsString]) -> Result<ExitCode> {
    QEMU.require()?;
    let (recording, mut config, about) = Recording::open(folder)?;
    let files = Files::of(recording.kernel(), &recording.programs(&about))?;
    let _signals = Signals::register()?;
    let port = free_port(Protocol::Tcp)?;
    config.gdb = Some(port);
    let machine = Machine::replay(&config, &recording)?;
    let gdb = files.command(port, arguments)?.spawn()?;
    stay_with(gdb, &machine)
}

/// Shows what the machine prints until gdb ends.
fn stay_with(mut gdb: Child, machine: &Machine) -> Result<ExitCode> {
    let mut console = Console::new(machine, None);
    loop {
        let ended = gdb.try_wait()?;
        console.pass_on()?;
        if let Some(status) = ended {
            return Ok(exit_code(status));
        }
        let _ = machine.console().wait_for(console.shown(), Instant::now() + GLANCE);
        if machine.console().ended() {
            std::thread::sleep(GLANCE);
        }
    }
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into()
}
