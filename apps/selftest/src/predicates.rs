//! Sleeping until a condition on memory holds, and neither longer nor shorter.

use core::sync::atomic::Ordering::Relaxed;

use dpf::{Atom, Filter, MAX_WIRE};
use exo_abi::boot::{SELF, U_AREA};
use exo_abi::{EnvState, Error, Handle, Protection, UArea, UserPtr, Word};
use libos::sys;
use libos::time::timestamp;
use selftest::check::{Outcome, holds, refused, same};
use selftest::child::{Child, Code, SHARED, exit};
use selftest::frames::{read, write};
use selftest::server::{events, handle};

use crate::bench::{Bench, Check, PATIENCE};

pub(crate) const CHECKS: &[Check] = &[
    ("two wake each other through a page they share", two_sleepers),
    ("a condition that holds is no sleep", holds_already),
    ("a condition may lie across two pages", across_pages),
    ("a condition that never holds ends at its deadline", deadline),
    ("events do not end a sleep for a condition", not_by_events),
    ("a sleep for a condition ends with its memory", memory_gone),
    ("a condition may be about the own event count", event_count),
    ("what is no condition is refused", refusals),
];

/// Words of the shared page: what each says to the other, and where a child finds a
/// handle.
const ASKED: usize = 0;
const ANSWERED: usize = 8;
const BELL: usize = 16;

/// Sleeps until `atoms` match the bytes at `memory`.
fn sleep(atoms: &[Atom], memory: u64, deadline: u64) -> Result<u64, Error> {
    let mut wire = [0; MAX_WIRE];
    let filter = Filter::new(atoms).map_err(|_| Error::BadFilter)?;
    let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
    let predicate = UserPtr(wire.as_ptr().expose_provenance() as u64);
    sys::wait_until(predicate, length as u64, UserPtr(memory), deadline)
}

/// The low byte of the word at `offset` is `value`.
fn byte(offset: usize, value: u64) -> [Atom; 1] {
    [Atom::exact(offset as u16, 1, value & 0xff)]
}

/// Long enough that nothing waits so long unless something is wrong.
fn guard() -> u64 {
    timestamp() + PATIENCE
}

/// Answers until it was asked as often as `rounds` says.
extern "C" fn answers(rounds: u64) -> ! {
    for round in 1..=rounds {
        if sleep(&byte(ASKED, round), SHARED.get(), 0).is_err() {
            exit(1);
        }
        if read(SHARED, ASKED) != round {
            exit(2);
        }
        write(SHARED, ANSWERED, round);
    }
    exit(0)
}

fn two_sleepers(bench: &mut Bench) -> Outcome {
    const ROUNDS: u64 = 100;
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let child = bench.maker.child()?;
    child.share(page)?;
    child.start(answers, ROUNDS)?;
    for round in 1..=ROUNDS {
        write(window, ASKED, round);
        sleep(&byte(ANSWERED, round), window.get(), guard())?;
        same("answer", read(window, ANSWERED), round)?;
    }
    let status = child.wait(PATIENCE)?;
    same("the child's code", status.map(|status| status.code), Some(0))?;
    child.destroy()?;
    Ok(bench.frames.drop_page(window, page)?)
}

fn holds_already(bench: &mut Bench) -> Outcome {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    write(window, 40, 0x0807_0605_0403_0201);
    // Bytes in network order, and only the bits that the mask has.
    let masked = Atom::masked(44, 1, 0x04, 0x04);
    sleep(&[Atom::exact(40, 4, 0x0102_0304), masked], window.get(), 0)?;
    // The last byte it may look at.
    write(window, 248, 0xab << 56);
    let count = sleep(&[Atom::exact(255, 1, 0xab)], window.get(), 0)?;
    same("count", count, events().0)?;
    Ok(bench.frames.drop_page(window, page)?)
}

fn across_pages(bench: &mut Bench) -> Outcome {
    let (one, two) = (bench.window(), bench.window());
    let pages = [bench.frames.page(one)?, bench.frames.page(two)?];
    same("second window", two.get(), one.get() + 4096)?;
    write(one, 4088, 0x12 << 56);
    write(two, 0, 0x34);
    sleep(&[Atom::exact(0, 2, 0x1234)], one.get() + 4095, 0)?;
    // Half of it cannot be read.
    sys::unmap(SELF, two, 1)?;
    let half = sleep(&[Atom::exact(0, 2, 0x1234)], one.get() + 4095, guard());
    refused(half, Error::BadPointer)?;
    bench.frames.drop_page(one, pages[0])?;
    Ok(bench.frames.give(pages[1], 1)?)
}

