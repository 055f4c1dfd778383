//! What an application finds when it starts.

use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{ABI_VERSION, EnvId, Error, FrameInfo, Pages, SystemInfo, UArea};

use crate::disk::{self, Blocking, Kernel};
use crate::memory::guest::{self, Memory};
use crate::memory::{MemoryError, Range};
use crate::net::NetConfig;
use crate::sched::KernelPark;
use crate::share::Share;
use crate::start::StartBlock;
use crate::time::TscClock;
use crate::{console, elevation, measure, sched, time};

/// Pages through which [`Environment::disk`] reads and writes.
const DISK_BUFFER: Pages = 16;

/// What an application was given, ready for use.
pub struct Environment {
    /// Its id, as in the frame table.
    pub id: EnvId,
    /// What its creator told it.
    pub start: StartBlock<'static>,
    /// What the kernel tells every environment.
    pub system: &'static SystemInfo,
    /// The frame table.
    pub frame_table: &'static [FrameInfo],
    /// Its memory.
    pub memory: Memory,
    /// Its clock.
    pub clock: TscClock,
    /// Its way to sleep.
    pub park: KernelPark,
}

/// Why an environment could not be set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// There is no start block in the U-area.
    NoStartBlock,
    /// The kernel speaks another version of the contract.
    AbiVersion(u64),
    /// The kernel's pages could not be mapped.
    Memory(MemoryError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStartBlock => f.write_str("no start block"),
            Self::AbiVersion(version) => {
                write!(f, "kernel has ABI version {version}, this is {ABI_VERSION}")
            }
            Self::Memory(error) => write!(f, "memory: {error}"),
        }
    }
}

impl From<MemoryError> for StartError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

impl Environment {
    /// Reads the start block and sets up console, memory and clock, in this
    /// order, so that whatever goes wrong can be printed.
    ///
    /// # Errors
    /// [`StartError`] says which step failed.
    pub fn start(u_area: &'static UArea) -> Result<Self, StartError> {
        let start = StartBlock::read(&u_area.start).ok_or(StartError::NoStartBlock)?;
        elevation::prepare(u_area);
        console::init(start.name, start.console);
        guest::init(start.frames, Range { first: start.first_frame, count: start.frame_count });
        let memory = Memory::get();
        let system = memory.map_system_info(u_area)?;
        let version = system.abi_version.load(Relaxed);
        if version != ABI_VERSION {
            return Err(StartError::AbiVersion(version));
        }
        let frame_table = memory.map_frame_table(system)?;
        let wanted = start.argument("measure").and_then(|samples| samples.parse().ok());
        if let Some(samples) = wanted {
            measure::begin(samples);
        }
        Ok(Self {
            id: EnvId(u_area.id.load(Relaxed)),
            start,
            system,
            frame_table,
            memory,
            clock: time::TscClock::new(&system.clock, &system.tsc_hz, start.boot_unix_seconds),
            park: sched::KernelPark::new(u_area),
        })
    }

    /// The value of the argument `key=value`, if there is one.
    pub fn argument(&self, key: &str) -> Option<&'static str> {
        self.start.argument(key)
    }

    /// What the manifest lets it share with others under that name (`[[share]]`).
    #[must_use]
    pub fn share(&self, name: &str) -> Option<Share> {
        self.start.shares().find(|share| share.name == name).map(Share::new)
    }

    /// All that it shares with others.
    pub fn shares(&self) -> impl Iterator<Item = Share> + use<> {
        self.start.shares().map(Share::new)
    }

    /// Its extent of the disk, if the manifest gives one and the machine has a disk.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn disk(&self) -> Result<Option<Blocking<Kernel, KernelPark>>, Error> {
        let Some((disk, extent)) = self.start.disk else { return Ok(None) };
        disk::blocking(self.memory, self.park, disk, extent, DISK_BUFFER).map(Some)
    }

    /// The network configuration the start block and the kernel give, if the
    /// application has an address and the machine a network interface.
    pub fn net_config(&self) -> Option<NetConfig> {
        let mac = self.system.mac.load(Relaxed).to_le_bytes();
        let [a, b, c, d, e, f, _, _] = mac;
        let mac = [a, b, c, d, e, f];
        (mac != [0; 6]).then_some(NetConfig {
            mac,
            address: self.start.address?,
            prefix_len: self.start.prefix_len,
            gateway: self.start.gateway,
        })
    }

    /// The frames granted that are not taken, as of now.
    pub fn free_frames(&self) -> u32 {
        let range = Range { first: self.start.first_frame, count: self.start.frame_count };
        crate::memory::frames::count_free(self.frame_table, range)
    }
}
