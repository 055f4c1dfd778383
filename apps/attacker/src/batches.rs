//! Batches: calls from memory that is another's, answers into memory that is no more
//! the caller's own, and whatever one call may not do.

use alloc::vec::Vec;

use exo_abi::boot::SELF;
use exo_abi::{
    BATCH_MAX, BATCH_WORDS, Error, FrameKind, Handle, Pfn, Protection, SyncCounts, UserPtr,
    VirtAddr, Word, call_number,
};
use libos::sys;
use selftest::child::{Child, until_done};
use selftest::frames::{read, write};

use crate::attack::{Attack, Attacker, Attempt, Verdict};
use crate::nic::Nic;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "batch from memory that it may not write", run: foreign_memory },
    Attack { name: "batch over the end of a page", run: over_the_end },
    Attack { name: "batch more than the most", run: too_many },
    Attack { name: "batch calls that do not return", run: leaving },
    Attack { name: "batch guessed destructions", run: guessed },
    Attack { name: "batch the destruction of a child, 32 steps at a time", run: destructions },
    Attack { name: "have the answers in a kernel object", run: answers_in_object },
    Attack { name: "take all of the device's transmit slots by many bindings", run: all_slots },
];

const BYTES: usize = BATCH_WORDS * 8;

/// Writes a call of a batch.
pub(crate) fn put(page: VirtAddr, place: usize, name: &str, arguments: &[u64]) {
    write(page, place * BYTES, call_number(name));
    for (index, argument) in arguments.iter().enumerate() {
        write(page, place * BYTES + 8 + 8 * index, *argument);
    }
}

/// Error code and value of each call.
fn answers(page: VirtAddr, count: usize) -> Vec<(u64, u64)> {
    (0..count)
        .map(|place| place * BYTES)
        .map(|at| (read(page, at + 56), read(page, at + 64)))
        .collect()
}

/// As results, for a verdict.
pub(crate) fn results(page: VirtAddr, count: usize) -> impl Iterator<Item = Result<u64, Error>> {
    let result = |(code, value)| match code {
        0 => Ok(value),
        code => Err(Error::from_code(code).unwrap_or(Error::NoSuchCall)),
    };
    answers(page, count).into_iter().map(result)
}

fn foreign_memory(attacker: &mut Attacker) -> Attempt {
    let table = attacker.environment.frame_table.as_ptr().addr() as u64;
    let system = core::ptr::from_ref(attacker.environment.system).addr() as u64;
    let places = [
        0,
        0x10,
        0x40_0000,
        table,
        system,
        0x6000_0000_0000,
        0x7fff_ffff_f000,
        0x8000_0000_0000,
        0xffff_8000_0000_0000,
        0xffff_ffff_8020_0000,
        u64::MAX - 7,
    ];
    let tries = places
        .into_iter()
        .flat_map(|at| [1, BATCH_MAX].map(|count| sys::batch(UserPtr(at & !7), count)));
    Ok(Verdict::every(tries, &[Error::BadPointer]))
}

fn over_the_end(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let page = attacker.frames.page(at)?;
    let end = at.get() + 4096;
    let tries = (1..=u64::from(BATCH_MAX))
        .map(|count| sys::batch(UserPtr(end - count * BYTES as u64 + 8), count as u32));
    let crossing = Verdict::every(tries, &[Error::BadPointer]);
    let unaligned = (1..8).map(|offset| sys::batch(UserPtr(at.get() + offset), 1));
    let unaligned = Verdict::every(unaligned, &[Error::BadPointer]);
    attacker.frames.drop_page(at, page)?;
    Ok(if unaligned.is_repelled() { crossing } else { unaligned })
}

fn too_many(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let page = attacker.frames.page(at)?;
    let tries = [BATCH_MAX + 1, 64, 1 << 16, 1 << 31, u32::MAX]
        .map(|count| sys::batch(UserPtr(at.get()), count));
    attacker.frames.drop_page(at, page)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::TooMuch]))
}

