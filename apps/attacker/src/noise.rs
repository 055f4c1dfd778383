//! Every call with random arguments: from the attacker itself, as far as it can do
//! that without cutting the branch it sits on, and without any restraint from
//! children.

use exo_abi::boot::{STACK_TOP, U_AREA};
use exo_abi::{EnvId, Handle, Pfn, Rights, SYSCALLS, Word};
use libos::sys;
use selftest::child::{SHARED, exit};
use selftest::frames::{read, write};
use selftest::random::Random;

use crate::attack::{Attack, Attacker, Attempt, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "random arguments to harmless calls", run: careful },
    Attack { name: "random arguments to all calls, in children", run: careless },
];

/// Where on the shared page the count of rounds lies, and behind it the seed and the
/// frames: away from where a status is likely to be written.
const WORDS: usize = 3072;
const CAREFUL_ROUNDS: u32 = 30_000;
const CARELESS_ROUNDS: u64 = 40_000;
/// A child that still lives after this many rounds makes room for the next.
const ROUNDS_PER_CHILD: u64 = 2_000;

/// Calls that end, stop or dismantle the caller, or leave behind what it could not
/// clean up.
const SPARED: &[&str] = &[
    "exit",
    "wait",
    "slice_yield",
    "console_write",
    "unmap",
    "table_remove",
    "cap_drop",
    "cap_revoke",
    "cap_grow",
    "net_unbind",
    "filter_remove",
    "env_create",
    "env_start",
    "env_destroy",
    "slots_assign",
    "wait_until",
    "batch",
    "entry_create",
    "cap_badge",
    "doorbell_create",
];

/// No frame outside the grant has come to belong to the attacker or to a child of it.
fn stole_nothing(attacker: &Attacker) -> bool {
    let (frames, id) = (attacker.frames, attacker.id());
    frames.all().all(|pfn| {
        let mine = |owner: EnvId| owner == id || frames.grants(Pfn(owner.0));
        frames.grants(pfn) || frames.look(pfn).is_none_or(|(_, owner)| !mine(owner))
    })
}

/// A word that is likely to mean something, or not.
#[inline(always)]
fn word(random: &mut Random, frames: (u64, u64)) -> u64 {
    let bits = random.word();
    match bits >> 60 {
        0..=2 => Handle::new((bits & 15) as u32, 1 + (bits >> 8 & 1) as u32).into_word(),
        3..=5 => frames.0 + bits % frames.1,
        // At the start of the page, or anywhere in it.
        6 => SHARED.get() + (bits & 0xfff) * (bits >> 12 & 1),
        7 => (bits & 0xffff) << 12,
        8 => U_AREA + (bits & 0xff8),
        9 => bits & 7,
        10 => bits & 0x7f,
        11 => 1 << (bits & 63),
        12 => u64::MAX - (bits & 0xffff),
        13 => 0xffff_8000_0000_0000 + (bits & 0xffff_ffff),
        _ => bits,
    }
}

/// A value of the type `name`, as the table of calls names it, that may well be good.
fn likely(name: &str, random: &mut Random, (first, count): (u64, u64)) -> u64 {
    const PLACES: [u64; 6] =
        [SHARED.get(), SHARED.get() + 4096, U_AREA, 0x40_0000, STACK_TOP - 4096, 0x30_0000_0000];
    match name {
        "Handle" => Handle::first(random.below(6) as u32).into_word(),
        "Pfn" => first + random.below(count),
        "VirtAddr" | "UserPtr" => PLACES[random.below(6) as usize],
        "Pages" | "Protection" => random.below(3),
        "Level" | "RingOrder" => 1 + random.below(3),
        "Rights" => random.below(1 << 12),
        _ => random.below(64),
    }
}

fn careful(attacker: &mut Attacker) -> Attempt {
    let mut random = attacker.random;
    let end = u64::from(attacker.frames.table.len() as u32);
    let calls: alloc::vec::Vec<_> =
        SYSCALLS.iter().filter(|entry| !SPARED.contains(&entry.name)).collect();
    let mut refused = 0;
    for _ in 0..CAREFUL_ROUNDS {
        let entry = calls[random.below(calls.len() as u64) as usize];
        // Only frames that no call could free or map by chance.
        let mut words = [0; 6];
        words.iter_mut().for_each(|register| *register = word(&mut random, (end, 1 << 20)));
        if entry.name == "frames_free" {
            words[0] |= 1 << 31;
        }
        refused += u32::from(sys::raw(entry.number, words).is_err());
    }
    let unharmed = stole_nothing(attacker);
    Ok(Verdict::harmless(unharmed, alloc::format!("no, {refused} of {CAREFUL_ROUNDS} times")))
}

/// Makes random calls and counts them on the shared page, which also says with what
/// seed and on which frames.
extern "C" fn rages(_: u64) -> ! {
    let mut random = Random::new(read(SHARED, WORDS + 8));
    let frames = (read(SHARED, WORDS + 16), read(SHARED, WORDS + 24));
    let calls = SYSCALLS.len() as u64;
    for _ in 0..ROUNDS_PER_CHILD {
        write(SHARED, WORDS, read(SHARED, WORDS) + 1);
        let number = random.below(calls + 1);
        let mut words = [0; 6];
        let types = SYSCALLS.get(number as usize).map_or(&[][..], |entry| entry.arguments);
        for (index, register) in words.iter_mut().enumerate() {
            *register = match types.get(index) {
                // Mostly what the call could do something with.
                Some((_, name)) if random.below(4) != 0 => likely(name, &mut random, frames),
                _ => word(&mut random, frames),
            };
        }
        match number {
            // exit would only make the child's life shorter.
            1 => continue,
            // A sleep, but not for ever.
            3 => words[1] = 1,
            38 => words[3] = 1,
            _ => {}
        }
        let _ = sys::raw(number, words);
    }
    exit(0)
}

fn careless(attacker: &mut Attacker) -> Attempt {
    let window = attacker.window()?;
    let page = attacker.frames.page(window)?;
    let before = attacker.frames.free();
    let (mut deaths, mut children) = (0, 0);
    while read(window, WORDS) < CARELESS_ROUNDS {
        write(window, WORDS + 8, attacker.random.word());
        let child = attacker.maker.child()?;
        child.share(page)?;
        // Frames of its own to play with, and the network.
        let first = attacker.frames.find(64).ok_or(exo_abi::Error::NotFree)?;
        write(window, WORDS + 16, first.into_word());
        write(window, WORDS + 24, 64);
        let rights = Rights::TAKE.with(Rights::GRANT);
        let capability = attacker.frames.capability;
        let narrow = sys::cap_derive(capability, rights, first.into_word(), 64)?;
        let narrow = Handle::from_word(narrow)?;
        sys::cap_grant(narrow, child.env)?;
        if let Some(nic) = &attacker.nic {
            sys::cap_grant(nic.net, child.env)?;
        }
        child.start(rages, 0)?;
        let status = child.wait(crate::attack::PATIENCE)?;
        deaths += u32::from(status.is_some_and(|status| status.vector != 0));
        children += 1;
        child.destroy()?;
        sys::cap_drop(narrow)?;
    }
    let rounds = read(window, WORDS);
    let back = attacker.frames.free() == before;
    let unharmed = back && stole_nothing(attacker);
    attacker.frames.drop_page(window, page)?;
    let answer = alloc::format!("{rounds} answers, {deaths} of {children} children died");
    Ok(Verdict::harmless(unharmed, answer))
}
