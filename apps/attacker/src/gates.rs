//! The store's gate, by clients that map its domain: forged entries, wild pointers, and ends in the middle.
//!
//! The clients are children that run hand-made code: the attacker's own holds what no environment that
//! takes part in keys may execute. It joins the store's domain for them, as any client does for
//! itself.

use alloc::format;
use core::arch::global_asm;

use exo_abi::boot::{SELF, STACK_TOP, U_AREA};
use exo_abi::{
    CLOSED, Error, FRAME_BYTES, Handle, Protection, Rights, USER_TOP, VirtAddr, Word, opened,
};
use kvstore_local::{Message, Operation, Reply, Request, STORE_SIDE, Status};
use libos::gate::{BOARD, CONSENT, GATE, JOIN, MEMORY, Mapped, STACK, TICKET};
use libos::memory::layout::IMAGE;
use libos::sys;
use libos::time::timestamp;
use libos::transfer::Remote;
use selftest::child::{Child, SHARED, until_done};
use selftest::frames::{read, write};

use crate::attack::{Attack, Attacker, Attempt, PATIENCE, Verdict};
use crate::clients::{Way, rounds, with_way};
use crate::keys::frame_with;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "enter the store's gate with wild pointers", run: wild },
    Attack { name: "enter it with pointers into the domain", run: within },
    Attack { name: "enter it without a stack, and with every flag", run: odd },
    Attack { name: "jump into the middle of it", run: middle },
    Attack { name: "reach the store's memory before and after a visit", run: reach },
    Attack { name: "exchange pages of the domain", run: exchange },
    Attack { name: "join in another's place", run: place },
    Attack { name: "be killed in the middle of a visit", run: killed },
    Attack { name: "lose all time in the middle of a visit", run: without_time },
];

const CODE: u64 = 0x40_0000;
const OWN_STACK: u64 = STACK_TOP - FRAME_BYTES;

/// Words of the page that a client shares with its maker.
mod word {
    pub(super) const BEFORE: usize = 8;
    pub(super) const CALLING: usize = 16;
    pub(super) const DONE: usize = 24;
    /// The gate's six arguments, in the order of `rdi rsi r10 r11 r8 r9`.
    pub(super) const ARGUMENTS: usize = 32;
    pub(super) const ANSWER: usize = 80;
    /// Where it jumps, with which `rax`, stack and flags.
    pub(super) const TARGET: usize = 96;
    pub(super) const RIGHTS: usize = 104;
    pub(super) const STACK: usize = 112;
    pub(super) const FLAGS: usize = 120;
    /// What it reads afterwards, if that is not zero.
    pub(super) const STEALS: usize = 128;
    /// The same before.
    pub(super) const STEALS_BEFORE: usize = 136;
    pub(super) const KEY: usize = 1024;
    pub(super) const VALUE: usize = 2048;
}

