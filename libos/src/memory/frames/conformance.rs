//! What every [`FrameSource`] must do: run it on any new one.

use alloc::collections::BTreeSet;

use exo_abi::{FrameInfo, Pfn};

use super::{FrameSource, Run};
use crate::memory::Range;
use crate::memory::model::Model;

/// Frames of the grant that belong to others, counted from its start.
const PATTERNS: [&[u32]; 4] =
    [&[], &[0, 1, 2, 3, 4, 99], &[20, 21, 40, 111, 112, 113], &[255, 254, 128]];

/// Puts policies through the contract. `fresh` makes one for a frame table and a grant.
///
/// # Panics
/// If one breaks it.
pub fn check<F: FrameSource>(fresh: impl Fn(&'static [FrameInfo], Range) -> F) {
    for taken in PATTERNS {
        let mut model = Model::new(1000, 256, taken);
        single_frames_until_none(&mut fresh(model.table(), model.range()), &mut model);
        let mut model = Model::new(1000, 256, taken);
        runs_are_consecutive(&mut fresh(model.table(), model.range()), &mut model);
    }
}

/// Every free frame is found once, one at a time: all that a policy of single frames must do.
///
/// # Panics
/// If the policy does not.
pub fn single_frames_until_none<F: FrameSource>(policy: &mut F, model: &mut Model) {
    let free = model.free_count();
    let mut seen = BTreeSet::new();
    while let Some(run) = policy.take(model, 1, 1) {
        assert_eq!(run.count, 1, "one was asked for");
        assert!(seen.insert(run.first.0), "frame {} given twice", run.first.0);
    }
    assert_eq!(seen.len(), free, "every free frame of the grant is found");
    assert_eq!(model.free_count(), 0, "frames were taken that are not told of");
    for &frame in &seen {
        policy.give(model, Run { first: Pfn(frame), count: 1 }).expect("it is mapped nowhere");
    }
    assert_eq!(model.free_count(), free, "what was given back is free");
    assert!(policy.take(model, 1, 1).is_some(), "frames given back are found again");
}

fn runs_are_consecutive<F: FrameSource>(policy: &mut F, model: &mut Model) {
    let run = policy.take(model, 70, 70).expect("there is a run of 70");
    assert_eq!(run.count, 70, "70 were asked for");
    assert!((0..70).all(|index| model.is_own(run.first.plus(index))), "the run has a hole");
    assert!(policy.take(model, 100_000, 100_000).is_none(), "there are not so many");
    assert_eq!(model.own_count(), 70, "a failed attempt keeps nothing");
    let some = policy.take(model, 1, 64).expect("there are some");
    assert!((1..=64).contains(&some.count), "up to 64 were asked for");
    assert!(policy.take(model, 0, 4).is_none(), "none was asked for");
    assert!(policy.take(model, 5, 4).is_none(), "at least more than at most");
}
