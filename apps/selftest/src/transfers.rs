//! Protected control transfer: calls into other environments, and what becomes of
//! them when either side sleeps, is preempted or ends in the middle.

use core::arch::naked_asm;

use exo_abi::{EnvState, Error, Handle, Word, call_number};
use libos::entry_point;
use libos::sys;
use libos::time::timestamp;
use libos::transfer::{Message, Remote};
use selftest::check::{Outcome, holds, refused, same};
use selftest::child::{Child, Code, SHARED, exit};
use selftest::frames::{read, write};
use selftest::server::{BADGE, Server, events, handle, place};

use crate::bench::{Bench, Check, PATIENCE};
use crate::preemption::with_vectors;
use crate::registers::{Image, checked};

pub(crate) const CHECKS: &[Check] = &[
    ("a call carries a message both ways", both_ways),
    ("the server sees the caller, and by which capability it calls", visitors),
    ("a call keeps to the calling convention", convention),
    ("neither side sees the other's registers", registers),
    ("control words survive a call", control_words),
    ("a call to one that serves is refused", busy),
    ("calls nest, and run in the first caller's time", nested),
    ("a chain of calls ends at eight", chain),
    ("calls in a circle are refused", circle),
    ("a call outlasts the slices of its caller", long_service),
    ("a caller is told when its server ends", server_dies),
    ("a server goes on when its caller ends", caller_dies),
    ("a sent transfer is not waited for", sent),
    ("a server sleeps in a call until it is rung", sleeps_in_call),
    ("a server without time sleeps in a call until a deadline", deadline_in_call),
    ("what a server did otherwise sleeps on", sleeps_on),
    ("a removed entry leads nowhere", removed),
    ("the rest of a slice can be given away", donated),
];

/// What a service is asked to do: the first word of a message. The others are
/// arguments, and come back changed.
mod wish {
    pub(super) const ECHO: u64 = 1;
    pub(super) const SPIN: u64 = 2;
    pub(super) const HOLD: u64 = 3;
    pub(super) const DIE: u64 = 4;
    pub(super) const EXIT: u64 = 5;
    pub(super) const FORWARD: u64 = 6;
    pub(super) const SLEEP: u64 = 7;
    pub(super) const RING: u64 = 8;
    pub(super) const REMOVE: u64 = 9;
}

/// Words of the shared page.
const STARTED: usize = place::FREE;
const GO_ON: usize = place::FREE + 8;
const ANSWERED: usize = place::FREE + 16;
const NEXT: usize = place::FREE + 24;
const COUNT: usize = place::FREE + 32;
const CALLER: usize = place::FREE + 40;

entry_point!(
    /// Does what it is asked.
    service => serve
);

extern "C" fn serve(badge: u64, caller: u64, message: &mut Message) {
    let [wish, a, b, c, d, e] = *message;
    write(SHARED, COUNT, read(SHARED, COUNT) + 1);
    let code = |result: Result<u64, Error>| result.err().map_or(0, Error::code);
    *message = match wish {
        wish::ECHO => [badge, caller, a + 1, b * 3, !c, d ^ e],
        wish::SPIN => {
            let end = timestamp() + a;
            while timestamp() < end {
                core::hint::spin_loop();
            }
            [badge, caller, a + 1, b * 3, !c, d ^ e]
        }
        wish::HOLD => {
            write(SHARED, STARTED, 1);
            while read(SHARED, GO_ON) == 0 {
                core::hint::spin_loop();
            }
            // Only returns if there is no caller to reply to.
            write(SHARED, ANSWERED, 1 + code(sys::transfer_reply(Handle::NONE)));
            [0; 6]
        }
        // SAFETY: ends this environment, which is meant.
        wish::DIE => unsafe { core::arch::asm!("ud2", options(noreturn)) },
        wish::EXIT => exit(a),
        wish::FORWARD => {
            let onward = Remote::<Message, Message>::new(handle(SHARED, NEXT));
            // Each asks the next one to go on until `a` is used up.
            let next = if a == 0 { wish::ECHO } else { wish::FORWARD };
            match onward.call([next, a.saturating_sub(1), b, c, d, e]) {
                Ok(reply) => reply,
                Err(error) => [u64::MAX, error.code(), a, b, c, d],
            }
        }
        wish::SLEEP => {
            let seen = events();
            write(SHARED, STARTED, 1);
            let deadline = if a == 0 { 0 } else { timestamp() + a };
            let woke = sys::wait(seen, deadline).unwrap_or(u64::MAX);
            [woke - seen.0, u64::from(deadline <= timestamp()), a, b, c, d]
        }
        wish::RING => [code(sys::doorbell_ring(handle(SHARED, place::OWN_BELL))), 0, 0, 0, 0, 0],
        wish::REMOVE => {
            let none = exo_abi::UserPtr(0);
            [code(sys::entry_create(0, none, none)), 0, 0, 0, 0, 0]
        }
        _ => [u64::MAX; 6],
    };
}

