//! Receive and transmit rings, in the application's own frames.
//!
//! A binding is one physically contiguous run of the application's frames: a
//! ring page, then the receive buffers, then the transmit buffers. Slot `i`
//! always uses buffer `i`, so no address ever crosses the boundary and there is
//! none to check. What is left for an application to lie about is an index and a
//! length; the kernel keeps its own indices, uses the shared ones only to learn
//! how far it may go, bounds every length, and so a lie garbles only the liar's
//! own packets. There are no owner words: the indices say which side owns a slot.

use core::sync::atomic::{AtomicU16, AtomicU32};

use crate::Pages;
use crate::word::{byte, word};

/// Bytes of one packet buffer.
pub const BUFFER_BYTES: usize = 2048;
/// Shortest Ethernet frame that may be sent: just its header.
pub const FRAME_MIN: usize = 14;
/// Longest Ethernet frame, without the checksum: 1500 octets of payload.
pub const FRAME_MAX: usize = 1514;
/// Largest [`RingOrder`].
pub const MAX_RING_ORDER: u8 = 8;

/// Number of slots of each ring as a power of two, 1 to 8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct RingOrder(u8);

impl RingOrder {
    /// A ring of `1 << order` slots.
    pub const fn new(order: u8) -> Option<Self> {
        if order >= 1 && order <= MAX_RING_ORDER { Some(Self(order)) } else { None }
    }

    /// Slots of each ring.
    pub const fn slots(self) -> u32 {
        1 << self.0
    }

    /// Frames of the whole run: ring page, receive and transmit buffers.
    pub const fn frames(self) -> Pages {
        1 + self.slots()
    }

    /// Byte offset of receive buffer `slot` from the start of the run.
    pub const fn rx_offset(self, slot: u32) -> usize {
        4096 + (slot & (self.slots() - 1)) as usize * BUFFER_BYTES
    }

    /// Byte offset of transmit buffer `slot` from the start of the run.
    pub const fn tx_offset(self, slot: u32) -> usize {
        4096 + (self.slots() + (slot & (self.slots() - 1))) as usize * BUFFER_BYTES
    }
}

word!(RingOrder: |word| byte(word, Self::new), |order| order.0.into());

/// An index alone in its cache line, so that the two sides do not share one.
#[repr(C, align(64))]
pub struct RingIndex(pub AtomicU32);

/// The ring page. Indices count packets since the binding was made, modulo
/// 2^32; the slot is the index modulo the number of slots.
#[repr(C, align(4096))]
pub struct RingPage {
    /// Packets delivered. Kernel writes, after the packet and its length.
    pub rx_produced: RingIndex,
    /// Packets the application is done with. Application writes.
    pub rx_consumed: RingIndex,
    /// Packets to send. Application writes, after the packet and its length.
    pub tx_produced: RingIndex,
    /// Packets that were sent: their buffers may be used again. Kernel writes.
    pub tx_consumed: RingIndex,
    /// Length in bytes of the frame in each receive slot. Kernel writes.
    pub rx_length: [AtomicU16; 1 << MAX_RING_ORDER],
    /// Length in bytes of the frame in each transmit slot. Application writes.
    pub tx_length: [AtomicU16; 1 << MAX_RING_ORDER],
}

/// What one `net_sync` moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncCounts {
    /// Packets accepted from the transmit ring, including refused ones.
    pub taken: u32,
    /// Of these, packets that the transmit check refused; they are not sent.
    pub refused: u32,
}

impl SyncCounts {
    /// As returned by the system call.
    pub const fn from_value(value: u64) -> Self {
        Self { taken: value as u32, refused: (value >> 32) as u32 }
    }

    /// As returned by the system call.
    pub const fn into_value(self) -> u64 {
        (self.refused as u64) << 32 | self.taken as u64
    }
}

#[cfg(test)]
mod tests {
    use super::{RingOrder, RingPage};

    #[test]
    fn ring_page_is_one_page() {
        assert_eq!(size_of::<RingPage>(), 4096);
    }

    #[test]
    fn buffers_tile_the_run() {
        for order in 1..=8 {
            let order = RingOrder::new(order).unwrap();
            let n = order.slots();
            assert_eq!(order.rx_offset(0), 4096);
            assert_eq!(order.rx_offset(n), order.rx_offset(0));
            assert_eq!(order.tx_offset(0), order.rx_offset(n - 1) + 2048);
            assert_eq!(order.tx_offset(n - 1) + 2048, order.frames() as usize * 4096);
        }
        assert!(RingOrder::new(0).is_none() && RingOrder::new(9).is_none());
    }
}
