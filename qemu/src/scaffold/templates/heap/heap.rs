//! Blocks of powers of two, with a list of free ones for each size.
//!
//! A beginning, to be changed. A block is carved off the newest memory and, once freed, used
//! again for its own size only. libOS grows the heap when `allocate` finds nothing, and lends it
//! to one thread at a time.

use core::alloc::Layout;
use core::ptr::{NonNull, null_mut};

use libos::memory::heap::Heap;

/// Sizes from 2^0 bytes on.
const SIZES: usize = 48;

/// A free block: where the next one of its size is.
struct Free(Option<NonNull<Free>>);

pub(crate) struct Segregated {
    free: [Option<NonNull<Free>>; SIZES],
    /// What was never used: from here on so many bytes.
    next: *mut u8,
    left: usize,
}

// SAFETY: the pointers lead to memory that belongs to the heap alone.
unsafe impl Send for Segregated {}

/// The size of the block for `layout`, as a power of two. It is aligned to its size.
fn order(layout: Layout) -> Option<usize> {
    let least = layout.size().max(layout.align()).max(size_of::<Free>());
    Some(least.checked_next_power_of_two()?.trailing_zeros() as usize)
}

impl Heap for Segregated {
    const EMPTY: Self = Self { free: [None; SIZES], next: null_mut(), left: 0 };

    unsafe fn grow(&mut self, start: NonNull<u8>, bytes: usize) {
        if !self.next.is_null() && self.next.wrapping_add(self.left) == start.as_ptr() {
            self.left += bytes;
        } else {
            (self.next, self.left) = (start.as_ptr(), bytes);
        }
    }

    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let order = order(layout)?;
        let list = self.free.get_mut(order)?;
        if let Some(block) = *list {
            // SAFETY: what is in a list was put there by `free`, with a `Free` in it, and is
            // used by nothing else.
            *list = unsafe { block.read() }.0;
            return Some(block.cast());
        }
        let skip = self.next.align_offset(1 << order);
        let used = skip.checked_add(1 << order).filter(|&used| used <= self.left)?;
        let block = self.next.wrapping_add(skip);
        self.next = self.next.wrapping_add(used);
        self.left -= used;
        NonNull::new(block)
    }

    unsafe fn free(&mut self, block: NonNull<u8>, layout: Layout) {
        let list = order(layout).and_then(|order| self.free.get_mut(order));
        if let Some(list) = list {
            let block = block.cast();
            // SAFETY: the block came from `allocate` for this layout, so a `Free` fits and is
            // aligned; its owner uses it no more.
            unsafe { block.write(Free(*list)) };
            *list = Some(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use libos::memory::heap::conformance::{self, Memory};

    use super::*;

    /// What every heap must do.
    #[test]
    fn conforms() {
        conformance::check::<Segregated>();
    }

    /// What is special about this one.
    #[test]
    fn a_freed_block_is_the_next_of_its_size() {
        let (mut memory, mut heap) = (Memory::new(), Segregated::EMPTY);
        memory.give(&mut heap, 4096, 4096);
        let (small, large) = (Layout::new::<[u8; 100]>(), Layout::new::<[u8; 200]>());
        let block = heap.allocate(small).unwrap();
        // SAFETY: just allocated with this layout, not used.
        unsafe { heap.free(block, small) };
        assert_ne!(heap.allocate(large), Some(block));
        assert_eq!(heap.allocate(small), Some(block));
    }
}
