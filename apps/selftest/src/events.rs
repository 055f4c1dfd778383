//! The event count, and when `wait` returns.

use core::sync::atomic::Ordering::Acquire;

use exo_abi::boot::U_AREA;
use exo_abi::{EnvState, Error, EventCount, UArea};
use libos::sys;
use libos::time::timestamp;
use selftest::check::{Outcome, holds, same};
use selftest::child::exit;

use crate::bench::{Bench, Check, PATIENCE};

pub(crate) const CHECKS: &[Check] = &[
    ("wait returns at once if the count has moved", moved),
    ("wait returns when the deadline has passed", passed),
    ("wait sleeps until the deadline", deadline),
    ("a sleeper wakes when it gets its time back", without_time),
    ("a child's end is one event", child_ends),
    ("an event before the sleep is not lost", early_event),
];

/// The event count, as the U-area shows it.
pub(crate) fn count(_: &Bench) -> u64 {
    // SAFETY: the creator mapped the U-area here for good; only an atomic is used.
    let area = unsafe { &*core::ptr::with_exposed_provenance::<UArea>(U_AREA as usize) };
    area.events.load(Acquire)
}

extern "C" fn ends(code: u64) -> ! {
    exit(code)
}

fn moved(bench: &mut Bench) -> Outcome {
    let events = count(bench);
    for seen in [events.wrapping_sub(1), events + 1, u64::MAX] {
        same("count", sys::wait(EventCount(seen), 0)?, events)?;
    }
    Ok(())
}

fn passed(bench: &mut Bench) -> Outcome {
    let events = count(bench);
    for deadline in [1, timestamp()] {
        same("count", sys::wait(EventCount(events), deadline)?, events)?;
    }
    same("count afterwards", count(bench), events)
}

fn deadline(bench: &mut Bench) -> Outcome {
    let events = count(bench);
    for step in [100_000, 3_000_000, 10_000_000] {
        let deadline = timestamp() + step;
        same("count", sys::wait(EventCount(events), deadline)?, events)?;
        holds("woke before the deadline", timestamp() >= deadline)?;
    }
    Ok(())
}

extern "C" fn sleeps_until(deadline: u64) -> ! {
    let _ = sys::wait(EventCount(0), deadline);
    exit(0)
}

/// An environment without a slot cannot wake; its deadline must not be forgotten for that.
fn without_time(bench: &mut Bench) -> Outcome {
    let keeper = bench.maker.keeper().ok_or(Error::WrongState)?;
    let slot = bench.maker.slot();
    // On a busy host a short sleep may be over before it was noticed.
    for length in (24..36).map(|bits| 1 << bits) {
        let child = bench.maker.child()?;
        let deadline = timestamp() + length;
        child.start(sleeps_until, deadline)?;
        let asleep = loop {
            match EnvState::from_u32(child.status()?.state) {
                Some(EnvState::Ready) => drop(sys::slice_yield()?),
                state => break state == Some(EnvState::Waiting),
            }
        };
        if !asleep {
            child.destroy()?;
            continue;
        }
        sys::slots_assign(child.env, slot, 1, keeper)?;
        let slept = child.status()?.state == EnvState::Waiting as u32;
        while timestamp() < deadline {
            sys::wait(EventCount(count(bench)), deadline)?;
        }
        sys::slots_assign(keeper, slot, 1, child.env)?;
        // Without a deadline of its own, at which the kernel would look again.
        for _ in 0..500 {
            sys::slice_yield()?;
        }
        same("state with time", child.status()?.state, EnvState::Exited as u32)?;
        child.destroy()?;
        if slept {
            return Ok(());
        }
    }
    holds("no sleep was long enough", false)
}

fn child_ends(bench: &mut Bench) -> Outcome {
    let before = count(bench);
    let child = bench.maker.child()?;
    same("count after making a child", count(bench), before)?;
    child.start(ends, 7)?;
    let status = child.wait(PATIENCE)?;
    same("exit code", status.map(|status| status.code), Some(7))?;
    same("count after its end", count(bench), before + 1)?;
    child.destroy()?;
    same("count after its destruction", count(bench), before + 1)
}

fn early_event(bench: &mut Bench) -> Outcome {
    let seen = count(bench);
    let child = bench.maker.child()?;
    child.start(ends, 0)?;
    while count(bench) == seen {
        sys::slice_yield()?;
    }
    // No deadline: if the event were lost, nothing would end this sleep.
    same("count", sys::wait(EventCount(seen), 0)?, seen + 1)?;
    child.destroy()?;
    Ok(())
}