/// A child that calls the entry with the handle at `CALLER` with one wish, and exits with the
/// kernel's answer.
extern "C" fn calls(wish: u64) -> ! {
    let remote = Remote::<Message, Message>::new(handle(SHARED, CALLER));
    exit(remote.call([wish, 0, 0, 0, 0, 0]).err().map_or(0, Error::code))
}

fn ask(entry: Handle, message: Message) -> Result<Message, Error> {
    Remote::new(entry).call(message)
}

fn server<'a>(bench: &'a Bench) -> Result<Server<'a>, Error> {
    Server::new(&bench.maker, bench.window(), service)
}

/// A child that calls `server` with `wish`, in the spare slot.
fn caller<'a>(bench: &'a Bench, server: &Server<'_>, wish: u64) -> Result<Child<'a>, Error> {
    let child = bench.maker.child()?;
    child.share(server.frame)?;
    write(server.page, CALLER, sys::cap_grant(server.entry, child.env)?);
    let code: Code = calls;
    child.start(code, wish)?;
    Ok(child)
}

fn until_started(server: &Server<'_>) -> Outcome {
    let end = timestamp() + PATIENCE;
    while read(server.page, STARTED) == 0 {
        sys::slice_yield()?;
        holds("the service did not start", timestamp() < end)?;
    }
    Ok(())
}

fn both_ways(bench: &mut Bench) -> Outcome {
    let server = server(bench)?;
    for round in 0..1000 {
        let message = [wish::ECHO, round, round << 32, !round, 0x1234, 0x4321 + round];
        let reply = ask(server.entry, message)?;
        let [_, a, b, c, d, e] = message;
        same("reply", reply[2..].to_vec(), alloc::vec![a + 1, b * 3, !c, d ^ e])?;
    }
    same("calls served", read(server.page, COUNT), 1000)?;
    Ok(server.destroy()?)
}

fn visitors(bench: &mut Bench) -> Outcome {
    let server = server(bench)?;
    let own = u64::from(bench.environment.id.0);
    for (entry, badge) in [(server.entry, 0), (server.marked, BADGE)] {
        let [shown, caller, ..] = ask(entry, [wish::ECHO, 0, 0, 0, 0, 0])?;
        same("badge and caller", (shown, caller), (badge, own))?;
    }
    refused(sys::cap_badge(server.marked, 5), Error::NoRight)?;
    Ok(server.destroy()?)
}

fn convention(bench: &mut Bench) -> Outcome {
    let server = Server::new(&bench.maker, bench.window(), bare)?;
    let arguments = [server.entry.into_word(), 0, 3, 4, 5, 6];
    same("answer", checked(call_number("transfer_call"), arguments)?, (0, 0))?;
    same("answer to sending", checked(call_number("transfer_send"), arguments)?.0, 0)?;
    Ok(server.destroy()?)
}

/// Where `bare` stores what it finds, on the shared page.
const FOUND: u64 = SHARED.get() + 512;
const FOUND_VECTORS: u64 = SHARED.get() + 1024;

/// Stores all it was given, fills every register that is not part of the message or
/// an argument, and replies.
#[unsafe(naked)]
unsafe extern "C" fn bare() {
    naked_asm!(
        "mov [{found}], rax",
        "mov [{found} + 8], rdx",
        "mov [{found} + 16], rdi",
        "mov [{found} + 24], rsi",
        "mov [{found} + 32], r8",
        "mov [{found} + 40], r9",
        "mov [{found} + 48], r10",
        "pushfq",
        "pop [{found} + 56]",
        "mov [{found} + 64], rsp",
        "fxsave [{vectors}]",
        "mov rdi, -1",
        "mov rsi, rdi",
        "mov rdx, rdi",
        "mov r8, rdi",
        "mov r9, rdi",
        "mov r10, rdi",
        "xor edi, edi",
        ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
        "pcmpeqd xmm\\n, xmm\\n",
        ".endr",
        "fninit",
        "fldl2t",
        "fldlg2",
        "push 0x7f80",
        "ldmxcsr [rsp]",
        "pop rax",
        "std",
        "jmp {reply}",
        found = const FOUND,
        vectors = const FOUND_VECTORS,
        reply = sym libos::transfer::reply,
    )
}

