//! Upcalls into the kernel, and the grace at a slice's end: to keep the processor by it, or
//! to have another environment pay for it.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::STACK_TOP;
use exo_abi::{Error, EventCount, GRACE_MICROSECONDS, Upcall};
use libos::entry_point;
use libos::sys;
use libos::time::timestamp;
use libos::transfer::{Message, Remote};
use selftest::child::{Child, Code, SHARED, exit};
use selftest::frames::{read, write};
use selftest::server::{Server, area, events, handle};

use crate::attack::{Attack, Attacker, Attempt, PATIENCE, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "be called in the kernel for an exception",
        run: |a| astray(a, KERNEL, GOOD, 6),
    },
    Attack { name: "be called beyond user space", run: |a| astray(a, 1 << 47, GOOD, 6) },
    Attack { name: "be called on the kernel's stack", run: |a| astray(a, told_at(), KERNEL, 14) },
    Attack { name: "be called in the kernel for a slice end", run: slice_end_in_kernel },
    Attack { name: "compute on in the grace", run: |a| outstays(a, COMPUTE) },
    Attack { name: "sleep until a deadline long past in the grace", run: |a| outstays(a, PAST) },
    Attack { name: "give the slice to oneself in the grace", run: |a| outstays(a, DONATE) },
    Attack { name: "call a server in the grace", run: |a| outstays(a, TRANSFER) },
    Attack { name: "send to a server in the grace", run: |a| outstays(a, SEND) },
    Attack { name: "yield and be called all the time", run: |a| outstays(a, YIELD) },
    Attack { name: "have a victim pay, by giving it ends of slices", run: has_victim_pay },
];

const KERNEL: u64 = 0xffff_ffff_8020_0000;
/// End of the stack that upcalls run on, as if called.
const GOOD: u64 = STACK_TOP - 0x2000 - 8;

fn told_at() -> u64 {
    told as *const () as u64
}

