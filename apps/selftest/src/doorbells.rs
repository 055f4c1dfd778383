//! Doorbells and the event ring.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use exo_abi::{EVENT_RING_WORDS, Error, EventRing, Handle, Rights, Word};
use libos::sys;
use selftest::check::{Failure, Outcome, holds, refused, same};
use selftest::child::{Code, SHARED, exit};
use selftest::frames::{read, write};
use selftest::server::{area, events, handle};

use crate::bench::{Bench, Check, PATIENCE};

pub(crate) const CHECKS: &[Check] = &[
    ("a doorbell wakes a sleeper and shows the badge", wakes),
    ("a full ring counts what is lost", full),
    ("a badge is given once", once),
    ("a doorbell can be taken back", taken_back),
];

/// Where the handle and the number of rings lie on the shared page.
const BELL: usize = 0;
const RINGS: usize = 8;

extern "C" fn rings(_: u64) -> ! {
    for _ in 0..read(SHARED, RINGS) {
        if let Err(error) = sys::doorbell_ring(handle(SHARED, BELL)) {
            exit(error.code());
        }
    }
    exit(0)
}

/// Takes everything out of the ring.
fn drain(ring: &EventRing) -> alloc::vec::Vec<u64> {
    let (from, to) = (ring.consumed.load(Relaxed), ring.produced.load(Acquire));
    let badges =
        (from..to).map(|at| ring.badges[(at % EVENT_RING_WORDS) as usize].load(Relaxed)).collect();
    ring.consumed.store(to, Release);
    badges
}

/// Has a child ring `times`; returns the capabilities to drop.
fn rung(bench: &Bench, badge: u64, times: u64) -> Result<alloc::vec::Vec<u64>, Failure> {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let child = bench.maker.child()?;
    child.share(page)?;
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    let marked = Handle::from_word(sys::cap_badge(bell, badge)?)?;
    write(window, BELL, sys::cap_grant(marked, child.env)?);
    write(window, RINGS, times);
    drain(&area().ring);
    let code: Code = rings;
    let before = events();
    child.start(code, 0)?;
    // No deadline: if nothing woke the program, the check would hang.
    sys::wait(before, 0)?;
    same("how it ended", child.wait(PATIENCE)?.map(|status| status.code), Some(0))?;
    same("events: the rings, and the end", events().0, before.0 + times + 1)?;
    child.destroy()?;
    for capability in [marked, bell] {
        sys::cap_drop(capability)?;
    }
    bench.frames.drop_page(window, page)?;
    Ok(drain(&area().ring))
}

fn wakes(bench: &mut Bench) -> Outcome {
    for (badge, times) in [(1, 1), (0x0fff_ffff_ffff_ffff, 5), (77, 32)] {
        same("badges", rung(bench, badge, times)?, alloc::vec![badge; times as usize])?;
    }
    Ok(())
}

fn full(bench: &mut Bench) -> Outcome {
    let lost = area().ring.lost.load(Relaxed);
    let badges = rung(bench, 9, u64::from(EVENT_RING_WORDS) + 8)?;
    same("badges", badges.len(), EVENT_RING_WORDS as usize)?;
    same("lost", area().ring.lost.load(Relaxed), lost + 8)?;
    same("badges afterwards", rung(bench, 3, 2)?, alloc::vec![3, 3])
}

fn once(_: &mut Bench) -> Outcome {
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    for badge in [0, 1 << 60, u64::MAX] {
        refused(sys::cap_badge(bell, badge), Error::BadArgument)?;
    }
    refused(sys::cap_badge(exo_abi::boot::SELF, 1), Error::BadHandle)?;
    let marked = Handle::from_word(sys::cap_badge(bell, 5)?)?;
    refused(sys::cap_badge(marked, 5), Error::NoRight)?;
    let plain = Handle::from_word(sys::cap_derive(marked, Rights::CALL, 0, 0)?)?;
    refused(sys::cap_badge(plain, 6), Error::NoRight)?;
    drain(&area().ring);
    sys::doorbell_ring(plain)?;
    sys::doorbell_ring(bell)?;
    same("badges in the ring", drain(&area().ring), alloc::vec![5, 0])?;
    for capability in [plain, marked, bell] {
        sys::cap_drop(capability)?;
    }
    Ok(())
}

fn taken_back(bench: &mut Bench) -> Outcome {
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    let marked = Handle::from_word(sys::cap_badge(bell, 5)?)?;
    sys::cap_revoke(bell)?;
    refused(sys::doorbell_ring(marked), Error::BadHandle)?;
    let mute = Handle::from_word(sys::cap_derive(bell, Rights::GRANT, 0, 0)?)?;
    refused(sys::doorbell_ring(mute), Error::NoRight)?;
    for wrong in [exo_abi::boot::SELF, bench.frames.capability] {
        let answer = sys::doorbell_ring(wrong);
        holds("another kind", matches!(answer, Err(Error::NoRight | Error::BadHandle)))?;
    }
    sys::cap_drop(mute)?;
    sys::cap_drop(bell)?;
    Ok(())
}
