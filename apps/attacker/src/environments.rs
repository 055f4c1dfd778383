//! Environments: others', the attacker's own, and what is left of dead ones.

use exo_abi::boot::{SELF, STACK_TOP};
use exo_abi::{EnvState, Error, EventCount, FrameKind, Handle, MAX_CORES, SLOT_COUNT, UserPtr};
use libos::sys;
use selftest::child::{Child, exit};

use crate::attack::{Attack, Attacker, Attempt, PATIENCE, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "destroy environments by guessed handles", run: destroy_guessed },
    Attack { name: "start environments by guessed handles", run: start_guessed },
    Attack { name: "start a child in the kernel", run: start_in_kernel },
    Attack { name: "start a child twice", run: start_twice },
    Attack { name: "start an environment with nothing in it", run: start_empty },
    Attack { name: "destroy a child while its memory is mapped", run: destroy_mapped },
    Attack { name: "bring a dying child back to life", run: revive },
    Attack { name: "take time slots of others", run: take_slots },
    Attack { name: "give slots that do not exist", run: strange_slots },
    Attack { name: "make environments of one frame", run: one_frame },
    Attack { name: "write over the kernel's words in the U-area", run: u_area },
    Attack { name: "leave a wild frame-pointer chain to a fault report", run: wild_backtrace },
];

/// Handles that name nothing the attacker made.
fn guesses(attacker: &Attacker) -> impl Iterator<Item = Handle> {
    let known: alloc::vec::Vec<Handle> = attacker.handles().collect();
    (0..512_u32)
        .flat_map(|index| (1..4).map(move |life| Handle::new(index, life)))
        .filter(move |handle| !known.contains(handle))
}

fn destroy_guessed(attacker: &mut Attacker) -> Attempt {
    Ok(Verdict::every(guesses(attacker).map(sys::env_destroy), &[Error::BadHandle]))
}

fn start_guessed(attacker: &mut Attacker) -> Attempt {
    let start = |handle| sys::env_start(handle, UserPtr(0x40_0000), UserPtr(STACK_TOP), 0);
    Ok(Verdict::every(guesses(attacker).map(start), &[Error::BadHandle]))
}

fn start_in_kernel(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.bare()?;
    let entries = [
        0xffff_ffff_8020_0000,
        0xffff_8000_0000_0000,
        0x0000_8000_0000_0000,
        0x0000_7fff_ffff_f000,
        u64::MAX,
    ];
    let starts = entries.into_iter().flat_map(|address| {
        [
            sys::env_start(child.env, UserPtr(address), UserPtr(STACK_TOP), 0),
            sys::env_start(child.env, UserPtr(0x40_0000), UserPtr(address | 0xfff), 0),
        ]
    });
    let verdict = Verdict::every(starts, &[Error::BadAddress]);
    child.destroy()?;
    Ok(verdict)
}

extern "C" fn sleeps(_: u64) -> ! {
    loop {
        let _ = sys::wait(EventCount(0), 0);
    }
}

fn start_twice(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.child()?;
    child.start(sleeps, 0)?;
    let again = sys::env_start(child.env, UserPtr(0x40_0000), UserPtr(STACK_TOP), 0);
    child.destroy()?;
    Ok(Verdict::refused(again, Error::WrongState))
}

fn start_empty(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.bare()?;
    child.start(sleeps, 0)?;
    let status = child.wait(PATIENCE)?;
    child.destroy()?;
    Ok(Verdict::died(status, &[14]))
}

/// Drives the destruction of `child` until it is stuck or done.
fn destroy_until_stuck(child: &Child<'_>) -> Result<u64, Error> {
    selftest::child::until_done(|| sys::env_destroy(child.env))
}

fn destroy_mapped(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let child = attacker.maker.bare()?;
    let frame = attacker.frames.take(child.env, 1)?;
    let protection = exo_abi::Protection::ReadWrite;
    sys::map(SELF, child.env, frame, at, 1, protection)?;
    let verdict = Verdict::refused(destroy_until_stuck(&child), Error::InUse);
    // Still the child's, so no other's.
    let held = attacker.frames.look(frame) == Some((FrameKind::Memory, child.id));
    sys::unmap(SELF, at, 1)?;
    child.destroy()?;
    Ok(if held { verdict } else { Verdict::breach("no, but the frame is free and mapped") })
}

fn revive(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let child = attacker.maker.child()?;
    let frame = attacker.frames.take(child.env, 1)?;
    sys::map(SELF, child.env, frame, at, 1, exo_abi::Protection::Read)?;
    let stuck = destroy_until_stuck(&child);
    let frames = attacker.frames;
    let free = frames.find(1).ok_or(Error::NotFree)?;
    let tries = [
        sys::env_start(child.env, UserPtr(0x40_0000), UserPtr(STACK_TOP), 0),
        sys::frames_take(frames.capability, child.env, free, 1),
        sys::map(child.env, SELF, free, at, 1, exo_abi::Protection::Read),
        sys::cap_grant(SELF, child.env),
        sys::slots_assign(SELF, own_slot(attacker)?, 1, child.env),
    ];
    sys::unmap(SELF, at, 1)?;
    child.destroy()?;
    stuck.err().filter(|error| *error == Error::InUse).ok_or(Error::WrongState)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::WrongState]))
}

fn owner(attacker: &Attacker, slot: u32) -> u32 {
    let owners = &attacker.environment.system.slots.owners;
    owners[slot as usize].load(core::sync::atomic::Ordering::Relaxed)
}