fn leaving(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let page = attacker.frames.page(at)?;
    let names = [
        "exit",
        "slice_yield",
        "wait",
        "wait_until",
        "net_wait",
        "slice_donate",
        "machine_exit",
        "transfer_call",
        "transfer_send",
        "transfer_reply",
        "batch",
    ];
    for (place, name) in names.iter().enumerate() {
        put(at, place, name, &[SELF.into_word(), 0, 0, 0, 0, 0]);
    }
    let done = sys::batch(UserPtr(at.get()), names.len() as u32)?;
    let verdict = Verdict::every(results(at, names.len()), &[Error::BadArgument]);
    attacker.frames.drop_page(at, page)?;
    Ok(if done == names.len() as u64 { verdict } else { Verdict::breach("not all were made") })
}

fn guessed(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let page = attacker.frames.page(at)?;
    let known: Vec<u64> = attacker.handles().map(Word::into_word).collect();
    let mut tried = 0;
    for round in 0..32_u64 {
        let guesses = (0..u64::from(BATCH_MAX)).map(|place| round << 3 | place | 1 << 32);
        for (place, guess) in guesses.filter(|guess| !known.contains(guess)).enumerate() {
            put(at, place, "env_destroy", &[guess]);
            tried = place + 1;
        }
        sys::batch(UserPtr(at.get()), tried as u32)?;
        let verdict = Verdict::every(results(at, tried), &[Error::BadHandle]);
        if !verdict.is_repelled() {
            return Ok(verdict);
        }
    }
    attacker.frames.drop_page(at, page)?;
    Ok(Verdict::repelled("bad handle, a thousand times"))
}

extern "C" fn spins(_: u64) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

fn destructions(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let page = attacker.frames.page(at)?;
    let before = attacker.frames.free();
    let child = attacker.maker.child()?;
    let (env, id) = (child.env, child.id);
    child.start(spins, 0)?;
    sys::slice_yield()?;
    // Back first: the slot would go with it.
    let keeper = attacker.maker.keeper().ok_or(Error::WrongState)?;
    sys::slots_assign(env, attacker.maker.slot(), 1, keeper)?;
    let most = BATCH_MAX as usize;
    let mut done = false;
    while !done {
        for place in 0..most {
            put(at, place, "env_destroy", &[env.into_word()]);
        }
        let made = sys::batch(UserPtr(at.get()), BATCH_MAX)? as usize;
        // Again and again, then done, then a handle that names nothing.
        let order = |code: u64| match Error::from_code(code) {
            Some(Error::Again) => 0,
            None => 1,
            Some(Error::BadHandle) => 2,
            _ => 3,
        };
        let codes: Vec<u8> = answers(at, made).iter().map(|(code, _)| order(*code)).collect();
        let ended = codes.iter().filter(|code| **code == 1).count();
        done = ended > 0;
        if !codes.is_sorted() || codes.contains(&3) || ended > 1 || made == 0 {
            return Ok(Verdict::breach("answers in an order that cannot be"));
        }
    }
    drop(child);
    sys::cap_drop(env)?;
    let back = attacker.frames.free() == before && Child::is_gone(&attacker.maker, id);
    attacker.frames.drop_page(at, page)?;
    Ok(Verdict::harmless(back, "again, then yes, and nothing was left"))
}

