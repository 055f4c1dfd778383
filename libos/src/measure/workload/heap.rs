//! What a heap is asked for: blocks of 16 to 1024 bytes, that live for a while.

use alloc::vec::Vec;

use crate::measure::{operation, runs};
use crate::sched::conformance::Random;

/// Blocks that live at the same time, at most.
const LIVE: usize = 256;

/// Allocates and frees with the application's own heap.
pub fn heap() {
    let mut random = Random(1);
    let mut live = [const { Vec::<u8>::new() }; LIVE];
    // By and by each place has a block.
    for _ in 0..runs() + 2 * LIVE {
        let old = &mut live[random.below(LIVE as u64) as usize];
        let size = 16 << random.below(7);
        let gone = core::mem::take(old);
        if gone.capacity() > 0 {
            operation("heap: free 16 to 1024 bytes", || drop(gone));
        }
        *old = operation("heap: allocate 16 to 1024 bytes", || Vec::with_capacity(size));
    }
}
