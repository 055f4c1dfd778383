//! What a frame policy is asked for: a frame, and eight of them, in as many runs as it likes.

use alloc::vec::Vec;

use exo_abi::{Error, Pages};

use crate::measure::{operation, runs};
use crate::memory::frames::FrameSource;
use crate::memory::{MemoryCalls, Run};
use crate::sched::conformance::Random;

/// Lots that are taken at the same time, at most.
const TAKEN: usize = 32;
/// Frames of the larger lot.
const EIGHT: usize = 8;

/// Takes single frames with `policy`, then lots of eight, and gives them back in another order.
/// Returns how often there were too few.
///
/// Each operation is done for the same number of frames, whatever the policy: one that finds
/// single frames is asked eight times for a lot of eight, one that finds runs perhaps once. What
/// an operation finds before it is the same, too: nothing is taken at the beginning of either
/// half, and the first is the same whatever runs a policy finds.
pub fn frames(policy: &mut dyn FrameSource, calls: &mut dyn MemoryCalls) -> usize {
    lots::<1>(policy, calls, "frames: take one", "frames: give one back")
        + lots::<EIGHT>(policy, calls, "frames: take eight", "frames: give eight back")
}

/// Takes and gives lots of `FRAMES` frames.
fn lots<const FRAMES: usize>(
    policy: &mut dyn FrameSource,
    calls: &mut dyn MemoryCalls,
    take: &'static str,
    give: &'static str,
) -> usize {
    let mut random = Random(1);
    let mut taken: Vec<Lot<FRAMES>> = Vec::with_capacity(TAKEN);
    let mut refused = 0;
    for _ in 0..TAKEN + runs() {
        if taken.len() == TAKEN {
            let lot = taken.swap_remove(random.below(TAKEN as u64) as usize);
            refused += usize::from(operation(give, || lot.give(policy, calls)).is_err());
        }
        let lot = operation(take, || Lot::take(policy, calls));
        refused += usize::from(lot.frames < FRAMES as Pages);
        taken.push(lot);
    }
    for lot in taken {
        refused += usize::from(lot.give(policy, calls).is_err());
    }
    refused
}

/// So many frames, in at most as many runs.
struct Lot<const FRAMES: usize> {
    runs: [Option<Run>; FRAMES],
    frames: Pages,
}

impl<const FRAMES: usize> Lot<FRAMES> {
    /// Fewer frames only if there are not so many.
    fn take(policy: &mut dyn FrameSource, calls: &mut dyn MemoryCalls) -> Self {
        let mut lot = Self { runs: [None; FRAMES], frames: 0 };
        for place in &mut lot.runs {
            let left = (FRAMES as Pages).saturating_sub(lot.frames);
            *place = if left > 0 { policy.take(calls, 1, left) } else { None };
            let Some(run) = place else { break };
            lot.frames += run.count;
        }
        lot
    }

    fn give(&self, policy: &mut dyn FrameSource, calls: &mut dyn MemoryCalls) -> Result<(), Error> {
        self.runs.iter().flatten().try_for_each(|&run| policy.give(calls, run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::frames::NextFit;
    use crate::memory::model::Model;

    /// Another policy, one frame at a time if it is to be; counts frames.
    struct Counting<F> {
        policy: F,
        single: bool,
        frames: (Pages, Pages),
    }

    impl<F: FrameSource> FrameSource for Counting<F> {
        fn take(&mut self, calls: &mut dyn MemoryCalls, least: Pages, most: Pages) -> Option<Run> {
            let most = if self.single { most.min(1) } else { most };
            self.policy.take(calls, least, most).inspect(|run| self.frames.0 += run.count)
        }

        fn give(&mut self, calls: &mut dyn MemoryCalls, run: Run) -> Result<(), Error> {
            self.frames.1 += run.count;
            self.policy.give(calls, run)
        }
    }

    #[test]
    fn whatever_runs_a_policy_finds_it_is_asked_for_as_many_frames() {
        let frames_of = |single| {
            let mut model = Model::new(0, 4096, &[3, 9, 100]);
            let policy = NextFit::new(model.range());
            let mut policy = Counting { policy, single, frames: (0, 0) };
            assert_eq!(frames(&mut policy, &mut model), 0);
            assert_eq!(model.own_count(), 0, "all is given back");
            policy.frames
        };
        assert_eq!(frames_of(true), frames_of(false));
        let lots = TAKEN as Pages + 1;
        assert_eq!(frames_of(false), (9 * lots, 9 * lots));
    }

    #[test]
    fn too_few_frames_are_told() {
        let mut model = Model::new(0, 40, &[]);
        let mut policy = NextFit::new(model.range());
        assert!(frames(&mut policy, &mut model) > 0);
    }
}