fn own_slot(attacker: &Attacker) -> Result<u32, Error> {
    let own = |slot: &u32| owner(attacker, *slot) == attacker.id().0;
    (0..(SLOT_COUNT * MAX_CORES) as u32).find(own).ok_or(Error::OutOfRange)
}

fn take_slots(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.bare()?;
    let before: alloc::vec::Vec<u32> =
        (0..(SLOT_COUNT * MAX_CORES) as u32).map(|slot| owner(attacker, slot)).collect();
    let foreign = (0..(SLOT_COUNT * MAX_CORES) as u32)
        .filter(|slot| owner(attacker, *slot) != attacker.id().0);
    let tries = foreign
        .flat_map(|slot| [SELF, child.env].map(|from| sys::slots_assign(from, slot, 1, child.env)));
    let verdict = Verdict::every(tries, &[Error::OutOfRange]);
    let whole = sys::slots_assign(SELF, 0, SLOT_COUNT as u32, child.env);
    // Others may move their own about meanwhile; none has come to be the attacker's.
    let own = attacker.id().0;
    let after = (0..(SLOT_COUNT * MAX_CORES) as u32).map(|slot| owner(attacker, slot));
    let unharmed = whole == Err(Error::OutOfRange)
        && after
            .zip(&before)
            .all(|(after, before)| after != child.id.0 && (after == own) == (*before == own));
    child.destroy()?;
    Ok(if unharmed { verdict } else { Verdict::breach("slots") })
}

fn strange_slots(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.bare()?;
    let tries = [(64, 1), (63, 2), (0, 65), (u32::MAX, 1), (u32::MAX, u32::MAX), (1, u32::MAX)]
        .map(|(first, count)| sys::slots_assign(SELF, first, count, child.env));
    child.destroy()?;
    Ok(Verdict::every(tries.into_iter(), &[Error::OutOfRange]))
}

fn one_frame(attacker: &mut Attacker) -> Attempt {
    let own = attacker.frames.take(SELF, 3)?;
    let [a, b, c] = [own, own.plus(1), own.plus(2)];
    let tries = [
        sys::env_create(a, a, a, a),
        sys::env_create(a, a, b, c),
        sys::env_create(a, b, a, c),
        sys::env_create(a, b, c, a),
        sys::env_create(a, b, b, c),
        sys::env_create(a, b, c, b),
        sys::env_create(a, b, c, c),
    ];
    attacker.frames.give(own, 3)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::BadArgument]))
}

/// Writes nonsense over its whole U-area and goes on.
extern "C" fn scribbles(_: u64) -> ! {
    let base = exo_abi::boot::U_AREA as usize;
    for offset in (0..4096).step_by(8) {
        let word = core::ptr::with_exposed_provenance_mut::<u64>(base + offset);
        // SAFETY: the U-area is mapped here read and write, and this environment
        // has no other use for it.
        unsafe { word.write_volatile(u64::MAX - offset as u64) };
    }
    // The kernel's own count is what counts: this returns at once only if the
    // kernel never reads the shared word.
    let events = sys::wait(EventCount(u64::MAX), 0).unwrap_or(77);
    exit(events)
}

fn u_area(attacker: &mut Attacker) -> Attempt {
    let status = attacker.maker.try_out(scribbles, 0, PATIENCE)?;
    let got = status.map(|status| (EnvState::from_u32(status.state), status.code));
    let unharmed = got == Some((Some(EnvState::Exited), 0));
    Ok(Verdict::harmless(unharmed, "its own count, 0"))
}

/// Faults with a frame pointer that leads where `base` says.
extern "C" fn faults_with_base(base: u64) -> ! {
    // SAFETY: meant to fault.
    unsafe { core::arch::asm!("mov rbp, {}", "ud2", in(reg) base, options(noreturn)) }
}

fn wild_backtrace(attacker: &mut Attacker) -> Attempt {
    let mut last = None;
    for base in [
        0xffff_ffff_8020_0000,
        0xffff_8000_0020_0000,
        0x0000_7fff_ffff_fff8,
        0x0000_8000_0000_0000,
        u64::MAX,
        u64::MAX - 8,
        1,
        exo_abi::boot::U_AREA + 4090,
    ] {
        let status = attacker.maker.try_out(faults_with_base, base, PATIENCE)?;
        let secrets =
            status.is_some_and(|status| status.backtrace.iter().any(|address| *address >= 1 << 47));
        if secrets {
            return Ok(Verdict::breach("addresses of the kernel"));
        }
        let verdict = Verdict::died(status, &[6]);
        if !verdict.is_repelled() {
            return Ok(verdict);
        }
        last = Some(verdict);
    }
    // A chain that goes in circles: the report must end.
    let circle = STACK_TOP - 64;
    let child = attacker.maker.child()?;
    child.start(circles, circle)?;
    let status = child.wait(PATIENCE)?;
    child.destroy()?;
    let ended = Verdict::died(status, &[6]);
    Ok(if ended.is_repelled() { last.unwrap_or(ended) } else { ended })
}

extern "C" fn circles(at: u64) -> ! {
    let word = core::ptr::with_exposed_provenance_mut::<u64>(at as usize);
    // SAFETY: a word of the own stack that nothing else uses; the fault is meant.
    unsafe {
        word.write_volatile(at);
        core::arch::asm!("mov rbp, {}", "ud2", in(reg) at, options(noreturn))
    }
}
