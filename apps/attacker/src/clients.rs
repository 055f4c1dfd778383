//! The store, by a client on the same machine that calls it: with anything in registers and
//! window, in another's name, and from environments that end in the middle.

use alloc::format;

use exo_abi::{EnvState, Error, Handle, Word};
use kvstore_local::{Client, Door, Operation, Reply, Request, STORE_SIDE, Status, Window};
use libos::share::Share;
use libos::sys;
use libos::time::timestamp;
use libos::transfer::{Message, Remote};
use selftest::child::{Child, Code, SHARED, until_done};
use selftest::frames::{read, write};
use selftest::server::handle;

use crate::attack::{Attack, Attacker, Attempt, PATIENCE, Verdict};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "call the store with registers of every kind", run: registers },
    Attack { name: "call it with lengths that lead out of the window", run: lengths },
    Attack { name: "call it as another client", run: badges },
    Attack { name: "fill the table of the store's capabilities", run: fill },
    Attack { name: "be killed in the middle of a call of the store", run: killed },
    Attack { name: "lose all time in the middle of a call of the store", run: without_time },
];

pub(crate) type Store = Client<'static, Door>;

/// A way to the store, past the client's checks, too.
pub(crate) struct Way {
    pub(crate) share: Share,
    window: Window<'static>,
    pub(crate) entry: Handle,
    pub(crate) store: Store,
}

const CANARY: &[u8] = b"attackers-canary";
const SONG: &[u8] = b"still here, and whole";

/// Why an attack was not made.
pub(crate) const NO_STORE: &str = "no store to call";

impl Way {
    /// None if the manifest lets the attacker share nothing with a store.
    pub(crate) fn open(attacker: &Attacker) -> Option<Self> {
        let share = attacker.environment.shares().next()?;
        let window = Window::new(share.words())?;
        let mut store = Door::open(share).ok()?;
        // It may not serve yet.
        while store.set(CANARY, SONG, 9, 0).is_err() {
            sys::slice_yield().ok()?;
        }
        Some(Self { share, window, entry: share.entry(STORE_SIDE)?, store })
    }

    fn call(&self, message: &Message) -> Result<Message, Error> {
        Remote::<Message, Message>::new(self.entry).call(*message)
    }

    /// Whether the store answers right.
    pub(crate) fn sings(&mut self) -> bool {
        let mut buffer = [0; 64];
        let found = self.store.get(CANARY, &mut buffer);
        matches!(found, Ok(Some(found)) if found.flags == 9 && buffer[..found.len] == *SONG)
    }
}

pub(crate) fn with_way(
    attacker: &mut Attacker,
    attack: impl FnOnce(&mut Attacker, &mut Way) -> Attempt,
) -> Attempt {
    let Some(mut way) = Way::open(attacker) else { return Ok(Verdict::not_tried(NO_STORE)) };
    let verdict = attack(attacker, &mut way)?;
    if verdict.is_repelled() && !way.sings() {
        return Ok(Verdict::breach("nothing, but the store is not what it was"));
    }
    Ok(verdict)
}

/// Fills some of the window, and calls; the reply, or why there is none.
fn wild(attacker: &mut Attacker, way: &Way) -> Result<Option<Reply>, Error> {
    let random = &mut attacker.random;
    for _ in 0..4 {
        let word = random.word();
        let at = random.word() as usize % way.window.bytes.len().saturating_sub(8);
        let at = if word & 1 == 0 { at % 300 } else { at };
        let _ = way.window.bytes.write(at, &word.to_le_bytes());
    }
    let mut message: Message = core::array::from_fn(|_| random.word() >> (random.word() & 63));
    if random.word() & 3 != 0 {
        let [operation, key, value] =
            [random.word() % 14, random.word() & 63, random.word() & 4095];
        message[0] = operation | key << 8 | value << 32;
    }
    // What other attacks rely on stays: no key begins with a blank.
    match way.call(&message) {
        Ok(reply) => Ok(Reply::unpack(&reply)),
        Err(error) => Err(error),
    }
}

fn registers(attacker: &mut Attacker) -> Attempt {
    with_way(attacker, |attacker, way| {
        let (mut replies, mut kinds) = (0_u32, 0_u16);
        for _ in 0..20_000 {
            match wild(attacker, way) {
                Ok(Some(reply)) => kinds |= 1 << reply.status as u8,
                Ok(None) => return Ok(Verdict::breach("something that is no reply")),
                Err(Error::Busy) => continue,
                Err(error) => return Ok(Verdict::breach(error)),
            }
            replies += 1;
        }
        let answer = format!("{} statuses in {replies} replies", kinds.count_ones());
        Ok(Verdict::harmless(replies > 1000 && kinds.count_ones() > 3, answer))
    })
}

