//! Protected control transfer: into environments that the caller has no right to enter, in
//! another's name, or where there is nothing.

use alloc::vec::Vec;

use exo_abi::{Error, Handle, Rights, UserPtr, Word};
use libos::entry_point;
use libos::sys;
use libos::transfer::{Message, Remote};
use selftest::child::{Code, SHARED, exit, until_done};
use selftest::frames::{read, write};
use selftest::server::{BADGE, Server, handle, place};

use crate::attack::{Attack, Attacker, Attempt, PATIENCE, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "call entries by guessed handles", run: guessed },
    Attack { name: "call what is no entry", run: no_entry },
    Attack { name: "call an entry without the right to", run: no_right },
    Attack { name: "call an entry that was removed", run: removed },
    Attack { name: "call one that has ended", run: ended },
    Attack { name: "call the new owner of a dead environment's frames", run: reused },
    Attack { name: "call an entry that was taken back", run: revoked },
    Attack { name: "mark a capability twice", run: badge_twice },
    Attack { name: "mark with a badge that does not fit", run: strange_badges },
    Attack { name: "mark what is not an entry", run: badge_others },
    Attack { name: "have an entry in the kernel", run: kernel_entries },
    Attack { name: "have more entries than there are", run: many_entries },
    Attack { name: "reply without a caller", run: uncalled_reply },
    Attack { name: "fill the capability table with entries and badges", run: fill },
    Attack { name: "end a server by calling it and ending", run: call_and_end },
    Attack { name: "keep a server for oneself by ending in a call", run: wedge },
];

entry_point!(
    /// Spins until it may go on, if asked to, and echoes.
    service => serve
);

/// Words of the shared page.
const STARTED: usize = place::FREE;
const GO_ON: usize = place::FREE + 8;
const CALLER: usize = place::FREE + 16;

extern "C" fn serve(badge: u64, caller: u64, message: &mut Message) {
    if message[0] == HOLD {
        write(SHARED, STARTED, 1);
        while read(SHARED, GO_ON) == 0 {
            core::hint::spin_loop();
        }
    }
    message[1] = badge;
    message[2] = caller;
}

const HOLD: u64 = 77;

fn server(attacker: &Attacker) -> Result<Server<'_>, Error> {
    Server::new(&attacker.maker, attacker.window()?, service)
}

/// Both ways to enter.
fn enter(entry: Handle) -> [Result<u64, Error>; 2] {
    let call = Remote::<Message, Message>::new(entry).call([0; 6]);
    let send = Remote::<Message, ()>::new(entry).send([0; 6]);
    [call.map(|reply| reply[0]), send.map(|()| 0)]
}

fn guessed(attacker: &mut Attacker) -> Attempt {
    let known: Vec<Handle> = attacker.handles().collect();
    let guesses = (0..512_u32)
        .flat_map(|index| (1..4).map(move |life| Handle::new(index, life)))
        .filter(|handle| !known.contains(handle));
    Ok(Verdict::every(guesses.flat_map(enter), &[Error::BadHandle]))
}

fn no_entry(attacker: &mut Attacker) -> Attempt {
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    let entries: Vec<Handle> = attacker.entries().collect();
    let others = attacker.handles().filter(|handle| !entries.contains(handle));
    let all: Vec<Handle> = others.chain([bell]).collect();
    let wanted = [Error::BadHandle, Error::NoRight];
    let verdict = Verdict::every(all.into_iter().flat_map(enter), &wanted);
    sys::cap_drop(bell)?;
    Ok(verdict)
}

fn no_right(attacker: &mut Attacker) -> Attempt {
    let server = server(attacker)?;
    let tries = [Rights::GRANT, Rights::NONE].map(|rights| {
        let mute = sys::cap_derive(server.entry, rights, 0, 0).and_then(Handle::from_word)?;
        let answers = enter(mute);
        sys::cap_drop(mute)?;
        Ok(answers)
    });
    server.destroy()?;
    let tries = tries.into_iter().collect::<Result<Vec<_>, Error>>()?;
    Ok(Verdict::every(tries.into_iter().flatten(), &[Error::NoRight]))
}

