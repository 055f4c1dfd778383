//! A model of the kernel and the device, for tests.

use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Release};

use exo_abi::{
    DiskCompletion, DiskOperation, DiskRequest, DiskRing, Error, EventCount, SECTOR_BYTES,
};

use super::{Buffer, Disk, Doorbell, Extent};
use crate::sched::{Park, Ticks};

const SECTOR: usize = SECTOR_BYTES as usize;

/// Takes up to `room` requests at a ring, and does them, the last first.
pub(super) struct Kernel {
    ring: &'static DiskRing,
    taken: u32,
    completed: u32,
    pub(super) stored: Vec<u8>,
    pub(super) room: u32,
    /// Fails whatever touches this sector.
    pub(super) bad: Option<u64>,
    pub(super) flushes: u32,
    /// Takes requests, and does none of them.
    pub(super) asleep: bool,
    taken_asleep: Vec<DiskRequest>,
}

/// A disk of `sectors` sectors, of which `extent` is bound.
pub(super) fn disk(extent: Extent, sectors: usize) -> Disk<Kernel> {
    let memory = memory(4096);
    // SAFETY: a page of zeros, for ever; all atomics.
    let ring: &'static DiskRing = unsafe { memory.cast().as_ref() };
    let stored = vec![0xee; sectors * SECTOR];
    let kernel = Kernel {
        ring,
        taken: 0,
        completed: 0,
        stored,
        room: 64,
        bad: None,
        flushes: 0,
        asleep: false,
        taken_asleep: Vec::new(),
    };
    // SAFETY: the page is the disk's and this kernel's alone.
    unsafe { Disk::new(memory.cast(), extent, kernel) }
}

/// A buffer of zeros; its physical address is its own.
pub(super) fn buffer(bytes: usize) -> Buffer {
    let memory = memory(bytes);
    // SAFETY: fresh and never given back.
    unsafe { Buffer::new(memory, bytes, memory.as_ptr().expose_provenance() as u64) }
}

fn memory(bytes: usize) -> NonNull<u8> {
    let layout = std::alloc::Layout::from_size_align(bytes, 4096).unwrap();
    // SAFETY: no caller wants zero bytes.
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).expect("host has memory")
}

/// The thread of an application whose kernel is this one: it never has to sleep.
pub(super) struct Awake;

impl Park for Awake {
    fn seen(&mut self) -> EventCount {
        EventCount(0)
    }

    fn park(&mut self, _: EventCount, _: Option<Ticks>) {
        panic!("the model answers at once");
    }
}

impl Kernel {
    /// Lies that a request of this tag is done.
    pub(super) fn complete(disk: &mut Disk<Self>, tag: u64) {
        let kernel = disk.bell();
        kernel.ring.complete(kernel.completed, DiskCompletion { tag, result: Ok(()) });
        kernel.completed = kernel.completed.wrapping_add(1);
    }
}

impl Doorbell for Kernel {
    fn ring(&mut self) -> Result<u32, Error> {
        let waiting = self.ring.submitted.0.load(Acquire).wrapping_sub(self.taken);
        assert!(waiting <= 64, "ring overrun");
        let take = waiting.min(self.room);
        let requests: Vec<_> =
            (0..take).map(|offset| self.ring.request(self.taken.wrapping_add(offset))).collect();
        self.taken = self.taken.wrapping_add(take);
        self.ring.taken.0.store(self.taken, Release);
        let mut due = core::mem::take(&mut self.taken_asleep);
        due.extend(requests.into_iter().rev());
        if self.asleep {
            self.taken_asleep = due;
            return Ok(take);
        }
        for request in due {
            let (from, length) =
                (request.first as usize * SECTOR, request.sectors as usize * SECTOR);
            let memory = std::ptr::with_exposed_provenance_mut::<u8>(request.buffer as usize);
            let stored = &mut self.stored[from..];
            let bad = self.bad.is_some_and(|bad| {
                (request.first..request.first + u64::from(request.sectors)).contains(&bad)
            });
            match DiskOperation::from_u32(request.operation).expect("known") {
                _ if bad => {}
                // SAFETY: a buffer of these tests, which the driver has taken.
                DiskOperation::Read => unsafe {
                    memory.copy_from_nonoverlapping(stored[..length].as_ptr(), length);
                },
                // SAFETY: as above.
                DiskOperation::Write => unsafe {
                    memory.copy_to_nonoverlapping(stored[..length].as_mut_ptr(), length);
                },
                DiskOperation::Flush => self.flushes += 1,
                DiskOperation::Discard | DiskOperation::WriteZeroes => stored[..length].fill(0),
            }
            let result = if bad { Err(Error::DeviceFailed) } else { Ok(()) };
            self.ring.complete(self.completed, DiskCompletion { tag: request.tag, result });
            self.completed = self.completed.wrapping_add(1);
        }
        Ok(take)
    }
}
