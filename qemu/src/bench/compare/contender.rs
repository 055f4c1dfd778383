//! What is compared, and how each is booted.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::bench::load::Transport;
use crate::linux::{self, Guest, Kernel, Memcached, Mitigations, RECEIVE_BUFFER, Store, Xdp};
use crate::machine::{Config, Machine};
use crate::module::{Parameters, Workers};

/// Address of every service.
pub(crate) const ADDRESS: Ipv4Addr = linux::ADDRESS;
/// Memory for items, in all placements.
const STORE_MIB: u32 = 24;

/// Something that answers on port 11211, and over what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// memcached, as packaged, on Linux.
    Memcached,
    /// memcached on Linux behind a cache in XDP.
    Xdp,
    /// This project's store as a Linux process.
    Process,
    /// This project's store as a module of Linux's kernel.
    Module,
    /// This project's store on the exokernel, in ring 3.
    Exo,
    /// UDP echo through a socket of Linux.
    LinuxEcho,
    /// UDP echo in XDP, on Linux.
    XdpEcho,
    /// UDP echo through the library OS, on the exokernel.
    ExoEcho,
    /// UDP echo with nothing above the rings, on the exokernel.
    ExoRing,
    /// memcached over TCP.
    MemcachedTcp,
    /// This project's store as a Linux process over TCP.
    ProcessTcp,
    /// This project's store on the exokernel over TCP.
    ExoTcp,
}

