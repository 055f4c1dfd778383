//! Using up everything there is: only the attacker may run dry.

use alloc::vec::Vec;
use exo_abi::boot::SELF;
use exo_abi::{DERIVATION_DEPTH, Error, Handle, MAX_CAPABILITIES, Rights, Word};
use libos::sys;
use selftest::child::until_done;

use crate::attack::{Attack, Attacker, Attempt, Verdict};
use crate::claims::{STORE, STORE_PORT};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "take all frames there are", run: all_frames },
    Attack { name: "fill the capability table", run: capabilities },
    Attack { name: "make as many environments as fit", run: environments },
    Attack { name: "make as many bindings as fit", run: bindings },
    Attack { name: "install as many filters as fit", run: filters },
    Attack { name: "derive a long chain and drop its top", run: long_chain },
];

/// Whether no frame outside the grant has come to be the attacker's.
fn stole_nothing(attacker: &Attacker) -> bool {
    let (frames, id) = (attacker.frames, attacker.id());
    frames
        .all()
        .all(|pfn| frames.grants(pfn) || frames.look(pfn).is_none_or(|(_, owner)| owner != id))
}

/// Whether the store's claim still stands.
fn store_stands(attacker: &Attacker) -> Result<bool, Error> {
    let Some(nic) = &attacker.nic else { return Ok(true) };
    let object = attacker.frames.take(SELF, 2)?;
    let answer = nic.install(&dpf::packet::udp_to(STORE, STORE_PORT), object);
    if answer.is_ok() {
        sys::filter_remove(nic.binding, object)?;
    }
    attacker.frames.give(object, 2)?;
    Ok(matches!(answer, Err(Error::FilterConflict | Error::NoRight)))
}

fn all_frames(attacker: &mut Attacker) -> Attempt {
    let frames = attacker.frames;
    let range = frames.range;
    let taken: Vec<_> = (0..range.count)
        .map(|offset| range.first.plus(offset))
        .filter(|pfn| sys::frames_take(frames.capability, SELF, *pfn, 1).is_ok())
        .collect();
    let more = sys::frames_take(frames.capability, SELF, range.first, 1);
    let unharmed = stole_nothing(attacker) && frames.free() == 0;
    for frame in &taken {
        frames.give(*frame, 1)?;
    }
    let verdict = Verdict::refused(more, Error::NotFree);
    Ok(if unharmed { verdict } else { Verdict::breach("frames outside the grant") })
}

/// Derives until nothing fits any more.
fn fill(handles: &mut Vec<Handle>) -> Error {
    loop {
        match sys::cap_derive(SELF, Rights::NONE, 0, 0).and_then(Handle::from_word) {
            Ok(handle) => handles.push(handle),
            Err(error) => return error,
        }
    }
}

fn capabilities(attacker: &mut Attacker) -> Attempt {
    // Before the table grows, since growing needs memory for this list.
    let mut handles = Vec::with_capacity(MAX_CAPABILITIES as usize);
    let full = fill(&mut handles);
    let mut frame = attacker.frames.take(SELF, 1)?;
    let refusal = loop {
        match sys::cap_grow(frame) {
            Ok(_) => frame = attacker.frames.take(SELF, 1)?,
            Err(error) => break error,
        }
        let error = fill(&mut handles);
        if error != Error::TableFull {
            break error;
        }
    };
    attacker.frames.give(frame, 1)?;
    let most = handles.len();
    for handle in handles {
        sys::cap_drop(handle)?;
    }
    let bounded =
        most <= MAX_CAPABILITIES as usize && full == Error::TableFull && refusal == Error::TooMuch;
    let answer = alloc::format!("{full}, then {refusal} at {most}");
    Ok(Verdict::harmless(bounded && store_stands(attacker)?, answer))
}

fn environments(attacker: &mut Attacker) -> Attempt {
    let before = attacker.frames.free();
    let mut made = Vec::new();
    while made.len() < 200 {
        match attacker.maker.bare() {
            Ok(child) => made.push(child),
            Err(_) => break,
        }
    }
    let count = made.len();
    for child in made {
        child.destroy()?;
    }
    let unharmed = attacker.frames.free() == before && stole_nothing(attacker);
    Ok(Verdict::harmless(unharmed && count > 0, alloc::format!("{count} and all back")))
}

fn bindings(attacker: &mut Attacker) -> Attempt {
    let frames = attacker.frames;
    let before = frames.free();
    let net = attacker.nic.as_ref().ok_or(Error::NoDevice)?.net;
    let order = exo_abi::RingOrder::new(1).ok_or(Error::BadArgument)?;
    let mut made = Vec::with_capacity(1024);
    while made.len() < 1024 {
        let Ok(run) = frames.take(SELF, order.frames() + 1) else { break };
        let object = run.plus(order.frames());
        match sys::net_bind(net, run, order, object).and_then(Handle::from_word) {
            Ok(handle) => made.push((handle, run)),
            Err(_) => {
                frames.give(run, order.frames() + 1)?;
                break;
            }
        }
    }
    let stands = store_stands(attacker);
    let count = made.len();
    for (handle, run) in made {
        until_done(|| sys::net_unbind(handle))?;
        sys::cap_drop(handle)?;
        frames.give(run, order.frames() + 1)?;
    }
    // With no frame left the question could not be asked; then ask it now.
    let stands = stands.or_else(|_| store_stands(attacker))?;
    let unharmed = frames.free() == before && stands && count > 0;
    Ok(Verdict::harmless(unharmed, alloc::format!("{count} and all back")))
}

fn filters(attacker: &mut Attacker) -> Attempt {
    let frames = attacker.frames;
    let before = frames.free();
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let mut installed = Vec::with_capacity(512);
    for port in 20_000..20_512 {
        let Ok(object) = frames.take(SELF, 2) else { break };
        if nic.install(&nic.harmless_filter(port), object).is_err() {
            frames.give(object, 2)?;
            break;
        }
        installed.push(object);
    }
    let stands = store_stands(attacker)?;
    let count = installed.len();
    for object in installed {
        sys::filter_remove(nic.binding, object)?;
        frames.give(object, 2)?;
    }
    let unharmed = frames.free() == before && stands && store_stands(attacker)? && count > 0;
    Ok(Verdict::harmless(unharmed, alloc::format!("{count} and all back")))
}

fn long_chain(_: &mut Attacker) -> Attempt {
    let derive = |from| sys::cap_derive(from, Rights::GRANT, 0, 0).and_then(Handle::from_word);
    let top = derive(SELF)?;
    let mut chains = Vec::new();
    // One after the other as deep as can be, until the table is full.
    for _ in 0..1000 {
        let mut lowest = top;
        while let Ok(handle) = derive(lowest) {
            chains.push(handle);
            lowest = handle;
        }
        if derive(top).is_err() {
            break;
        }
    }
    let mut steps = 1;
    while sys::cap_revoke(top) == Err(Error::Again) {
        steps += 1;
    }
    sys::cap_drop(top)?;
    let gone = chains.iter().all(|handle| sys::cap_drop(*handle) == Err(Error::BadHandle));
    let answer = alloc::format!("all of {} gone in {steps} steps", chains.len());
    Ok(Verdict::harmless(gone && chains.len() > DERIVATION_DEPTH as usize / 2, answer))
}