global_asm!(
    ".global gate_visitor",
    ".global gate_visitor_end",
    "gate_visitor:",
    "mov r12d, 0x21000000",
    // If it is to be late: where slices begin and end, from the gaps between readings of the counter.
    "cmp qword ptr [r12 + 8], 0",
    "je 5f",
    "call 2f",
    "mov r15, r14",
    "call 2f",
    "mov rax, r13",
    "sub rax, r15",
    "add rax, r14",
    "sub rax, [r12 + 8]",
    "mov r15, rax",
    "4:",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "cmp rax, r15",
    "jb 4b",
    "5:",
    "mov rax, [r12 + 136]",
    "test rax, rax",
    "je 6f",
    "mov rax, [rax]",
    "6:",
    "mov rdi, [r12 + 32]",
    "mov rsi, [r12 + 40]",
    "mov r10, [r12 + 48]",
    "mov r11, [r12 + 56]",
    "mov r8, [r12 + 64]",
    "mov r9, [r12 + 72]",
    "mov rbx, [r12 + 96]",
    "mov rax, [r12 + 104]",
    "xor ecx, ecx",
    "xor edx, edx",
    "mov rbp, rsp",
    "mov qword ptr [r12 + 16], 1",
    "push qword ptr [r12 + 120]",
    "popfq",
    "lea r14, [rip + 7f]",
    // Its own stack, or none.
    "mov r13, [r12 + 112]",
    "test r13, r13",
    "jne 8f",
    "push r14",
    "jmp rbx",
    "8:",
    "mov rsp, r13",
    "jmp rbx",
    "7:",
    "cld",
    "mov rsp, rbp",
    "mov [r12 + 80], rdi",
    "mov [r12 + 88], rsi",
    "mov rax, [r12 + 128]",
    "test rax, rax",
    "je 9f",
    "mov rax, [rax]",
    "9:",
    "mov qword ptr [r12 + 24], 1",
    "3:",
    "pause",
    "jmp 3b",
    // The next slice: r14 where it begins, r13 where the one before has ended.
    "2:",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov r13, rax",
    "22:",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "mov r14, rax",
    "sub rax, r13",
    "cmp rax, 4000",
    "ja 23f",
    "mov r13, r14",
    "jmp 22b",
    "23:",
    "ret",
    "gate_visitor_end:",
);

unsafe extern "C" {
    static gate_visitor: u8;
    static gate_visitor_end: u8;
}

fn code() -> &'static [u8] {
    let (first, end) = (&raw const gate_visitor, &raw const gate_visitor_end);
    // SAFETY: both are labels of the text above, in this order.
    unsafe { core::slice::from_raw_parts(first, end.addr() - first.addr()) }
}

/// A client that maps the domain and waits to be started.
struct Visitor<'a> {
    child: Child<'a>,
    /// The page in common, here.
    page: VirtAddr,
    frame: exo_abi::Pfn,
    consent: Handle,
}

fn at(address: u64) -> Result<VirtAddr, Error> {
    VirtAddr::new(address).ok_or(Error::BadAddress)
}

/// The store's end of the share.
fn peer(attacker: &Attacker, way: &Way) -> Result<Handle, Error> {
    let name = way.share.name();
    let grant = attacker.environment.start.shares().find(|share| share.name == name);
    grant.and_then(|grant| grant.peers[STORE_SIDE]).ok_or(Error::BadHandle)
}

/// Asks the store to map for `env` until it is done, or refuses: the last answer.
fn join(
    attacker: &Attacker,
    way: &Way,
    env: Handle,
    consent: Handle,
) -> Result<Option<Mapped>, Error> {
    let owner = Remote::<Message, Message>::new(way.entry);
    let handle = sys::cap_grant(consent, peer(attacker, way)?)?;
    loop {
        match owner.call([JOIN, handle, 0, 0, 0, 0]).map(|reply| Mapped::unpack(&reply)) {
            Ok(Some(Mapped::Left(_))) => {}
            Ok(Some(Mapped::NoTable(at))) => attacker.frames.cover(env, at)?,
            Ok(Some(Mapped::Later)) | Err(Error::Busy) => drop(sys::slice_yield()?),
            Ok(other) => return Ok(other),
            Err(error) => return Err(error),
        }
    }
}

