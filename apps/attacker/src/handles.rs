//! Handles made up, worn out, exchanged or stretched.

use exo_abi::boot::SELF;
use exo_abi::{Error, EventCount, Handle, Level, Protection, Rights, RingOrder, UserPtr, Word};
use libos::sys;

use crate::attack::{Attack, Attacker, Attempt, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "forge handles: every index, first generations", run: forge_small },
    Attack { name: "forge handles: random numbers", run: forge_random },
    Attack { name: "use a dropped handle", run: dropped },
    Attack { name: "use a revoked handle", run: revoked },
    Attack { name: "use the handle of a destroyed environment", run: destroyed },
    Attack { name: "use handles for what they are not", run: confused },
    Attack { name: "derive more rights than one has", run: more_rights },
    Attack { name: "derive rights that do not exist", run: strange_rights },
    Attack { name: "derive without the right to", run: without_grant },
    Attack { name: "derive a range beyond its own", run: beyond },
    Attack { name: "grant to an environment one may not endow", run: endow },
    Attack { name: "grant what one may not grant", run: grant },
    Attack { name: "use every handle as the machine's power", run: power },
    Attack { name: "give oneself control of oneself", run: control },
];

fn forge_small(attacker: &mut Attacker) -> Attempt {
    let known: alloc::vec::Vec<Handle> = attacker.handles().collect();
    let forged = (0..4096_u32)
        .chain([4096, 1 << 16, u32::MAX])
        .flat_map(|index| (0..8).chain([u32::MAX]).map(move |life| Handle::new(index, life)))
        .filter(|handle| !known.contains(handle));
    Ok(Verdict::every(forged.map(sys::cap_revoke), &[Error::BadHandle]))
}

fn forge_random(attacker: &mut Attacker) -> Attempt {
    let mut random = attacker.random;
    let known: alloc::vec::Vec<Handle> = attacker.handles().collect();
    let forged = (0..20_000).map(|_| {
        let word = random.word();
        Handle::new((word as u32) >> (word >> 59), (word >> 32) as u32)
    });
    let tries = forged.filter(|handle| !known.contains(handle)).map(sys::cap_revoke);
    Ok(Verdict::every(tries, &[Error::BadHandle]))
}

fn derive(source: Handle, rights: Rights) -> Result<Handle, Error> {
    Handle::from_word(sys::cap_derive(source, rights, 0, 0)?)
}

/// Every way to use a handle that needs no further preparation.
fn uses(handle: Handle) -> [Result<u64, Error>; 9] {
    let mut status = [0_u8; exo_abi::EnvStatus::BYTES];
    let at = UserPtr(status.as_mut_ptr().expose_provenance() as u64);
    [
        sys::cap_derive(handle, Rights::NONE, 0, 0),
        sys::cap_grant(handle, SELF),
        sys::cap_revoke(handle),
        sys::cap_drop(handle),
        sys::env_status(handle, at),
        sys::console_write(handle, at, 0),
        sys::net_sync(handle),
        sys::net_wait(handle, EventCount(u64::MAX), 0),
        sys::machine_exit(handle, 99),
    ]
}

fn dropped(_: &mut Attacker) -> Attempt {
    let handle = derive(SELF, Rights::GRANT)?;
    sys::cap_drop(handle)?;
    Ok(Verdict::every(uses(handle).into_iter(), &[Error::BadHandle]))
}

fn revoked(_: &mut Attacker) -> Attempt {
    let above = derive(SELF, Rights::GRANT)?;
    let handle = derive(above, Rights::GRANT)?;
    sys::cap_revoke(above)?;
    sys::cap_drop(above)?;
    Ok(Verdict::every(uses(handle).into_iter(), &[Error::BadHandle]))
}

fn destroyed(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.bare()?;
    let (env, parts) = (child.env, child.parts);
    let copy = derive(env, Rights::MEMORY.with(Rights::CONTROL).with(Rights::GRANT))?;
    child.destroy()?;
    // The same frame, now a different environment.
    sys::frames_take(attacker.frames.capability, SELF, parts, 4)?;
    let next = sys::env_create(parts, parts.plus(1), parts.plus(2), parts.plus(3))?;
    let at = attacker.window()?;
    let tries = [
        sys::env_destroy(copy),
        sys::env_start(copy, UserPtr(0x40_0000), UserPtr(0), 0),
        sys::unmap(copy, at, 1),
        sys::cap_grant(copy, SELF),
        sys::cap_grant(SELF, copy),
        sys::slots_assign(copy, 0, 1, SELF),
    ];
    sys::cap_drop(copy)?;
    selftest::child::destroy(Handle::from_word(next)?)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::BadHandle]))
}

