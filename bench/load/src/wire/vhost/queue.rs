//! One split virtqueue, from the device's side (virtio 1.1, 2.6), over `virtio-queue`.
//!
//! With `EVENT_IDX` the device asks for a kick by naming the entry it wants to hear of,
//! and never takes that back: a guest that goes on past it does not kick again. So a
//! device that looks at the queue anyway is not disturbed.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// `virtio_net_hdr` before each packet for the guest (5.1.6): no offloads, one buffer.
pub(super) const HEADER: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
/// Entries of a queue at most.
const LARGEST: u16 = 1024;
/// Longest packet taken from the guest, its header included.
const LONGEST: usize = 65536;

/// What became of a packet for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It lies in a buffer of the guest.
    Done,
    /// The guest has made no buffer available.
    NoBuffer,
    /// The guest's buffer was shorter; the packet is lost.
    TooLong,
}

/// A queue.
pub(super) struct Ring {
    queue: Queue,
    kick: Option<Arc<File>>,
    call: Option<File>,
    enabled: bool,
    packet: Vec<u8>,
}

impl Default for Ring {
    fn default() -> Self {
        let queue = Queue::new(LARGEST).expect("a power of two");
        Self { queue, kick: None, call: None, enabled: false, packet: Vec::new() }
    }
}

impl Ring {
    pub(super) fn running(&self) -> bool {
        self.queue.ready() && self.enabled
    }

    pub(super) fn enable(&mut self, on: bool) {
        self.enabled = on;
    }

    /// Entries.
    pub(super) fn size(&self) -> u16 {
        self.queue.size()
    }

    pub(super) fn set_event_idx(&mut self, on: bool) {
        self.queue.set_event_idx(on);
    }

    pub(super) fn set_size(&mut self, size: u32) -> Result<()> {
        let size = u16::try_from(size).ok().filter(|size| size.is_power_of_two());
        let size = size.context("a queue's size is no power of two below 65,536")?;
        self.queue.try_set_size(size).context("a queue of this size is not possible")
    }

    /// Descriptor table, available ring, used ring.
    pub(super) fn set_addresses(
        &mut self,
        [table, available, used]: [GuestAddress; 3],
    ) -> Result<()> {
        let bad = "a queue's part is not aligned";
        self.queue.try_set_desc_table_address(table).context(bad)?;
        self.queue.try_set_avail_ring_address(available).context(bad)?;
        self.queue.try_set_used_ring_address(used).context(bad)
    }

    /// Where to begin.
    pub(super) fn set_base(&mut self, base: u32) {
        self.queue.set_next_avail(base as u16);
    }

    pub(super) fn set_call(&mut self, call: Option<File>) {
        self.call = call;
    }

    pub(super) fn start(&mut self, memory: &GuestMemoryMmap, kick: Option<File>) -> Result<()> {
        self.queue.set_ready(true);
        if !self.queue.is_valid(memory) {
            self.queue.set_ready(false);
            anyhow::bail!("a queue lies outside the guest's memory");
        }
        // What was taken was finished at once, so the two indices go together.
        let used = self.queue.used_idx(memory, Ordering::Acquire).context("no used ring")?;
        self.queue.set_next_used(used.0);
        self.kick = kick.map(Arc::new);
        Ok(())
    }

    /// Stops; where to go on later.
    pub(super) fn stop(&mut self) -> u32 {
        self.queue.set_ready(false);
        self.kick = None;
        self.queue.next_avail().into()
    }

    /// Whether the guest has made something available.
    pub(super) fn available(&self, memory: &GuestMemoryMmap) -> Result<bool> {
        let index = self.queue.avail_idx(memory, Ordering::Acquire)?;
        Ok(index.0 != self.queue.next_avail())
    }

    /// Copies a packet into the guest's next buffer.
    pub(super) fn put(&mut self, memory: &GuestMemoryMmap, bytes: &[u8]) -> Result<Put> {
        let Some(chain) = self.queue.pop_descriptor_chain(memory) else {
            return Ok(Put::NoBuffer);
        };
        let head = chain.head_index();
        let mut rest = bytes;
        for part in chain.writable() {
            let (now, later) = rest.split_at(rest.len().min(part.len() as usize));
            if memory.write_slice(now, part.addr()).is_err() {
                break;
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let whole = rest.is_empty();
        let length = if whole { bytes.len() as u32 } else { 0 };
        self.queue.add_used(memory, head, length).context("the guest's queue is damaged")?;
        Ok(if whole { Put::Done } else { Put::TooLong })
    }

    /// The next packet that the guest has made available, without its header.
    pub(super) fn take(&mut self, memory: &GuestMemoryMmap) -> Result<Option<&[u8]>> {
        let Some(chain) = self.queue.pop_descriptor_chain(memory) else { return Ok(None) };
        let head = chain.head_index();
        self.packet.clear();
        for part in chain.readable() {
            let start = self.packet.len();
            let length = part.len() as usize;
            if start + length > LONGEST {
                break;
            }
            self.packet.resize(start + length, 0);
            if memory.read_slice(&mut self.packet[start..], part.addr()).is_err() {
                self.packet.truncate(start);
                break;
            }
        }
        self.queue.add_used(memory, head, 0).context("the guest's queue is damaged")?;
        Ok(Some(self.packet.get(HEADER.len()..).unwrap_or_default()))
    }

    /// Asks for an interrupt if the guest wants one by now. True if so.
    pub(super) fn call(&mut self, memory: &GuestMemoryMmap) -> Result<bool> {
        let wanted = self.queue.needs_notification(memory)?;
        if let Some(mut call) = self.call.as_ref().filter(|_| wanted) {
            call.write_all(&1_u64.to_ne_bytes()).context("cannot interrupt the guest")?;
        }
        Ok(wanted)
    }

    /// Asks for a kick. The descriptor to wait for; none if there is something already.
    pub(super) fn want_kick(&mut self, memory: &GuestMemoryMmap) -> Result<Option<Arc<File>>> {
        if self.queue.enable_notification(memory)? {
            return Ok(None);
        }
        let kick = self.kick.clone();
        ensure!(kick.is_some(), "a queue without a kick descriptor");
        Ok(kick)
    }
}

/// Takes the kicks that have come out of their descriptor, and counts them: eventfd(2) adds
/// them up.
pub(super) fn drain(mut kick: &File) -> u64 {
    let mut count = [0; 8];
    // It is ready; another reader there is not.
    match kick.read(&mut count) {
        Ok(8) => u64::from_ne_bytes(count),
        _ => 0,
    }
}
