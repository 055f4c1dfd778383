//! Requests to the disk, most of them sensible, and what happens to them meanwhile.

use exo_abi::boot::SELF;
use exo_abi::{DISK_RING, DiskOperation, DiskRequest, DiskRing, FRAME_BYTES, Word, call_number};

use core::sync::atomic::Ordering::Relaxed;

use crate::member::Member;
use crate::pick::Want;
use crate::place::{Told, board};

impl Member {
    /// A ring of requests: filled, handed over, and then perhaps taken apart, its buffers freed,
    /// its extent revoked while the device has some of it.
    pub(crate) fn stores(&mut self) {
        let (ring, object) = (self.frame(Want::Quiet), self.frame(Want::Quiet));
        let disk = self.handle(Told::Disk);
        let at = self.place();
        let own = SELF.into_word();
        if self.go(call_number("map"), &[own, own, ring, at, 1, 1]).is_none() {
            return;
        }
        let Some(binding) = self.go(call_number("disk_bind"), &[disk, ring, object]) else {
            self.go(call_number("unmap"), &[own, at, 1]);
            return;
        };
        let count = self.random.below(u64::from(DISK_RING) + 4) as u32;
        for _ in 0..1 + self.random.below(3) {
            self.fill(at, count);
            self.go(call_number("disk_sync"), &[binding]);
        }
        let buffer = self.frame(Want::Memory);
        match self.random.below(8) {
            0 => self.go(call_number("frames_free"), &[buffer, 1]),
            1 => self.go(call_number("cap_revoke"), &[disk]),
            2 => self.go(call_number("cap_drop"), &[binding]),
            3 => self.go(call_number("frames_free"), &[ring, 1]),
            4 => self.go(call_number("cap_drop"), &[disk]),
            _ => None,
        };
        self.go(call_number("unmap"), &[own, at, 1]);
        for _ in 0..self.random.below(3) {
            self.go(call_number("disk_sync"), &[binding]);
            self.go(call_number("disk_unbind"), &[object]);
        }
    }

    /// Puts `count` requests into the ring that is mapped at `at`, and takes what is done.
    fn fill(&mut self, at: u64, count: u32) {
        let ring = core::ptr::with_exposed_provenance::<DiskRing>(at as usize);
        // SAFETY: a page mapped just now, all of it atomics; an environment that takes it away makes
        // this child fault, which it may.
        let ring = unsafe { &*ring };
        let from = ring.submitted.0.load(Relaxed);
        for index in 0..count {
            let request = self.request(from.wrapping_add(index));
            ring.submit(from.wrapping_add(index), request);
        }
        match self.random.below(8) {
            0 => ring.submitted.0.store(self.random.word() as u32, Relaxed),
            1 => ring.consumed.0.store(self.random.word() as u32, Relaxed),
            _ => ring.consumed.0.store(ring.completed.0.load(Relaxed), Relaxed),
        }
    }

    fn request(&mut self, tag: u32) -> DiskRequest {
        let [first, count] = board().extent.each_ref().map(|word| word.load(Relaxed));
        let bits = self.random.word();
        let operation = match bits & 15 {
            0 => (bits >> 8) as u32,
            1 => DiskOperation::Discard as u32,
            2 => DiskOperation::WriteZeroes as u32,
            3 => DiskOperation::Flush as u32,
            4..=9 => DiskOperation::Read as u32,
            _ => DiskOperation::Write as u32,
        };
        let sectors = match bits >> 16 & 7 {
            0 => 0,
            1 => (bits >> 24) as u32 & 1023,
            _ => 1 + (bits >> 24) as u32 % 8,
        };
        let first = match bits >> 40 & 15 {
            0 => self.random.word(),
            1 => u64::MAX - (bits >> 48 & 7),
            2 => first.wrapping_sub(1 + (bits >> 48 & 3)),
            3 => first + count - (bits >> 48 & 3),
            _ => first + self.random.below(count.max(1)),
        };
        let frame = match bits >> 44 & 7 {
            0 => self.frame(Want::Foreign),
            1 => self.frame(Want::Free),
            _ => self.frame(Want::Memory),
        };
        let offset = if bits >> 56 & 15 == 0 { bits >> 60 } else { 512 * (bits >> 60 & 7) };
        let buffer = frame * FRAME_BYTES + offset;
        DiskRequest { operation, sectors, first, buffer, tag: tag.into() }
    }
}