fn registers(bench: &mut Bench) -> Outcome {
    let server = Server::new(&bench.maker, bench.window(), bare)?;
    // Twice: the second time the server's own registers are left from the first.
    for _ in 0..2 {
        let words = Image::pattern().vectors;
        // SAFETY: the routine keeps the convention, and wants a handle.
        let (before, after) =
            unsafe { with_vectors(&words, call_once as *const (), server.entry.into_word()) };
        same("x87 registers", after.0[4..20].to_vec(), before.0[4..20].to_vec())?;
        same("vector registers", after.0[20..52].to_vec(), alloc::vec![0; 32])?;
        let found: [u64; 9] = core::array::from_fn(|index| read(server.page, 512 + 8 * index));
        same("badge and caller", (found[0], found[1]), (0, u64::from(bench.environment.id.0)))?;
        same("other registers", found[2..7].to_vec(), alloc::vec![0; 5])?;
        same("flags", found[7], 0x202)?;
        same("stack", found[8] % 16, 0)?;
        let vectors: [u64; 52] = core::array::from_fn(|i| read(server.page, 1024 + 8 * i));
        same("control words", (vectors[0] & 0xffff, vectors[3] & 0xffff_ffff), (0x37f, 0x1f80))?;
        same("x87 tags", vectors[0] >> 32 & 0xff, 0)?;
        same("vector registers", vectors[20..].to_vec(), alloc::vec![0; 32])?;
    }
    Ok(server.destroy()?)
}

/// Calls the entry `handle`.
#[unsafe(naked)]
unsafe extern "C" fn call_once(handle: u64) {
    naked_asm!(
        "mov eax, {number}",
        "xor esi, esi",
        "syscall",
        "ret",
        number = const call_number("transfer_call"),
    )
}

fn control_words(bench: &mut Bench) -> Outcome {
    let server = Server::new(&bench.maker, bench.window(), bare)?;
    let words = Image::pattern().vectors;
    // SAFETY: as in `registers`.
    let (before, after) =
        unsafe { with_vectors(&words, call_once as *const (), server.entry.into_word()) };
    same(
        "x87 control, status and tags",
        after.0[0] & 0xff_ffff_ffff,
        before.0[0] & 0xff_ffff_ffff,
    )?;
    same("mxcsr", after.0[3], before.0[3])?;
    Ok(server.destroy()?)
}

fn busy(bench: &mut Bench) -> Outcome {
    let server = server(bench)?;
    let child = caller(bench, &server, wish::HOLD)?;
    until_started(&server)?;
    same("caller", child.status()?.state, EnvState::Calling as u32)?;
    for _ in 0..3 {
        same("call", ask(server.entry, [wish::ECHO; 6]), Err(Error::Busy))?;
        same("send", Remote::<Message, ()>::new(server.marked).send([0; 6]), Err(Error::Busy))?;
    }
    write(server.page, GO_ON, 1);
    let status = child.wait(PATIENCE)?;
    same("the first caller", status.map(|status| status.code), Some(0))?;
    same("no caller to reply to", read(server.page, ANSWERED), 0)?;
    same("caller afterwards", ask(server.entry, [wish::ECHO; 6])?[2], wish::ECHO + 1)?;
    child.destroy()?;
    Ok(server.destroy()?)
}

/// Servers that each know the next one's entry.
fn row(bench: &Bench, length: usize) -> Result<alloc::vec::Vec<Server<'_>>, Error> {
    let servers: Result<alloc::vec::Vec<_>, _> = (0..length).map(|_| server(bench)).collect();
    let servers = servers?;
    for pair in servers.windows(2) {
        let next = sys::cap_grant(pair[1].entry, pair[0].child.env)?;
        write(pair[0].page, NEXT, next);
    }
    Ok(servers)
}

fn end_row(servers: alloc::vec::Vec<Server<'_>>) -> Outcome {
    for server in servers {
        server.destroy()?;
    }
    Ok(())
}

fn nested(bench: &mut Bench) -> Outcome {
    let servers = row(bench, 2)?;
    let reply = ask(servers[0].entry, [wish::FORWARD, 0, 7, 5, 6, 9])?;
    let first = u64::from(servers[0].child.id.0);
    same("reply", reply, [0, first, 1, 21, !5, 15])?;
    end_row(servers)
}

fn chain(bench: &mut Bench) -> Outcome {
    let servers = row(bench, 8)?;
    // The program and seven servers are eight; the last one is never reached.
    let reply = ask(servers[0].entry, [wish::FORWARD, 5, 7, 5, 6, 9])?;
    same("caller of the seventh", reply[1], u64::from(servers[5].child.id.0))?;
    let reply = ask(servers[0].entry, [wish::FORWARD, 6, 7, 5, 6, 9])?;
    same("eighth", reply[..2].to_vec(), alloc::vec![u64::MAX, Error::TooMuch.code()])?;
    same("calls of the eighth", read(servers[7].page, COUNT), 0)?;
    end_row(servers)
}

