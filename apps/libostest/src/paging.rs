//! Pagers under real page faults.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use exo_abi::Pfn;
use libos::memory::MemoryError;
use libos::paging::conformance::{self, Real, is_memory};
use libos::paging::guest::{OwnPages, Paged, fault, serve_alone};
use libos::paging::{Contents, CopyOnWrite, DemandZero, PAGE_BYTES, Pager, Pages};
use libos::sched::policy::RoundRobin;

use libos::upcall;
use selftest::check::{Failure, Outcome, holds, same};

use crate::bench::{Bench, Check};
use crate::own_pager::Fifo;
use crate::registers::Image;
use crate::threads::compute_and_count;

pub(crate) const CHECKS: &[Check] = &[
    ("pagers conform in the guest", pagers_conform),
    ("demand-zero pages are memory", demand_zero),
    ("untouched pages cost nothing", sparse),
    ("copy-on-write pages are memory", copy_on_write),
    ("an application's own pager is memory", first_in_first_out),
    ("registers, flags and red zone survive page faults", registers),
    ("threads fault and are preempted", with_threads),
];

/// Pages of the regions here.
const PAGES: u32 = 24;

fn pattern(at: usize) -> u8 {
    (at / PAGE_BYTES * 37 + at % 253) as u8
}

fn pattern_page(page: usize) -> Contents {
    core::array::from_fn(|offset| pattern(page * PAGE_BYTES + offset))
}

fn store(pages: u32) -> Vec<Contents> {
    (0..pages as usize).map(pattern_page).collect()
}

fn originals(pages: &mut dyn Pages) -> Result<Vec<Pfn>, MemoryError> {
    let one = |page| {
        let frame = pages.take()?;
        pages.edit(frame, &mut |contents| *contents = pattern_page(page))?;
        Ok(frame)
    };
    (0..PAGES as usize).map(one).collect()
}

fn pagers_conform(_: &mut Bench) -> Outcome {
    conformance::check(8, |_| DemandZero::new(8), |_| 0);
    conformance::check(8, |_| Fifo::new(store(8), 3), pattern);
    Ok(())
}

/// Serves page faults while `act` runs.
fn paging<T>(bench: &Bench, act: impl FnOnce() -> T) -> T {
    // SAFETY: the bench's stack is for upcalls, and threads do not run.
    unsafe { serve_alone(bench.upcall_stack()) };
    let result = act();
    upcall::remove(upcall::u_area());
    result
}

/// Lets a region be used as memory, and closed. Returns the faults it took, and how
/// many frames the region kept busy before it was closed.
fn use_region<P: Pager>(
    bench: &Bench,
    pager: impl FnOnce(&mut OwnPages) -> Result<P, MemoryError>,
    initial: impl Fn(usize) -> u8,
) -> Result<(u64, u32), Failure> {
    let mut region = Paged::new(PAGES, pager)?;
    paging(bench, || region.enter(|memory| is_memory(&mut Real(memory), PAGES, initial, 11)))?;
    let faults = region.faults();
    let before = bench.environment.free_frames();
    region.close()?;
    Ok((faults, bench.environment.free_frames() - before))
}

fn demand_zero(bench: &mut Bench) -> Outcome {
    let (faults, frames) = use_region(bench, |_| Ok(DemandZero::new(PAGES)), |_| 0)?;
    same("faults", faults, u64::from(PAGES))?;
    same("frames", frames, PAGES)
}

fn sparse(bench: &mut Bench) -> Outcome {
    let mut region = Paged::new(100_000, |_| Ok(DemandZero::new(100_000)))?;
    let touched = [0, 1, 511, 512, 70_000, 99_999].map(|page| page * PAGE_BYTES + 123);
    let wrong = paging(bench, || {
        region.enter(|memory| {
            for at in touched {
                memory[at] = 1;
            }
            touched.iter().filter(|at| core::hint::black_box(&*memory)[**at] != 1).count()
        })
    })?;
    same("bytes that were lost", wrong, 0)?;
    same("faults", region.faults(), 6)?;
    same("pages there", region.pager().resident(), 6)?;
    Ok(region.close()?)
}