impl Contender {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 12] = [
        Self::Memcached,
        Self::Xdp,
        Self::Process,
        Self::Module,
        Self::Exo,
        Self::LinuxEcho,
        Self::XdpEcho,
        Self::ExoEcho,
        Self::ExoRing,
        Self::MemcachedTcp,
        Self::ProcessTcp,
        Self::ExoTcp,
    ];
    /// Those that are this system, and that the baseline is for.
    pub(crate) const OURS: [Self; 4] = [Self::Exo, Self::ExoEcho, Self::ExoRing, Self::ExoTcp];

    /// Its short name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memcached => "memcached",
            Self::Xdp => "xdp",
            Self::Process => "process",
            Self::Module => "module",
            Self::Exo => "exo",
            Self::LinuxEcho => "linux-echo",
            Self::XdpEcho => "xdp-echo",
            Self::ExoEcho => "exo-echo",
            Self::ExoRing => "exo-ring",
            Self::MemcachedTcp => "memcached-tcp",
            Self::ProcessTcp => "process-tcp",
            Self::ExoTcp => "exo-tcp",
        }
    }

    /// What it is.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Memcached => "memcached in a Linux process",
            Self::Xdp => "memcached behind a cache in XDP",
            Self::Process => "our store in a Linux process",
            Self::Module => "our store in Linux's kernel",
            Self::Exo => "our store on Exo, ring 3",
            Self::LinuxEcho => "floor: echo through a Linux socket",
            Self::XdpEcho => "floor: echo in XDP",
            Self::ExoEcho => "floor: echo through Exo's library OS",
            Self::ExoRing => "floor: echo on Exo's bare rings",
            Self::MemcachedTcp => "memcached in a Linux process, TCP",
            Self::ProcessTcp => "our store in a Linux process, TCP",
            Self::ExoTcp => "our store on Exo, ring 3, TCP",
        }
    }

    /// Whether it sends back what it gets, and stores nothing.
    pub(crate) const fn echoes(self) -> bool {
        matches!(self, Self::LinuxEcho | Self::XdpEcho | Self::ExoEcho | Self::ExoRing)
    }

    /// What carries its requests.
    pub(crate) const fn transport(self) -> Transport {
        match self {
            Self::MemcachedTcp | Self::ProcessTcp | Self::ExoTcp => Transport::Tcp,
            _ => Transport::Udp,
        }
    }

    const fn on_linux(self) -> bool {
        !matches!(self, Self::Exo | Self::ExoEcho | Self::ExoRing | Self::ExoTcp)
    }

    /// The ways to measure it: one on Exo, one for each kind of mitigations on Linux.
    pub(crate) fn variants(
        self,
        mitigations: &[Mitigations],
    ) -> impl Iterator<Item = Option<Mitigations>> {
        let on_linux = mitigations.iter().copied().map(Some).filter(move |_| self.on_linux());
        on_linux.chain((!self.on_linux()).then_some(None))
    }

    /// What it is to be known by in a report: version, command line, settings.
    pub(crate) fn facts(self) -> Result<Vec<String>> {
        let mut facts = Vec::new();
        if self.on_linux() {
            let kernel = Kernel::of_distribution()?;
            let version = kernel.version().unwrap_or("unknown");
            facts.push(format!("Linux {} (package {version})", kernel.release()));
            facts.push(format!("net.core.rmem_default={RECEIVE_BUFFER}"));
        }
        match self {
            Self::Memcached | Self::MemcachedTcp => facts.push(memcached(&MEMCACHED)?),
            Self::Xdp => {
                facts.push(xdp(CACHE)?);
                facts.push(memcached(&Xdp::behind(STORE_MIB))?);
            }
            Self::XdpEcho => facts.push(xdp(Xdp::Echo)?),
            Self::LinuxEcho => facts.push(ECHO.command()),
            Self::Process | Self::ProcessTcp => facts.push(PROCESS.command()),
            Self::Module => facts.push(MODULE.command()),
            Self::Exo | Self::ExoEcho | Self::ExoRing | Self::ExoTcp => {
                facts.push(format!("boot/manifests/{}.toml", self.manifest()));
            }
        }
        Ok(facts)
    }

    /// The manifest of a contender on Exo.
    const fn manifest(self) -> &'static str {
        match self {
            Self::ExoEcho => "floor-udp",
            Self::ExoRing => "floor-ring",
            _ => "bench",
        }
    }

    /// Boots it on a machine that `prepare` changes: its NIC, its clock, arguments for QEMU.
    pub(crate) fn boot(
        self,
        mitigations: Option<Mitigations>,
        prepare: impl FnOnce(&mut Config),
    ) -> Result<Machine> {
        let mut guest = match self {
            Self::Exo | Self::ExoEcho | Self::ExoRing | Self::ExoTcp => {
                let mut config = Config::named(self.manifest())?;
                prepare(&mut config);
                return Machine::boot(&config);
            }
            _ => Guest::new(Kernel::of_distribution()?),
        };
        guest.mitigations = mitigations.unwrap_or_default();
        // The loop that waits for work must be the one that is counted and held.
        guest.parameters.push("idle=halt".to_owned());
        // It announces itself, and all the more when a program in XDP has the NIC started anew.
        guest.parameters.push("ipv6.disable=1".to_owned());
        guest.networked();
        match self {
            Self::Memcached | Self::MemcachedTcp => MEMCACHED.add_to(&mut guest)?,
            Self::Xdp => CACHE.add_to(&mut guest, STORE_MIB)?,
            Self::XdpEcho => Xdp::Echo.add_to(&mut guest, STORE_MIB)?,
            Self::Process | Self::ProcessTcp => PROCESS.add_to(&mut guest)?,
            Self::LinuxEcho => ECHO.add_to(&mut guest)?,
            _ => MODULE.add_to(&mut guest)?,
        }
        let mut config = guest.config();
        prepare(&mut config);
        guest.boot(&config)
    }

    /// The line on the console that says that it serves.
    pub(crate) const fn ready(self) -> &'static str {
        match self {
            // Workers are waited for; what lies in the kernel answers once it is loaded.
            Self::Memcached | Self::MemcachedTcp | Self::Module | Self::Xdp | Self::XdpEcho => {
                linux::READY
            }
            Self::Process
            | Self::ProcessTcp
            | Self::LinuxEcho
            | Self::Exo
            | Self::ExoEcho
            | Self::ExoRing
            | Self::ExoTcp => ": serving",
        }
    }
}

const MEMCACHED: Memcached = Memcached { threads: 1, memory_mib: STORE_MIB, tcp: true };
const CACHE: Xdp = Xdp::Cache { report: None };
const PROCESS: Store = Store { seed: Some(1), ..Store::new(1, STORE_MIB) };
/// The same program, which then stores nothing.
const ECHO: Store = Store { echo: true, ..PROCESS };
const MODULE: Parameters =
    Parameters { memory_mib: STORE_MIB, seed: Some(1), workers: Workers::None };

/// A memcached's version and command line.
fn memcached(memcached: &Memcached) -> Result<String> {
    let packages = Memcached::packages()?;
    let version = packages.version("memcached").unwrap_or("unknown");
    Ok(format!("memcached {version}: {}", memcached.command()))
}

/// How a program in XDP is loaded, and what compiled it.
fn xdp(program: Xdp) -> Result<String> {
    let guest = Guest::new(Kernel::of_distribution()?);
    Ok(format!("{} (native XDP; {})", program.command(&guest), Xdp::compiler()?))
}