fn removed(_: &mut Attacker) -> Attempt {
    // Of the attacker's own: a call of it would be busy if the entry were there.
    let there = sys::entry_create(3, UserPtr(0x40_0000), UserPtr(0x40_0000))?;
    let there = Handle::from_word(there)?;
    let before = enter(there);
    sys::entry_create(3, UserPtr(0), UserPtr(0))?;
    let mut after = enter(there).to_vec();
    // The same number again: with the same address, and another one.
    for address in [0x40_0000, 0x40_1000] {
        let again = sys::entry_create(3, UserPtr(address), UserPtr(0x40_0000))?;
        after.extend(enter(there));
        after.push(sys::cap_derive(there, Rights::CALL, 0, 0));
        sys::cap_drop(Handle::from_word(again)?)?;
    }
    sys::entry_create(3, UserPtr(0), UserPtr(0))?;
    sys::cap_drop(there)?;
    if before != [Err(Error::Busy); 2] {
        return Ok(Verdict::breach("something else before"));
    }
    Ok(Verdict::every(after.into_iter(), &[Error::BadHandle]))
}

extern "C" fn dies(_: u64) -> ! {
    // SAFETY: ends this environment, which is meant.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

entry_point!(
    /// Ends its environment.
    fatal => die
);

extern "C" fn die(_: u64, _: u64, _: &mut Message) {
    dies(0)
}

fn ended(attacker: &mut Attacker) -> Attempt {
    let server = Server::new(&attacker.maker, attacker.window()?, fatal)?;
    let first = enter(server.entry)[0];
    let again = enter(server.entry);
    server.destroy()?;
    if first != Err(Error::PeerGone) {
        return Ok(Verdict::breach("another answer when it ended"));
    }
    Ok(Verdict::every(again.into_iter(), &[Error::WrongState]))
}

/// The handle of an entry of an environment that is gone, while its frames hold another that
/// serves as well.
fn reused(attacker: &mut Attacker) -> Attempt {
    let Server { child, entry, marked, bell, page, frame, .. } = server(attacker)?;
    let parts = child.parts;
    child.destroy()?;
    attacker.frames.drop_page(page, frame)?;
    let again = server(attacker)?;
    let same_frames = again.child.parts == parts;
    let tries: Vec<_> = [entry, marked].into_iter().flat_map(enter).collect();
    let rung = sys::doorbell_ring(bell);
    let works = enter(again.entry)[0].is_ok();
    again.destroy()?;
    for stale in [entry, marked, bell] {
        sys::cap_drop(stale)?;
    }
    if !same_frames || !works {
        return Ok(Verdict::breach("other frames: nothing was tested"));
    }
    Ok(Verdict::every(tries.into_iter().chain([rung]), &[Error::BadHandle]))
}

fn revoked(_: &mut Attacker) -> Attempt {
    let own = sys::entry_create(0, UserPtr(0x40_0000), UserPtr(0x40_0000))?;
    let own = Handle::from_word(own)?;
    let marked = Handle::from_word(sys::cap_badge(own, 9)?)?;
    let copy = Handle::from_word(sys::cap_derive(marked, Rights::CALL, 0, 0)?)?;
    until_done(|| sys::cap_revoke(own))?;
    let tries = [marked, copy].map(enter);
    sys::entry_create(0, UserPtr(0), UserPtr(0))?;
    sys::cap_drop(own)?;
    Ok(Verdict::every(tries.into_iter().flatten(), &[Error::BadHandle]))
}

/// A capability that a server gave a badge, given another by its holder; what the server then
/// sees of the caller.
fn badge_twice(attacker: &mut Attacker) -> Attempt {
    let server = server(attacker)?;
    let tries =
        [1, BADGE, BADGE + 1, (1 << 60) - 1].map(|badge| sys::cap_badge(server.marked, badge));
    let shown = Remote::<Message, Message>::new(server.marked).call([0, 5, 6, 7, 8, 9])?;
    let own = u64::from(attacker.id().0);
    server.destroy()?;
    if shown[1..3] != [BADGE, own] {
        return Ok(Verdict::breach("another name"));
    }
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

/// The bits above a badge say which entry.
fn strange_badges(attacker: &mut Attacker) -> Attempt {
    let server = server(attacker)?;
    let tries = [0, 1 << 60, 15 << 60, 1 << 60 | 5, u64::MAX]
        .map(|badge| sys::cap_badge(server.entry, badge));
    server.destroy()?;
    Ok(Verdict::every(tries.into_iter(), &[Error::BadArgument]))
}

fn badge_others(attacker: &mut Attacker) -> Attempt {
    let tries = attacker.handles().map(|handle| sys::cap_badge(handle, 5));
    Ok(Verdict::every(tries, &[Error::BadHandle, Error::NoRight]))
}

fn kernel_entries(_: &mut Attacker) -> Attempt {
    let good = UserPtr(0x40_0000);
    let bad = [
        0x7fff_ffff_f001,
        0x8000_0000_0000,
        0xffff_8000_0000_0000,
        0xffff_ffff_8020_0000,
        u64::MAX,
    ];
    let tries = bad.into_iter().flat_map(|address| {
        [sys::entry_create(0, UserPtr(address), good), sys::entry_create(0, good, UserPtr(address))]
    });
    Ok(Verdict::every(tries, &[Error::BadAddress]))
}

fn many_entries(_: &mut Attacker) -> Attempt {
    let good = UserPtr(0x40_0000);
    let tries = [16, 17, 64, 1 << 31, u32::MAX]
        .into_iter()
        .flat_map(|index| [good, UserPtr(0)].map(|at| sys::entry_create(index, at, good)));
    Ok(Verdict::every(tries, &[Error::OutOfRange]))
}

fn uncalled_reply(_: &mut Attacker) -> Attempt {
    Ok(Verdict::every((0..3).map(|_| sys::transfer_reply(Handle::NONE)), &[Error::WrongState]))
}

fn fill(attacker: &mut Attacker) -> Attempt {
    let before = attacker.frames.free();
    let own = sys::entry_create(0, UserPtr(0x40_0000), UserPtr(0x40_0000))?;
    let own = Handle::from_word(own)?;
    let mut made = alloc::vec![own];
    let full = loop {
        let next = match made.len() % 3 {
            // Another one: the first stays what its capability is for.
            0 => sys::entry_create(1, UserPtr(0x40_0000), UserPtr(0x40_0000)),
            1 => sys::cap_badge(own, made.len() as u64),
            _ => sys::doorbell_create(),
        };
        match next.and_then(Handle::from_word) {
            Ok(handle) => made.push(handle),
            Err(error) => break Err(error),
        }
    };
    for handle in &made {
        until_done(|| sys::cap_drop(*handle))?;
    }
    for index in 0..2 {
        sys::entry_create(index, UserPtr(0), UserPtr(0))?;
    }
    let verdict = Verdict::refused(full, Error::TableFull);
    Ok(if attacker.frames.free() == before { verdict } else { Verdict::breach("frames") })
}

/// A child that calls the entry at `CALLER`.
extern "C" fn calls(first: u64) -> ! {
    let remote = Remote::<Message, Message>::new(handle(SHARED, CALLER));
    exit(remote.call([first, 0, 0, 0, 0, 0]).err().map_or(0, Error::code))
}

/// A caller that is destroyed while it is served: the server must notice only that there is
/// no caller to reply to.
fn call_and_end(attacker: &mut Attacker) -> Attempt {
    let server = server(attacker)?;
    held_by_dead(attacker, &server)?;
    server.give_time()?;
    write(server.page, GO_ON, 1);
    let verdict = serves_again(&server, attacker);
    server.take_time()?;
    server.destroy()?;
    verdict
}

/// The same at a server without time of its own: no environment's slots run it any more. It
/// is busy until it gets some; it gets some, and serves.
fn wedge(attacker: &mut Attacker) -> Attempt {
    let server = server(attacker)?;
    held_by_dead(attacker, &server)?;
    write(server.page, GO_ON, 1);
    let meanwhile = enter(server.entry);
    // A little of the attacker's own time, given away, is time as well.
    for _ in 0..4 {
        sys::slice_donate(server.child.env)?;
    }
    let verdict = serves_again(&server, attacker);
    server.destroy()?;
    if meanwhile != [Err(Error::Busy); 2] {
        return Ok(Verdict::breach("another answer than busy"));
    }
    verdict
}

fn held_by_dead(attacker: &Attacker, server: &Server<'_>) -> Result<(), Error> {
    let child = attacker.maker.child()?;
    child.share(server.frame)?;
    write(server.page, CALLER, sys::cap_grant(server.entry, child.env)?);
    let code: Code = calls;
    child.start(code, HOLD)?;
    while read(server.page, STARTED) == 0 {
        sys::slice_yield()?;
    }
    child.destroy()
}

fn serves_again(server: &Server<'_>, attacker: &Attacker) -> Attempt {
    let end = libos::time::timestamp() + PATIENCE;
    loop {
        match Remote::<Message, Message>::new(server.marked).call([0; 6]) {
            Err(Error::Busy) if libos::time::timestamp() < end => drop(sys::slice_yield()?),
            Ok([_, BADGE, caller, ..]) if caller == u64::from(attacker.id().0) => {
                return Ok(Verdict::repelled("nothing; the next visitor was served"));
            }
            Ok(_) => return Ok(Verdict::breach("another's name")),
            Err(error) => return Ok(Verdict::breach(error)),
        }
    }
}
