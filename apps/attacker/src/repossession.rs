//! Visible revocation: taking frames one may not take, and keeping those that are wanted.

use alloc::vec::Vec;

use exo_abi::boot::SELF;
use exo_abi::{
    EnvId, Error, FrameKind, Handle, Level, Pages, Pfn, Protection, Rights, RingOrder, VirtAddr,
    Word,
};
use libos::sys;
use selftest::child::{Child, Code, SHARED, exit, until_done};
use selftest::frames::{read, write};
use selftest::server::handle;

use crate::attack::{Attack, Attacker, Attempt, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "ask and take without being in control", run: no_control },
    Attack { name: "ask and take from environments by guessed handles", run: guessed },
    Attack { name: "take frames from oneself", run: oneself },
    Attack { name: "take everything, rings under the device included", run: everything },
    Attack { name: "take from a child what is not its plain memory", run: foreign },
    Attack { name: "map what is being taken again and again", run: busy_mapper },
    Attack { name: "use a frame between two steps of its taking", run: between_steps },
    Attack { name: "destroy the owner between two steps of a taking", run: destroy_between },
];

/// More than it takes to go through all tables of the machine a few times.
const STEPS: u32 = 100_000;

fn enforce(child: &Child<'_>, frame: Pfn) -> Result<u64, Error> {
    until_done(|| sys::revoke_enforce(child.env, frame))
}

fn is_memory_of(attacker: &Attacker, pfn: Pfn, owner: EnvId) -> bool {
    attacker.frames.look(pfn) == Some((FrameKind::Memory, owner))
}

fn pins(attacker: &Attacker, pfn: Pfn) -> u16 {
    let entry = attacker.frames.table.get(pfn.0 as usize);
    entry.map_or(0, |entry| entry.pins.load(core::sync::atomic::Ordering::Relaxed))
}

fn memory_of(attacker: &Attacker, owner: EnvId) -> Vec<Pfn> {
    attacker.frames.all().filter(|pfn| is_memory_of(attacker, *pfn, owner)).collect()
}