fn deadline(bench: &mut Bench) -> Outcome {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let millisecond = bench.environment.system.tsc_hz.load(Relaxed) / 1000;
    for length in [0, 1, 3, 20] {
        let deadline = timestamp() + length * millisecond;
        sleep(&byte(0, 1), window.get(), deadline)?;
        holds("too early", timestamp() >= deadline)?;
    }
    // One that has passed before.
    sleep(&byte(0, 1), window.get(), 1)?;
    Ok(bench.frames.drop_page(window, page)?)
}

const RINGS: u64 = 40;

/// Rings, and only then makes the condition true.
extern "C" fn rings_and_answers(_: u64) -> ! {
    let bell = handle(SHARED, BELL);
    for _ in 0..RINGS {
        if sys::doorbell_ring(bell).is_err() {
            exit(1);
        }
        let _ = sys::slice_yield();
    }
    write(SHARED, ANSWERED, 1);
    exit(0)
}

fn not_by_events(bench: &mut Bench) -> Outcome {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let child = bench.maker.child()?;
    child.share(page)?;
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    write(window, BELL, sys::cap_grant(bell, child.env)?);
    let before = events().0;
    child.start(rings_and_answers, 0)?;
    sleep(&byte(ANSWERED, 1), window.get(), guard())?;
    same("answer", read(window, ANSWERED), 1)?;
    holds("its rings are no events", events().0 >= before + RINGS)?;
    child.destroy()?;
    sys::cap_drop(bell)?;
    Ok(bench.frames.drop_page(window, page)?)
}

/// Sleeps for what never comes.
extern "C" fn sleeps(_: u64) -> ! {
    match sleep(&byte(ANSWERED, 1), SHARED.get(), 0) {
        Ok(_) => exit(77),
        Err(error) => exit(error.code()),
    }
}

/// Waits until `child` sleeps, and sees that it goes on to.
fn asleep(child: &Child<'_>) -> Outcome {
    let end = guard();
    while child.status()?.state != EnvState::Waiting as u32 {
        sys::slice_yield()?;
        holds("it does not sleep", timestamp() < end)?;
    }
    for _ in 0..30 {
        sys::slice_yield()?;
        same("state", child.status()?.state, EnvState::Waiting as u32)?;
    }
    Ok(())
}

fn memory_gone(bench: &mut Bench) -> Outcome {
    let frame = bench.frames.take(SELF, 1)?;
    let child = bench.maker.child()?;
    child.share_at(frame, SHARED, Protection::Read)?;
    let code: Code = sleeps;
    child.start(code, 0)?;
    asleep(&child)?;
    sys::unmap(child.env, SHARED, 1)?;
    let status = child.wait(PATIENCE)?;
    same("the child's code", status.map(|status| status.code), Some(77))?;
    child.destroy()?;
    Ok(bench.frames.give(frame, 1)?)
}

extern "C" fn ends(code: u64) -> ! {
    exit(code)
}

fn event_count(bench: &mut Bench) -> Outcome {
    let place = core::mem::offset_of!(UArea, events);
    for _ in 0..3 {
        let child = bench.maker.child()?;
        let next = events().0 + 1;
        let code: Code = ends;
        child.start(code, 0)?;
        let count = sleep(&byte(place, next), U_AREA, guard())?;
        same("count", (count, events().0), (next, next))?;
        same("state", child.status()?.state, EnvState::Exited as u32)?;
        child.destroy()?;
    }
    Ok(())
}

fn refusals(bench: &mut Bench) -> Outcome {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let at = window.get();
    refused(sleep(&[Atom::exact(256, 1, 0)], at, 1), Error::TooMuch)?;
    refused(sleep(&[Atom::exact(249, 8, 0)], at, 1), Error::TooMuch)?;
    refused(sleep(&byte(0, 0), at + 0x1000_0000_0000, 1), Error::BadPointer)?;
    refused(sys::wait_until(UserPtr(at), 21, UserPtr(at), 1), Error::BadFilter)?;
    Ok(bench.frames.drop_page(window, page)?)
}
