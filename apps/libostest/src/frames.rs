//! Frames of an order and of a colour, from the real frame table.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};

use exo_abi::{FrameInfo, FrameKind, Pfn};
use libos::memory::choice::{Chooser, Colours};
use libos::memory::{MemoryCalls, Run};
use selftest::check::{Failure, Outcome, holds, same};

use crate::bench::{Bench, Check};

pub(crate) const CHECKS: &[Check] = &[
    ("runs of an order are aligned, and own", orders),
    ("frames of a colour are of it, and own", colours),
    ("one that comes too late takes the next", too_late),
];

/// Whether all of a run is plain memory of this application.
fn is_own(bench: &Bench, run: Run) -> bool {
    let own = |frame: Pfn| {
        bench.environment.frame_table.get(frame.0 as usize).is_some_and(|entry| {
            entry.owner.load(Relaxed) == bench.environment.id.0
                && entry.kind.load(Relaxed) == FrameKind::Memory as u8
        })
    };
    (0..run.count).all(|offset| own(run.first.plus(offset)))
}

fn orders(bench: &mut Bench) -> Outcome {
    let (mut calls, range) = grant(bench)?;
    let chooser = Chooser::new(bench.environment.frame_table, range);
    // The list must not grow while frames are counted.
    let mut runs = Vec::with_capacity(16);
    let free = bench.environment.free_frames();
    for order in [0, 1, 3, 6, 7, 9, 4, 0] {
        let run = chooser.take_order(&mut calls, order);
        let Some(run) = run else { return holds("there is a run", false) };
        same("length", run.count, 1 << order)?;
        same("alignment", run.first.0 % run.count, 0)?;
        holds("own", is_own(bench, run))?;
        runs.push(run);
    }
    let taken: u32 = runs.iter().map(|run| run.count).sum();
    same("frames taken", free - bench.environment.free_frames(), taken)?;
    holds("one larger than the grant", chooser.take_order(&mut calls, 17).is_none())?;
    for run in runs {
        chooser.give(&mut calls, run)?;
    }
    same("frames free", bench.environment.free_frames(), free)
}

fn grant(
    bench: &Bench,
) -> Result<(libos::memory::guest::KernelCalls, libos::memory::Range), Failure> {
    let grant = bench.environment.memory.grant();
    Ok(grant.ok_or(libos::memory::MemoryError::OutOfFrames)?)
}

fn colours(bench: &mut Bench) -> Outcome {
    let (mut calls, range) = grant(bench)?;
    let chooser = Chooser::new(bench.environment.frame_table, range);
    let Some(colours) = Colours::of_cache(1 << 20, 16) else { return holds("colours", false) };
    let free = bench.environment.free_frames();
    for colour in [0, 5, 15] {
        let mut frames = [Pfn(0); 20];
        let got = chooser.take_coloured(&mut calls, colours, colour, &mut frames);
        same("frames of the colour", got, 20)?;
        for frame in frames {
            let run = Run { first: frame, count: 1 };
            same("colour", colours.of(frame), colour)?;
            holds("own", is_own(bench, run))?;
            chooser.give(&mut calls, run)?;
        }
    }
    same("frames free", bench.environment.free_frames(), free)
}

/// Chooses by an old copy of the table, as if all others had been faster.
fn too_late(bench: &mut Bench) -> Outcome {
    let (mut calls, range) = grant(bench)?;
    let table = bench.environment.frame_table;
    let mut old = Vec::with_capacity(table.len());
    old.extend(table.iter().map(|entry| FrameInfo {
        owner: AtomicU32::new(entry.owner.load(Relaxed)),
        kind: AtomicU8::new(entry.kind.load(Relaxed)),
        level: AtomicU8::new(0),
        pins: AtomicU16::new(0),
        mapped: AtomicU32::new(0),
        generation: AtomicU32::new(0),
    }));
    let (now, old) = (Chooser::new(table, range), Chooser::new(&old, range));
    let free = bench.environment.free_frames();
    let first = now.take_order(&mut calls, 4);
    let second = old.take_order(&mut calls, 4);
    let (Some(first), Some(second)) = (first, second) else { return holds("runs", false) };
    holds("another run", second.first.0 >= first.first.0 + 16 && is_own(bench, second))?;
    let Some(one) = Colours::new(1) else { return holds("colours", false) };
    let mut frame = [Pfn(0)];
    same("frames", old.take_coloured(&mut calls, one, 0, &mut frame), 1)?;
    now.give(&mut calls, Run { first: frame[0], count: 1 })?;
    now.give(&mut calls, first)?;
    now.give(&mut calls, second)?;
    // A frame that is taken cannot be taken, whatever a table says.
    let last = Pfn(range.first.0);
    holds("a frame in use", calls.take(last, 1).is_err())?;
    same("frames free", bench.environment.free_frames(), free)
}
