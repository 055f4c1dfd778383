//! The machines that are measured: the store on Exo, and Redis on Linux, each with a disk of its
//! own behind the same virtual device and cache mode.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::monitor::Monitor;
use crate::bench::counter::Counter;
use crate::bench::get::{store_of, wait_until_serving};
use crate::bench::load::Capture;
use crate::bench::steps::Steps;
use crate::bench::table::Table;
use crate::disk::Place;
use crate::linux::{self, Fio, Guest, Kernel, Redis};
use crate::machine::{Config, HostPorts, Machine, Network};
use crate::manifest::{self, DiskShare, Forward, Transport};
use crate::output::note;
use crate::signals::Signals;
use crate::{guest, workspace};

/// Sectors of the disk, and of the store's extent.
const DISK: u32 = 256 << 11;
const EXTENT: u32 = 240 << 11;
/// How long a Linux guest may take until it serves, every instruction counted.
const READY: Duration = Duration::from_secs(600);
const GLANCE: Duration = Duration::from_millis(100);

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// This project's store on Exo, durable or not.
    Exo { durable: bool },
    /// Redis on Linux, `appendfsync always`.
    Redis,
    /// fio on Linux, which writes to the bare disk.
    Fio,
}

/// A machine that is counted.
pub(super) struct Counted {
    pub(super) machine: Machine,
    pub(super) counter: Counter,
    pub(super) capture: Capture,
    pub(super) monitor: Monitor,
    pub(super) address: Ipv4Addr,
    /// Of what runs on Exo.
    pub(super) table: Option<Table>,
    // Disk and sockets.
    _directory: TempDir,
}

impl Peer {
    /// The machine for it, of which `prepare` changes network and clock, with its disk in
    /// `directory`.
    pub(super) fn boot(
        self,
        directory: &Path,
        prepare: impl FnOnce(&mut Config),
    ) -> Result<Machine> {
        let disk = place(directory);
        match self {
            Self::Exo { durable } => {
                let mut config = exo()?;
                config.disk = durable.then_some(disk);
                prepare(&mut config);
                Machine::boot(&config)
            }
            Self::Redis | Self::Fio => {
                let mut guest = Guest::new(Kernel::of_distribution()?);
                // As for every contender of `bench compare`.
                guest.parameters.extend(["idle=halt", "ipv6.disable=1"].map(Into::into));
                guest.networked();
                match self {
                    Self::Fio => Fio.add_to(&mut guest)?,
                    _ => Redis.add_to(&mut guest)?,
                }
                let mut config = guest.config();
                disk.provide_blank()?;
                config.disk = Some(disk);
                prepare(&mut config);
                guest.boot(&config)
            }
        }
    }

    /// **Blocking** until it serves.
    pub(super) fn wait(self, machine: &Machine, interrupt: &Signals) -> Result<()> {
        match self {
            Self::Exo { .. } => {
                wait_until_serving(machine, &store_of(&exo()?.manifest)?.name, interrupt)
            }
            Self::Redis | Self::Fio => {
                let start = Instant::now();
                while let Err(error) = machine.wait_for_line(linux::READY, GLANCE) {
                    interrupt.check()?;
                    if !machine.running() || start.elapsed() > READY {
                        return Err(error);
                    }
                }
                Ok(())
            }
        }
    }

    /// For the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Exo { durable: true } => "Exo, durable",
            Self::Exo { durable: false } => "Exo, from memory",
            Self::Redis => "Redis on Linux",
            Self::Fio => "fio on Linux",
        }
    }

    /// Where figures have it.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Exo { durable: true } => "exo",
            Self::Exo { durable: false } => "memory",
            Self::Redis => "redis",
            Self::Fio => "fio",
        }
    }
}

/// The machine of boot/manifests/bench.toml, its store with an extent where there is a disk.
pub(super) fn exo() -> Result<Config> {
    let mut config = Config::new(manifest::read(&workspace::manifest("bench"))?);
    let name = store_of(&config.manifest)?.name.clone();
    for app in config.manifest.apps.iter_mut().filter(|app| app.name == name) {
        app.disk = Some(DiskShare { name: "store".into(), sectors: EXTENT });
        let (guest, transport) = (crate::machine::STORE_PORT, Transport::Tcp);
        app.forward.push(Forward { transport, guest, host: guest });
    }
    Ok(config)
}

/// The disk of a machine, in `directory`.
pub(super) fn place(directory: &Path) -> Place {
    Place { path: directory.join("disk"), sectors: Some(DISK) }
}

impl Counted {
    /// Boots `peer`, and waits until it serves.
    pub(super) fn boot(peer: Peer, interrupt: &Signals) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("exo-bench-").tempdir()?;
        let (table, counter) = match peer {
            Peer::Exo { .. } => {
                let config = exo()?;
                guest::build(&config.manifest)?;
                let image = &store_of(&config.manifest)?.image;
                let images = [guest::KERNEL, guest::ROOT, image];
                let table = Table::of_programs(images, &Steps::of_workspace()?, interrupt)?;
                let counter = Counter::new(&table)?;
                (Some(table), counter)
            }
            Peer::Redis | Peer::Fio => (None, Counter::of_any_guest()?),
        };
        let capture = Capture::new()?;
        let socket = directory.path().join("monitor");
        let mut extra = counter.arguments();
        extra.extend(capture.arguments());
        extra.extend(Monitor::arguments(&socket));
        note!("bench: {}: booting, counting every instruction", peer.name());
        let machine = peer.boot(directory.path(), |config| {
            config.network = Network::Frames;
            config.count_instructions();
            config.extra.extend(extra);
        })?;
        peer.wait(&machine, interrupt)?;
        if table.is_some() {
            counter.ensure_ready(&machine)?;
        }
        let address = match peer {
            Peer::Exo { .. } => {
                let address = store_of(&exo()?.manifest)?.address;
                address.context("the store has no address")?.into()
            }
            Peer::Redis | Peer::Fio => linux::ADDRESS,
        };
        let monitor = Monitor::connect(&socket)?;
        Ok(Self { machine, counter, capture, monitor, address, table, _directory: directory })
    }
}

/// A machine that is reached through the host's TCP, in ordinary time; its disk lies in
/// `directory`.
pub(super) fn boot_in_time(peer: Peer, directory: &Path, interrupt: &Signals) -> Result<Machine> {
    note!("bench: {}: booting", peer.name());
    let machine = peer.boot(directory, |config| {
        if let Peer::Exo { .. } = peer {
            config.network = Network::User(HostPorts::Free);
        }
    })?;
    peer.wait(&machine, interrupt)?;
    Ok(machine)
}
