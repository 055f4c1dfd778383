//! Requests to a disk, and their completions, in a page of the application's own.
//!
//! A disk binding is one such page. The application names sectors and frames by their
//! physical numbers; the kernel checks each request against the extent and the rights that the
//! binding was made with, and against the frame table. A request's place may be used again as
//! soon as it was taken; its completion comes when the device is done, in whatever order, and
//! bears the request's tag. The kernel keeps its own indices: a lie about the shared ones costs
//! the liar its own requests or completions.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::{Error, RingIndex, numbered};

/// Bytes of a sector.
pub const SECTOR_BYTES: u64 = 512;
/// Places for requests, and for completions, in a [`DiskRing`].
pub const DISK_RING: u32 = 64;
/// Most sectors that one request reads or writes: 256 KiB.
pub const MAX_SECTORS: u32 = 512;

numbered! {
    from_u32;
    /// What a request asks for.
    pub enum DiskOperation: u32 {
        /// Fill the buffer from the sectors. Needs [`crate::Rights::READ`].
        Read = 0,
        /// Fill the sectors from the buffer. Needs [`crate::Rights::WRITE`], as do the others.
        Write = 1,
        /// Make durable all writes, of any environment, that were complete before this was
        /// submitted. Sectors and buffer mean nothing.
        Flush = 2,
        /// The sectors' contents are not needed any more. There is no buffer.
        Discard = 3,
        /// Fill the sectors with zeros. There is no buffer.
        WriteZeroes = 4,
    }
}

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskRequest {
    /// [`DiskOperation`] as a number.
    pub operation: u32,
    /// Number of sectors; at most [`MAX_SECTORS`] if there is a buffer.
    pub sectors: u32,
    /// The first sector, as the disk counts them.
    pub first: u64,
    /// Physical address of the buffer: a multiple of [`SECTOR_BYTES`], within consecutive frames
    /// of the binding's owner. Until the completion they cannot be freed.
    pub buffer: u64,
    /// Comes back with the completion.
    pub tag: u64,
}

/// A request that is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskCompletion {
    /// The request's.
    pub tag: u64,
    /// Whether it was done. Refused: [`Error::BadArgument`] (operation or number of sectors
    /// unknown, not offered by the device, or buffer not aligned), [`Error::NoRight`],
    /// [`Error::OutOfRange`] (not within the extent), [`Error::NotOwned`] (buffer).
    /// [`Error::DeviceFailed`]: the device could not.
    pub result: Result<(), Error>,
}

/// The page that a disk binding is. Indices count since the binding was made, modulo 2^32; the
/// place is the index modulo [`DISK_RING`].
#[repr(C, align(4096))]
pub struct DiskRing {
    /// Requests put in. Application writes, after the request.
    pub submitted: RingIndex,
    /// Requests taken: refused, or with the device. Kernel writes.
    pub taken: RingIndex,
    /// Completions put in. Kernel writes, after the completion.
    pub completed: RingIndex,
    /// Completions that the application is done with. It writes. No more requests are taken
    /// than there is room for completions.
    pub consumed: RingIndex,
    requests: [[AtomicU64; 4]; DISK_RING as usize],
    completions: [[AtomicU64; 2]; DISK_RING as usize],
}

impl DiskRing {
    /// Puts `request` in as number `index`, and shows it.
    pub fn submit(&self, index: u32, request: DiskRequest) {
        let DiskRequest { operation, sectors, first, buffer, tag } = request;
        let head = u64::from(operation) | u64::from(sectors) << 32;
        let place = &self.requests[(index % DISK_RING) as usize];
        for (word, value) in place.iter().zip([head, first, buffer, tag]) {
            word.store(value, Relaxed);
        }
        self.submitted.0.store(index.wrapping_add(1), Release);
    }

    /// Request number `index`, read once.
    pub fn request(&self, index: u32) -> DiskRequest {
        let place = &self.requests[(index % DISK_RING) as usize];
        let [head, first, buffer, tag] = place.each_ref().map(|word| word.load(Relaxed));
        DiskRequest { operation: head as u32, sectors: (head >> 32) as u32, first, buffer, tag }
    }

    /// Puts `completion` in as number `index`, and shows it.
    pub fn complete(&self, index: u32, completion: DiskCompletion) {
        let [tag, result] = &self.completions[(index % DISK_RING) as usize];
        tag.store(completion.tag, Relaxed);
        result.store(completion.result.map_or_else(Error::code, |()| 0), Relaxed);
        self.completed.0.store(index.wrapping_add(1), Release);
    }

    /// Completion number `index`, if it is there.
    pub fn completion(&self, index: u32) -> Option<DiskCompletion> {
        if self.completed.0.load(Acquire) == index {
            return None;
        }
        let [tag, result] = &self.completions[(index % DISK_RING) as usize];
        let result = match result.load(Relaxed) {
            0 => Ok(()),
            code => Err(Error::from_code(code).unwrap_or(Error::DeviceFailed)),
        };
        Some(DiskCompletion { tag: tag.load(Relaxed), result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    fn ring() -> DiskRing {
        let index = || RingIndex(AtomicU32::new(0));
        DiskRing {
            submitted: index(),
            taken: index(),
            completed: index(),
            consumed: index(),
            requests: [const { [const { AtomicU64::new(0) }; 4] }; DISK_RING as usize],
            completions: [const { [const { AtomicU64::new(0) }; 2] }; DISK_RING as usize],
        }
    }

    #[test]
    fn a_ring_is_one_page() {
        assert_eq!(size_of::<DiskRing>(), 4096);
    }

    #[test]
    fn what_goes_in_comes_out_around_the_end() {
        let ring = ring();
        for index in (u32::MAX - 70..=u32::MAX).chain(0..70) {
            let (operation, sectors) = (index % 7, index ^ 5);
            let (first, buffer) = (u64::MAX - u64::from(index), u64::from(index) << 9);
            let request = DiskRequest { operation, sectors, first, buffer, tag: buffer ^ first };
            ring.completed.0.store(index, Relaxed);
            assert_eq!(ring.completion(index), None);
            ring.submit(index, request);
            assert_eq!(ring.request(index), request);
            let result = if index % 2 == 0 { Ok(()) } else { Err(Error::OutOfRange) };
            let completion = DiskCompletion { tag: request.tag, result };
            ring.complete(index, completion);
            assert_eq!(ring.completion(index), Some(completion));
            let next = index.wrapping_add(1);
            assert_eq!(ring.submitted.0.load(Relaxed), next);
            assert_eq!(ring.completion(next), None);
        }
    }
}