fn circle(bench: &mut Bench) -> Outcome {
    let servers = row(bench, 2)?;
    let back = sys::cap_grant(servers[0].entry, servers[1].child.env)?;
    write(servers[1].page, NEXT, back);
    let reply = ask(servers[0].entry, [wish::FORWARD, 1, 0, 0, 0, 0])?;
    same("first again", reply[..2].to_vec(), alloc::vec![u64::MAX, Error::Busy.code()])?;
    let own = sys::cap_grant(servers[0].entry, servers[0].child.env)?;
    write(servers[0].page, NEXT, own);
    let reply = ask(servers[0].entry, [wish::FORWARD, 0, 0, 0, 0, 0])?;
    same("itself", reply[..2].to_vec(), alloc::vec![u64::MAX, Error::Busy.code()])?;
    end_row(servers)
}

extern "C" fn counts(_: u64) -> ! {
    loop {
        write(SHARED, 0, read(SHARED, 0) + 1);
    }
}

fn long_service(bench: &mut Bench) -> Outcome {
    let server = server(bench)?;
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let rival = bench.maker.child()?;
    rival.share(page)?;
    let code: Code = counts;
    rival.start(code, 0)?;
    let millisecond =
        bench.environment.system.tsc_hz.load(core::sync::atomic::Ordering::Relaxed) / 1000;
    let mut rounds = 0;
    loop {
        let before = read(window, 0);
        let length = 20 * millisecond;
        let reply = ask(server.entry, [wish::SPIN, length, 2, 3, 4, 5])?;
        same("reply", reply[2..].to_vec(), alloc::vec![length + 1, 6, !3, 4 ^ 5])?;
        rounds += 1;
        if read(window, 0) > before {
            break;
        }
        holds("the rival never ran meanwhile", rounds < 100)?;
    }
    rival.destroy()?;
    bench.frames.drop_page(window, page)?;
    Ok(server.destroy()?)
}

fn server_dies(bench: &mut Bench) -> Outcome {
    for (wish, state) in [(wish::DIE, EnvState::Faulted), (wish::EXIT, EnvState::Exited)] {
        let servers = row(bench, 2)?;
        let gone = ask(servers[0].entry, [wish, 3, 0, 0, 0, 0]);
        same("call", gone, Err(Error::PeerGone))?;
        same("server", servers[0].child.status()?.state, state as u32)?;
        same("call of one that ended", ask(servers[0].entry, [0; 6]), Err(Error::WrongState))?;
        end_row(servers)?;
    }
    // In the middle of a chain: the first lives on.
    let servers = row(bench, 3)?;
    let own = ask(servers[1].entry, [wish::DIE, 0, 0, 0, 0, 0]);
    same("call", own, Err(Error::PeerGone))?;
    let reply = ask(servers[0].entry, [wish::FORWARD, 0, 0, 0, 0, 0])?;
    same("forwarded", reply[..2].to_vec(), alloc::vec![u64::MAX, Error::WrongState.code()])?;
    end_row(servers)
}

fn caller_dies(bench: &mut Bench) -> Outcome {
    let server = server(bench)?;
    let child = caller(bench, &server, wish::HOLD)?;
    until_started(&server)?;
    child.destroy()?;
    same("a call meanwhile", ask(server.entry, [wish::ECHO; 6]), Err(Error::Busy))?;
    // Only its own slots run it now.
    server.give_time()?;
    write(server.page, GO_ON, 1);
    let end = timestamp() + PATIENCE;
    let reply = loop {
        match ask(server.entry, [wish::ECHO, 4, 0, 0, 0, 0]) {
            Err(Error::Busy) => drop(sys::slice_yield()?),
            reply => break reply?,
        }
        holds("it never finished", timestamp() < end)?;
    };
    same("its reply", read(server.page, ANSWERED), 1 + Error::PeerGone.code())?;
    same("the next call", reply[2], 5)?;
    server.take_time()?;
    Ok(server.destroy()?)
}

fn sent(bench: &mut Bench) -> Outcome {
    let server = server(bench)?;
    server.give_time()?;
    let remote = Remote::<Message, ()>::new(server.entry);
    for round in 1..=100 {
        loop {
            match remote.send([wish::ECHO; 6]) {
                Err(Error::Busy) => drop(sys::slice_yield()?),
                result => break result?,
            }
        }
        while read(server.page, COUNT) < round {
            sys::slice_yield()?;
        }
    }
    same("activities", read(server.page, COUNT), 100)?;
    server.take_time()?;
    Ok(server.destroy()?)
}

