//! Direct calls: the same answers as system calls, from either ring.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{Error, Handle, Lowered, Protection, Rights, UserPtr};
use libos::elevation::{self, Elevation, direct};
use libos::time::timestamp;
use libos::upcall::u_area;
use selftest::check::{Outcome, holds, refused, same};
use selftest::frames::{read, window, write};

use crate::bench::{Bench, Check, OWN, RIGHTS, WHOLE, drop_cap, stays};

pub(crate) const CHECKS: &[Check] = &[
    ("direct calls answer as system calls do, in either ring", answers),
    ("without the right they are system calls", without),
    ("ring 0 may be lost at any instruction of them", lost),
];

fn try_calls(bench: &Bench) -> Outcome {
    let frames = bench.maker.frames;
    let page = window(41);
    for round in 0..20 {
        same("null", direct::null(), Ok(0))?;
        let frame = frames.find(1).ok_or(Error::NotFree)?;
        direct::frames_take(frames.capability, SELF, frame, 1)?;
        refused(direct::frames_take(frames.capability, SELF, frame, 1), Error::NotFree)?;
        frames.cover(SELF, page)?;
        direct::map(SELF, SELF, frame, page, 1, Protection::ReadWrite)?;
        write(page, 0, round);
        same("word", read(page, 0), round)?;
        direct::unmap(SELF, page, 1)?;
        direct::frames_free(frame, 1)?;
        refused(direct::cap_drop(Handle::NONE), Error::BadHandle)?;
        refused(direct::env_status(OWN, UserPtr(0x10)), Error::BadPointer)?;
        direct::slice_yield()?;
    }
    Ok(())
}

fn is_gate() -> bool {
    u_area().elevation.call.load(Relaxed) >> 63 == 1
}

fn answers(bench: &mut Bench) -> Outcome {
    try_calls(bench)?;
    holds("a gate in ring 3", !is_gate())?;
    let mut stretch = bench.right().begin()?;
    stays(&mut stretch)?;
    holds("no gate in ring 0", is_gate())?;
    try_calls(bench)?;
    stays(&mut stretch)?;
    drop(stretch);
    holds("a gate in ring 3 afterwards", !is_gate())?;
    try_calls(bench)
}

fn without(bench: &mut Bench) -> Outcome {
    let rights = Rights::CONTROL.with(Rights::GRANT);
    let cap = Bench::less(bench.handle, rights, WHOLE)?;
    let mut stretch = Elevation::new(cap).begin()?;
    holds("a gate", !is_gate())?;
    try_calls(bench)?;
    stays(&mut stretch)?;
    drop(stretch);
    Ok(drop_cap(cap)?)
}

/// Direct calls and nothing else, through many ends of stretches.
fn lost(bench: &mut Bench) -> Outcome {
    let short = exo_abi::Allowance { stretch: 300, ..WHOLE };
    let cap = Bench::less(bench.handle, RIGHTS, short)?;
    let mut stretch = Elevation::new(cap).begin()?;
    let enough = timestamp() + bench.ticks(60_000);
    let mut ends = 0;
    while timestamp() < enough {
        if !elevation::is_elevated() {
            same("reason", elevation::why(), Some(Lowered::Deadline))?;
            ends += 1;
            stretch.keep()?;
        }
        for _ in 0..50 {
            same("null", direct::null(), Ok(0))?;
        }
    }
    drop(stretch);
    holds("the stretches never ended", ends > 10)?;
    Ok(drop_cap(cap)?)
}
