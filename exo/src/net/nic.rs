//! Steps 1 and 6: the network interface (virtio 1.1, 5.1, over [`crate::virtio`]).
//!
//! One receive and one transmit queue, no offloads. Receive buffers are the
//! kernel's; descriptor `i` always is buffer `i`. A frame to send is copied
//! into a kernel slot if it is short; of a long one only the head is, and the
//! device fetches the rest from its owner's frames. The device may lie here only about
//! lengths and descriptor numbers, and both are bounded.

use exo_abi::{FRAME_MAX, Pfn, SystemInfo};

use crate::memory;
use crate::state::State;
use crate::virtio::transport::Transport;
use crate::virtio::virtqueue::{Buffer, ENTRIES, QUEUE_FRAMES, Virtqueue};

/// Bytes of `virtio_net_hdr` before every frame (5.1.6).
const HEADER: usize = 12;
const RECEIVE_BUFFER: usize = 2048;
/// Kernel memory of one frame being sent: header, and frame or head of it.
const SEND_SLOT: usize = 512;
/// Frames that can be with the device at once; each takes two descriptors.
const SEND_SLOTS: u16 = ENTRIES / 2;
/// Longest frame that is copied whole.
pub const COPY_MAX: usize = SEND_SLOT - HEADER;
/// Bytes of a longer frame that are copied, and so cannot change after the
/// transmit check.
pub const HEAD: usize = 128;

const RECEIVE_FRAMES: u32 = ENTRIES as u32 * RECEIVE_BUFFER as u32 / 4096;
const SEND_FRAMES: u32 = SEND_SLOTS as u32 * SEND_SLOT as u32 / 4096;
/// Frames of kernel memory the interface needs, contiguous.
pub const NIC_FRAMES: u32 = 2 * QUEUE_FRAMES + RECEIVE_FRAMES + SEND_FRAMES;

/// Its queues.
pub(crate) const RECEIVE: u32 = 0;
pub(crate) const TRANSMIT: u32 = 1;

/// The sender of a packet that is with the device.
#[derive(Clone, Copy)]
pub struct Sender {
    /// The binding.
    pub binding: Pfn,
    /// The scope that its slot counts for.
    pub account: Pfn,
    /// The slot of its transmit ring that the device reads from, if it reads there.
    pub lends: Option<u32>,
}

/// A received frame, until it is recycled.
pub struct Received {
    buffer: u16,
    length: usize,
}

/// The network interface.
pub struct Nic {
    transport: Transport,
    receive: Virtqueue,
    transmit: Virtqueue,
    receive_buffers: Pfn,
    send_slots: Pfn,
    pub(crate) free: [u8; SEND_SLOTS as usize],
    pub(crate) free_count: usize,
    /// For each slot with the device the binding that sends it.
    pub(crate) sender: [Option<Sender>; SEND_SLOTS as usize],
    /// The MAC address.
    pub station: [u8; 6],
}

impl Nic {
    /// The interface of this address behind `transport`, which has been told of its queues, with
    /// frames from `memory` for buffers.
    pub(crate) fn new(
        transport: Transport,
        [receive, transmit]: [Virtqueue; 2],
        memory: Pfn,
        station: [u8; 6],
    ) -> Self {
        let mut nic = Self {
            transport,
            receive,
            transmit,
            receive_buffers: memory,
            send_slots: memory.plus(RECEIVE_FRAMES),
            free: core::array::from_fn(|slot| slot as u8),
            free_count: usize::from(SEND_SLOTS),
            sender: [None; SEND_SLOTS as usize],
            station,
        };
        for buffer in 0..ENTRIES {
            let address = nic.receive_address(buffer);
            let buffer_memory = Buffer { address, length: RECEIVE_BUFFER as u32 };
            nic.receive.describe(buffer, buffer_memory, true, None);
            nic.receive.make_available(buffer);
        }
        nic.receive.publish();
        nic.transport.notify(RECEIVE);
        nic
    }

    fn receive_address(&self, buffer: u16) -> u64 {
        self.receive_buffers.address() + u64::from(buffer) * RECEIVE_BUFFER as u64
    }

    fn slot_address(&self, slot: u8) -> u64 {
        self.send_slots.address() + u64::from(slot) * SEND_SLOT as u64
    }

    /// Whether a frame has arrived.
    #[inline]
    pub fn has_received(&self) -> bool {
        self.receive.has_used()
    }

    /// Whether the device has finished sending a frame.
    #[inline]
    pub fn has_sent(&self) -> bool {
        self.transmit.has_used()
    }

    /// The next frame that has arrived.
    #[inline]
    pub fn next_received(&mut self) -> Option<Received> {
        let (buffer, written) = self.receive.next_used()?;
        let length = (written as usize).saturating_sub(HEADER).min(FRAME_MAX);
        Some(Received { buffer, length })
    }