fn confused(attacker: &mut Attacker) -> Attempt {
    let start = &attacker.environment.start;
    let (frames, net) = (start.frames, start.net.unwrap_or(SELF));
    let console = start.console.unwrap_or(SELF);
    let binding = attacker.nic.as_ref().map_or(SELF, |nic| nic.binding);
    let child = attacker.maker.bare()?;
    let at = attacker.window()?;
    let frame = attacker.frames.take(SELF, 8)?;
    let order = RingOrder::new(1).ok_or(Error::BadArgument)?;
    let level = Level::new(1).ok_or(Error::BadArgument)?;
    let text = UserPtr(0x40_0000);
    let mut tries = alloc::vec::Vec::new();
    for handle in [SELF, console, net, binding, child.env] {
        tries.push(sys::frames_take(handle, SELF, frame.plus(7), 1));
    }
    for handle in [frames, console, net, binding] {
        tries.extend([
            sys::frames_take(frames, handle, frame, 1),
            sys::map(handle, SELF, frame, at, 1, Protection::Read),
            sys::map(SELF, handle, frame, at, 1, Protection::Read),
            sys::unmap(handle, at, 1),
            sys::table_install(handle, at, level, frame),
            sys::env_start(handle, text, text, 0),
            sys::env_destroy(handle),
            sys::env_status(handle, UserPtr(at.get())),
            sys::cap_grant(SELF, handle),
        ]);
    }
    for handle in [SELF, frames, console, binding, child.env] {
        tries.push(sys::net_bind(handle, frame, order, frame.plus(4)));
    }
    for handle in [SELF, frames, net, console, child.env] {
        tries.extend([
            sys::net_sync(handle),
            sys::net_wait(handle, EventCount(u64::MAX), 0),
            sys::net_unbind(handle),
            sys::filter_install(handle, text, 21, frame, frame.plus(1)),
            sys::filter_remove(handle, frame),
        ]);
    }
    for handle in [SELF, frames, net, binding, child.env] {
        tries.push(sys::console_write(handle, text, 1));
    }
    for handle in [frames, net, console, binding] {
        tries.push(sys::slots_assign(handle, attacker.maker.slot(), 1, child.env));
    }
    attacker.frames.give(frame, 8)?;
    child.destroy()?;
    Ok(Verdict::every(tries.into_iter(), &[Error::BadHandle, Error::NoRight]))
}

fn more_rights(attacker: &mut Attacker) -> Attempt {
    let start = &attacker.environment.start;
    let range = (start.first_frame.into_word(), u64::from(start.frame_count));
    let mut tries = alloc::vec![
        sys::cap_derive(start.frames, Rights::ALL, range.0, range.1),
        sys::cap_derive(SELF, Rights::ALL, 0, 0),
        sys::cap_derive(SELF, Rights::CONTROL, 0, 0),
    ];
    let others = [start.console, start.net, attacker.nic.as_ref().map(|nic| nic.binding)];
    for handle in others.into_iter().flatten() {
        tries.push(sys::cap_derive(handle, Rights::ALL, 0, 0));
        tries.push(sys::cap_derive(handle, Rights::POWER, 0, 0));
    }
    let weak = derive(SELF, Rights::GRANT)?;
    tries.push(sys::cap_derive(weak, Rights::MEMORY, 0, 0));
    tries.push(sys::cap_derive(weak, Rights::GRANT.with(Rights::INSPECT), 0, 0));
    sys::cap_drop(weak)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn strange_rights(_: &mut Attacker) -> Attempt {
    let number = exo_abi::call_number("cap_derive");
    let tries = (Rights::ALL.into_word().trailing_ones()..64)
        .map(|bit| 1 << bit)
        .chain([u64::MAX])
        .map(|bits: u64| sys::raw(number, [SELF.into_word(), bits, 0, 0, 0, 0]));
    Ok(Verdict::every(tries, &[Error::BadArgument]))
}

fn without_grant(_: &mut Attacker) -> Attempt {
    let weak = derive(SELF, Rights::MEMORY.with(Rights::INSPECT))?;
    let tries = [Rights::NONE, Rights::INSPECT, Rights::MEMORY, Rights::GRANT]
        .map(|rights| sys::cap_derive(weak, rights, 0, 0));
    sys::cap_drop(weak)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn beyond(attacker: &mut Attacker) -> Attempt {
    let start = &attacker.environment.start;
    let (first, count) = (start.first_frame.into_word(), u64::from(start.frame_count));
    let all = u64::from(u32::MAX);
    let tries = [
        (first - 1, 1),
        (first - 1, count + 2),
        (first, count + 1),
        (first + count, 1),
        (first + 1, count),
        (0, all),
        (first, all),
        (all, all),
        (all, 1),
        (all - count + 2, first + count),
        (first, 0),
    ]
    .map(|(first, count)| sys::cap_derive(start.frames, Rights::TAKE, first, count));
    Ok(Verdict::every(tries.into_iter(), &[Error::OutOfRange]))
}

fn endow(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.bare()?;
    let weak = derive(child.env, Rights::CONTROL.with(Rights::GRANT))?;
    let tries = [sys::cap_grant(SELF, weak), sys::cap_grant(weak, weak)];
    sys::cap_drop(weak)?;
    child.destroy()?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn grant(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.bare()?;
    let weak = derive(SELF, Rights::MEMORY)?;
    let verdict = Verdict::refused(sys::cap_grant(weak, child.env), Error::NoRight);
    sys::cap_drop(weak)?;
    child.destroy()?;
    Ok(verdict)
}

/// If one of these worked, the machine would be off.
fn power(attacker: &mut Attacker) -> Attempt {
    let tries = attacker
        .handles()
        .chain((0..256).flat_map(|index| (1..4).map(move |life| Handle::new(index, life))))
        .flat_map(|handle| [0, 99, 127, u64::MAX].map(|code| sys::machine_exit(handle, code)));
    Ok(Verdict::every(tries, &[Error::BadHandle, Error::NoRight]))
}

fn control(attacker: &mut Attacker) -> Attempt {
    let child = attacker.maker.bare()?;
    // Its own handle, handed to itself through a child's table and back, is no more.
    let tries = [
        sys::cap_derive(SELF, Rights::CONTROL.with(Rights::GRANT), 0, 0),
        sys::env_destroy(SELF),
        sys::env_start(SELF, UserPtr(0x40_0000), UserPtr(0), 0),
        sys::slots_assign(child.env, attacker.maker.slot(), 1, SELF),
        sys::slots_assign(SELF, attacker.maker.slot(), 1, SELF),
    ];
    child.destroy()?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight, Error::OutOfRange]))
}
