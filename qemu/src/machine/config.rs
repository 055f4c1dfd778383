//! What kind of machine to boot.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use root::manifest::Manifest;

use super::accel::Accel;
use super::recording::Recording;
use crate::disk::Place;
use crate::{manifest, workspace};

/// Processors the kernel uses at most (`exo_abi::MAX_CORES`).
pub const MAX_CPUS: u32 = 4;
/// MiB of memory the kernel uses at most: what `microvm` puts below the devices.
pub const MAX_MEMORY: u32 = 3072;
/// Bytes of a page frame.
const FRAME: u64 = 4096;

/// A machine to be booted. [`Config::new`] is what tests want; fields may be
/// changed after that.
#[derive(Clone, Debug)]
pub struct Config {
    /// The applications.
    pub manifest: Manifest,
    /// The folder of a package outside of this tree that has some of their programs.
    pub package: Option<PathBuf>,
    /// What executes the guest's instructions.
    pub accel: Accel,
    /// Memory in MiB.
    pub memory: u32,
    /// Number of processors.
    pub cpus: u32,
    /// What the NIC is connected to.
    pub network: Network,
    /// The machine's disk; the file is made, with an empty table, if it does not exist.
    pub disk: Option<Place>,
    /// Let the guest's clock count instructions: one per nanosecond, exactly, and
    /// without pause when it sleeps. Only with [`Accel::Tcg`].
    pub icount: bool,
    /// A recording that is made of this machine, or that the machine does again. Only with
    /// [`Accel::Tcg`] and one processor; the guest's clock counts instructions, and goes on with
    /// time while it sleeps.
    pub recording: Option<Recording>,
    /// Have the guest's memory in a file that other processes of this user can map (`cargo exo top`,
    /// for one).
    pub shared_memory: bool,
    /// Where QEMU writes what is on the wire, as pcap. Not with [`Network::VhostUser`].
    pub capture: Option<PathBuf>,
    /// Wait for a debugger on this TCP port of the loopback interface.
    pub gdb: Option<u16>,
    /// More arguments for QEMU, after all others.
    pub extra: Vec<OsString>,
    /// Write the boot bundle to this file, too, and name that in [`Machine::command`](super::Machine::command).
    /// The machine itself reads a file without a name.
    pub keep_bundle: Option<PathBuf>,
}

/// What the NIC is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// QEMU's user-mode network, with the applications' forwarded ports on the host's loopback
    /// interface.
    User(HostPorts),
    /// The program `passt`, with the forwarded ports of the first application that has any: it knows
    /// one address of the guest.
    Passt(HostPorts),
    /// A TAP device of that name, which is there already. The host reaches the applications at
    /// their own addresses; nothing is forwarded.
    Tap(String),
    /// The same as `User` with one port, of UDP and TCP, forwarded from any that is free on the host:
    /// that of a memcached at this address, whatever the machine runs.
    Store(Ipv4Addr),
    /// A socket on which the host sends and receives raw Ethernet frames.
    Frames,
    /// A process that plays the NIC (`exo_load::wire::vhost`) and listens on this Unix
    /// socket already. The guest's memory is shared with it.
    VhostUser(PathBuf),
}

/// The host's ports that lead to those that the manifest has forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPorts {
    /// Any that are free.
    Free,
    /// Those that the manifest states.
    Stated,
    /// None: forward nothing.
    None,
}

impl Config {
    /// One processor, 128 MiB, TCG, user-mode network on free ports.
    #[must_use]
    pub fn new(manifest: Manifest) -> Self {
        Self {
            manifest,
            package: None,
            accel: Accel::Tcg,
            memory: 128,
            cpus: 1,
            network: Network::User(HostPorts::Free),
            icount: false,
            recording: None,
            shared_memory: false,
            capture: None,
            gdb: None,
            disk: None,
            extra: Vec::new(),
            keep_bundle: None,
        }
    }

    /// The same without any application: for another system than ours, which has no use for
    /// a manifest.
    #[must_use]
    pub fn bare() -> Self {
        Self::new(Manifest {
            version: root::manifest::VERSION,
            boot_unix_seconds: 0,
            gateway: [0; 4],
            prefix_len: 0,
            apps: Vec::new(),
            shares: Vec::new(),
        })
    }

    /// The same with the manifest `boot/manifests/NAME.toml`.
    pub fn named(name: &str) -> Result<Self> {
        Ok(Self::new(manifest::read(&workspace::manifest(name))?))
    }

    /// Lets the clock count instructions. As it jumps to the end of every sleep then, no disk
    /// answers in time: applications with an extent are told to wait for ever (`disk-seconds=0`).
    pub fn count_instructions(&mut self) {
        self.icount = true;
        for app in self.manifest.apps.iter_mut().filter(|app| app.disk.is_some()) {
            app.args.push("disk-seconds=0".to_owned());
        }
    }

    /// Rules that neither the manifest nor QEMU checks.
    pub(super) fn check(&self) -> Result<()> {
        let wanted: u64 = self.manifest.apps.iter().map(|app| u64::from(app.frames) * FRAME).sum();
        let memory = u64::from(self.memory) << 20;
        ensure!(
            wanted < memory,
            "manifest: frames: the applications may take {} MiB together, \
             but the machine has {} MiB of memory",
            wanted.div_ceil(1 << 20),
            self.memory
        );
        ensure!(
            !(self.icount && self.accel == Accel::Kvm),
            "instructions can only be counted without KVM: use --accel tcg with --icount"
        );
        ensure!(
            self.recording.is_none() || (self.accel == Accel::Tcg && self.cpus == 1),
            "a machine is recorded with one processor and without KVM: --cpus 1, --accel tcg"
        );
        Ok(())
    }
}