    /// The bytes of a received frame.
    #[inline]
    pub fn contents<'a>(&'a self, packet: &'a Received) -> &'a [u8] {
        let start = memory::physical(self.receive_address(packet.buffer) + HEADER as u64);
        // SAFETY: the buffer lies in the interface's memory, and header plus
        // `FRAME_MAX` fit it. The device writes to it only while it is in the
        // available ring, into which it goes again only by `recycle`, which
        // takes the packet this borrow depends on.
        unsafe { core::slice::from_raw_parts(start, packet.length) }
    }

    /// Gives a frame's buffer back for receiving, from [`Nic::offer_buffers`] on.
    #[inline]
    pub fn recycle(&mut self, packet: Received) {
        self.receive.make_available(packet.buffer);
    }

    /// Shows the device the recycled buffers.
    pub fn offer_buffers(&mut self, info: &SystemInfo) {
        if self.receive.publish() {
            State::count(&info.notifications, 1);
            self.transport.notify(RECEIVE);
        }
    }

    /// The same when there are so many that it is worth while; the others it is shown
    /// before the processor halts and at the end of a slice.
    #[inline]
    pub fn offer_most_buffers(&mut self, info: &SystemInfo) {
        if self.receive.unshown() >= ENTRIES / 8 {
            self.offer_buffers(info);
        }
    }

    /// A slot to put a frame into, for an account that holds `held` already.
    ///
    /// No account may hold more slots than are free, so one that holds few finds one, however
    /// hard another sends, and through however many bindings.
    #[inline]
    pub fn take_slot(&mut self, held: u32) -> Option<SendSlot> {
        if held as usize >= self.free_count {
            return None;
        }
        let count = self.free_count.checked_sub(1)?;
        let slot = *self.free.get(count)?;
        self.free_count = count;
        Some(SendSlot(slot))
    }

    /// Gives a slot back unused.
    #[inline]
    pub fn give_back(&mut self, slot: SendSlot) {
        if let Some(free) = self.free.get_mut(self.free_count) {
            *free = slot.0;
            self.free_count += 1;
        }
    }

    /// Copies `length` (at most [`COPY_MAX`]) bytes from `source` into the slot
    /// and returns the front of it: behind `length` lies what it held before.
    ///
    /// # Safety
    /// `source` must be valid for `length` bytes. They may change meanwhile.
    #[inline]
    pub unsafe fn fill(
        &mut self,
        slot: &SendSlot,
        source: *const u8,
        length: usize,
    ) -> &[u8; HEAD] {
        let length = length.min(COPY_MAX);
        let target = memory::physical(self.slot_address(slot.0) + HEADER as u64);
        // SAFETY: the slot lies in the interface's memory and holds `COPY_MAX`
        // bytes behind the header; it is free, so neither the device nor
        // anything else uses it; the source is the caller's promise.
        unsafe {
            core::ptr::copy_nonoverlapping(source, target, length);
            &*target.cast()
        }
    }

    /// Queues the slot's first `length` bytes, and behind them the buffer `rest`
    /// of the sender's if there is one, as one frame.
    #[inline]
    pub fn send(&mut self, sender: Sender, slot: SendSlot, length: usize, rest: Option<Buffer>) {
        let head = u16::from(slot.0) * 2;
        // The header before the frame stays zero from the start: no offloads.
        let first = Buffer { address: self.slot_address(slot.0), length: (HEADER + length) as u32 };
        self.sender[usize::from(slot.0 % SEND_SLOTS as u8)] = Some(sender);
        if let Some(buffer) = rest {
            self.transmit.describe(head, first, false, Some(head + 1));
            self.transmit.describe(head + 1, buffer, false, None);
        } else {
            self.transmit.describe(head, first, false, None);
        }
        self.transmit.make_available(head);
    }

    /// Shows the device what was queued.
    pub fn kick(&mut self, info: &SystemInfo) {
        if self.transmit.publish() {
            State::count(&info.notifications, 1);
            self.transport.notify(TRANSMIT);
        }
    }

    /// The sender of the next frame the device has finished sending.
    #[inline]
    pub fn next_sent(&mut self) -> Option<Sender> {
        loop {
            let (head, _) = self.transmit.next_used()?;
            let slot = (head / 2) as u8;
            // Ignores completions for slots that were not submitted.
            if let Some(sender) = self.sender[usize::from(slot % SEND_SLOTS as u8)].take() {
                self.give_back(SendSlot(slot));
                return Some(sender);
            }
        }
    }

    /// Tells the device what it wants to be told by now.
    pub fn remind(&mut self, info: &SystemInfo) {
        self.kick(info);
        self.offer_buffers(info);
    }

    /// Asks for an interrupt at the next received frame. True if one is there.
    pub fn arm(&mut self, info: &SystemInfo) -> bool {
        self.receive.listen();
        // The access also is the barrier that does not depend on fences (`virtqueue`).
        self.transport.lower_interrupt();
        self.remind(info);
        self.receive.has_used()
    }

    /// Asks for no interrupts.
    pub fn disarm(&mut self) {
        self.receive.silence();
    }
}

/// A free transmit slot of the kernel.
pub struct SendSlot(u8);
