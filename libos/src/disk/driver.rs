//! Requests in flight.
//!
//! The page that is shared with the kernel is `exo_abi::DiskRing`. A request's tag is its place in
//! a table here, with the number of times that the place was used; a completion that names no
//! request of the table is passed over, so that a wrong one cannot give out a buffer that the
//! device may still write to.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::{Acquire, Release};

use exo_abi::{DISK_RING, DiskOperation, DiskRequest, DiskRing, Error, MAX_SECTORS, SECTOR_BYTES};

use super::Buffer;

/// Tells the kernel to look at the ring.
pub trait Doorbell {
    /// Hands requests over, and looks for completions. Returns how many requests were taken.
    ///
    /// # Errors
    /// The binding is gone, or not ours any more.
    fn ring(&mut self) -> Result<u32, Error>;
}

/// A range of sectors of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The first of them, as the disk counts.
    pub first: u32,
    /// How many.
    pub sectors: u32,
}

/// What is to be done with some sectors.
#[derive(Debug)]
pub enum Command {
    /// Fill the front of the buffer from so many sectors.
    Read(u32, Buffer),
    /// Fill so many sectors from the front of the buffer.
    Write(u32, Buffer),
    /// Make durable all writes that were done before this was submitted.
    Flush,
    /// Give up so many sectors' contents.
    Discard(u32),
    /// Fill so many sectors with zeros.
    WriteZeroes(u32),
}

/// A request in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket(u64);

/// A request that was not accepted.
#[derive(Debug)]
pub struct Refused {
    /// What it was, with its buffer.
    pub command: Command,
    /// [`Error::Busy`]: too many are in flight. [`Error::OutOfRange`]: not within the extent.
    /// [`Error::TooMuch`]: longer than the buffer, or than a request may be.
    pub error: Error,
}

/// A request that is done.
#[derive(Debug)]
pub struct Done {
    /// Which.
    pub ticket: Ticket,
    /// How that went.
    pub result: Result<(), Error>,
    /// Its buffer, if it had one.
    pub buffer: Option<Buffer>,
}

/// A place for a request in flight.
#[derive(Default)]
struct Place {
    uses: u32,
    /// The request's buffer, if it has one; none if the place is free.
    flight: Option<Option<Buffer>>,
}

/// An extent of the disk, bound.
pub struct Disk<B> {
    ring: NonNull<DiskRing>,
    extent: Extent,
    places: [Place; DISK_RING as usize],
    submitted: u32,
    consumed: u32,
    bell: B,
}

impl<B: Doorbell> Disk<B> {
    /// The extent that the ring at `ring` is bound to, as new.
    ///
    /// # Safety
    /// `ring` leads to a page that stays valid for reads and writes, zero or as the kernel begins
    /// it, and is used by this value alone and by a kernel that keeps to the protocol.
    pub unsafe fn new(ring: NonNull<DiskRing>, extent: Extent, bell: B) -> Self {
        let places = core::array::from_fn(|_| Place::default());
        Self { ring, extent, places, submitted: 0, consumed: 0, bell }
    }

    /// How many sectors it has.
    pub fn sectors(&self) -> u32 {
        self.extent.sectors
    }

    /// How many requests are in flight.
    pub fn in_flight(&self) -> usize {
        self.places.iter().filter(|place| place.flight.is_some()).count()
    }

    /// Puts a request into the ring; the device sees it after [`Disk::sync`]. `first` means nothing
    /// for a flush.
    ///
    /// # Errors
    /// See [`Refused`]; it holds the buffer.
    pub fn submit(&mut self, first: u32, command: Command) -> Result<Ticket, Refused> {
        match self.check(first, &command) {
            Ok(index) => Ok(self.put(index, first, command)),
            Err(error) => Err(Refused { command, error }),
        }
    }

    /// Hands requests over, as far as the device has room, and looks for completions. Whether all
    /// were taken: if not, it is to be called again when some are done.
    ///
    /// # Errors
    /// The kernel's refusal: the extent was revoked.
    pub fn sync(&mut self) -> Result<bool, Error> {
        self.bell.ring()?;
        Ok(self.ring().taken.0.load(Acquire) == self.submitted)
    }

    /// The next request that is done. It does not cross into the kernel.
    pub fn next_done(&mut self) -> Option<Done> {
        loop {
            let completion = self.ring().completion(self.consumed)?;
            self.consumed = self.consumed.wrapping_add(1);
            self.ring().consumed.0.store(self.consumed, Release);
            let place = self.places.get_mut(completion.tag as u32 as usize);
            let place = place.filter(|place| place.uses == (completion.tag >> 32) as u32);
            if let Some(buffer) = place.and_then(|place| place.flight.take()) {
                let (ticket, result) = (Ticket(completion.tag), completion.result);
                return Some(Done { ticket, result, buffer });
            }
        }
    }

    fn ring(&self) -> &DiskRing {
        // SAFETY: valid for as long as `self` (contract of `new`). All of it is atomics.
        unsafe { self.ring.as_ref() }
    }

    /// The free place for a request that makes sense.
    fn check(&self, first: u32, command: &Command) -> Result<usize, Error> {
        let (sectors, buffer) = match command {
            Command::Read(sectors, buffer) | Command::Write(sectors, buffer) => {
                (*sectors, Some(buffer))
            }
            Command::Flush => (0, None),
            Command::Discard(sectors) | Command::WriteZeroes(sectors) => (*sectors, None),
        };
        let bytes = u64::from(sectors) * SECTOR_BYTES;
        if buffer.is_some_and(|it| bytes > it.len() as u64 || sectors > MAX_SECTORS) {
            return Err(Error::TooMuch);
        }
        let end = first.checked_add(sectors).ok_or(Error::OutOfRange)?;
        if !matches!(command, Command::Flush) && (sectors == 0 || end > self.extent.sectors) {
            return Err(Error::OutOfRange);
        }
        self.places.iter().position(|place| place.flight.is_none()).ok_or(Error::Busy)
    }

