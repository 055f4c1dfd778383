//! Heaps: allocation of any size inside memory that was handed over.
//!
//! [`Buddy`] serves programs that allocate and free; [`Arena`] serves programs
//! that allocate while they start and then never again, in two instructions
//! more than nothing. Both begin empty and grow by a region when a request does
//! not fit. An application chooses with [`app!`](crate::app); nothing on the
//! packet path allocates.

pub mod conformance;

use core::alloc::Layout;
use core::ptr::NonNull;

use exo_abi::FRAME_BYTES;

/// Least growth of a heap in bytes.
pub const GROWTH: usize = 256 * 1024;

/// Allocates inside memory it was given.
pub trait Heap {
    /// A heap without memory.
    const EMPTY: Self;

    /// Adds memory to allocate from.
    ///
    /// # Safety
    /// The `bytes` bytes at `start` are valid for reads and writes for as long
    /// as the heap is used, and are used by nothing but this heap and those it
    /// gives parts of it to.
    unsafe fn grow(&mut self, start: NonNull<u8>, bytes: usize);

    /// Memory for `layout`, or `None` if nothing that large is free.
    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>>;

    /// Takes memory back.
    ///
    /// # Safety
    /// `block` came from [`Heap::allocate`] of this heap with the same `layout`,
    /// and it is used no more.
    unsafe fn free(&mut self, block: NonNull<u8>, layout: Layout);
}

/// A buddy heap: blocks of powers of two.
///
/// **Cost** logarithmic. **Limits** up to half of a block is wasted; largest
/// block 1 GiB.
pub struct Buddy(buddy_system_allocator::Heap<31>);

impl Heap for Buddy {
    const EMPTY: Self = Self(buddy_system_allocator::Heap::new());

    unsafe fn grow(&mut self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller hands over exactly this memory for good.
        unsafe { self.0.init(start.as_ptr().expose_provenance(), bytes) };
    }

    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        if block_bytes(layout)? > 1 << 30 {
            return None;
        }
        self.0.alloc(layout).ok()
    }

    unsafe fn free(&mut self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller gives back what `alloc` returned for this layout.
        unsafe { self.0.dealloc(block, layout) };
    }
}

/// An arena: a pointer that moves up. Memory freed is lost, except that of the
/// latest allocation.
///
/// **Cost** constant.
pub struct Arena {
    next: *mut u8,
    /// Bytes left from `next` on.
    left: usize,
}

// SAFETY: the pointer leads to memory that belongs to the arena alone.
unsafe impl Send for Arena {}

impl Heap for Arena {
    const EMPTY: Self = Self { next: core::ptr::null_mut(), left: 0 };

    unsafe fn grow(&mut self, start: NonNull<u8>, bytes: usize) {
        if !self.next.is_null() && self.next.wrapping_add(self.left) == start.as_ptr() {
            // The new memory continues the old, as regions of one window do.
            self.left += bytes;
        } else if bytes > self.left {
            *self = Self { next: start.as_ptr(), left: bytes };
        }
    }

    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let skip = self.next.align_offset(layout.align());
        let used = skip.checked_add(layout.size())?;
        if used > self.left {
            return None;
        }
        let block = self.next.wrapping_add(skip);
        self.next = self.next.wrapping_add(used);
        self.left -= used;
        NonNull::new(block)
    }

    unsafe fn free(&mut self, block: NonNull<u8>, layout: Layout) {
        if block.as_ptr().wrapping_add(layout.size()) == self.next {
            self.next = block.as_ptr();
            self.left += layout.size();
        }
    }
}

/// Bytes to grow a heap by, and their alignment, so that `layout` fits in any
/// heap here. `None` if there is no such amount.
pub fn growth_for(layout: Layout) -> Option<(usize, usize)> {
    let block = block_bytes(layout)?;
    let bytes = block.max(GROWTH).checked_next_multiple_of(FRAME_BYTES as usize)?;
    Some((bytes, block.max(FRAME_BYTES as usize)))
}

/// The power of two that holds `layout`.
fn block_bytes(layout: Layout) -> Option<usize> {
    Some(layout.size().checked_next_power_of_two()?.max(layout.align()).max(size_of::<usize>()))
}

#[cfg(test)]
mod tests {
    use std::alloc::Layout;

    use proptest::prelude::*;

    use super::conformance::{self, Memory};
    use super::{Arena, Buddy, Heap};

    #[test]
    fn conform() {
        conformance::check::<Buddy>();
        conformance::check::<Arena>();
    }

    #[test]
    fn buddy_memory_comes_back() {
        let (mut memory, mut heap) = (Memory::new(), Buddy::EMPTY);
        memory.give(&mut heap, 1 << 20, 1 << 20);
        let whole = Layout::from_size_align(1 << 20, 1).unwrap();
        for _ in 0..3 {
            let small: Vec<_> = (0..256)
                .map(|_| heap.allocate(Layout::from_size_align(4096, 1).unwrap()).unwrap())
                .collect();
            assert!(heap.allocate(whole).is_none());
            for block in small {
                // SAFETY: just allocated with this layout, not used since.
                unsafe { heap.free(block, Layout::from_size_align(4096, 1).unwrap()) };
            }
            let block = heap.allocate(whole).expect("merged again");
            // SAFETY: as above.
            unsafe { heap.free(block, whole) };
        }
    }

    #[test]
    fn arena_takes_back_only_the_latest() {
        let (mut memory, mut heap) = (Memory::new(), Arena::EMPTY);
        memory.give(&mut heap, 4096, 4096);
        let layout = Layout::from_size_align(1000, 8).unwrap();
        let first = heap.allocate(layout).unwrap();
        let second = heap.allocate(layout).unwrap();
        // SAFETY: both were allocated with this layout and are not used.
        unsafe {
            heap.free(second, layout);
            assert_eq!(heap.allocate(layout), Some(second));
            heap.free(first, layout);
            assert_ne!(heap.allocate(layout), Some(first));
        }
    }

    proptest! {
        #[test]
        fn conform_whatever_is_asked(requests in prop::collection::vec((0usize..5000, 0u32..8, any::<bool>()), 1..200)) {
            conformance::blocks_are_aligned_and_apart::<Buddy>(&requests);
            conformance::blocks_are_aligned_and_apart::<Arena>(&requests);
        }
    }
}
