//! The state of the device: the guest's memory, the features, two queues.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

use super::queue::{Put, Ring};

/// Features by bit (virtio 1.1, 5.1.3 and 6; the last one vhost's own).
const NAMES: [(u32, &str); 9] = [
    (0, "CSUM"),
    (1, "GUEST_CSUM"),
    (5, "MAC"),
    (15, "MRG_RXBUF"),
    (16, "STATUS"),
    (26, "LOG_ALL"),
    (28, "INDIRECT_DESC"),
    (EVENT_IDX, "EVENT_IDX"),
    (VERSION_1, "VERSION_1"),
];
const EVENT_IDX: u32 = 29;
const VERSION_1: u32 = 32;
/// What every guest is offered. QEMU adds what it does by itself, the MAC address.
pub(super) const OFFERED: u64 = 1 << VERSION_1 | 1 << EVENT_IDX;
/// To QEMU alone: there are messages that enable queues.
pub(super) const PROTOCOL_FEATURES: u64 = 1 << 30;
/// The queue into which packets for the guest go, and the one from which its own come.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// A region of the guest's memory.
pub(super) struct Region {
    /// Its address in the guest.
    pub(super) guest: u64,
    /// In bytes.
    pub(super) size: u64,
    /// Its address in QEMU, in which queues are told.
    pub(super) user: u64,
    /// Where it begins in `file`.
    pub(super) offset: u64,
    /// What it can be mapped from.
    pub(super) file: File,
}

/// Where a queue's parts lie, as addresses in QEMU.
pub(super) struct Addresses {
    pub(super) descriptors: u64,
    pub(super) used: u64,
    pub(super) available: u64,
}

/// The device.
#[derive(Default)]
pub(super) struct Device {
    features: u64,
    memory: Option<Arc<GuestMemoryMmap>>,
    /// (address in QEMU, size, address in the guest)
    places: Vec<(u64, u64, u64)>,
    rings: [Ring; 2],
    gone: bool,
}

impl Device {
    /// Whether the guest's driver has started both queues.
    pub(super) fn running(&self) -> bool {
        self.memory.is_some() && self.rings.iter().all(Ring::running)
    }

    /// Whether QEMU has gone.
    pub(super) fn gone(&self) -> bool {
        self.gone
    }

    /// What was negotiated, for reports.
    pub(super) fn describe(&self) -> String {
        let list = |bits: u64| {
            let named = |(bit, name): &(u32, &'static str)| (bits >> bit & 1 == 1).then_some(*name);
            NAMES.iter().filter_map(named).collect::<Vec<_>>().join(" ")
        };
        format!(
            "features offered: {}; negotiated: {}; queues of {} and {} entries",
            list(OFFERED),
            list(self.features),
            self.rings[RECEIVE].size(),
            self.rings[TRANSMIT].size()
        )
    }

    pub(super) fn set_features(&mut self, features: u64) {
        self.features = features;
        for ring in &mut self.rings {
            ring.set_event_idx(features >> EVENT_IDX & 1 == 1);
        }
    }

    pub(super) fn set_memory(&mut self, mut regions: Vec<Region>) -> Result<()> {
        regions.sort_by_key(|region| region.guest);
        self.places = regions.iter().map(|r| (r.user, r.size, r.guest)).collect();
        let ranges: Vec<_> = regions
            .into_iter()
            .map(|region| {
                let file = FileOffset::new(region.file, region.offset);
                (GuestAddress(region.guest), region.size as usize, Some(file))
            })
            .collect();
        let memory =
            GuestMemoryMmap::from_ranges_with_files(ranges).context("cannot map guest memory")?;
        self.memory = Some(Arc::new(memory));
        Ok(())
    }

    pub(super) fn ring(&mut self, index: u32) -> Result<&mut Ring> {
        match self.rings.get_mut(index as usize) {
            Some(ring) => Ok(ring),
            None => bail!("QEMU speaks of queue {index}; there are 2"),
        }
    }

    pub(super) fn set_addresses(&mut self, index: u32, addresses: Addresses) -> Result<()> {
        let guest = |address: u64| {
            let place = self.places.iter().find(|(user, size, _)| {
                address.checked_sub(*user).is_some_and(|offset| offset < *size)
            });
            let (user, _, guest) = place.context("a queue lies outside the guest's memory")?;
            Ok::<_, anyhow::Error>(GuestAddress(address - user + guest))
        };
        let addresses =
            [guest(addresses.descriptors)?, guest(addresses.available)?, guest(addresses.used)?];
        self.ring(index)?.set_addresses(addresses)
    }

    /// Starts a queue: its kick is the last thing that was missing.
    pub(super) fn start(&mut self, index: u32, kick: Option<File>) -> Result<()> {
        let memory = self.memory.clone().context("a queue starts before there is memory")?;
        let event_idx = self.features >> EVENT_IDX & 1 == 1;
        let ring = self.ring(index)?;
        ring.set_event_idx(event_idx);
        ring.start(&memory, kick)
    }

    pub(super) fn stop_all(&mut self) {
        for ring in &mut self.rings {
            ring.stop();
        }
    }

    /// QEMU has gone.
    pub(super) fn leave(&mut self) {
        self.stop_all();
        self.memory = None;
        self.gone = true;
    }

    fn memory(&self) -> Result<Arc<GuestMemoryMmap>> {
        self.memory.clone().context("the guest's memory is gone")
    }

    /// Gives the guest a packet, with its header before it.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<Put> {
        let memory = self.memory()?;
        self.rings[RECEIVE].put(&memory, bytes)
    }

