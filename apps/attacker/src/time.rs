//! Keeping the processor, and sleeping in strange ways.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::EventCount;
use libos::sys;
use libos::time::timestamp;
use selftest::child::Code;

use crate::attack::{Attack, Attacker, Attempt, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "never yield", run: never_yield },
    Attack { name: "never yield, in a child", run: |a| keeps_running(a, spins) },
    Attack { name: "yield all the time", run: |a| keeps_running(a, yields) },
    Attack { name: "call all the time", run: |a| keeps_running(a, calls) },
    Attack { name: "sleep until deadlines long past", run: |a| keeps_running(a, past) },
    Attack { name: "sleep until the end of time", run: |a| keeps_running(a, sleeps) },
    Attack { name: "wait for events that cannot be", run: strange_events },
];

/// Slices the attacker tries to keep the processor for.
const SLICES: u64 = 50;

/// Spins until it has been interrupted as often as fifty slices would end. If the
/// kernel let it run on, this would not end, and the machine would stand still.
fn never_yield(attacker: &mut Attacker) -> Attempt {
    let traps = &attacker.environment.system.traps;
    let start = traps.load(Relaxed);
    while traps.load(Relaxed) - start < SLICES {
        core::hint::spin_loop();
    }
    Ok(Verdict::repelled(alloc::format!("your time is over, {SLICES} times")))
}

extern "C" fn spins(_: u64) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

extern "C" fn yields(_: u64) -> ! {
    loop {
        let _ = sys::slice_yield();
    }
}

extern "C" fn calls(_: u64) -> ! {
    loop {
        let _ = sys::null();
    }
}

extern "C" fn past(_: u64) -> ! {
    loop {
        for deadline in [1, timestamp() / 2, timestamp()] {
            let _ = sys::wait(EventCount(0), deadline);
        }
    }
}

extern "C" fn sleeps(_: u64) -> ! {
    loop {
        let _ = sys::wait(EventCount(0), u64::MAX);
    }
}

/// Runs `code` beside the attacker, which must go on getting its own slices, and
/// be able to end it.
fn keeps_running(attacker: &mut Attacker, code: Code) -> Attempt {
    let child = attacker.maker.child()?;
    let id = child.id;
    child.start(code, 0)?;
    let mut turns = 0_u32;
    for _ in 0..SLICES {
        sys::slice_yield()?;
        turns += 1;
    }
    child.destroy()?;
    let gone = selftest::child::Child::is_gone(&attacker.maker, id);
    Ok(Verdict::harmless(gone, alloc::format!("your time is over, {turns} turns for others")))
}

/// None of these sleeps: the count given is not the present one.
fn strange_events(attacker: &mut Attacker) -> Attempt {
    let present = sys::wait(EventCount(u64::MAX), 0)?;
    for seen in [u64::MAX, u64::MAX / 2, present + 1, present.wrapping_sub(1)] {
        for deadline in [0, 1, u64::MAX] {
            sys::wait(EventCount(seen), deadline)?;
        }
    }
    let _ = attacker;
    Ok(Verdict::repelled("the present count"))
}