/// Rings the server's doorbell when the service is about to sleep.
extern "C" fn rings(_: u64) -> ! {
    while read(SHARED, STARTED) == 0 {
        let _ = sys::slice_yield();
    }
    // It sleeps a few instructions later; what comes before is not lost either.
    exit(sys::doorbell_ring(handle(SHARED, CALLER)).err().map_or(0, Error::code))
}

fn sleeps_in_call(bench: &mut Bench) -> Outcome {
    let server = server(bench)?;
    let child = bench.maker.child()?;
    child.share(server.frame)?;
    write(server.page, CALLER, sys::cap_grant(server.bell, child.env)?);
    let code: Code = rings;
    child.start(code, 0)?;
    let reply = ask(server.entry, [wish::SLEEP, 0, 11, 12, 13, 14])?;
    same("reply", (reply[0], reply[3..].to_vec()), (1, alloc::vec![11, 12, 13]))?;
    same("ringer", child.wait(PATIENCE)?.map(|status| status.code), Some(0))?;
    child.destroy()?;
    Ok(server.destroy()?)
}

fn deadline_in_call(bench: &mut Bench) -> Outcome {
    let server = server(bench)?;
    for length in [1, 1 << 20, 1 << 24] {
        let reply = ask(server.entry, [wish::SLEEP, length, 11, 12, 13, 14])?;
        same("no event, and the deadline passed", (reply[0], reply[1]), (0, 1))?;
    }
    Ok(server.destroy()?)
}

/// Lets the server run what it has to run, and counts how often it went to sleep.
fn sleeps(server: &Server<'_>) -> Result<u64, Error> {
    server.give_time()?;
    for _ in 0..200 {
        sys::slice_yield()?;
    }
    server.take_time()?;
    Ok(read(server.page, place::SLEEPS))
}

fn sleeps_on(bench: &mut Bench) -> Outcome {
    let server = server(bench)?;
    same("sleeps", sleeps(&server)?, 1)?;
    for _ in 0..10 {
        ask(server.entry, [wish::ECHO; 6])?;
        same("state", server.child.status()?.state, EnvState::Waiting as u32)?;
    }
    same("sleeps after calls", sleeps(&server)?, 1)?;
    // Something happens to it while it serves.
    same("ring", ask(server.entry, [wish::RING, 0, 0, 0, 0, 0])?[0], 0)?;
    same("state", server.child.status()?.state, EnvState::Ready as u32)?;
    same("sleeps after an event", sleeps(&server)?, 2)?;
    // A service that slept itself has waked what sleeps below it: once, in vain.
    ask(server.entry, [wish::SLEEP, 1 << 16, 0, 0, 0, 0])?;
    same("sleeps after a service's sleep", sleeps(&server)?, 3)?;
    Ok(server.destroy()?)
}

fn removed(bench: &mut Bench) -> Outcome {
    let server = server(bench)?;
    same("removal, in a call of it", ask(server.entry, [wish::REMOVE, 0, 0, 0, 0, 0])?[0], 0)?;
    for entry in [server.entry, server.marked] {
        same("call", ask(entry, [wish::ECHO; 6]), Err(Error::BadHandle))?;
    }
    Ok(server.destroy()?)
}

/// Counts its turns.
extern "C" fn takes_turns(_: u64) -> ! {
    loop {
        write(SHARED, COUNT, read(SHARED, COUNT) + 1);
        let _ = sys::slice_yield();
    }
}

fn donated(bench: &mut Bench) -> Outcome {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let child = bench.maker.child()?;
    child.share(page)?;
    let code: Code = takes_turns;
    child.start(code, 0)?;
    let keeper = bench.maker.keeper().ok_or(Error::WrongState)?;
    sys::slots_assign(child.env, bench.maker.slot(), 1, keeper)?;
    for _ in 0..64 {
        sys::slice_yield()?;
    }
    let before = read(window, COUNT);
    sys::slice_yield()?;
    same("turns without time", read(window, COUNT), before)?;
    // A turn may be lost if the slice ends right then.
    let mut turns = 0;
    for _ in 0..100 {
        let before = read(window, COUNT);
        sys::slice_donate(child.env)?;
        turns += u64::from(read(window, COUNT) > before);
    }
    holds("hardly a turn was taken", turns > 90)?;
    child.destroy()?;
    bench.frames.drop_page(window, page)?;
    Ok(())
}