    /// The next packet that the guest sent.
    pub(super) fn transmitted(&mut self) -> Result<Option<&[u8]>> {
        let memory = self.memory()?;
        self.rings[TRANSMIT].take(&memory)
    }

    /// Whether the guest has sent something.
    pub(super) fn has_transmitted(&self) -> Result<bool> {
        let memory = self.memory()?;
        self.rings[TRANSMIT].available(&memory)
    }

    /// Interrupts the guest for what it was given, if it wants that. True if so.
    pub(super) fn call_receive(&mut self) -> Result<bool> {
        let memory = self.memory()?;
        self.rings[RECEIVE].call(&memory)
    }

    /// The same for what was taken from it.
    pub(super) fn call_transmit(&mut self) -> Result<bool> {
        let memory = self.memory()?;
        self.rings[TRANSMIT].call(&memory)
    }

    /// Asks the guest for kicks: when it sends, and, with `buffers`, when it has buffers.
    /// The descriptors to wait for; none if there is something already.
    pub(super) fn want_kicks(&mut self, buffers: bool) -> Result<Option<Vec<Arc<File>>>> {
        let memory = self.memory()?;
        let mut kicks = Vec::new();
        for ring in [TRANSMIT, RECEIVE].into_iter().take(1 + usize::from(buffers)) {
            match self.rings[ring].want_kick(&memory)? {
                Some(kick) => kicks.push(kick),
                None => return Ok(None),
            }
        }
        ensure!(!kicks.is_empty(), "no queue to wait for");
        Ok(Some(kicks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_negotiated() {
        let mut device = Device::default();
        device.set_features(OFFERED | 1 << 5);
        let text = device.describe();
        assert!(text.contains("offered: EVENT_IDX VERSION_1;"), "{text}");
        assert!(text.contains("negotiated: MAC EVENT_IDX VERSION_1;"), "{text}");
    }

    #[test]
    fn nonsense_of_qemu_is_an_error() {
        let mut device = Device::default();
        assert!(device.ring(2).is_err());
        assert!(device.start(0, None).is_err());
        let nowhere = Addresses { descriptors: 1, used: 2, available: 3 };
        assert!(device.set_addresses(0, nowhere).is_err());
        assert!(device.ring(0).unwrap().set_size(3).is_err());
        assert!(!device.running());
    }
}