fn lengths(attacker: &mut Attacker) -> Attempt {
    with_way(attacker, |_, way| {
        let room = way.window.bytes.len() as u64;
        let mut count = 0;
        for operation in Operation::ALL {
            let takes_value =
                (Operation::GetMany as u8..=Operation::Cas as u8).contains(&(operation as u8));
            for value_len in [room - 255, room - 8, room, 1 << 16, 1 << 31, u64::from(u32::MAX)] {
                if !takes_value {
                    continue;
                }
                let request = Request {
                    operation,
                    key_len: 3,
                    value_len: value_len as u32,
                    flags: 0,
                    exptime: 0,
                    number: 0,
                };
                let _ = way.window.bytes.write(0, b"len");
                let reply = loop {
                    match way.call(&request.pack()) {
                        Err(Error::Busy) => drop(sys::slice_yield()?),
                        Ok([head, ..]) if head as u8 == Status::Busy as u8 => {
                            sys::slice_yield()?;
                        }
                        reply => break reply?,
                    }
                };
                count += 1;
                let status = Reply::unpack(&reply).map(|reply| reply.status);
                if status != Some(Status::BadRequest) {
                    return Ok(Verdict::breach(format!("{status:?} for {request:?}")));
                }
            }
        }
        Ok(Verdict::repelled(format!("no such request, {count} times")))
    })
}

/// A client's number is the badge of its capability.
fn badges(attacker: &mut Attacker) -> Attempt {
    with_way(attacker, |_, way| {
        let tries = [1, 2, 3, 1 << 40].map(|badge| sys::cap_badge(way.entry, badge));
        Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
    })
}

