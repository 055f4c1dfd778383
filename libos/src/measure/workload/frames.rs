//! What a frame policy is asked for: a frame, and a run of them.

use alloc::vec::Vec;

use crate::measure::{operation, runs};
use crate::memory::MemoryCalls;
use crate::memory::frames::FrameSource;
use crate::sched::conformance::Random;

/// Runs that are taken at the same time, at most.
const TAKEN: usize = 32;

/// Takes single frames and runs of 1 to 8 with `policy`, and gives them back in another order.
/// Returns how often there were none.
pub fn frames(policy: &mut dyn FrameSource, calls: &mut dyn MemoryCalls) -> usize {
    let mut random = Random(1);
    let mut taken = Vec::with_capacity(TAKEN);
    let mut refused = 0;
    // One half takes one frame, the other more.
    for _ in 0..3 * runs() {
        if taken.len() == TAKEN {
            let run = taken.swap_remove(random.below(TAKEN as u64) as usize);
            refused +=
                usize::from(operation("frames: give back", || policy.give(calls, run)).is_err());
        }
        let run = match random.below(2) {
            0 => operation("frames: take one", || policy.take(calls, 1, 1)),
            _ => operation("frames: take 1 to 8", || policy.take(calls, 1, 8)),
        };
        refused += usize::from(run.is_none());
        taken.extend(run);
    }
    for run in taken {
        refused += usize::from(policy.give(calls, run).is_err());
    }
    refused
}
