//! Packets in an environment's own rings.
//!
//! A binding is one run of frames that stay pinned: a ring page, then the buffers of as many slots
//! as there are frames left. Its indices say how many packets the kernel has delivered and sent, and
//! its buffers still hold the last of them.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use exo_abi::{BUFFER_BYTES, FRAME_MAX, MAX_RING_ORDER, RingOrder, RingPage};

use super::memory::Memory;
use super::published::Environment;

/// A binding in a machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ring {
    /// Frame of the ring page.
    pub(crate) frame: u32,
    /// How many slots each ring has, as a power of two.
    order: u8,
}

/// How many packets there have been, modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) delivered: u32,
    /// Taken by the kernel: sent, or refused.
    pub(crate) taken: u32,
}

/// The bindings of an environment, as far as its pinned frames tell them from what else is pinned.
pub(crate) fn rings(environment: &Environment) -> Vec<Ring> {
    let ring = |&(frame, count): &(u32, u32)| {
        let fits = |order: u8| RingOrder::new(order).is_some_and(|order| order.frames() == count);
        (1..=MAX_RING_ORDER).find(|&order| fits(order)).map(|order| Ring { frame, order })
    };
    environment.pinned.iter().filter_map(ring).collect()
}

impl Ring {
    /// What its indices say.
    pub(crate) fn counts(&self, memory: &Memory) -> Option<Counts> {
        let page = memory.at::<RingPage>(self.frame)?;
        Some(Counts {
            delivered: page.rx_produced.0.load(Acquire),
            taken: page.tx_consumed.0.load(Acquire),
        })
    }

    /// How many packets each of its rings has room for.
    pub(crate) fn slots(&self) -> u32 {
        1 << self.order
    }

    /// The packet that was delivered as number `index`; another one if that was too long ago.
    pub(crate) fn delivered(&self, memory: &Memory, index: u32) -> Option<Vec<u8>> {
        let lengths = &memory.at::<RingPage>(self.frame)?.rx_length;
        self.packet(memory, self.order()?.rx_offset(index), length(lengths, self.slot(index)))
    }

    /// The packet that was given to the kernel as number `index`; another one if that was too long
    /// ago.
    pub(crate) fn taken(&self, memory: &Memory, index: u32) -> Option<Vec<u8>> {
        let lengths = &memory.at::<RingPage>(self.frame)?.tx_length;
        self.packet(memory, self.order()?.tx_offset(index), length(lengths, self.slot(index)))
    }

    fn order(&self) -> Option<RingOrder> {
        RingOrder::new(self.order)
    }

    fn slot(&self, index: u32) -> usize {
        (index & (self.slots() - 1)) as usize
    }

    fn packet(&self, memory: &Memory, offset: usize, length: usize) -> Option<Vec<u8>> {
        memory.copy(self.frame, offset, length.min(FRAME_MAX).min(BUFFER_BYTES))
    }
}

fn length(lengths: &[std::sync::atomic::AtomicU16], slot: usize) -> usize {
    lengths.get(slot).map_or(0, |length| length.load(Relaxed).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_is_a_ring_page_and_buffers() {
        let pinned = vec![(100, 65), (200, 1), (300, 3), (400, 4), (500, 257)];
        let found = rings(&Environment { pinned, ..Environment::default() });
        let found: Vec<_> = found.iter().map(|ring| (ring.frame, ring.slots())).collect();
        assert_eq!(found, [(100, 64), (300, 2), (500, 256)]);
    }
}
