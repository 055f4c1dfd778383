//! Races between processors: the same capability, the same frame, the same environment
//! at the same time on two of them.
//!
//! The attacker runs on one processor and a child of it on the other: as long as the
//! attacker computes, whichever processor it is not on comes to the child. With one
//! processor there is nothing to race with.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::{SELF, STACK_TOP};
use exo_abi::{
    BATCH_MAX, BATCH_WORDS, Error, Handle, LARGE_PAGES, Pfn, Protection, Rights, SLOT_COUNT,
    Upcall, UserPtr, VirtAddr, Word, call_number,
};
use libos::entry_point;
use libos::sys;
use libos::time::timestamp;
use libos::transfer::{Message, Remote};
use selftest::child::{Child, Code, SHARED, exit, until_done};
use selftest::frames::{read, write};
use selftest::server::{area, handle};

use crate::attack::{Attack, Attacker, Attempt, PATIENCE, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "use a capability elsewhere while it is revoked", run: |a| race(a, derivers) },
    Attack {
        name: "derive elsewhere, in batches, what is being revoked",
        run: |a| race(a, derivers_in_batches),
    },
    Attack {
        name: "write elsewhere to a page while it is unmapped",
        run: |a| race(a, |a, away| writers(a, away, Way::Unmap)),
    },
    Attack {
        name: "write elsewhere to a large page while it is unmapped",
        run: |a| race(a, |a, away| writers(a, away, Way::UnmapLarge)),
    },
    Attack {
        name: "write elsewhere to a frame while it is taken away",
        run: |a| race(a, |a, away| writers(a, away, Way::Enforce)),
    },
    Attack { name: "run elsewhere while being destroyed", run: |a| race(a, destroyed) },
    Attack { name: "enter an environment that runs elsewhere", run: |a| race(a, entered) },
];

/// A slot of the second processor, and the environment that keeps it while no child has it.
#[derive(Clone, Copy)]
pub(crate) struct Away {
    slot: u32,
    keeper: Handle,
}

impl Away {
    /// Gives `child` the slot, next to the one it has.
    pub(crate) fn lend(self, child: &Child<'_>) -> Result<(), Error> {
        sys::slots_assign(self.keeper, self.slot, 1, child.env).map(drop)
    }

    /// Before `child` is destroyed: its slots would be lost.
    pub(crate) fn take_back(self, child: &Child<'_>) -> Result<(), Error> {
        sys::slots_assign(child.env, self.slot, 1, self.keeper).map(drop)
    }
}

pub(crate) fn race(attacker: &mut Attacker, run: fn(&Attacker, Away) -> Attempt) -> Attempt {
    let system = attacker.environment.system;
    if system.cores.load(Relaxed) < 2 {
        return Ok(Verdict::not_tried("there is one processor"));
    }
    let keeper = attacker.maker.keeper().ok_or(Error::WrongState)?;
    let owned_by = |id: u32| {
        let seconds = SLOT_COUNT..2 * SLOT_COUNT;
        seconds.into_iter().find(|slot| system.slots.owners[*slot].load(Relaxed) == id)
    };
    let kept = owned_by(attacker.maker.slot_owner().0);
    let slot = match (attacker.has_slots_on(0), kept, owned_by(attacker.id().0)) {
        (true, Some(kept), _) => kept as u32,
        (true, None, Some(own)) => {
            sys::slots_assign(SELF, own as u32, 1, keeper)?;
            own as u32
        }
        _ => return Ok(Verdict::not_tried("its slots are not on the first two processors")),
    };
    run(attacker, Away { slot, keeper })
}

/// Words of the page shared with the child: orders, what it reports, and handles.
const ROUND: usize = 0;
const CHECK: usize = 8;
const SEEN: usize = 16;
const CHECKED: usize = 24;
const ALIVE: usize = 32;
const FAULTS: usize = 40;
const HANDLE: usize = 48;
const ENTRY: usize = 56;
/// Where the calls of a batch lie in it.
const BATCH: usize = 1024;

