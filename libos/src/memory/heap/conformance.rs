//! What every [`Heap`] must do: run it on any new one.

use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;

use super::{Heap, growth_for};
use crate::sched::conformance::Random;

/// A request: bytes, alignment as a power of two, and whether a block is freed after it.
pub type Request = (usize, u32, bool);

/// Puts heaps of the type `H` through the contract.
///
/// # Panics
/// If one breaks it.
pub fn check<H: Heap>() {
    empty_heaps_give_nothing::<H>();
    for seed in 1..=16 {
        let mut random = Random(seed);
        let mut request = |_| {
            let size = random.below(5000) as usize;
            (size, random.below(8) as u32, random.below(2) == 0)
        };
        let requests: Vec<_> = (0..200).map(&mut request).collect();
        blocks_are_aligned_and_apart::<H>(&requests);
    }
}

/// Memory that a heap was given, of the heap that this runs on.
pub struct Memory(Vec<(NonNull<u8>, Layout)>);

impl Memory {
    /// None yet. Must outlive the heaps that it is given to.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Lets `heap` grow by `bytes` bytes at a multiple of `align`, neither of them zero.
    ///
    /// # Panics
    /// If there is no such memory.
    pub fn give<H: Heap>(&mut self, heap: &mut H, bytes: usize, align: usize) {
        let layout = Layout::from_size_align(bytes, align).expect("a layout");
        // SAFETY: the layout is not empty; the memory stays until `self` is dropped, and is
        // used by nothing else.
        unsafe {
            let start = NonNull::new(alloc::alloc::alloc(layout)).expect("memory");
            heap.grow(start, bytes);
            self.0.push((start, layout));
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for (start, layout) in self.0.drain(..) {
            // SAFETY: allocated with this layout in `give`; the heaps it was given to are gone.
            unsafe { alloc::alloc::dealloc(start.as_ptr(), layout) };
        }
    }
}

fn empty_heaps_give_nothing<H: Heap>() {
    let mut heap = H::EMPTY;
    let huge = Layout::from_size_align(isize::MAX as usize - 4096, 4096).expect("a layout");
    for layout in [Layout::new::<u64>(), huge] {
        assert!(heap.allocate(layout).is_none(), "{layout:?} of a heap without memory");
    }
}

/// Blocks have the alignment asked for, none overlaps another, and a heap that grew by
/// [`growth_for`] has room.
///
/// # Panics
/// If not.
pub fn blocks_are_aligned_and_apart<H: Heap>(requests: &[Request]) {
    let (mut memory, mut heap) = (Memory::new(), H::EMPTY);
    let mut live: Vec<(NonNull<u8>, Layout, u8)> = Vec::new();
    for (tag, &(size, align, free)) in requests.iter().enumerate() {
        let layout = Layout::from_size_align(size, 1 << align).expect("a layout");
        let block = heap.allocate(layout).unwrap_or_else(|| {
            let (bytes, align) = growth_for(layout).expect("not too large");
            memory.give(&mut heap, bytes, align);
            heap.allocate(layout).expect("fits after growth")
        });
        assert_eq!(block.addr().get() % layout.align(), 0, "{layout:?}: alignment");
        // SAFETY: the heap gave these bytes for this use.
        unsafe { block.write_bytes(tag as u8, size) };
        live.push((block, layout, tag as u8));
        if free {
            let (block, layout, tag) = live.swap_remove(tag % live.len());
            is_whole(block, layout, tag);
            // SAFETY: came from `allocate` with this layout; forgotten here.
            unsafe { heap.free(block, layout) };
        }
    }
    for (block, layout, tag) in live {
        is_whole(block, layout, tag);
    }
}

fn is_whole(block: NonNull<u8>, layout: Layout, tag: u8) {
    // SAFETY: still allocated, and written in full before.
    let bytes = unsafe { core::slice::from_raw_parts(block.as_ptr(), layout.size()) };
    assert!(bytes.iter().all(|&byte| byte == tag), "another block's owner wrote to the block");
}