/// Faults with the entry and stack that are on the shared page.
extern "C" fn faults(_: u64) -> ! {
    let upcall = &area().upcall;
    upcall.stack.store(read(SHARED, 8), Relaxed);
    upcall.entry.store(read(SHARED, 0), Relaxed);
    // SAFETY: ends this environment, which is meant.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

/// The exception counts as unwanted, and is the end; or what it is given back to faults
/// in ring 3, and that is.
fn astray(attacker: &mut Attacker, entry: u64, stack: u64, vector: u32) -> Attempt {
    let window = attacker.window()?;
    let page = attacker.frames.page(window)?;
    write(window, 0, entry);
    write(window, 8, stack);
    let prepare = |child: &Child<'_>| child.share(page).map(|()| 0);
    let verdict = attacker.prepared_victim(prepare, faults, &[vector]);
    attacker.frames.drop_page(window, page)?;
    verdict
}

/// Names an entry in the kernel and computes; exits when its time has been taken away
/// some times all the same.
extern "C" fn computes_with_kernel_entry(traps: u64) -> ! {
    let upcall = &area().upcall;
    upcall.stack.store(KERNEL, Relaxed);
    upcall.wanted.store(u32::MAX, Relaxed);
    upcall.entry.store(KERNEL, Relaxed);
    for _ in 0..traps {
        let end = timestamp() + read(SHARED, SLICE);
        while timestamp() < end {
            core::hint::spin_loop();
        }
    }
    exit(upcall.masked.load(Relaxed).into())
}

fn slice_end_in_kernel(attacker: &mut Attacker) -> Attempt {
    let window = attacker.window()?;
    let page = attacker.frames.page(window)?;
    write(window, SLICE, ticks(attacker, 1000));
    let child = attacker.maker.child()?;
    child.share(page)?;
    let code: Code = computes_with_kernel_entry;
    child.start(code, 20)?;
    let status = child.wait(PATIENCE)?;
    child.destroy()?;
    attacker.frames.drop_page(window, page)?;
    let unharmed = status.is_some_and(|status| (status.vector, status.code) == (0, 0));
    Ok(Verdict::harmless(unharmed, "nothing: there was no upcall"))
}

/// Words of the page shared with the abuser: ticks of a slice, what to do in the grace,
/// how often it was told, and how long it has had the processor.
const SLICE: usize = 16;
const MEANS: usize = 24;
const TOLD: usize = 32;
const USED: usize = 40;
const ENTRY: usize = 48;
/// No two looks at the clock are further apart while it has the processor.
const GAP: usize = 56;

const NOTHING: u64 = 0;
const COMPUTE: u64 = 1;
const PAST: u64 = 2;
const DONATE: u64 = 3;
const TRANSFER: u64 = 4;
const SEND: u64 = 5;
const YIELD: u64 = 6;

/// Looks at the clock over and over, adds up the time that it had, and does `also` in
/// between.
fn uses_up(mut also: impl FnMut()) -> ! {
    let (mut last, gap) = (timestamp(), read(SHARED, GAP));
    loop {
        also();
        let now = timestamp();
        if now - last < gap {
            write(SHARED, USED, read(SHARED, USED) + (now - last));
        }
        last = now;
    }
}

/// The end of the slice.
extern "C" fn told(_: u64) -> ! {
    write(SHARED, TOLD, read(SHARED, TOLD) + 1);
    let own = exo_abi::boot::SELF;
    let server = handle(SHARED, ENTRY);
    let upcalls_again = || area().upcall.masked.store(0, Relaxed);
    match read(SHARED, MEANS) {
        PAST => uses_up(|| {
            upcalls_again();
            let _ = sys::wait(events(), 1);
        }),
        DONATE => uses_up(|| {
            upcalls_again();
            let _ = sys::slice_donate(own);
        }),
        TRANSFER => uses_up(|| {
            upcalls_again();
            let _ = Remote::<Message, Message>::new(server).call([0; 6]);
        }),
        SEND => uses_up(|| {
            upcalls_again();
            let _ = Remote::<Message, ()>::new(server).send([0; 6]);
        }),
        YIELD => uses_up(|| {
            upcalls_again();
            let _ = sys::slice_yield();
        }),
        _ => {
            upcalls_again();
            uses_up(core::hint::spin_loop)
        }
    }
}

/// Computes; what it does when its slice ends is on the shared page.
extern "C" fn abuses(_: u64) -> ! {
    if read(SHARED, MEANS) != NOTHING {
        let upcall = &area().upcall;
        upcall.stack.store(GOOD, Relaxed);
        upcall.wanted.store(Upcall::SliceEnd as u32, Relaxed);
        upcall.entry.store(told_at(), Relaxed);
    }
    uses_up(core::hint::spin_loop)
}

entry_point!(
    /// Computes for a while.
    service => serve
);

extern "C" fn serve(_: u64, _: u64, message: &mut Message) {
    for _ in 0..1000 {
        core::hint::spin_loop();
    }
    message[0] = 1;
}

fn ticks(attacker: &Attacker, microseconds: u64) -> u64 {
    attacker.environment.system.tsc_hz.load(Relaxed) / 1_000_000 * microseconds
}

/// Rounds of the slice vector that are watched.
const ROUNDS: usize = 60;

/// How long an abuser that acts by `means` has the processor in sixty rounds with one slot.
fn used(attacker: &Attacker, means: u64) -> Result<u64, Error> {
    let server = Server::new(&attacker.maker, attacker.window()?, service)?;
    let window = attacker.window()?;
    let page = attacker.frames.page(window)?;
    write(window, MEANS, means);
    // Between slices of its own there are many of others.
    write(window, GAP, ticks(attacker, 500));
    let child = attacker.maker.child()?;
    child.share(page)?;
    write(window, ENTRY, sys::cap_grant(server.entry, child.env)?);
    let code: Code = abuses;
    child.start(code, 0)?;
    let own = own_slots(attacker);
    let started = timestamp() + PATIENCE;
    while read(window, USED) == 0 && timestamp() < started {
        sys::slice_yield()?;
    }
    let before = read(window, USED);
    for _ in 0..ROUNDS * own {
        sys::slice_yield()?;
    }
    let used = read(window, USED) - before;
    child.destroy()?;
    server.destroy()?;
    attacker.frames.drop_page(window, page)?;
    Ok(used)
}

fn own_slots(attacker: &Attacker) -> usize {
    let owners = &attacker.environment.system.slots.owners;
    owners.iter().filter(|owner| owner.load(Relaxed) == attacker.id().0).count()
}

/// Rounds are counted by the attacker's own slices, which must all be of one slice vector.
fn not_countable() -> Verdict {
    Verdict::not_tried("its slots are on several processors")
}

/// Compares with one that does not want to be told. The grace is a tenth of a slice; an
/// environment that could renew it would run without end. Repeated, because the host may be
/// busy.
fn outstays(attacker: &mut Attacker, means: u64) -> Attempt {
    const { assert!(GRACE_MICROSECONDS * 10 <= 1000) };
    if !attacker.is_on_one_processor() {
        return Ok(not_countable());
    }
    let mut ratio = u64::MAX;
    for _ in 0..5 {
        let (honest, got) = (used(attacker, NOTHING)?, used(attacker, means)?);
        ratio = ratio.min(got * 100 / honest.max(1));
        if ratio < 150 {
            break;
        }
    }
    let answer = alloc::format!("your time is over, after {ratio} % of what a slot is worth");
    Ok(Verdict::harmless(ratio < 150, answer))
}

/// Yields as soon as it is told.
extern "C" fn told_politely(_: u64) -> ! {
    write(SHARED, TOLD, read(SHARED, TOLD) + 1);
    let _ = sys::slice_yield();
    area().upcall.masked.store(0, Relaxed);
    loop {
        core::hint::spin_loop();
    }
}

extern "C" fn listens(_: u64) -> ! {
    let upcall = &area().upcall;
    upcall.stack.store(GOOD, Relaxed);
    upcall.wanted.store(Upcall::SliceEnd as u32, Relaxed);
    upcall.entry.store(told_politely as *const () as u64, Relaxed);
    loop {
        core::hint::spin_loop();
    }
}

/// Gives the victim the very ends of slices, then leaves it alone for a while; then
/// looks whether it still gets its slot in each round.
fn has_victim_pay(attacker: &mut Attacker) -> Attempt {
    if !attacker.is_on_one_processor() {
        return Ok(not_countable());
    }
    let window = attacker.window()?;
    let page = attacker.frames.page(window)?;
    let child = attacker.maker.child()?;
    child.share(page)?;
    let code: Code = listens;
    child.start(code, 0)?;
    let (slice, own) = (ticks(attacker, 1000), own_slots(attacker));
    for round in 0..400 {
        // Somewhere in the last tenth of a slice that began just now, and beyond it.
        sys::slice_yield()?;
        let end = timestamp() + slice * 9 / 10 + slice * (round % 20) / 150;
        while timestamp() < end {
            core::hint::spin_loop();
        }
        sys::slice_donate(child.env)?;
    }
    let nap = timestamp() + 50 * slice;
    while timestamp() < nap {
        let seen: EventCount = events();
        sys::wait(seen, nap)?;
    }
    let before = read(window, TOLD);
    for _ in 0..ROUNDS * own {
        sys::slice_yield()?;
    }
    let turns = read(window, TOLD) - before;
    child.destroy()?;
    attacker.frames.drop_page(window, page)?;
    let unharmed = turns as usize * 4 >= ROUNDS * 3;
    Ok(Verdict::harmless(unharmed, alloc::format!("{turns} turns in {ROUNDS} rounds for it")))
}
