//! Ring 0 without a capability for it. What a capability that is stale, used up or not enough is
//! worth is tried by `apps/elevated`, which has one.

use core::arch::{asm, naked_asm};
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::ELEVATION;
use exo_abi::{Allowance, BATCH_WORDS, Error, Handle, Rights, UserPtr, Word, call_number};
use libos::elevation::is_elevated;
use libos::sys;
use selftest::child::exit;
use selftest::server::area;

use crate::attack::{Attack, Attacker, Attempt, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "elevate by every handle there is", run: every_handle },
    Attack { name: "elevate by handles made up", run: forged },
    Attack { name: "elevate in a batch", run: batched },
    Attack { name: "lower from ring 3", run: lower },
    Attack { name: "derive ring 0 from what one has", run: derived },
    Attack { name: "write that one is elevated", run: claims },
    Attack { name: "call the kernel's functions from ring 3", run: calls },
];

fn every_handle(attacker: &mut Attacker) -> Attempt {
    Ok(Verdict::every(attacker.handles().map(sys::elevate), &[Error::BadHandle]))
}

fn forged(attacker: &mut Attacker) -> Attempt {
    let mut random = attacker.random;
    // Where root has its own, and anywhere; what the attacker has is the attack before.
    let known: alloc::vec::Vec<Handle> = attacker.handles().collect();
    let words = (0..2000).map(|_| random.word() >> random.below(64));
    let made_up = words.filter_map(|word| Handle::from_word(word).ok()).chain([ELEVATION]);
    let made_up = made_up.filter(|handle| !known.contains(handle));
    Ok(Verdict::every(made_up.map(sys::elevate), &[Error::BadHandle]))
}

fn batched(_: &mut Attacker) -> Attempt {
    let mut calls = [0_u64; BATCH_WORDS];
    calls[0] = call_number("elevate");
    calls[1] = ELEVATION.into_word();
    sys::batch(UserPtr(calls.as_mut_ptr().expose_provenance() as u64), 1)?;
    let code = core::hint::black_box(calls)[7];
    let answer =
        if code == 0 { Ok(0) } else { Err(Error::from_code(code).unwrap_or(Error::Again)) };
    Ok(Verdict::refused(answer, Error::BadArgument))
}

fn lower(_: &mut Attacker) -> Attempt {
    Ok(Verdict::refused(sys::lower(), Error::WrongState))
}

fn derived(attacker: &mut Attacker) -> Attempt {
    let whole = Allowance { cores: 1, stretch: 1000, total: Allowance::UNLIMITED };
    let (first, count) = whole.into_words();
    let sources = attacker.handles().map(|handle| {
        let made = sys::cap_derive(handle, Rights::CONTROL, first, count)?;
        sys::elevate(Handle::from_word(made)?)
    });
    let refusals = [Error::BadArgument, Error::NoRight, Error::OutOfRange, Error::BadHandle];
    Ok(Verdict::every(sources, &refusals))
}

/// Writes what the kernel writes into the U-area of an elevated environment, and does what
/// only ring 0 may.
extern "C" fn writes(_: u64) -> ! {
    area().elevation.until.store(u64::MAX, Relaxed);
    if !is_elevated() {
        exit(1);
    }
    let _ = sys::null();
    let root: u64;
    // SAFETY: ends this environment, or has no effect.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack)) };
    exit(root)
}

fn claims(attacker: &mut Attacker) -> Attempt {
    attacker.victim(writes, 0, &[13])
}

/// Calls the address.
#[unsafe(naked)]
extern "C" fn enters(_: u64) -> ! {
    naked_asm!("xor eax, eax", "call rdi", "jmp {exit}", exit = sym exit)
}

fn calls(attacker: &mut Attacker) -> Attempt {
    // The kernel's text is somewhere there; none of it can be called.
    for page in 0..64 {
        let verdict = attacker.victim(enters, 0xffff_ffff_8020_0000 + page * 0x1000, &[14])?;
        if !verdict.is_repelled() {
            return Ok(verdict);
        }
    }
    attacker.victim(enters, 0xffff_8000_0030_0000, &[14])
}
