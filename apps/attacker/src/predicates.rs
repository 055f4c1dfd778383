//! Wakeup predicates: over memory of others, out of nonsense, without end.

use alloc::vec::Vec;

use dpf::{Atom, Filter, MAX_WIRE};
use exo_abi::boot::SELF;
use exo_abi::{EnvState, Error, UserPtr, VirtAddr};
use libos::sys;
use selftest::child::{Child, Code, SHARED, exit};

use crate::attack::{Attack, Attacker, Attempt, Verdict};
use crate::claims::random_wire;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "sleep for a condition on memory that it cannot read", run: foreign_memory },
    Attack { name: "sleep for a condition over the end of its memory", run: over_the_end },
    Attack { name: "have a condition read from where one may not", run: foreign_predicate },
    Attack { name: "sleep for a condition that looks too far", run: too_far },
    Attack { name: "sleep for random bytes", run: random_bytes },
    Attack { name: "sleep for conditions of impossible lengths", run: lengths },
    Attack { name: "sleep for ever, and be destroyed", run: destroyed_asleep },
    Attack { name: "sleep on a page that is taken away and freed", run: page_freed },
];

/// A deadline that has passed: a call that is let in comes back.
const PAST: u64 = 1;

/// Addresses that are not the attacker's to read, and one that belongs to no environment.
const PLACES: [u64; 9] = [
    0x10,
    0x6000_0000_0000,
    0x7fff_ffff_f000,
    0x7fff_ffff_ffff,
    0x8000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_ffff_8020_0000,
    0xffff_ffff_8030_0000,
    u64::MAX,
];

fn pointer(bytes: &[u8]) -> UserPtr {
    UserPtr(bytes.as_ptr().expose_provenance() as u64)
}

fn sleep(atom: Atom, memory: u64, deadline: u64) -> Result<u64, Error> {
    let mut wire = [0; MAX_WIRE];
    let filter = Filter::new(&[atom]).map_err(|_| Error::BadFilter)?;
    let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
    sys::wait_until(pointer(&wire), length as u64, UserPtr(memory), deadline)
}

fn foreign_memory(_: &mut Attacker) -> Attempt {
    let tries = PLACES.into_iter().flat_map(|at| {
        [Atom::exact(0, 1, 0), Atom::exact(0, 8, 0), Atom::exact(248, 8, 1)]
            .map(|atom| sleep(atom, at, PAST))
    });
    Ok(Verdict::every(tries, &[Error::BadPointer]))
}

/// A page of the attacker's, and nothing behind it, or the end of all addresses.
fn over_the_end(attacker: &mut Attacker) -> Attempt {
    let (at, behind) = (attacker.window()?, attacker.window()?);
    if behind.get() != at.get() + 4096 {
        return Err(Error::BadAddress);
    }
    let page = attacker.frames.page(at)?;
    let inside = sleep(Atom::exact(255, 1, 0), behind.get() - 256, PAST);
    let ends = [behind.get(), u64::MAX - 3, 0x7fff_ffff_f000, 0x8000_0000_0000];
    let tries: Vec<_> = ends
        .into_iter()
        .flat_map(|end| [1, 7, 100, 255].map(|before: u64| end.wrapping_sub(before)))
        .map(|start| sleep(Atom::exact(255, 1, 0), start, PAST))
        .collect();
    attacker.frames.drop_page(at, page)?;
    if inside.is_err() {
        return Ok(Verdict::breach("no even to its own memory"));
    }
    Ok(Verdict::every(tries.into_iter(), &[Error::BadPointer]))
}

fn foreign_predicate(_: &mut Attacker) -> Attempt {
    let memory = UserPtr(0x40_0000);
    let tries = PLACES.into_iter().flat_map(|at| {
        [1, 21, MAX_WIRE as u64].map(|length| sys::wait_until(UserPtr(at), length, memory, PAST))
    });
    Ok(Verdict::every(tries, &[Error::BadPointer]))
}

fn too_far(attacker: &mut Attacker) -> Attempt {
    let _ = attacker;
    let atoms = (249..=1506).map(|offset| Atom::exact(offset, 8, 0));
    let tries = atoms.chain([Atom::exact(256, 1, 0), Atom::exact(1513, 1, 0)]);
    Ok(Verdict::every(tries.map(|atom| sleep(atom, 0x40_0000, PAST)), &[Error::TooMuch]))
}

fn random_bytes(attacker: &mut Attacker) -> Attempt {
    let mut random = attacker.random;
    let tries = (0..4000).map(|round| {
        let (wire, length) = random_wire(&mut random, round % 2 == 0);
        sys::wait_until(pointer(&wire), length as u64, UserPtr(0x40_0000), PAST)
    });
    Ok(Verdict::every(tries, &[Error::BadFilter]))
}

fn lengths(_: &mut Attacker) -> Attempt {
    let most = MAX_WIRE as u64;
    let tries = [0, 1, 2, most + 1, 4096, 1 << 32, 1 << 63, u64::MAX]
        .map(|length| sys::wait_until(UserPtr(0x40_0000), length, UserPtr(0x40_0000), PAST));
    Ok(Verdict::every(tries.into_iter(), &[Error::BadFilter, Error::TooMuch, Error::BadPointer]))
}

extern "C" fn sleeps(_: u64) -> ! {
    let _ = sleep(Atom::exact(0, 1, 1), SHARED.get(), 0);
    exit(77)
}

fn asleep<'a>(attacker: &'a Attacker, page: exo_abi::Pfn) -> Result<Child<'a>, Error> {
    let child = attacker.maker.child()?;
    child.share(page)?;
    let code: Code = sleeps;
    child.start(code, 0)?;
    loop {
        match EnvState::from_u32(child.status()?.state) {
            Some(EnvState::Ready) => drop(sys::slice_yield()?),
            Some(EnvState::Waiting) => return Ok(child),
            _ => return Err(Error::WrongState),
        }
    }
}

fn destroyed_asleep(attacker: &mut Attacker) -> Attempt {
    let page = attacker.frames.take(SELF, 1)?;
    let before = attacker.frames.free();
    let mut clean = true;
    for _ in 0..20 {
        let child = asleep(attacker, page)?;
        let id = child.id;
        child.destroy()?;
        clean &= attacker.frames.free() == before && Child::is_gone(&attacker.maker, id);
    }
    attacker.frames.give(page, 1)?;
    Ok(Verdict::harmless(clean, "nothing, and nothing was left, 20 times"))
}

/// The condition comes true in the frame, but that is no longer the sleeper's; it must
/// wake for having lost it, and not fault the kernel.
fn page_freed(attacker: &mut Attacker) -> Attempt {
    let at: VirtAddr = attacker.window()?;
    let page = attacker.frames.take(SELF, 1)?;
    let child = asleep(attacker, page)?;
    sys::unmap(child.env, SHARED, 1)?;
    attacker.frames.give(page, 1)?;
    sys::frames_take(attacker.frames.capability, SELF, page, 1)?;
    attacker.frames.map((SELF, SELF), page, at, 1, exo_abi::Protection::ReadWrite)?;
    selftest::frames::write(at, 0, 1);
    let status = child.wait(crate::attack::PATIENCE)?;
    child.destroy()?;
    attacker.frames.drop_page(at, page)?;
    let woke = status.map(|status| status.code) == Some(77);
    Ok(Verdict::harmless(woke, "its condition cannot be tried any more"))
}