impl<'a> Visitor<'a> {
    /// `page` is a window that nothing uses. `None` if there is no gate on this machine.
    fn new(attacker: &'a Attacker, way: &Way, page: VirtAddr) -> Result<Option<Self>, Error> {
        let child = attacker.maker.bare()?;
        let env = child.env;
        match sys::env_guard(env) {
            Err(Error::NoDevice) => return child.destroy().map(|()| None),
            guarded => guarded?,
        };
        for place in [CODE, SHARED.get(), OWN_STACK, U_AREA] {
            attacker.frames.cover(env, at(place)?)?;
        }
        let text = frame_with(attacker, env, 0, code())?;
        sys::code_admit(env, text, Handle::NONE)?;
        sys::map(env, env, text, at(CODE)?, 1, Protection::ReadExecute)?;
        let stack = attacker.frames.take(env, 1)?;
        sys::map(env, env, stack, at(OWN_STACK)?, 1, Protection::ReadWrite)?;
        let frame = attacker.maker.frames.page(page)?;
        child.share(frame)?;
        for offset in (0..FRAME_BYTES as usize).step_by(8) {
            write(page, offset, 0);
        }
        write(page, word::TARGET, GATE.get());
        write(page, word::FLAGS, 0x202);
        let consent = Handle::from_word(sys::cap_derive(env, CONSENT, 0, 0)?)?;
        let visitor = Self { child, page, frame, consent };
        match join(attacker, way, env, consent)? {
            Some(Mapped::All) => Ok(Some(visitor)),
            _ => visitor.close(attacker).map(|()| None),
        }
    }

    /// Has it make `request`, with the key and the value in its page.
    fn ask(&self, request: Request, key: &[u8], value: &[u8]) {
        let [head, times, number, ..] = request.pack();
        let own = |offset: usize| SHARED.get() + offset as u64;
        let room = 1024_u64;
        let arguments = [head, times, number, own(word::KEY), own(word::VALUE), room << 32];
        for (index, argument) in arguments.into_iter().enumerate() {
            self.set(word::ARGUMENTS + 8 * index, argument);
        }
        for (offset, bytes) in [(word::KEY, key), (word::VALUE, value)] {
            for (index, chunk) in bytes.chunks(8).enumerate() {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                self.set(offset + 8 * index, u64::from_le_bytes(word));
            }
        }
    }

    fn set(&self, offset: usize, value: u64) {
        write(self.page, offset, value);
    }

    fn start(&self) -> Result<(), Error> {
        // SAFETY: the address of hand-made code, which is never called here: the child begins there.
        let entry = unsafe { core::mem::transmute::<u64, selftest::child::Code>(CODE) };
        self.child.start(entry, 0)
    }

    /// Lets it run: the answer that it got, or how it ended.
    fn answer(&self) -> Result<Result<Option<Reply>, exo_abi::EnvStatus>, Error> {
        self.start()?;
        let end = timestamp() + PATIENCE;
        while read(self.page, word::DONE) == 0 {
            if let Some(status) = self.child.wait(0)? {
                return Ok(Err(status));
            }
            if timestamp() > end {
                return Err(Error::Again);
            }
            sys::slice_yield()?;
        }
        let answer = [read(self.page, word::ANSWER), read(self.page, word::ANSWER + 8)];
        Ok(Ok(Reply::unpack_short(answer)))
    }

    fn close(self, attacker: &Attacker) -> Result<(), Error> {
        self.child.destroy()?;
        until_done(|| sys::cap_drop(self.consent))?;
        attacker.frames.drop_page(self.page, self.frame)
    }
}

const KEY: &[u8] = b"by-the-gate";

fn get() -> Request {
    let (operation, key_len) = (Operation::Get, KEY.len() as u8);
    Request { operation, key_len, value_len: 0, flags: 0, exptime: 0, number: 0 }
}

fn set(len: usize) -> Request {
    Request { operation: Operation::Set, value_len: len as u32, ..get() }
}

