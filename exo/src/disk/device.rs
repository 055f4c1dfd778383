//! The device (virtio 1.1, 5.2, over [`crate::virtio`]): one queue of requests.
//!
//! A request is three pieces of memory: a head that tells what is wanted, the data, which lies
//! in its owner's frames, and a byte for the device's answer. Head and answer lie in the kernel's
//! slot of the request, so that neither changes after the check nor can be forged. The device may
//! lie about descriptor numbers and lengths, and both are bounded.

use core::ops::Range;

use exo_abi::{DiskOperation, Error, Pfn, SECTOR_BYTES, SystemInfo};

use crate::capability::CapRef;
use crate::memory;
use crate::state::State;
use crate::virtio::transport::Transport;
use crate::virtio::virtqueue::{Buffer, ENTRIES, QUEUE_FRAMES, Virtqueue};

/// Requests that can be with the device at once; each has [`PARTS`] descriptors.
pub const SLOTS: u32 = ENTRIES as u32 / PARTS as u32;
/// Descriptors of a request, of which one is not used.
const PARTS: u16 = 4;
/// Frames of kernel memory that the device needs, contiguous: its queue, and one for the slots.
pub const DISK_FRAMES: u32 = QUEUE_FRAMES + 1;

pub(crate) const QUEUE: u32 = 0;
/// Features that it may have.
pub(crate) const DISCARD: u32 = 1 << 13;
pub(crate) const WRITE_ZEROES: u32 = 1 << 14;

/// A slot: head, and behind it the sectors of a request without data (5.2.6).
#[repr(C, align(64))]
struct Slot {
    operation: u32,
    reserved: u32,
    sector: u64,
    first: u64,
    sectors: u32,
    flags: u32,
    status: u8,
}
const _: () = assert!(SLOTS as usize * size_of::<Slot>() <= 4096);
/// Bytes of head and sectors.
const HEAD: u32 = 16;

/// A request that is with the device.
pub struct Flight {
    /// The binding that it is of.
    pub binding: Pfn,
    /// What it counts for: the capability from which the binding's extent comes.
    pub account: CapRef,
    /// The owner's name for it.
    pub tag: u64,
    /// Sectors that it may change or read; none for a flush.
    pub sectors: Range<u64>,
    /// Frames that it reads or fills, by number.
    pub frames: Range<u32>,
    /// Bytes that the device is to write to them.
    pub fills: u32,
}

impl Flight {
    /// Its frames: the first, and how many.
    pub fn run(&self) -> (Pfn, u32) {
        (Pfn(self.frames.start), self.frames.len() as u32)
    }

    /// Its frames.
    #[cfg(any(test, exo_check))]
    pub fn frames(&self) -> impl Iterator<Item = Pfn> + use<> {
        self.frames.clone().map(Pfn)
    }
}

/// The disk.
pub struct Device {
    transport: Transport,
    queue: Virtqueue,
    slots: Pfn,
    flights: [Option<Flight>; SLOTS as usize],
    /// How many of these are there.
    flying: u32,
    features: u32,
    /// Sectors that can be named.
    pub sectors: u32,
}

impl Device {
    /// The disk of `sectors` behind `transport`, which has been told of its queue and agreed on
    /// `features`, with the frame `slots`.
    pub(crate) fn new(
        transport: Transport,
        queue: Virtqueue,
        slots: Pfn,
        features: u32,
        sectors: u32,
    ) -> Self {
        let flights = [const { None }; SLOTS as usize];
        Self { transport, queue, slots, flights, flying: 0, features, sectors }
    }

    /// Whether the device is done with a request.
    #[inline]
    pub fn has_done(&self) -> bool {
        self.queue.has_used()
    }

