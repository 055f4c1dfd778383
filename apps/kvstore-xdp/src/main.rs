//! Loads a program into XDP of a network interface, and keeps it there while this runs.
//!
//! Not on a packet's way: what is on it is in `bpf/`. `cache` answers before memcached does,
//! in the manner of BMC (NSDI 2021); `echo` is a floor. Both are compiled by clang, apart
//! from this, and read from a file, so that one of another make can be loaded as well.
//!
//! This must be started before memcached is: a request that came before it has no ticket.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::Array;
use aya::programs::tc::{self, SchedClassifier, TcAttachType};
use aya::programs::{Xdp, XdpFlags};
use aya::{Ebpf, EbpfLoader, Pod};
use clap::Parser;

/// A cache in XDP before memcached, or an echo there
///
/// Loads the program of an object file into the interface's driver, and stays until it is
/// ended; the program goes with it. It says "attached" when packets go through it. Needs
/// root, and for a cache the kernel's modules sch_ingress and cls_bpf.
#[derive(Debug, Parser)]
#[command(name = "kvstore-xdp", version)]
struct Arguments {
    /// Object file with a program `ingress` for XDP and maybe one `egress` for packets that
    /// leave
    object: PathBuf,
    /// Network interface
    #[arg(long, default_value = "eth0", value_name = "NAME")]
    interface: String,
    /// IPv4 address for which the program answers
    #[arg(long)]
    address: Ipv4Addr,
    /// Print what the cache has counted every so many seconds, if that has changed
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    report: Option<u64>,
}

/// `struct state` of `bpf/cache.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    counts: [u64; NAMES.len()],
    epoch: u32,
    closed: u32,
    tickets: u32,
    unused: u32,
}

/// What is counted, in the order of `enum count` of `bpf/cache.h`.
const NAMES: [&str; 7] = ["hits", "misses", "fills", "late", "writes", "flushes", "refused"];

// SAFETY: it is made of integers without anything between them, and any bytes are one.
unsafe impl Pod for State {}

fn main() -> ExitCode {
    let Err(error) = run(&Arguments::parse());
    eprintln!("kvstore-xdp: {error:#}");
    ExitCode::FAILURE
}

fn run(arguments: &Arguments) -> Result<std::convert::Infallible> {
    let mut programs = load(&arguments.object, arguments.address)?;
    attach(&mut programs, &arguments.interface)
        .with_context(|| format!("cannot attach to {}", arguments.interface))?;
    say(&format!("kvstore-xdp: attached to {}", arguments.interface));
    let Some(seconds) = arguments.report else {
        loop {
            thread::park();
        }
    };
    let states = programs.map("states").context("the object file has no counts")?;
    let states = Array::<_, State>::try_from(states).context("the counts are of another kind")?;
    let mut last = None;
    loop {
        let state = states.get(&0, 0).context("cannot read the counts")?;
        if last.replace(state) != Some(state) {
            say(&state.line());
        }
        thread::sleep(Duration::from_secs(seconds));
    }
}

/// Reads an object file and gives its maps and programs to the kernel.
fn load(object: &Path, address: Ipv4Addr) -> Result<Ebpf> {
    let bytes =
        std::fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
    let own_address = u32::from_ne_bytes(address.octets());
    EbpfLoader::new()
        .set_global("own_address", &own_address, true)
        .load(&bytes)
        .with_context(|| format!("the kernel does not take {}", object.display()))
}

/// First where packets leave: what comes in has a ticket then that is taken back.
fn attach(programs: &mut Ebpf, interface: &str) -> Result<()> {
    if let Some(egress) = programs.program_mut("egress") {
        let egress: &mut SchedClassifier = egress.try_into()?;
        egress.load().context("the kernel does not take the program `egress`")?;
        tc::qdisc_add_clsact(interface).context("no clsact; is the module sch_ingress there?")?;
        egress
            .attach(interface, TcAttachType::Egress)
            .context("no filter; is the module cls_bpf there?")?;
    }
    let ingress = programs.program_mut("ingress").context("there is no program `ingress`")?;
    let ingress: &mut Xdp = ingress.try_into()?;
    ingress.load().context("the kernel does not take the program `ingress`")?;
    // In the driver: the generic kind comes after the socket buffer has been made.
    ingress.attach(interface, XdpFlags::DRV_MODE).context("the driver does not take XDP")?;
    Ok(())
}

impl State {
    fn line(&self) -> String {
        let mut line = "kvstore-xdp:".to_owned();
        for (name, count) in NAMES.iter().zip(self.counts) {
            let _ = write!(line, " {name}={count}");
        }
        let open = if self.closed == 0 { "open" } else { "closed" };
        let _ = write!(line, " passed={} {open}", self.tickets);
        line
    }
}

/// It goes on whether or not this is read.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_option_has_help() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} has no help", argument.get_id());
        }
    }

    #[test]
    fn counts_are_named() {
        let state =
            State { counts: [1, 2, 3, 4, 5, 6, 7], epoch: 0, closed: 1, tickets: 8, unused: 0 };
        let line = "kvstore-xdp: hits=1 misses=2 fills=3 late=4 writes=5 flushes=6 refused=7 \
                    passed=8 closed";
        assert_eq!(state.line(), line);
    }
}
