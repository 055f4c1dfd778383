//! Capabilities that come with protected calls: to environments that do not want them, of
//! what the caller may not give away, or until no room is left.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{Error, Handle, Rights, Word};
use libos::transfer::{Message, Remote};
use libos::{entry_point, sys};
use selftest::server::{Server, area};

use crate::attack::{Attack, Attacker, Attempt, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "fill the table of a server that wants nothing", run: unwanted },
    Attack { name: "give away what one may only use", run: not_to_give },
    Attack { name: "give away guessed handles", run: guessed },
    Attack { name: "fill the table of a server that welcomes all", run: welcomed },
    Attack { name: "have a server give what it may only use", run: lured },
];

/// What the service is asked to do, beside being called.
mod wish {
    pub(super) const WELCOME: u64 = 1;
    /// To grant, with the reply, the capability with the handle in the second word.
    pub(super) const LURE: u64 = 2;
}

entry_point!(
    /// Keeps what comes.
    service => granting serve
);

extern "C" fn serve(_: u64, _: u64, message: &mut Message, _: Handle) -> Handle {
    match message[0] {
        wish::WELCOME => area().grants.store(1, Relaxed),
        wish::LURE => return Handle::from_word(message[1]).unwrap_or(Handle::NONE),
        _ => {}
    }
    message[0] = 77;
    Handle::NONE
}

fn server(attacker: &Attacker) -> Result<Server<'_>, Error> {
    Server::new(&attacker.maker, attacker.window()?, service)
}

fn give(server: &Server<'_>, grant: Handle) -> Result<u64, Error> {
    Remote::<u64, u64>::new(server.entry).exchange(0, grant).map(|(answer, _)| answer)
}

fn unwanted(attacker: &mut Attacker) -> Attempt {
    let server = server(attacker)?;
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    let tries: alloc::vec::Vec<_> = (0..5000).map(|_| give(&server, bell)).collect();
    let serves = give(&server, Handle::NONE) == Ok(77);
    sys::cap_drop(bell)?;
    server.destroy()?;
    if !serves {
        return Ok(Verdict::breach("the server serves no longer"));
    }
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn not_to_give(attacker: &mut Attacker) -> Attempt {
    let server = server(attacker)?;
    Remote::<u64, u64>::new(server.entry).call(wish::WELCOME)?;
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    let mute = Handle::from_word(sys::cap_derive(bell, Rights::CALL, 0, 0)?)?;
    let tries = [give(&server, mute), sys::transfer_send(server.entry, mute)];
    sys::cap_drop(mute)?;
    sys::cap_drop(bell)?;
    server.destroy()?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn guessed(attacker: &mut Attacker) -> Attempt {
    let server = server(attacker)?;
    Remote::<u64, u64>::new(server.entry).call(wish::WELCOME)?;
    let known: alloc::vec::Vec<Handle> = attacker.handles().chain([server.entry]).collect();
    let used = [server.marked, server.bell, server.child.env];
    let guesses = (0..512_u32)
        .flat_map(|index| (0..4).map(move |life| Handle::new(index, life)))
        .filter(|handle| *handle != Handle::NONE && !known.contains(handle))
        .filter(|handle| !used.contains(handle));
    let tries: alloc::vec::Vec<_> = guesses.map(|guess| give(&server, guess)).collect();
    server.destroy()?;
    Ok(Verdict::every(tries.into_iter(), &[Error::BadHandle]))
}

/// How full its table is, is up to the server; but it still serves callers that give it
/// nothing, and all it kept goes with it.
fn welcomed(attacker: &mut Attacker) -> Attempt {
    let before = attacker.frames.free();
    let server = server(attacker)?;
    Remote::<u64, u64>::new(server.entry).call(wish::WELCOME)?;
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    let full = loop {
        if let Err(error) = give(&server, bell) {
            break error;
        }
    };
    let serves = give(&server, Handle::NONE) == Ok(77);
    server.destroy()?;
    sys::cap_drop(bell)?;
    if !serves {
        return Ok(Verdict::breach("the server serves no longer"));
    }
    if attacker.frames.free() != before {
        return Ok(Verdict::breach("frames"));
    }
    Ok(Verdict::refused(Err(full), Error::TableFull))
}

/// A server that grants whatever it is told to has itself to blame; but the kernel gives
/// nothing away that the server could not.
fn lured(attacker: &mut Attacker) -> Attempt {
    let server = server(attacker)?;
    let remote = Remote::<Message, Message>::new(server.entry);
    area().grants.store(1, Relaxed);
    let mut got = 0;
    for index in 0..64 {
        let handle = Handle::first(index).into_word();
        let (_, grant) = remote.exchange([wish::LURE, handle, 0, 0, 0, 0], Handle::NONE)?;
        if grant != Handle::NONE {
            got += 1;
            // What it may not do with it itself it may not do here.
            if sys::cap_derive(grant, Rights::ALL, 0, 0).is_ok() {
                area().grants.store(0, Relaxed);
                return Ok(Verdict::breach("all rights"));
            }
            sys::cap_drop(grant)?;
        }
    }
    area().grants.store(0, Relaxed);
    server.destroy()?;
    Ok(Verdict::repelled(alloc::format!("no more rights than it has, {got} times")))
}
