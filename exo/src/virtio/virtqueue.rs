//! One split virtqueue (virtio 1.1, 2.6) of 256 entries with event indices.
//!
//! The device reads and writes the queue's two frames at any time, so they are
//! only touched with volatile accesses, and an index the device wrote is
//! checked before it is used. Frame 0 holds the descriptor table, frame 1 the
//! available ring and, from byte [`USED`] on, the used ring.
//!
//! Each side writes an index and then reads the other's wish; a full fence between
//! the two keeps both from missing each other (2.6.13.4, 2.7.7). The fence alone is
//! not relied on: QEMU before 8.1 leaves fences out of what it translates for a
//! machine with one processor. So a wish that was read too early is read again,
//! and before the processor halts an access to a device register, which no
//! emulator lets slip, stands between the two.

use core::sync::atomic::{Ordering, fence};

use exo_abi::Pfn;

use crate::memory;

/// Entries of a queue.
pub const ENTRIES: u16 = 256;
/// Frames of a queue.
pub const QUEUE_FRAMES: u32 = 2;

const USED: usize = 1024;
/// The descriptor continues in the next one.
const NEXT: u16 = 1;
/// The device writes to the descriptor's buffer.
const DEVICE_WRITES: u16 = 2;

/// A piece of memory for the device.
#[derive(Clone, Copy)]
pub struct Buffer {
    /// Physical address.
    pub address: u64,
    /// Bytes.
    pub length: u32,
}

/// The driver's side of a queue.
pub struct Virtqueue {
    base: *mut u8,
    first: Pfn,
    /// Entries made available so far; published by `publish`.
    available: u16,
    /// `available` when the device was last shown it.
    shown: u16,
    /// `available` when the device was last told.
    told: u16,
    /// Used entries seen so far.
    seen: u16,
}

impl Virtqueue {
    /// A queue in the two frames from `first`.
    ///
    /// # Safety
    /// The frames must be zeroed, contiguous memory of the kernel that nothing
    /// else uses, for as long as the device may use the queue.
    pub unsafe fn new(first: Pfn) -> Self {
        let mut queue =
            Self { base: memory::frame(first), first, available: 0, shown: 0, told: 0, seen: 0 };
        queue.silence();
        queue
    }

    /// Physical addresses of descriptor table, available ring and used ring.
    pub fn addresses(&self) -> [u64; 3] {
        let base = self.first.address();
        [base, base + 4096, base + 4096 + USED as u64]
    }

    fn write<T>(&mut self, offset: usize, value: T) {
        debug_assert!(offset + size_of::<T>() <= 8192);
        // SAFETY: `new`'s contract makes the two frames the queue's own; every
        // offset used in this file is a constant, or an entry number below 256
        // times the entry size, inside its ring, and aligned to its size.
        unsafe { self.base.add(offset).cast::<T>().write_volatile(value) };
    }

    fn read<T>(&self, offset: usize) -> T {
        debug_assert!(offset + size_of::<T>() <= 8192);
        // SAFETY: as in `write`; only integers are read, so any bytes will do.
        unsafe { self.base.add(offset).cast::<T>().read_volatile() }
    }

    /// Describes a buffer in descriptor `index`; `next` continues it.
    pub fn describe(&mut self, index: u16, buffer: Buffer, device_writes: bool, next: Option<u16>) {
        let at = usize::from(index % ENTRIES) * 16;
        let flags =
            if device_writes { DEVICE_WRITES } else { 0 } | if next.is_some() { NEXT } else { 0 };
        self.write(at, buffer.address);
        // Length, flags and next descriptor, from the lowest byte (2.6.5).
        let rest = u64::from(flags) << 32 | u64::from(next.unwrap_or(0)) << 48;
        self.write(at + 8, u64::from(buffer.length) | rest);
    }

    /// Puts the chain that starts with descriptor `index` into the available
    /// ring; the device sees it after [`Virtqueue::publish`].
    #[inline]
    pub fn make_available(&mut self, index: u16) {
        let slot = usize::from(self.available % ENTRIES);
        self.write(4096 + 4 + 2 * slot, index);
        self.available = self.available.wrapping_add(1);
    }

    /// How many were made available that the device was not shown.
    #[inline]
    pub fn unshown(&self) -> u16 {
        self.available.wrapping_sub(self.shown)
    }