/// Makes one client after the other, as `prepare` says, and says what became of each; it must be
/// as `judge` has it.
fn each<T: Copy + core::fmt::Debug>(
    attacker: &mut Attacker,
    cases: &[T],
    prepare: impl Fn(&Visitor<'_>, T),
    judge: impl Fn(T, &Result<Option<Reply>, exo_abi::EnvStatus>) -> bool,
) -> Attempt {
    with_way(attacker, |attacker, way| {
        let page = attacker.window()?;
        let mut count = 0;
        for &case in cases {
            let Some(visitor) = Visitor::new(attacker, way, page)? else {
                return Ok(Verdict::not_tried("no gate"));
            };
            visitor.ask(get(), KEY, &[]);
            prepare(&visitor, case);
            let answer = visitor.answer()?;
            visitor.close(attacker)?;
            if !judge(case, &answer) {
                return Ok(Verdict::breach(format!("{case:x?}: {answer:x?}")));
            }
            if !way.sings() {
                return Ok(Verdict::breach(format!("nothing, but no store after {case:x?}")));
            }
            count += 1;
        }
        Ok(Verdict::repelled(format!("no, {count} times")))
    })
}

/// Whether it has ended by one of these exceptions.
fn died<T>(vectors: &[u32], answer: &Result<T, exo_abi::EnvStatus>) -> bool {
    matches!(answer, Err(status) if vectors.contains(&status.vector))
}

/// Argument, what it is, and whether the request stores.
type Wild = (usize, u64, bool);

fn point(visitor: &Visitor<'_>, (argument, pointer, stores): Wild) {
    if stores {
        visitor.ask(set(600), KEY, &[b'w'; 600]);
    }
    visitor.set(word::ARGUMENTS + 8 * argument, pointer);
}

fn wild(attacker: &mut Attacker) -> Attempt {
    let mut cases = alloc::vec![];
    for pointer in [0, 0x1000, CODE - 8, SHARED.get() + FRAME_BYTES - 4, 1 << 46, USER_TOP - 600] {
        cases.extend([(3, pointer, false), (3, pointer, true), (4, pointer, true)]);
    }
    // What is read-only cannot be written, the store's own code included.
    cases.extend([(4, 0, false), (4, CODE, false), (4, IMAGE.start.get(), false)]);
    attacker_sets(attacker)?;
    each(attacker, &cases, point, |_, answer| died(&[14], answer))
}

/// What the clients ask for is there.
fn attacker_sets(attacker: &mut Attacker) -> Result<(), Error> {
    if let Some(mut way) = Way::open(attacker) {
        way.store.set(KEY, &[b'v'; 600], 0, 0).map_err(|_| Error::Busy)?;
    }
    Ok(())
}

fn within(attacker: &mut Attacker) -> Attempt {
    let mut cases = alloc::vec![];
    let inside = [BOARD.get(), STACK.get(), TICKET.get(), MEMORY.start.get(), GATE.get() - 4];
    for pointer in inside.into_iter().chain([USER_TOP, u64::MAX - 8, 1 << 63]) {
        cases.extend([(3, pointer, false), (3, pointer, true)]);
        cases.extend([(4, pointer, false), (4, pointer, true)]);
    }
    attacker_sets(attacker)?;
    each(
        attacker,
        &cases,
        point,
        |_, answer| matches!(answer, Ok(Some(reply)) if reply.status == Status::BadRequest),
    )
}

fn odd(attacker: &mut Attacker) -> Attempt {
    // Flags: direction, overflow and so on; alignment checks, which the kernel keeps switched off, or the store's
    // own code would end with the lock held; single steps. Without a stack it comes back to nothing.
    let cases = [
        (0, 0x202 | 1 << 10),
        (0, 0x202 | 0x8d5),
        (0, 0x202 | 1 << 18),
        (0, 0x202 | 1 << 8),
        (8, 0x202),
    ];
    attacker_sets(attacker)?;
    each(
        attacker,
        &cases,
        |visitor, (stack, flags)| {
            visitor.set(word::STACK, stack);
            visitor.set(word::FLAGS, flags);
        },
        |(stack, flags), answer| match answer {
            Ok(Some(reply)) => stack == 0 && flags >> 8 & 1 == 0 && reply.value_len == 600,
            Ok(None) => false,
            Err(status) if stack != 0 => status.vector == 14,
            // Single steps end it upon the first instruction behind the gate, before anything is locked, or
            // before that.
            Err(status) => flags >> 8 & 1 == 1 && status.vector == 1,
        },
    )
}

fn middle(attacker: &mut Attacker) -> Attempt {
    // Root gives keys out in the manifest's order, and the store comes first.
    let key = 1;
    let mut cases = alloc::vec![];
    for rights in [0, opened(key), CLOSED] {
        cases.extend((0..0xa0).step_by(5).map(|byte| (byte, rights)));
    }
    each(
        attacker,
        &cases,
        |visitor, (byte, rights)| {
            visitor.set(word::TARGET, GATE.get() + byte);
            visitor.set(word::RIGHTS, rights.into());
            visitor.set(word::STEALS, MEMORY.start.get());
        },
        |_, answer| died(&[3, 6, 13, 14], answer),
    )
}

fn reach(attacker: &mut Attacker) -> Attempt {
    let mut cases = alloc::vec![];
    for place in [BOARD, STACK, TICKET, MEMORY.start] {
        cases.extend([(word::STEALS_BEFORE, place.get()), (word::STEALS, place.get())]);
    }
    each(
        attacker,
        &cases,
        |visitor, (when, place)| visitor.set(when, place),
        |_, answer| died(&[14], answer),
    )
}

fn exchange(attacker: &mut Attacker) -> Attempt {
    with_way(attacker, |attacker, way| {
        let page = attacker.window()?;
        let Some(visitor) = Visitor::new(attacker, way, page)? else {
            return Ok(Verdict::not_tried("no gate"));
        };
        let env = visitor.child.env;
        let places = [IMAGE.start, GATE, BOARD, STACK, TICKET, MEMORY.start];
        let mut tries: alloc::vec::Vec<_> =
            places.iter().map(|place| sys::unmap(env, *place, 1)).collect();
        // The page above holds another's too: all or none.
        tries.push(sys::unmap(env, IMAGE.start, 2));
        let verdict = Verdict::every(tries.into_iter(), &[Error::NoRight]);
        let own = attacker.frames.take(env, 1)?;
        let over = places.map(|place| sys::map(env, env, own, place, 1, Protection::ReadWrite));
        visitor.close(attacker)?;
        if !verdict.is_repelled() {
            return Ok(verdict);
        }
        Ok(Verdict::every(over.into_iter(), &[Error::Occupied]))
    })
}

/// A place is its client's until that has ended.
fn place(attacker: &mut Attacker) -> Attempt {
    with_way(attacker, |attacker, way| {
        let page = attacker.window()?;
        let Some(visitor) = Visitor::new(attacker, way, page)? else {
            return Ok(Verdict::not_tried("no gate"));
        };
        let other = attacker.maker.bare()?;
        sys::env_guard(other.env)?;
        let rights = [CONSENT, CONSENT.only(Rights::INSPECT.with(Rights::GRANT))];
        let mut tries = alloc::vec![];
        for rights in rights {
            let consent = Handle::from_word(sys::cap_derive(other.env, rights, 0, 0)?)?;
            let joined = join(attacker, way, other.env, consent)?;
            until_done(|| sys::cap_revoke(consent))?;
            until_done(|| sys::cap_drop(consent))?;
            tries.push(joined);
        }
        other.destroy()?;
        visitor.close(attacker)?;
        // Now it is free, but not for what takes no part, nor without consent.
        let other = attacker.maker.bare()?;
        let consent = Handle::from_word(sys::cap_derive(other.env, CONSENT, 0, 0)?)?;
        tries.push(join(attacker, way, other.env, consent)?);
        other.destroy()?;
        until_done(|| sys::cap_drop(consent))?;
        let handles = [0, u64::MAX, SELF.into_word()];
        for handle in handles {
            let owner = Remote::<Message, Message>::new(way.entry);
            tries.push(Mapped::unpack(&owner.call([JOIN, handle, 0, 0, 0, 0])?));
        }
        let count = tries.iter().filter(|joined| joined.is_none()).count();
        Ok(Verdict::harmless(count == tries.len(), format!("no, {count} times")))
    })
}

/// Items that stay as they are, whatever the clients do.
const OTHERS: u32 = 60;

fn other(number: u32) -> [u8; 16] {
    let mut key = *b"an-other-item-00";
    key[14..].copy_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
    key
}

/// Stores one of several values under one key, again and again from clients that enter the gate so late that
/// their slice ends within; `then` is done to each. How many were in the middle.
fn in_the_middle(
    attacker: &mut Attacker,
    way: &mut Way,
    rounds: u64,
    then: impl Fn(&Attacker, &mut Way, &Visitor<'_>) -> Result<bool, Error>,
) -> Result<Result<u64, &'static str>, Error> {
    const LEN: usize = 600;
    let busy = |_| Error::Busy;
    for number in 0..OTHERS {
        way.store.set(&other(number), &number.to_le_bytes(), number, 0).map_err(busy)?;
    }
    // Instructions between an end and the next round's.
    let step = attacker.environment.argument("step").and_then(|text| text.parse().ok());
    let step: u64 = step.unwrap_or(10);
    let page = attacker.window()?;
    let (mut within, mut buffer) = (0, [0; LEN]);
    for round in 0..rounds {
        let letter = b'a' + (round % 26) as u8;
        let Some(visitor) = Visitor::new(attacker, way, page)? else {
            return Ok(Err("no gate"));
        };
        visitor.ask(set(LEN), KEY, &[letter; LEN]);
        visitor.set(word::BEFORE, step * round + 50);
        visitor.start()?;
        let end = timestamp() + PATIENCE;
        while read(page, word::CALLING) == 0 && timestamp() < end {
            sys::slice_yield()?;
        }
        within += u64::from(read(page, word::DONE) == 0);
        if !then(attacker, way, &visitor)? {
            return Ok(Err("a store that waits for it"));
        }
        visitor.close(attacker)?;
        // The store goes on as if nothing had been, and the value is the old or the new one.
        match way.store.get(KEY, &mut buffer) {
            Ok(None) if round == 0 => {}
            Ok(Some(found)) if found.len == LEN && buffer.iter().all(|it| *it == buffer[0]) => {}
            Ok(_) => return Ok(Err("half an item")),
            Err(_) => return Ok(Err("no answer")),
        }
    }
    for number in 0..OTHERS {
        let found = way.store.get(&other(number), &mut buffer).map_err(busy)?;
        if found.is_none_or(|found| found.flags != number) {
            return Ok(Err("another item that is gone"));
        }
        way.store.delete(&other(number)).map_err(busy)?;
    }
    Ok(Ok(within))
}

fn verdict(result: Result<u64, &'static str>, rounds: u64, what: &str) -> Verdict {
    match result {
        Ok(within) => Verdict::repelled(format!("nothing; {within} of {rounds} {what}")),
        Err("no gate") => Verdict::not_tried("no gate"),
        Err(breach) => Verdict::breach(breach),
    }
}

fn killed(attacker: &mut Attacker) -> Attempt {
    with_way(attacker, |attacker, way| {
        let rounds = rounds(attacker);
        let result = in_the_middle(attacker, way, rounds, |_, _, _| Ok(true))?;
        Ok(verdict(result, rounds, "died in a visit"))
    })
}

fn without_time(attacker: &mut Attacker) -> Attempt {
    with_way(attacker, |attacker, way| {
        let taken = |attacker: &Attacker, way: &mut Way, visitor: &Visitor<'_>| {
            let keeper = attacker.maker.keeper().ok_or(Error::WrongState)?;
            sys::slots_assign(visitor.child.env, attacker.maker.slot(), 1, keeper)?;
            // Whatever it holds, others get on: it is given what time it needs for that.
            Ok(way.store.set(b"meanwhile", b"x", 0, 0).is_ok())
        };
        let result = in_the_middle(attacker, way, 30, taken)?;
        Ok(verdict(result, 30, "were in a visit"))
    })
}
