//! A heap of the application's own as the process's allocator.
//!
//! What grows it are pages of the system's allocator, and a lock keeps the process's threads apart: the
//! network has one of its own.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Release};
use std::alloc::System;

use exo_abi::FRAME_BYTES;

use crate::memory::heap::{Heap, growth_for};

/// A [`Heap`] as the allocator of a process.
pub struct GlobalHeap<H> {
    taken: AtomicBool,
    heap: UnsafeCell<H>,
}

// SAFETY: the heap is used under the lock alone.
unsafe impl<H: Send> Sync for GlobalHeap<H> {}

impl<H: Heap> GlobalHeap<H> {
    /// An empty heap.
    #[expect(clippy::new_without_default, reason = "for a static, which needs a const fn")]
    #[must_use]
    pub const fn new() -> Self {
        Self { taken: AtomicBool::new(false), heap: UnsafeCell::new(H::EMPTY) }
    }

    /// A lock of the library's would allocate.
    fn with<T>(&self, act: impl FnOnce(&mut H) -> T) -> T {
        while self.taken.swap(true, Acquire) {
            std::thread::yield_now();
        }
        // SAFETY: the lock is held, and `act` is a heap's method, which does not come here again.
        let result = act(unsafe { &mut *self.heap.get() });
        self.taken.store(false, Release);
        result
    }
}

// SAFETY: blocks come from a `Heap`, which keeps them apart and aligned as its conformance test
// demands; layouts are passed through unchanged.
unsafe impl<H: Heap + Send> GlobalAlloc for GlobalHeap<H> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.with(|heap| {
            heap.allocate(layout).or_else(|| {
                let (bytes, align) = growth_for(layout)?;
                let pages = Layout::from_size_align(bytes, align.max(FRAME_BYTES as usize)).ok()?;
                // SAFETY: not empty.
                let start = NonNull::new(unsafe { System.alloc(pages) })?;
                // SAFETY: so many bytes that were allocated just now and are never freed.
                unsafe { heap.grow(start, bytes) };
                heap.allocate(layout)
            })
        });
        block.map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller frees what `alloc` returned for this layout.
            self.with(|heap| unsafe { heap.free(block, layout) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::heap::Buddy;

    #[test]
    fn threads_allocate_side_by_side() {
        static HEAP: GlobalHeap<Buddy> = GlobalHeap::new();
        std::thread::scope(|scope| {
            for own in 0..4_u8 {
                scope.spawn(move || {
                    for round in 1..500_usize {
                        let layout = Layout::from_size_align(round * 8, 8).unwrap();
                        // SAFETY: not empty; freed once, with the same layout.
                        unsafe {
                            let block = HEAP.alloc(layout);
                            assert!(!block.is_null());
                            block.write_bytes(own, round * 8);
                            std::thread::yield_now();
                            assert_eq!(block.add(round * 8 - 1).read(), own);
                            HEAP.dealloc(block, layout);
                        }
                    }
                });
            }
        });
    }
}
