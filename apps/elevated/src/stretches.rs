//! To ring 0 and back, and what goes on there as ever.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{Allowance, Error, Handle, Lowered, Protection};
use libos::elevation::{self, Elevation};
use libos::sched::{Park, Ticks};
use libos::time::timestamp;
use libos::{println, sys};
use selftest::check::{Outcome, holds, refused, same};
use selftest::frames::{read, window, write};

use crate::bench::{Bench, Check, RIGHTS, WHOLE, drop_cap, in_ring, lost_by, stays};

pub(crate) const CHECKS: &[Check] = &[
    ("no ring 0 without a capability for it", refusals),
    ("ring 0 and back", there_and_back),
    ("what only ring 0 may do can be done there", privileged),
    ("system calls from ring 0", calls),
    ("the timer preempts ring 0, and nothing is lost", preempted),
    ("sleeping in ring 0", sleeps),
    ("a stretch can be kept", kept),
    ("the worked example", example),
];

fn refusals(bench: &mut Bench) -> Outcome {
    let start = &bench.environment.start;
    for other in [Some(SELF), Some(start.frames), start.console, Some(Handle::NONE)] {
        refused(sys::elevate(other.unwrap_or(Handle::NONE)), Error::BadHandle)?;
    }
    refused(sys::lower(), Error::WrongState)?;
    in_ring(3)
}

fn there_and_back(bench: &mut Bench) -> Outcome {
    let count = elevation::area().count.load(Relaxed);
    for _ in 0..100 {
        in_ring(3)?;
        let stretch = bench.right().begin()?;
        in_ring(0)?;
        drop(stretch);
        lost_by(Lowered::Asked)?;
    }
    same("stretches", elevation::area().count.load(Relaxed), count + 100)
}

fn privileged(bench: &mut Bench) -> Outcome {
    let _stretch = bench.right().begin()?;
    let root: u64;
    // SAFETY: reading a control register, which ring 0 may.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack)) };
    holds("no page table", root != 0)?;
    in_ring(0)
}

fn calls(bench: &mut Bench) -> Outcome {
    let frames = bench.maker.frames;
    let page = window(40);
    let mut stretch = bench.right().begin()?;
    for round in 0..50 {
        stays(&mut stretch)?;
        sys::null()?;
        let frame = frames.take(SELF, 1)?;
        frames.map((SELF, SELF), frame, page, 1, Protection::ReadWrite)?;
        write(page, 8, round);
        same("word", read(page, 8), round)?;
        sys::unmap(SELF, page, 1)?;
        sys::frames_free(frame, 1)?;
        refused(sys::raw(1 << 40, [0; 6]), Error::NoSuchCall)?;
        sys::slice_yield()?;
    }
    stays(&mut stretch)?;
    println!("printed from ring {}", crate::bench::ring());
    Ok(())
}

fn preempted(bench: &mut Bench) -> Outcome {
    let traps = &bench.environment.system.traps;
    let mut stretch = bench.right().begin()?;
    let (mut sum, mut wanted) = (0_u64, 0_u64);
    let enough = traps.load(Relaxed) + 30;
    let mut rounds = 0;
    while traps.load(Relaxed) < enough {
        for _ in 0..1000 {
            rounds += 1;
            sum = core::hint::black_box(sum).rotate_left(5) ^ rounds;
        }
        stretch.keep()?;
    }
    stays(&mut stretch)?;
    drop(stretch);
    for round in 1..=rounds {
        wanted = wanted.rotate_left(5) ^ round;
    }
    same("sum", sum, wanted)
}

fn sleeps(bench: &mut Bench) -> Outcome {
    let mut stretch = bench.right().begin()?;
    for _ in 0..20 {
        let until = timestamp() + bench.ticks(200);
        let seen = bench.environment.park.seen();
        bench.environment.park.park(seen, Some(Ticks(until)));
        stays(&mut stretch)?;
    }
    Ok(())
}

fn kept(bench: &mut Bench) -> Outcome {
    let short = Bench::less(bench.handle, RIGHTS, Allowance { stretch: 20_000, ..WHOLE })?;
    let mut stretch = Elevation::new(short).begin()?;
    let first = stretch.end();
    let enough = first + bench.ticks(20_000);
    while timestamp() < enough {
        stays(&mut stretch)?;
    }
    holds("the stretch did not move", stretch.end() > first)?;
    drop(stretch);
    Ok(drop_cap(short)?)
}

fn example(bench: &mut Bench) -> Outcome {
    // It computes until its stretch ends, and the manifest's is a long one.
    let short = Bench::less(bench.handle, RIGHTS, Allowance { stretch: 20_000, ..WHOLE })?;
    crate::example::run(short)?;
    lost_by(Lowered::Deadline)?;
    Ok(drop_cap(short)?)
}