fn no_control(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.bare()?;
    let first = attacker.frames.take(child.env, 4)?;
    let rights = Rights::MEMORY.with(Rights::INSPECT).with(Rights::ENDOW).with(Rights::GRANT);
    let weak = Handle::from_word(sys::cap_derive(child.env, rights, 0, 0)?)?;
    let tries = [sys::revoke_request(weak, 4, 0, 0), sys::revoke_enforce(weak, first)];
    sys::cap_drop(weak)?;
    child.destroy()?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn guessed(attacker: &mut Attacker) -> Attempt {
    let known: Vec<Handle> = attacker.handles().collect();
    let tries = (0..512_u32)
        .flat_map(|index| (1..4).map(move |life| Handle::new(index, life)))
        .filter(|handle| !known.contains(handle))
        .flat_map(|handle| {
            [sys::revoke_request(handle, 1, 0, 0), sys::revoke_enforce(handle, Pfn(1000))]
        });
    Ok(Verdict::every(tries, &[Error::BadHandle]))
}

fn oneself(attacker: &mut Attacker) -> Attempt {
    let own = attacker.frames.take(SELF, 1)?;
    let tries = [sys::revoke_request(SELF, 1, 0, 0), sys::revoke_enforce(SELF, own)];
    attacker.frames.give(own, 1)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

/// Words of the page shared with children.
const FIRST: usize = 0;
const OBJECT: usize = 8;
const CAPABILITY: usize = 16;
const STARTED: usize = 24;

fn order() -> Result<RingOrder, Error> {
    RingOrder::new(1).ok_or(Error::BadArgument)
}

/// Binds rings of its own frames.
extern "C" fn binds(_: u64) -> ! {
    let (first, object) = (read(SHARED, FIRST) as u32, read(SHARED, OBJECT) as u32);
    let bound = order().and_then(|order| {
        sys::net_bind(handle(SHARED, CAPABILITY), Pfn(first), order, Pfn(object))
    });
    write(SHARED, STARTED, bound.map_or_else(Error::code, |_| 0) + 1);
    loop {
        core::hint::spin_loop();
    }
}

/// Waits for a child's word to be more than `past`.
fn until(child: &Child<'_>, at: VirtAddr, word: usize, past: u64) -> Result<u64, Error> {
    let end = libos::time::timestamp() + crate::attack::PATIENCE;
    while read(at, word) <= past {
        let gone = child.status()?.state != exo_abi::EnvState::Ready as u32;
        if gone || libos::time::timestamp() > end {
            return Err(Error::WrongState);
        }
        sys::slice_yield()?;
    }
    Ok(read(at, word))
}

fn everything(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let page = attacker.frames.page(at)?;
    let before = attacker.frames.free();
    let net = attacker.nic.as_ref().ok_or(Error::NoDevice)?.net;
    let child = attacker.maker.child()?;
    child.share(page)?;
    let count = order()?.frames();
    let run = attacker.frames.take(child.env, count + 1)?;
    write(at, FIRST, run.into_word());
    write(at, OBJECT, run.plus(count).into_word());
    write(at, CAPABILITY, sys::cap_grant(net, child.env)?);
    let code: Code = binds;
    child.start(code, 0)?;
    let bound = until(&child, at, STARTED, 0)? - 1;
    if let Some(error) = Error::from_code(bound) {
        return Err(error);
    }
    let pinned = (0..count).filter(|offset| pins(attacker, run.plus(*offset)) != 0).count();
    let theirs = memory_of(attacker, child.id);
    let free = attacker.frames.free();
    let (mut taken, mut refused) = (0, Vec::new());
    for pfn in &theirs {
        match enforce(&child, *pfn) {
            Ok(_) => taken += 1,
            Err(error) => refused.push(Err(error)),
        }
    }
    let left = memory_of(attacker, child.id);
    let used = left.iter().all(|pfn| pins(attacker, *pfn) != 0) && left.len() == pinned;
    let counted = taken + left.len() == theirs.len()
        && attacker.frames.free() == free + taken as Pages
        && pinned > 0;
    child.destroy()?;
    attacker.frames.drop_page(at, page)?;
    let back = attacker.frames.free() == before + 1;
    let verdict = Verdict::every(refused.into_iter(), &[Error::InUse]);
    Ok(if used && counted && back { verdict } else { Verdict::breach("frames in use") })
}

fn foreign(attacker: &mut Attacker) -> Attempt {
    let frames = attacker.frames;
    let own = frames.take(SELF, 1)?;
    let child = attacker.maker.bare()?;
    let free = frames.find(1).ok_or(Error::NotFree)?;
    let table_end = frames.table.len() as u32;
    let mut list = Vec::from([0, 1, u32::MAX, table_end, own.0, free.0]);
    // Its own object, tables and U-area; and one frame of every other kind and owner.
    list.extend((0..4).map(|offset| child.parts.plus(offset).0));
    let mut kinds = Vec::new();
    for pfn in frames.all() {
        let Some(look) = frames.look(pfn).filter(|look| look.1 != child.id) else { continue };
        if !kinds.contains(&look) {
            kinds.push(look);
            list.push(pfn.0);
        }
    }
    let state = |pfn: &u32| frames.look(Pfn(*pfn));
    let before: Vec<_> = list.iter().map(state).collect();
    let tries: Vec<_> = list.iter().map(|pfn| enforce(&child, Pfn(*pfn))).collect();
    let unharmed = list.iter().map(state).eq(before);
    child.destroy()?;
    frames.give(own, 1)?;
    let verdict = Verdict::every(tries.into_iter(), &[Error::NotOwned]);
    let tried = kinds.len();
    Ok(match unharmed && tried > 8 {
        true => verdict,
        false => Verdict::breach(alloc::format!("of {tried} kinds some were harmed")),
    })
}

/// Where a child maps what it wants to keep.
const HOARD: VirtAddr = match VirtAddr::new(0x2110_0000) {
    Some(at) => at,
    None => panic!("a page of user space"),
};
const HELD: Pages = 32;

/// Maps all of its frames, one by one, for ever; those that are gone it cannot.
extern "C" fn clings(_: u64) -> ! {
    let first = Pfn(read(SHARED, FIRST) as u32);
    loop {
        for offset in 0..HELD {
            let Some(page) = HOARD.plus(offset) else { exit(1) };
            let _ = sys::unmap(SELF, page, 1);
            let _ = sys::map(SELF, SELF, first.plus(offset), page, 1, Protection::ReadWrite);
        }
        write(SHARED, STARTED, read(SHARED, STARTED) + 1);
    }
}

fn busy_mapper(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let page = attacker.frames.page(at)?;
    let child = attacker.maker.child()?;
    child.share(page)?;
    attacker.frames.cover(child.env, HOARD)?;
    let first = attacker.frames.take(child.env, HELD)?;
    write(at, FIRST, first.into_word());
    let code: Code = clings;
    child.start(code, 0)?;
    until(&child, at, STARTED, 1)?;
    let (mut taken, mut steps) = (0, 0);
    while taken < HELD && steps < STEPS {
        steps += 1;
        match sys::revoke_enforce(child.env, first.plus(taken)) {
            Ok(_) => taken += 1,
            Err(Error::Again) => {}
            Err(error) => return Ok(Verdict::breach(error)),
        }
        if steps % 3 == 0 {
            sys::slice_yield()?;
        }
    }
    let rounds = read(at, STARTED);
    until(&child, at, STARTED, rounds + 2)?;
    let free = (0..HELD).all(|offset| {
        matches!(attacker.frames.look(first.plus(offset)), Some((FrameKind::Free, _)))
    });
    child.destroy()?;
    attacker.frames.drop_page(at, page)?;
    Ok(Verdict::harmless(free && taken == HELD, alloc::format!("gone, {taken} of {HELD}")))
}

/// Drives a taking until `victim` is neither its owner's nor free yet.
fn half_way(attacker: &Attacker, child: &Child<'_>, victim: Pfn) -> Result<bool, Error> {
    for _ in 0..STEPS {
        match sys::revoke_enforce(child.env, victim) {
            Err(Error::Again) => {}
            Ok(_) => return Ok(false),
            Err(error) => return Err(error),
        }
        if attacker.frames.look(victim) == Some((FrameKind::Revoked, child.id)) {
            return Ok(true);
        }
    }
    Err(Error::Again)
}

/// A child with one frame, which the attacker has mapped at `at`.
fn with_victim(attacker: &Attacker, at: VirtAddr) -> Result<(Child<'_>, Pfn), Error> {
    let child = attacker.maker.bare()?;
    let victim = attacker.frames.take(child.env, 1)?;
    sys::map(SELF, child.env, victim, at, 1, Protection::ReadWrite)?;
    write(at, 0, 0x5ec2_e700);
    Ok((child, victim))
}

fn between_steps(attacker: &mut Attacker) -> Attempt {
    let (at, other) = (attacker.window()?, attacker.window()?);
    let (child, victim) = with_victim(attacker, at)?;
    if !half_way(attacker, &child, victim)? {
        return Ok(Verdict::breach("done at once: nothing was tested"));
    }
    let far = VirtAddr::new(0x5000_0000_0000).ok_or(Error::BadAddress)?;
    let level = Level::new(3).ok_or(Error::BadArgument)?;
    let capability = attacker.frames.capability;
    let tries = [
        sys::map(SELF, child.env, victim, other, 1, Protection::Read),
        sys::map(SELF, child.env, victim, other, 1, Protection::ReadWrite),
        sys::map(child.env, child.env, victim, other, 1, Protection::ReadWrite),
        sys::table_install(child.env, far, level, victim),
        sys::frames_take(capability, SELF, victim, 1),
        sys::frames_free(victim, 1),
        sys::cap_grow(victim),
    ];
    let batch = sys::batch(exo_abi::UserPtr(at.get()), 1);
    let taken = enforce(&child, victim);
    let free = matches!(attacker.frames.look(victim), Some((FrameKind::Free, _)));
    let unmapped = attacker.maker.tables.page(at)?.is_none();
    child.destroy()?;
    if taken.is_err() || !free || !unmapped || batch != Err(Error::BadPointer) {
        return Ok(Verdict::breach(alloc::format!("{taken:?}, {free}, {unmapped}, {batch:?}")));
    }
    Ok(Verdict::every(tries.into_iter(), &[Error::NotOwned, Error::NotFree, Error::NoTable]))
}

/// The frame is still mapped here: it must not be free before it is not, and then be.
fn destroy_between(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let before = attacker.frames.free();
    let (child, victim) = with_victim(attacker, at)?;
    if !half_way(attacker, &child, victim)? {
        return Ok(Verdict::breach("done at once: nothing was tested"));
    }
    let stuck = until_done(|| sys::env_destroy(child.env));
    let held = matches!(attacker.frames.look(victim), Some((FrameKind::Revoked, _)));
    let more = sys::revoke_enforce(child.env, victim);
    sys::unmap(SELF, at, 1)?;
    child.destroy()?;
    let back = attacker.frames.free() == before;
    if !held || !back || more != Err(Error::WrongState) {
        return Ok(Verdict::breach(alloc::format!("{held}, {back}, {more:?}")));
    }
    Ok(Verdict::refused(stuck, Error::InUse))
}