fn copy_on_write(bench: &mut Bench) -> Outcome {
    // Two regions of the same originals: one is written, the other keeps what was.
    let mut first = Paged::new(PAGES, |pages| Ok(CopyOnWrite::new(originals(pages)?)))?;
    let frames = first.pager().originals().to_vec();
    let mut second = Paged::new(PAGES, |_| Ok(CopyOnWrite::new(frames.clone())))?;
    paging(bench, || {
        first.enter(|written| {
            let whole = second.enter(|kept| {
                is_memory(&mut Real(written), PAGES, pattern, 5);
                let kept = core::hint::black_box(kept);
                kept.iter().enumerate().all(|(at, byte)| *byte == pattern(at))
            });
            holds("originals stay", whole?)
        })
    })??;
    holds("pages were copied", first.pager().copied() > 0)?;
    same("pages copied for the reader", second.pager().copied(), 0)?;
    same("faults of the reader", second.faults(), u64::from(PAGES))?;
    second.close()?;
    let (pager, pages) = first.parts();
    pager.close(pages)?;
    for (page, frame) in frames.into_iter().enumerate() {
        let mut whole = false;
        pages.edit(frame, &mut |contents| whole = *contents == pattern_page(page))?;
        holds("originals are what they were", whole)?;
        pages.give(frame)?;
    }
    Ok(())
}

fn first_in_first_out(bench: &mut Bench) -> Outcome {
    let (faults, frames) = use_region(bench, |_| Ok(Fifo::new(store(PAGES), 5)), pattern)?;
    holds("pages had to go", faults > 2 * u64::from(PAGES))?;
    same("frames", frames, 5)
}

fn registers(bench: &mut Bench) -> Outcome {
    let mut region = Paged::new(PAGES, |_| Ok(Fifo::new(store(PAGES), 2)))?;
    let wrong = paging(bench, || {
        region.enter(|memory| {
            let mut wrong = 0;
            for seed in 1..60_u64 {
                let page = seed as usize * 7 % PAGES as usize * PAGE_BYTES;
                let word = memory[page + 8..].as_mut_ptr().cast();
                let start = Image::pattern(seed, 3, word);
                let mut image = start;
                image.hold();
                // SAFETY: the word is in the region, aligned, and not borrowed elsewhere.
                let written = unsafe { word.read_volatile() };
                wrong += u64::from(image != start.expected() || written != start.written());
            }
            wrong
        })
    })?;
    holds("faults", region.faults() > 40)?;
    region.close()?;
    same("times something was lost", wrong, 0)
}

fn with_threads(bench: &mut Bench) -> Outcome {
    let rounds = AtomicU64::new(0);
    let refused = AtomicU64::new(0);
    let bodies = (1..=3_u64).map(|seed| {
        let (rounds, refused) = (&rounds, &refused);
        ((), move || {
            let region = Paged::new(PAGES, |_| Ok(Fifo::new(store(PAGES), 6)));
            let Ok(mut region) = region else {
                refused.fetch_add(1, Relaxed);
                return;
            };
            let mut turn = 0;
            // Each round begins with what the last one left in the store.
            let mut expected: Vec<u8> = (0..PAGES as usize * PAGE_BYTES).map(pattern).collect();
            while turn == 0 || compute_and_count() < 10 {
                turn += 1;
                let result = region.enter(|memory| {
                    is_memory(&mut Real(memory), PAGES, |at| expected[at], seed + turn);
                    expected.copy_from_slice(core::hint::black_box(memory));
                });
                refused.fetch_add(u64::from(result.is_err()), Relaxed);
                rounds.fetch_add(1, Relaxed);
            }
            refused.fetch_add(u64::from(region.close().is_err()), Relaxed);
        })
    });
    bench.run(RoundRobin::new(), fault, bodies)?;
    same("refusals", refused.into_inner(), 0)?;
    holds("rounds", rounds.into_inner() >= 3)
}