    fn put(&mut self, index: usize, first: u32, command: Command) -> Ticket {
        let (operation, sectors, buffer) = match command {
            Command::Read(sectors, buffer) => (DiskOperation::Read, sectors, Some(buffer)),
            Command::Write(sectors, buffer) => (DiskOperation::Write, sectors, Some(buffer)),
            Command::Flush => (DiskOperation::Flush, 0, None),
            Command::Discard(sectors) => (DiskOperation::Discard, sectors, None),
            Command::WriteZeroes(sectors) => (DiskOperation::WriteZeroes, sectors, None),
        };
        let address = buffer.as_ref().map_or(0, Buffer::address);
        let place = &mut self.places[index];
        place.uses = place.uses.wrapping_add(1);
        place.flight = Some(buffer);
        let tag = u64::from(place.uses) << 32 | index as u64;
        let first = u64::from(self.extent.first) + u64::from(first);
        let request =
            DiskRequest { operation: operation as u32, sectors, first, buffer: address, tag };
        // There is a place in the ring, too: a request leaves the table no earlier than the ring.
        self.ring().submit(self.submitted, request);
        self.submitted = self.submitted.wrapping_add(1);
        Ticket(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Kernel, buffer, disk};
    use super::*;

    #[test]
    fn what_was_written_is_read_whatever_the_order_of_completions() {
        let mut disk = disk(Extent { first: 50, sectors: 100 }, 200);
        for round in 0..300_u32 {
            let mut tickets = Vec::new();
            for at in 0..8 {
                let mut memory = buffer(1024);
                memory.fill((round + at) as u8);
                tickets.push(disk.submit(at * 2, Command::Write(2, memory)).unwrap());
            }
            assert_eq!(disk.in_flight(), 8);
            assert!(disk.next_done().is_none());
            assert!(disk.sync().unwrap());
            let mut done: Vec<_> = std::iter::from_fn(|| disk.next_done()).collect();
            assert_eq!(done.len(), 8);
            done.sort_by_key(|done| tickets.iter().position(|ticket| *ticket == done.ticket));
            for (at, done) in (0..).zip(done) {
                assert_eq!((done.ticket, done.result), (tickets[at as usize], Ok(())));
                assert_eq!(done.buffer.unwrap()[0], (round + at) as u8);
            }
            disk.submit(3, Command::Read(1, buffer(512))).unwrap();
            disk.sync().unwrap();
            let read = disk.next_done().unwrap().buffer.unwrap();
            assert!(read.iter().all(|byte| *byte == (round + 1) as u8));
        }
        assert_eq!(disk.in_flight(), 0);
    }

    #[test]
    fn what_makes_no_sense_comes_back_with_its_buffer() {
        let mut disk = disk(Extent { first: 50, sectors: 100 }, 200);
        for (first, sectors, bytes, error) in [
            (100, 1, 512, Error::OutOfRange),
            (99, 2, 1024, Error::OutOfRange),
            (u32::MAX, 1, 512, Error::OutOfRange),
            (0, 0, 512, Error::OutOfRange),
            (0, 2, 1023, Error::TooMuch),
            (0, 513, 1 << 20, Error::TooMuch),
        ] {
            let refused = disk.submit(first, Command::Read(sectors, buffer(bytes))).unwrap_err();
            assert_eq!(refused.error, error);
            assert!(matches!(refused.command, Command::Read(_, memory) if memory.len() == bytes));
        }
        assert_eq!(disk.in_flight(), 0);
    }

    #[test]
    fn as_many_are_in_flight_as_there_are_places() {
        let mut disk = disk(Extent { first: 0, sectors: 100 }, 200);
        for _ in 0..DISK_RING {
            disk.submit(0, Command::Flush).unwrap();
        }
        assert_eq!(disk.submit(0, Command::Flush).unwrap_err().error, Error::Busy);
        disk.bell().room = 10;
        assert!(!disk.sync().unwrap(), "the device had no room for all");
        assert_eq!(std::iter::from_fn(|| disk.next_done()).count(), 10);
        disk.submit(0, Command::Flush).unwrap();
        disk.bell().room = 64;
        assert!(disk.sync().unwrap());
        assert_eq!(std::iter::from_fn(|| disk.next_done()).count(), 55);
    }

    #[test]
    fn a_completion_of_nothing_gives_no_buffer_out() {
        let mut disk = disk(Extent { first: 0, sectors: 100 }, 200);
        let ticket = disk.submit(0, Command::Read(1, buffer(512))).unwrap();
        disk.bell().room = 0;
        disk.sync().unwrap();
        for tag in [0, 1 << 32 | 1, 2 << 32, u64::MAX, 64 | 1 << 32] {
            Kernel::complete(&mut disk, tag);
            assert!(disk.next_done().is_none(), "{tag:#x}");
        }
        disk.bell().room = 1;
        disk.sync().unwrap();
        assert_eq!(disk.next_done().unwrap().ticket, ticket);
    }

    impl<B> Disk<B> {
        pub(in crate::disk) fn bell(&mut self) -> &mut B {
            &mut self.bell
        }
    }
}
