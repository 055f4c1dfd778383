//! What an application finds when it starts.

use std::boxed::Box;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use exo_abi::{ClockLine, FrameInfo};

use super::disk::FileDisk;
use super::grant::Grant;
use super::memory::Memory;
use super::park::HostPark;
use super::share::Share;
use crate::net::NetConfig;
use crate::time::{TscClock, timestamp};

/// How long the counter is held against the host's clock.
const WATCH: Duration = Duration::from_millis(20);
/// The interface's Ethernet address, as in the machine.
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// What an application was given, ready for use.
pub struct Environment {
    /// What it was told.
    pub start: Start,
    /// Its memory.
    pub memory: Memory,
    /// The frame table: the model's.
    pub frame_table: &'static [FrameInfo],
    /// Its clock.
    pub clock: TscClock,
    /// Its way to sleep.
    pub park: HostPark,
}

/// What the application was told.
pub struct Start {
    /// Its name in the manifest.
    pub name: &'static str,
    pub(super) grant: Grant,
}

impl Environment {
    /// Sets up memory and clock.
    ///
    /// **Blocking** for some milliseconds: how fast does the counter run?
    #[must_use]
    pub fn new(grant: Grant) -> Self {
        let memory = Memory::new(grant.frames);
        Self {
            frame_table: memory.frame_table(),
            memory,
            clock: clock(),
            park: HostPark,
            start: Start { name: grant.name, grant },
        }
    }

    /// The value of the argument `key=value`, if there is one.
    pub fn argument(&self, key: &str) -> Option<&'static str> {
        self.start.grant.argument(key)
    }

    /// The network configuration that the manifest gives, if the application has an address.
    pub fn net_config(&self) -> Option<NetConfig> {
        let Grant { address, prefix_len, gateway, .. } = self.start.grant;
        Some(NetConfig { mac: MAC, address: address?, prefix_len, gateway })
    }

    /// What the manifest lets it share with others under that name (`[[share]]`). None as well if
    /// the host cannot map it, which is said on standard error.
    #[must_use]
    pub fn share(&self, name: &str) -> Option<Share> {
        let place = self.start.grant.shares.iter().find(|share| share.name == name)?;
        Share::open(place)
            .inspect_err(|error| std::eprintln!("{}: {error}", place.file.display()))
            .ok()
    }

    /// All that it shares with others.
    pub fn shares(&self) -> impl Iterator<Item = Share> {
        self.start.grant.shares.iter().filter_map(|place| self.share(place.name))
    }

    /// Its extent of the disk, if the manifest gives one: a file.
    ///
    /// # Errors
    /// The host's.
    pub fn disk(&self) -> std::io::Result<Option<FileDisk>> {
        self.start.grant.disk.as_deref().map(FileDisk::open).transpose()
    }

    /// The frames granted that are not taken, as of now.
    pub fn free_frames(&self) -> u32 {
        self.memory.free_frames()
    }
}

/// A clock over the processor's counter, as the kernel publishes it.
fn clock() -> TscClock {
    let line: &'static ClockLine = Box::leak(Box::default());
    let (begun, first) = (Instant::now(), timestamp());
    std::thread::sleep(WATCH);
    let (passed, last) = (begun.elapsed(), timestamp());
    let ticks = u128::from(last.saturating_sub(first));
    let hz = ticks * 1_000_000_000 / passed.as_nanos().max(1);
    let hz = u64::try_from(hz).unwrap_or(u64::MAX).max(1);
    let known: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(hz)));
    line.bend(known.load(Relaxed), timestamp);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // The counter was zero then, if it has always run so.
    let since = Duration::from_nanos(line.nanos(timestamp));
    TscClock::new(line, known, now.saturating_sub(since).as_secs())
}