    /// What is with the device.
    pub fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter().flatten()
    }

    /// How many requests are free to be made, and how many `account` has made.
    ///
    /// No account may make more than are free, so that one that makes few finds one free, however
    /// many another makes, and through however many bindings.
    pub fn room(&self, account: CapRef) -> (u32, u32) {
        if self.flying == 0 {
            return (SLOTS, 0);
        }
        let held = self.flights().filter(|flight| flight.account == account).count();
        (SLOTS - self.flying, held as u32)
    }

    /// Whether it can do this.
    pub fn offers(&self, operation: DiskOperation) -> bool {
        let needed = match operation {
            DiskOperation::Discard => DISCARD,
            DiskOperation::WriteZeroes => WRITE_ZEROES,
            _ => 0,
        };
        self.features & needed == needed
    }

    /// Queues a request, with the piece of memory at `address` if it has data. False if there is
    /// no free slot.
    pub fn send(&mut self, operation: DiskOperation, address: u64, flight: Flight) -> bool {
        let free = (0_u16..).zip(&mut self.flights).find(|(_, flight)| flight.is_none());
        let Some((number, place)) = free else { return false };
        // Virtio's numbers of the operations (5.2.6); zeros may be made by giving sectors up.
        let (kind, flags) = match operation {
            DiskOperation::Read => (0, 0),
            DiskOperation::Write => (1, 0),
            DiskOperation::Flush => (4, 0),
            DiskOperation::Discard => (11, 0),
            DiskOperation::WriteZeroes => (13, 1),
        };
        let (first, sectors) = (flight.sectors.start, flight.sectors.end - flight.sectors.start);
        let at = self.slots.address() + u64::from(number) * size_of::<Slot>() as u64;
        let (sector, data) = match operation {
            DiskOperation::Read | DiskOperation::Write => {
                (first, Some(Buffer { address, length: (sectors * SECTOR_BYTES) as u32 }))
            }
            DiskOperation::Flush => (0, None),
            DiskOperation::Discard | DiskOperation::WriteZeroes => {
                (0, Some(Buffer { address: at + u64::from(HEAD), length: HEAD }))
            }
        };
        let sectors = sectors as u32;
        let slot =
            Slot { operation: kind, reserved: 0, sector, first, sectors, flags, status: u8::MAX };
        // SAFETY: inside the frame of the slots, the kernel's own; this one is free, so the device
        // does not use it.
        unsafe { memory::physical(at).cast::<Slot>().write_volatile(slot) };
        let status = Buffer { address: at + core::mem::offset_of!(Slot, status) as u64, length: 1 };
        let head = number * PARTS;
        let queue = &mut self.queue;
        let last = head + 1 + u16::from(data.is_some());
        queue.describe(head, Buffer { address: at, length: HEAD }, false, Some(head + 1));
        if let Some(data) = data {
            queue.describe(head + 1, data, flight.fills != 0, Some(last));
        }
        queue.describe(last, status, true, None);
        queue.make_available(head);
        *place = Some(flight);
        self.flying += 1;
        true
    }

    /// Shows the device what was queued.
    pub fn kick(&mut self, info: &SystemInfo) {
        if self.queue.publish() {
            State::count(&info.notifications, 1);
            self.transport.notify(QUEUE);
        }
    }

    /// The next request that the device is done with, and how that went.
    pub fn next_done(&mut self) -> Option<(Flight, Result<(), Error>)> {
        loop {
            let (head, written) = self.queue.next_used()?;
            let number = head / PARTS;
            // Ignores completions of what was not submitted.
            let place = self.flights.get_mut(usize::from(number));
            let Some(flight) = place.filter(|_| head % PARTS == 0).and_then(Option::take) else {
                continue;
            };
            self.flying -= 1;
            let at = self.slots.address() + u64::from(number) * size_of::<Slot>() as u64;
            let at = memory::physical(at + core::mem::offset_of!(Slot, status) as u64);
            // SAFETY: inside the frame of the slots; a byte, whatever the device wrote.
            let status = unsafe { at.read_volatile() };
            let whole = flight.fills == 0 || written > flight.fills;
            let result = if status == 0 && whole { Ok(()) } else { Err(Error::DeviceFailed) };
            return Some((flight, result));
        }
    }

    /// Asks for an interrupt at the next request that is done, if it has any. True if one is.
    pub fn arm(&mut self, info: &SystemInfo) -> bool {
        if self.flying == 0 {
            return false;
        }
        self.queue.listen();
        // The access also is the barrier that does not depend on fences (`virtqueue`).
        self.transport.lower_interrupt();
        self.kick(info);
        self.has_done()
    }

    /// Asks for no interrupts.
    pub fn disarm(&mut self) {
        self.queue.silence();
    }
}