/// An application that shares pages may put capabilities into the tables of the others, until they are full.
fn fill(attacker: &mut Attacker) -> Attempt {
    with_way(attacker, |attacker, way| {
        let name = way.share.name();
        let grant = attacker.environment.start.shares().find(|share| share.name == name);
        let peer = grant.and_then(|grant| grant.peers[STORE_SIDE]);
        let peer = peer.ok_or(Error::BadHandle)?;
        let bell = Handle::from_word(sys::doorbell_create()?)?;
        let mut count = 0;
        let full = loop {
            match sys::cap_grant(bell, peer) {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        let mut served = 0;
        for round in 0..200_u64 {
            let set = way.store.set(b"filled", &round.to_le_bytes(), 0, 0);
            served += u64::from(set.is_ok() && way.sings());
        }
        until_done(|| sys::cap_revoke(bell))?;
        until_done(|| sys::cap_drop(bell))?;
        let answer = format!("{full} after {count}, and {served} of 200 pairs were served");
        Ok(Verdict::harmless(full == Error::TableFull && served == 200, answer))
    })
}

/// Words of the page that a child shares with its maker.
mod word {
    pub(super) const ENTRY: usize = 0;
    pub(super) const BEFORE: usize = 8;
    pub(super) const CALLING: usize = 16;
    pub(super) const DONE: usize = 24;
    pub(super) const MESSAGE: usize = 32;
}

/// Ticks between two readings of the counter that mean that others ran.
const GAP: u64 = 4_000;

/// Where the next slice begins, and where the one before has ended.
#[inline(always)]
fn next_slice() -> (u64, u64) {
    let mut last = timestamp();
    loop {
        let now = timestamp();
        if now - last > GAP {
            return (last, now);
        }
        last = now;
    }
}

/// Calls the store so many ticks before its slice ends.
extern "C" fn calls_late(_: u64) -> ! {
    let remote = Remote::<Message, Message>::new(handle(SHARED, word::ENTRY));
    let message = core::array::from_fn(|index| read(SHARED, word::MESSAGE + 8 * index));
    let before = read(SHARED, word::BEFORE);
    let (_, start) = next_slice();
    let (end, start_again) = next_slice();
    let slice = end - start;
    while timestamp() < start_again + slice.saturating_sub(before) {}
    write(SHARED, word::CALLING, 1);
    let done = remote.call(message).is_ok();
    write(SHARED, word::DONE, 1 + u64::from(done));
    loop {
        core::hint::spin_loop();
    }
}

/// Stores one of two values under one key, again and again from children that call so late that
/// their slice ends within; `then` is done to each. How many were in the middle of a call.
fn in_the_middle(
    attacker: &mut Attacker,
    way: &mut Way,
    rounds: u64,
    then: impl Fn(&Attacker, &Child<'_>) -> Result<(), Error>,
) -> Result<Result<u64, &'static str>, Error> {
    const KEY: &[u8] = b"half-stored-item";
    const LEN: usize = 600;
    let page = attacker.window()?;
    let frame = attacker.maker.frames.page(page)?;
    let (mut within, mut buffer) = (0, [0; LEN]);
    let wish = Request {
        operation: Operation::Set,
        key_len: KEY.len() as u8,
        value_len: LEN as u32,
        flags: 0,
        exptime: 0,
        number: 0,
    };
    for round in 0..rounds {
        let letter = b'a' + (round % 26) as u8;
        let child = attacker.maker.child()?;
        child.share(frame)?;
        let entry = sys::cap_grant(way.entry, child.env)?;
        for (place, value) in [
            (word::ENTRY, entry),
            (word::BEFORE, 5 * round + 100),
            (word::CALLING, 0),
            (word::DONE, 0),
        ] {
            write(page, place, value);
        }
        for (index, value) in wish.pack().into_iter().enumerate() {
            write(page, word::MESSAGE + 8 * index, value);
        }
        let _ = way.window.bytes.write(0, KEY);
        let _ = way.window.bytes.write(kvstore_local::window::VALUE_AT, &[letter; LEN]);
        let code: Code = calls_late;
        child.start(code, 0)?;
        let end = timestamp() + PATIENCE;
        while read(page, word::CALLING) == 0 && timestamp() < end {
            sys::slice_yield()?;
        }
        let calling = EnvState::from_u32(child.status()?.state) == Some(EnvState::Calling);
        within += u64::from(calling);
        then(attacker, &child)?;
        child.destroy()?;
        // The store goes on as if nothing had been, and the value is the old or the new one.
        match way.store.get(KEY, &mut buffer) {
            Ok(None) if round == 0 => {}
            Ok(Some(found)) if found.len == LEN && buffer.iter().all(|it| *it == buffer[0]) => {}
            Ok(_) => return Ok(Err("half an item")),
            Err(_) => return Ok(Err("no answer")),
        }
    }
    attacker.frames.drop_page(page, frame)?;
    Ok(Ok(within))
}

pub(crate) fn rounds(attacker: &Attacker) -> u64 {
    attacker.environment.argument("rounds").and_then(|text| text.parse().ok()).unwrap_or(60)
}

fn killed(attacker: &mut Attacker) -> Attempt {
    with_way(attacker, |attacker, way| {
        let rounds = rounds(attacker);
        Ok(match in_the_middle(attacker, way, rounds, |_, _| Ok(()))? {
            Ok(within) => {
                Verdict::repelled(format!("nothing; {within} of {rounds} died in a call"))
            }
            Err(breach) => Verdict::breach(breach),
        })
    })
}

fn without_time(attacker: &mut Attacker) -> Attempt {
    with_way(attacker, |attacker, way| {
        let taken = |attacker: &Attacker, child: &Child<'_>| {
            let keeper = attacker.maker.keeper().ok_or(Error::WrongState)?;
            sys::slots_assign(child.env, attacker.maker.slot(), 1, keeper)?;
            // The store ends the call in its own time.
            let end = timestamp() + PATIENCE;
            while EnvState::from_u32(child.status()?.state) == Some(EnvState::Calling) {
                sys::slice_yield()?;
                if timestamp() > end {
                    return Err(Error::Busy);
                }
            }
            Ok(())
        };
        Ok(match in_the_middle(attacker, way, 30, taken)? {
            Ok(within) => Verdict::repelled(format!("nothing; {within} of 30 were in a call")),
            Err(breach) => Verdict::breach(breach),
        })
    })
}

/// Leaves requests in the window of a store on another processor, and writes over them while they
/// are carried out. Returns when so many have been answered.
pub(crate) fn scribble(attacker: &mut Attacker) -> Result<(), Error> {
    let mut way = Way::open(attacker).ok_or(Error::BadHandle)?;
    let (mut answered, wanted) = (0_u32, 2_000);
    while answered < wanted {
        let random = &mut attacker.random;
        let request = Request {
            operation: Operation::ALL[random.word() as usize % Operation::ALL.len()],
            key_len: 1 + (random.word() & 31) as u8,
            value_len: (random.word() & 255) as u32,
            flags: 0,
            exptime: 0,
            number: 1,
        };
        way.window.post.leave(&request.pack());
        for _ in 0..200 {
            let byte = if random.word() & 1 == 0 { b' ' } else { b'a' };
            let at = random.word() as usize % 600;
            let _ = way.window.bytes.write(at, &[byte; 8]);
        }
        if !way.window.post.withdraw() {
            let reply = loop {
                match way.window.post.collect() {
                    Some(reply) => break reply,
                    None => core::hint::spin_loop(),
                }
            };
            answered += 1;
            if Reply::unpack(&reply).is_none() {
                libos::println!("a reply that is none: {reply:?}");
                return Err(Error::WrongState);
            }
        }
    }
    libos::println!("{answered} requests were changed while they were carried out");
    if way.sings() { Ok(()) } else { Err(Error::WrongState) }
}