/// Spins until a word of the page at `at` is `value` at least: without leaving this
/// processor, so that the child has the other.
fn until(at: VirtAddr, word: usize, value: u64) -> Result<(), Error> {
    let end = timestamp() + PATIENCE;
    while read(at, word) < value {
        if timestamp() > end {
            return Err(Error::Again);
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// The same in a child, for ever.
fn await_word(word: usize, value: u64) {
    while read(SHARED, word) < value {
        core::hint::spin_loop();
    }
}

const REVOCATIONS: u64 = 200;

/// Derives from the handle it finds, and from what it derived, until it has lost it; then
/// tries what it derived last.
extern "C" fn derives(_: u64) -> ! {
    let rights = Rights::GRANT.with(Rights::INSPECT);
    for round in 1.. {
        await_word(ROUND, round);
        let source = handle(SHARED, HANDLE);
        let mut last: Option<Handle> = None;
        while let Ok(upper) = sys::cap_derive(source, rights, 0, 0).and_then(Handle::from_word) {
            let lower = sys::cap_derive(upper, rights, 0, 0).and_then(Handle::from_word);
            let _ = sys::cap_drop(upper);
            if let Some(last) = last {
                let _ = sys::cap_drop(last);
            }
            last = lower.ok().or(last);
            write(SHARED, ALIVE, read(SHARED, ALIVE) + 1);
        }
        write(SHARED, SEEN, round);
        await_word(CHECK, round);
        for gone in [Some(source), last].into_iter().flatten() {
            let mut status = [0_u8; exo_abi::EnvStatus::BYTES];
            let to = UserPtr(status.as_mut_ptr().expose_provenance() as u64);
            if sys::env_status(gone, to) != Err(Error::BadHandle) {
                exit(round);
            }
        }
        write(SHARED, CHECKED, round);
    }
    exit(0)
}

/// Keeps one capability that comes from the handle it finds, and derives from that as many
/// as it can in each crossing, until there is nothing to derive from.
extern "C" fn derives_in_batches(_: u64) -> ! {
    await_word(ROUND, 1);
    let rights = Rights::GRANT.with(Rights::INSPECT).into_word();
    let upper =
        match sys::raw(call_number("cap_derive"), [read(SHARED, HANDLE), rights, 0, 0, 0, 0]) {
            Ok(handle) => handle,
            Err(error) => exit(error.code()),
        };
    for place in 0..BATCH_MAX as usize {
        let row = BATCH + place * BATCH_WORDS * 8;
        write(SHARED, row, call_number("cap_derive"));
        write(SHARED, row + 8, upper);
        write(SHARED, row + 16, rights);
    }
    loop {
        let _ = sys::batch(UserPtr(SHARED.get() + BATCH as u64), BATCH_MAX);
        write(SHARED, ALIVE, read(SHARED, ALIVE) + 1);
    }
}

/// Calls of a revocation of what has a place in one frame of a table: many more than it
/// needs, many fewer than one that does not end makes.
const STEPS: u64 = 1000;

fn derivers_in_batches(attacker: &Attacker, away: Away) -> Attempt {
    let (child, at, page) = companion(attacker, away, derives_in_batches, attacker.window()?)?;
    let rights = Rights::GRANT.with(Rights::INSPECT);
    let top = Handle::from_word(sys::cap_derive(SELF, rights, 0, 0)?)?;
    write(at, HANDLE, sys::cap_grant(top, child.env)?);
    write(at, ROUND, 1);
    until(at, ALIVE, 10)?;
    let mut steps: u64 = 1;
    while steps < STEPS && sys::cap_revoke(top) == Err(Error::Again) {
        steps += 1;
    }
    let batches = read(at, ALIVE);
    leave(attacker, away, (child, at, page))?;
    until_done(|| sys::cap_revoke(top))?;
    sys::cap_drop(top)?;
    let answer = alloc::format!("done in {steps} steps, {batches} batches");
    Ok(if steps < STEPS { Verdict::repelled(answer) } else { Verdict::breach(answer) })
}

/// A child on the other processor, and the page shared with it.
fn companion<'a>(
    attacker: &'a Attacker,
    away: Away,
    code: Code,
    at: VirtAddr,
) -> Result<(Child<'a>, VirtAddr, Pfn), Error> {
    let page = attacker.frames.page(at)?;
    let child = attacker.maker.child()?;
    child.share(page)?;
    child.start(code, 0)?;
    away.lend(&child)?;
    Ok((child, at, page))
}

fn leave(
    attacker: &Attacker,
    away: Away,
    (child, at, page): (Child<'_>, VirtAddr, Pfn),
) -> Result<(), Error> {
    away.take_back(&child)?;
    child.destroy()?;
    attacker.frames.drop_page(at, page)
}

fn derivers(attacker: &Attacker, away: Away) -> Attempt {
    let (child, at, page) = companion(attacker, away, derives, attacker.window()?)?;
    let rights = Rights::GRANT.with(Rights::INSPECT);
    let top = Handle::from_word(sys::cap_derive(SELF, rights, 0, 0)?)?;
    let mut steps: u64 = 0;
    for round in 1..=REVOCATIONS {
        write(at, HANDLE, sys::cap_grant(top, child.env)?);
        let before = read(at, ALIVE);
        write(at, ROUND, round);
        until(at, ALIVE, before + 1 + round % 5)?;
        let end = timestamp() + PATIENCE;
        while sys::cap_revoke(top) == Err(Error::Again) {
            steps += 1;
            if timestamp() > end {
                return Ok(Verdict::breach("a revocation that does not end"));
            }
        }
        write(at, CHECK, round);
        if until(at, CHECKED, round).is_err() {
            return Ok(Verdict::breach(alloc::format!("yes, in round {round}")));
        }
    }
    sys::cap_drop(top)?;
    let derived = read(at, ALIVE);
    leave(attacker, away, (child, at, page))?;
    let answer =
        alloc::format!("bad handle, {REVOCATIONS} times, {derived} derived, {steps} steps");
    Ok(Verdict::repelled(answer))
}

/// How a page goes away under its writer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Unmap,
    UnmapLarge,
    Enforce,
}

/// Where a child writes.
const SMALL: VirtAddr = match VirtAddr::new(0x2110_0000) {
    Some(at) => at,
    None => panic!("a page of user space"),
};
const LARGE: VirtAddr = match VirtAddr::new(0x8000_0000) {
    Some(at) => at,
    None => panic!("a page of user space"),
};
/// The page of a large one that is written to.
const INSIDE: u32 = 300;

/// End of the stack that upcalls of children run on, as if called.
const CHILD_STACK: u64 = STACK_TOP - 0x2000 - 8;

/// Writes until the page is gone; then comes here again, waits until it is there
/// once more, and goes on.
extern "C" fn writes_again(reason: u64) -> ! {
    let round = read(SHARED, FAULTS) + 1;
    if reason != Upcall::Exception as u64 || area().upcall.vector.load(Relaxed) != 14 {
        exit(2);
    }
    write(SHARED, FAULTS, round);
    await_word(ROUND, round + 1);
    area().upcall.masked.store(0, Relaxed);
    scribble()
}

fn scribble() -> ! {
    let Some(page) = VirtAddr::new(read(SHARED, HANDLE)) else { exit(3) };
    for count in 1.. {
        write(page, 0, count);
        write(page, 4088, count);
    }
    exit(4)
}

extern "C" fn writes(_: u64) -> ! {
    area().upcall.stack.store(CHILD_STACK, Relaxed);
    area().upcall.entry.store(writes_again as *const () as u64, Relaxed);
    await_word(ROUND, 1);
    scribble()
}

/// Looks at a frame for a while after it was retaken; whether it stays zero.
fn stays_zero(attacker: &Attacker, frame: Pfn, glass: VirtAddr) -> Result<bool, Error> {
    sys::frames_take(attacker.frames.capability, SELF, frame, 1)?;
    sys::map(SELF, SELF, frame, glass, 1, Protection::Read)?;
    let zero = (0..3000).all(|_| read(glass, 0) == 0 && read(glass, 4088) == 0);
    sys::unmap(SELF, glass, 1)?;
    Ok(zero)
}

const WRITES: u64 = 200;

/// A child writes without pause to a frame that is unmapped, freed and taken again, and
/// must be zero from then on. That it was written to just before shows that the child
/// was at it.
fn writers(attacker: &Attacker, away: Away, way: Way) -> Attempt {
    let frames = attacker.frames;
    let glass = attacker.window()?;
    let (child, at, page) = companion(attacker, away, writes, attacker.window()?)?;
    let large = way == Way::UnmapLarge;
    let (first, frame, place) = if large {
        let first = frames.take_large(SELF)?;
        frames.cover_large(child.env, LARGE)?;
        (first, first.plus(INSIDE), LARGE.plus(INSIDE).ok_or(Error::BadAddress)?)
    } else {
        frames.cover(child.env, SMALL)?;
        let owner = if way == Way::Enforce { child.env } else { SELF };
        let frame = frames.take(owner, 1)?;
        (frame, frame, SMALL)
    };
    write(at, HANDLE, place.get());
    for round in 1..=WRITES {
        let owner = if way == Way::Enforce { child.env } else { SELF };
        sys::map(SELF, owner, frame, glass, 1, Protection::Read)?;
        match way {
            Way::UnmapLarge => {
                sys::map(child.env, SELF, first, LARGE, LARGE_PAGES, Protection::ReadWrite)?;
            }
            _ => drop(sys::map(child.env, owner, frame, SMALL, 1, Protection::ReadWrite)?),
        }
        write(at, ROUND, round);
        let end = timestamp() + PATIENCE;
        while read(glass, 4088) < 100 + round % 7 {
            if timestamp() > end {
                return Ok(Verdict::breach("nothing: the child does not write"));
            }
        }
        match way {
            Way::Unmap => drop(sys::unmap(child.env, SMALL, 1)?),
            Way::UnmapLarge => drop(sys::unmap(child.env, LARGE, LARGE_PAGES)?),
            Way::Enforce => drop(until_done(|| sys::revoke_enforce(child.env, frame))?),
        }
        if way != Way::Enforce {
            sys::unmap(SELF, glass, 1)?;
            frames.give(frame, 1)?;
        }
        if !stays_zero(attacker, frame, glass)? {
            return Ok(Verdict::breach(alloc::format!("yes, in round {round}")));
        }
        until(at, FAULTS, round)?;
        if way == Way::Enforce {
            frames.give(frame, 1)?;
            sys::frames_take(frames.capability, child.env, frame, 1)?;
        }
    }
    leave(attacker, away, (child, at, page))?;
    match way {
        Way::Unmap => frames.give(frame, 1)?,
        Way::UnmapLarge => frames.give(first, LARGE_PAGES)?,
        Way::Enforce => {}
    }
    Ok(Verdict::repelled(alloc::format!("page fault, {WRITES} times")))
}

extern "C" fn counts(_: u64) -> ! {
    loop {
        write(SHARED, ALIVE, read(SHARED, ALIVE) + 1);
    }
}

const DESTRUCTIONS: u64 = 60;

fn destroyed(attacker: &Attacker, away: Away) -> Attempt {
    let window = attacker.window()?;
    let before = attacker.frames.free();
    for round in 0..DESTRUCTIONS {
        let (child, at, page) = companion(attacker, away, counts, window)?;
        let id = child.id;
        until(at, ALIVE, 100 + round)?;
        away.take_back(&child)?;
        child.destroy()?;
        let last = read(at, ALIVE);
        let still = (0..3000).all(|_| read(at, ALIVE) == last);
        attacker.frames.drop_page(at, page)?;
        let back = attacker.frames.free() == before && Child::is_gone(&attacker.maker, id);
        if !still || !back {
            return Ok(Verdict::breach(alloc::format!("lives on, in round {round}")));
        }
    }
    Ok(Verdict::repelled(alloc::format!("gone, {DESTRUCTIONS} times")))
}

entry_point!(
    /// Adds what it was sent.
    service => serve
);

extern "C" fn serve(_: u64, _: u64, message: &mut Message) {
    message[1] = message[0] + 1;
}

/// Names an entry point, and computes.
extern "C" fn serves(_: u64) -> ! {
    let made = sys::entry_create(0, UserPtr(service as *const () as u64), UserPtr(CHILD_STACK + 8))
        .and_then(Handle::from_word)
        .and_then(|entry| sys::cap_grant(entry, handle(SHARED, HANDLE)));
    match made {
        Ok(entry) => write(SHARED, ENTRY, entry),
        Err(error) => exit(error.code()),
    }
    counts(0)
}

const CALLS: u64 = 3000;

/// An environment that computes on the other processor is busy; one that was just interrupted
/// may be entered, and must go on as if nothing had happened.
fn entered(attacker: &Attacker, away: Away) -> Attempt {
    let at = attacker.window()?;
    let page = attacker.frames.page(at)?;
    let child = attacker.maker.child()?;
    child.share(page)?;
    let known = sys::cap_derive(SELF, Rights::ENDOW.with(Rights::GRANT), 0, 0)?;
    let known = Handle::from_word(known)?;
    write(at, HANDLE, sys::cap_grant(known, child.env)?);
    child.start(serves, 0)?;
    away.lend(&child)?;
    until(at, ALIVE, 1)?;
    let entry = handle(at, ENTRY);
    let remote = Remote::<Message, Message>::new(entry);
    let (mut busy, mut served) = (0, 0);
    for call in 0..CALLS {
        let before = read(at, ALIVE);
        match remote.call([call, 0, 0, 0, 0, 0]) {
            Err(Error::Busy) => busy += 1,
            Ok(reply) if reply[1] == call + 1 => served += 1,
            Ok(_) => return Ok(Verdict::breach("another's answer")),
            Err(error) => return Ok(Verdict::breach(error)),
        }
        if call % 64 == 0 {
            until(at, ALIVE, before + 1)?;
        }
    }
    leave(attacker, away, (child, at, page))?;
    sys::cap_drop(entry)?;
    sys::cap_drop(known)?;
    let answer = alloc::format!("busy, {busy} times, and {served} times served");
    Ok(Verdict::harmless(busy > 0, answer))
}