/// Tries to make kernel objects of the page that the answers go to, in the same batch.
fn answers_in_object(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?;
    let page = attacker.frames.page(at)?;
    let spare = attacker.frames.take(SELF, 3)?;
    let (own, pfn) = (SELF.into_word(), page.into_word());
    let others: Vec<u64> = (0..3).map(|offset| spare.plus(offset).into_word()).collect();
    put(at, 0, "unmap", &[own, at.get(), 1]);
    put(at, 1, "frames_free", &[pfn, 1]);
    put(at, 2, "cap_grow", &[pfn]);
    put(at, 3, "env_create", &[pfn, others[0], others[1], others[2]]);
    put(at, 4, "env_create", &[others[0], pfn, others[1], others[2]]);
    put(at, 5, "table_install", &[own, 0x5000_0000_0000, 3, pfn]);
    put(at, 6, "net_unscope", &[pfn]);
    let done = sys::batch(UserPtr(at.get()), 7)?;
    let kind = attacker.frames.look(page).map(|(kind, _)| kind);
    sys::map(SELF, SELF, page, at, 1, exo_abi::Protection::Read)?;
    let got = answers(at, 7);
    sys::unmap(SELF, at, 1)?;
    attacker.frames.give(page, 1)?;
    attacker.frames.give(Pfn(spare.0), 3)?;
    let refused = got[1..6].iter().all(|answer| *answer == (Error::InUse.code(), 0));
    let unharmed = done == 7 && refused && got[6].0 != 0 && kind == Some(FrameKind::Memory);
    Ok(Verdict::harmless(unharmed, "in use, 5 times"))
}

/// Bindings: their rings together hold twice as much as one may have with the device.
const BINDINGS: usize = 8;
/// The most that a source of authority may have there: half of what there is.
const MOST: u32 = 64;
/// Where their rings are mapped.
const RUNS: u64 = 0x4900_0000;

/// All of them send long packets in one batch. The device reads those where they are, and
/// the kernel says which it has finished.
fn all_slots(attacker: &mut Attacker) -> Attempt {
    let frames = attacker.frames;
    let nic = attacker.nic.as_ref().ok_or(Error::NoDevice)?;
    let order = nic.order;
    let mut packet = [0; 1000];
    packet[..60].copy_from_slice(&nic.datagram());
    packet[16..18].copy_from_slice(&986_u16.to_be_bytes());
    packet[38..40].copy_from_slice(&966_u16.to_be_bytes());
    crate::nic::seal(&mut packet);
    let rows = attacker.window()?;
    let page = frames.page(rows)?;
    let mut bound = Vec::new();
    for number in 0..BINDINGS as u64 {
        let run = frames.take(SELF, order.frames() + 1)?;
        let at = VirtAddr::new(RUNS + (number << 20)).ok_or(Error::BadAddress)?;
        frames.map((SELF, SELF), run, at, order.frames(), Protection::ReadWrite)?;
        let binding = sys::net_bind(nic.net, run, order, run.plus(order.frames()))?;
        let mut ring = Nic::borrowed(nic, Handle::from_word(binding)?, run, order, at.get());
        for _ in 0..order.slots() {
            ring.write(&packet);
            ring.commit(packet.len() as u16);
        }
        put(rows, number as usize, "net_sync", &[binding]);
        bound.push((ring, at));
    }
    let made = sys::batch(UserPtr(rows.get()), BINDINGS as u32)? as usize;
    let (mut taken, mut held) = (0, 0);
    for ((ring, _), (code, value)) in bound.iter().zip(answers(rows, made)) {
        let counts = SyncCounts::from_value(if code == 0 { value } else { 0 });
        let returned = ring.page().tx_consumed.0.load(core::sync::atomic::Ordering::Relaxed);
        taken += counts.taken - counts.refused;
        held += counts.taken.wrapping_sub(returned);
    }
    for (ring, at) in bound {
        // What was not sent is not to be, and the device has to finish what was.
        while until_done(|| sys::net_unbind(ring.binding)) == Err(Error::InUse) {}
        sys::cap_drop(ring.binding)?;
        sys::unmap(SELF, at, order.frames())?;
        frames.give(ring.run, order.frames() + 1)?;
    }
    frames.drop_page(rows, page)?;
    let bounded = held <= MOST && taken > order.slots();
    Ok(Verdict::harmless(bounded, alloc::format!("{held} of {taken} sent are with the device")))
}
