//! Doorbells: to ring where one may not, and to ring a neighbour out of its senses.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{
    EVENT_RING_WORDS, EnvState, Error, Handle, Protection, Rights, START_BLOCK_BYTES, UArea, Word,
};
use libos::sys;
use libos::transfer::Message;
use selftest::child::exit;
use selftest::frames::read;
use selftest::server::{BADGE, Server, area, events};

use crate::attack::{Attack, Attacker, Attempt, PATIENCE, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "ring doorbells by guessed handles", run: guessed },
    Attack { name: "ring what is no doorbell", run: no_doorbell },
    Attack { name: "ring without the right to", run: no_right },
    Attack { name: "ring at one that is being destroyed", run: dying },
    Attack { name: "flood a neighbour's doorbell", run: flood },
    Attack { name: "write over the ring's indices", run: scribble },
];

libos::entry_point!(
    /// Does nothing.
    service => serve
);

extern "C" fn serve(_: u64, _: u64, _: &mut Message) {}

fn guessed(attacker: &mut Attacker) -> Attempt {
    let known: Vec<Handle> = attacker.handles().collect();
    let guesses = (0..512_u32)
        .flat_map(|index| (1..4).map(move |life| Handle::new(index, life)))
        .filter(|handle| !known.contains(handle));
    Ok(Verdict::every(guesses.map(sys::doorbell_ring), &[Error::BadHandle]))
}

fn no_doorbell(attacker: &mut Attacker) -> Attempt {
    let server = Server::new(&attacker.maker, attacker.window()?, service)?;
    let all: Vec<Handle> = attacker.handles().chain([server.entry, server.marked]).collect();
    let wanted = [Error::BadHandle, Error::NoRight];
    let verdict = Verdict::every(all.into_iter().map(sys::doorbell_ring), &wanted);
    server.destroy()?;
    Ok(verdict)
}

fn no_right(attacker: &mut Attacker) -> Attempt {
    let server = Server::new(&attacker.maker, attacker.window()?, service)?;
    let mute = sys::cap_derive(server.bell, Rights::GRANT, 0, 0).and_then(Handle::from_word)?;
    let answer = sys::doorbell_ring(mute);
    sys::cap_drop(mute)?;
    server.destroy()?;
    Ok(Verdict::refused(answer, Error::NoRight))
}

/// Some of its frames are free already and may be another's.
fn dying(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let server = Server::new(&attacker.maker, attacker.window()?, service)?;
    let frame = attacker.frames.take(server.child.env, 1)?;
    sys::map(SELF, server.child.env, frame, at, 1, Protection::Read)?;
    let stuck = selftest::child::until_done(|| sys::env_destroy(server.child.env));
    let tries = [server.bell, server.entry]
        .into_iter()
        .zip([sys::doorbell_ring as fn(Handle) -> Result<u64, Error>, |entry| {
            sys::transfer_send(entry, Handle::NONE)
        }])
        .map(|(handle, call)| call(handle));
    let verdict = Verdict::every(tries, &[Error::WrongState]);
    sys::unmap(SELF, at, 1)?;
    server.destroy()?;
    stuck.err().filter(|error| *error == Error::InUse).ok_or(Error::WrongState)?;
    Ok(verdict)
}

/// Rings of the flood.
const RINGS: u64 = 20_000;

/// The victim's ring takes what fits, and counts the rest; it sleeps on a page that is
/// otherwise as it was.
fn flood(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let server = Server::new(&attacker.maker, attacker.window()?, service)?;
    let u_area = server.child.parts.plus(3);
    sys::map(SELF, server.child.env, u_area, at, 1, Protection::Read)?;
    for _ in 0..RINGS {
        sys::doorbell_ring(server.bell)?;
    }
    // SAFETY: the victim's U-area, mapped here; only its atomics are used.
    let victim = unsafe { &*core::ptr::with_exposed_provenance::<UArea>(at.get() as usize) };
    let ring = &victim.ring;
    let words = EVENT_RING_WORDS;
    let kept = ring.produced.load(Relaxed) == words
        && ring.badges.iter().all(|badge| badge.load(Relaxed) == BADGE);
    let lost = ring.lost.load(Relaxed);
    let clean = (4096 - START_BLOCK_BYTES..4096).step_by(8).all(|offset| read(at, offset) == 0);
    let counted = victim.events.load(Relaxed) == RINGS;
    sys::unmap(SELF, at, 1)?;
    server.destroy()?;
    let unharmed = kept && clean && counted && lost == RINGS - u64::from(words);
    Ok(Verdict::harmless(unharmed, alloc::format!("{lost} of {RINGS} rings lost")))
}

/// Tells the kernel nonsense about its ring between rings of its own.
extern "C" fn scribbles(_: u64) -> ! {
    let ring = &area().ring;
    let Ok(bell) = sys::doorbell_create().and_then(Handle::from_word) else { exit(1) };
    for number in [1, 31, 32, 33, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        ring.consumed.store(number, Relaxed);
        ring.produced.store(number.wrapping_mul(7), Relaxed);
        ring.lost.store(u64::MAX, Relaxed);
        for _ in 0..100 {
            if sys::doorbell_ring(bell).is_err() {
                exit(2);
            }
        }
    }
    exit(events().0)
}

fn scribble(attacker: &mut Attacker) -> Attempt {
    let status = attacker.maker.try_out(scribbles, 0, PATIENCE)?;
    let got = status.map(|status| (EnvState::from_u32(status.state), status.code));
    let unharmed = got == Some((Some(EnvState::Exited), 700));
    Ok(Verdict::harmless(unharmed, "all rings counted, 700"))
}