    /// Shows the device what was made available. True if it wants to be told.
    /// Asked again with nothing new, it finds a wish that it had missed.
    pub fn publish(&mut self) -> bool {
        let untold = self.available.wrapping_sub(self.told).min(ENTRIES);
        if untold == 0 {
            return false;
        }
        if self.shown != self.available {
            fence(Ordering::Release);
            self.write(4096 + 2, self.available);
            self.shown = self.available;
            // The device's wish must be read after it can see the new index.
            fence(Ordering::SeqCst);
        }
        let wish: u16 = self.read(4096 + USED + 4 + 8 * usize::from(ENTRIES));
        let passed = self.available.wrapping_sub(wish).wrapping_sub(1);
        let tell = passed < untold;
        // Only a device that was told counts as told, so that a wish read too early
        // still counts later. It never lies further back than the queue is long.
        self.told = self.available.wrapping_sub(if tell { 0 } else { untold });
        tell
    }

    /// The next entry the device is done with: head descriptor and bytes it
    /// wrote. An entry with an impossible descriptor is passed over.
    #[inline]
    pub fn next_used(&mut self) -> Option<(u16, u32)> {
        loop {
            if !self.has_used() {
                return None;
            }
            fence(Ordering::Acquire);
            let at = 4096 + USED + 4 + 8 * usize::from(self.seen % ENTRIES);
            let index: u32 = self.read(at);
            self.seen = self.seen.wrapping_add(1);
            if index < u32::from(ENTRIES) {
                return Some((index as u16, self.read(at + 4)));
            }
        }
    }

    /// Whether the device has finished entries not yet seen.
    #[inline]
    pub fn has_used(&self) -> bool {
        let used: u16 = self.read(4096 + USED + 2);
        used != self.seen
    }

    /// Asks for an interrupt at the next finished entry. If there is one already,
    /// which is to be looked for afterwards, no interrupt may come.
    pub fn listen(&mut self) {
        self.write(4096 + 4 + 2 * usize::from(ENTRIES), self.seen);
        fence(Ordering::SeqCst);
    }

    /// Asks for no interrupt.
    pub fn silence(&mut self) {
        self.write(4096 + 4 + 2 * usize::from(ENTRIES), self.seen.wrapping_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffer, Virtqueue};
    use crate::memory;
    use exo_abi::Pfn;

    fn queue() -> Virtqueue {
        memory::host::provide(4);
        // SAFETY: frames 1 and 2 of fresh simulated memory.
        unsafe { Virtqueue::new(Pfn(1)) }
    }

    /// Acts as the device: finishes `index` with `length`.
    fn finish(queue: &mut Virtqueue, count: u16, index: u32, length: u32) {
        let at = 4096 + super::USED + 4 + 8 * usize::from(count % 256);
        queue.write(at, index);
        queue.write(at + 4, length);
        queue.write(4096 + super::USED + 2, count.wrapping_add(1));
    }

    #[test]
    fn entries_come_back_in_order_around_the_end() {
        let mut queue = queue();
        queue.describe(7, Buffer { address: 0x1000, length: 64 }, true, None);
        for count in 0..70_000_u32 {
            queue.make_available(7);
            queue.publish();
            assert!(!queue.has_used());
            finish(&mut queue, count as u16, 7, count);
            assert_eq!(queue.next_used(), Some((7, count)));
            assert_eq!(queue.next_used(), None);
        }
    }

    #[test]
    fn an_impossible_descriptor_is_passed_over() {
        let mut queue = queue();
        finish(&mut queue, 0, 256, 1);
        finish(&mut queue, 1, u32::MAX, 1);
        finish(&mut queue, 2, 3, 9);
        assert_eq!(queue.next_used(), Some((3, 9)));
        assert_eq!(queue.next_used(), None);
    }

    #[test]
    fn the_device_is_told_only_when_it_asked() {
        let mut queue = queue();
        queue.make_available(0);
        assert!(queue.publish(), "the device waits for entry 0");
        queue.make_available(1);
        assert!(!queue.publish(), "it has not asked again");
        queue.write(4096 + super::USED + 4 + 8 * 256, 2_u16);
        queue.make_available(2);
        assert!(queue.publish(), "it asked for entry 2");
        assert!(!queue.publish(), "nothing new");
    }

    /// What happens when the device asks and, without a fence, neither side sees the
    /// other's word: the queue stood still for ever.
    #[test]
    fn a_wish_that_was_read_too_early_is_read_again() {
        for before in [1_u16, 200, 1000, 65_000] {
            let mut queue = queue();
            queue.make_available(0);
            assert!(queue.publish());
            for _ in 0..before {
                queue.make_available(0);
                queue.publish();
            }
            queue.make_available(0);
            assert!(!queue.publish(), "it has not asked again");
            queue.write(4096 + super::USED + 4 + 8 * 256, before + 1);
            assert!(queue.publish(), "it asked for the last entry, {before} before it");
            assert!(!queue.publish(), "told once");
        }
    }
}
