//! How long ring 0 keeps the processor: each call with the input that makes it work most,
//! alone and thirty-two at a time, by the time-stamp counter. Where instructions are the clock
//! (`-icount`) that is how many of them no interrupt is taken in.
//!
//! One line for each, `longest NAME INSTRUCTIONS`; for a batch of the call NAME is `batch of
//! NAME`. Calls that go on when called again are called until they are done, and each time
//! counts. The network's calls are in [`network`], the disk's in [`disk`].

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{
    BATCH_MAX, BATCH_WORDS, DERIVATION_DEPTH, Error, FRAME_BYTES, GATE_BYTES, Handle, LARGE_PAGES,
    Level, Pfn, Protection, Rights, UserPtr, VirtAddr, Word, call_number,
};
use libos::println;
use libos::runtime::Environment;
use libos::sys;
use libos::time::timestamp;
use selftest::child::{Child, Maker, until_done};
use selftest::frames::{read, window, write};

mod disk;
mod network;

const PAGE: VirtAddr = window(0);
/// Where the U-area of a child is written to.
/// Sixty-four pages over the end of a page table, and what is nothing but page tables.
const RUN: u64 = 0x20_0000_0000 - 32 * FRAME_BYTES;
/// A directory of its own.
const LARGE: u64 = 0x1_0000_0000;
const WHOLE: u32 = 64;
const ALIGNED: u64 = 512 * FRAME_BYTES;

/// Prints all of it.
pub(crate) fn run(environment: Environment) -> u64 {
    match measure(&environment) {
        Ok(()) => {
            println!("longest done");
            0
        }
        Err(error) => {
            println!("{error}");
            1
        }
    }
}

type Words = [u64; 6];

/// A call, and a row of a batch.
fn raw(name: &str, words: Words) -> Result<u64, Error> {
    sys::raw(call_number(name), words)
}

/// The instructions of `call`, and what it says.
fn timed(call: impl FnOnce() -> Result<u64, Error>) -> (u64, Result<u64, Error>) {
    let start = timestamp();
    let result = call();
    (timestamp() - start, result)
}

/// Calls until it is done. The most instructions that one time took.
fn longest(call: impl Fn() -> Result<u64, Error>) -> Result<u64, Error> {
    let mut most = 0;
    loop {
        let (instructions, result) = timed(&call);
        most = most.max(instructions);
        match result {
            Err(Error::Again) => {}
            result => return result.map(|_| most),
        }
    }
}

fn tell(name: &str, instructions: u64) {
    println!("longest {name} {instructions}");
}

/// Puts the same call into all rows, or with its first words counted up by `step`.
fn fill(name: &str, words: Words, step: Words) {
    for place in 0..u64::from(BATCH_MAX) {
        let mut row = words;
        row.iter_mut().zip(step).for_each(|(word, step)| *word = word.wrapping_add(step * place));
        put(place as usize, name, &row);
    }
}

/// Writes row `place` of a batch.
fn put(place: usize, name: &str, words: &Words) {
    let row = place * BATCH_WORDS * 8;
    write(PAGE, row, call_number(name));
    // No answer of a call that was not made.
    write(PAGE, row + 56, u64::MAX);
    for (index, word) in words.iter().enumerate() {
        write(PAGE, row + 8 + 8 * index, *word);
    }
}

/// What a batch said in row `place`.
fn answer(place: usize) -> Result<u64, Error> {
    let row = place * BATCH_WORDS * 8;
    match read(PAGE, row + 56) {
        0 => Ok(read(PAGE, row + 64)),
        code => Err(Error::from_code(code).unwrap_or(Error::NoSuchCall)),
    }
}

/// A batch of these calls, as far as it goes: its instructions, and what it said of each that
/// it made.
fn batch_of(name: &str, rows: &[Words]) -> Result<(u64, Vec<Option<u64>>), Error> {
    let rows = rows.get(..BATCH_MAX as usize).unwrap_or(rows);
    for (place, words) in rows.iter().enumerate() {
        put(place, name, words);
    }
    let (instructions, made) = timed(|| sys::batch(UserPtr(PAGE.get()), rows.len() as u32));
    let said = (0..made? as usize).map(|place| answer(place).ok());
    Ok((instructions, said.collect()))
}

/// One full batch of a call, as far as it goes.
fn batch(name: &str, words: Words, step: Words) -> Result<u64, Error> {
    fill(name, words, step);
    let (instructions, made) = timed(|| sys::batch(UserPtr(PAGE.get()), BATCH_MAX));
    made.map(|_| instructions)
}

/// Both of a call, whatever it says: its input is the worst.
fn both(name: &str, words: Words, step: Words) -> Result<(), Error> {
    let (instructions, _) = timed(|| raw(name, words));
    tell(name, instructions);
    tell(&alloc::format!("batch of {name}"), batch(name, words, step)?);
    Ok(())
}

/// Into ring 0 and back, if that was granted.
fn elevation(environment: &Environment) -> Result<(), Error> {
    let Some(elevation) = environment.start.elevation else { return Ok(()) };
    let (instructions, result) = timed(|| sys::elevate(elevation));
    result?;
    let (back, result) = timed(sys::lower);
    result?;
    tell("elevate", instructions);
    tell("lower", back);
    Ok(())
}

fn measure(environment: &Environment) -> Result<(), Error> {
    let maker = Maker::new(environment)?;
    maker.frames.page(PAGE)?;
    room(&maker)?;
    short(environment, &maker)?;
    memory(&maker)?;
    objects(&maker)?;
    authority()?;
    removals(&maker)?;
    elevation(environment)?;
    disk::measure(environment, &maker)?;
    network::measure(environment, &maker)?;
    maker.close()
}

fn room(maker: &Maker) -> Result<(), Error> {
    let frames = maker.frames;
    // Room for capabilities, for what follows.
    let grow = frames.take(SELF, BATCH_MAX + 1)?;
    tell("cap_grow", timed(|| sys::cap_grow(grow)).0);
    tell(
        "batch of cap_grow",
        batch("cap_grow", [grow.into_word() + 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0])?,
    );
    for number in 0..BATCH_MAX {
        let _ = sys::cap_grow(grow.plus(1 + number));
    }
    Ok(())
}

/// What has no loop that its caller decides on.
fn short(environment: &Environment, maker: &Maker) -> Result<(), Error> {
    both("null", [0; 6], [0; 6])?;
    let own = SELF.into_word();
    let none = [0; 6];
    let child = maker.child()?;
    let env = child.env.into_word();
    let text = PAGE.get();
    both("env_status", [env, text + 3000, 0, 0, 0, 0], none)?;
    both("env_start", [env, 0x40_0000, 0x50_0000, 0, 0, 0], none)?;
    both("revoke_request", [env, 1, 1, u64::MAX, 0, 0], none)?;
    both("entry_create", [0, 0x40_0000, 0x50_0000, 0, 0, 0], none)?;
    both("doorbell_create", none, none)?;
    let bell = sys::doorbell_create()?;
    both("doorbell_ring", [bell, 0, 0, 0, 0, 0], none)?;
    let entry = sys::entry_create(1, UserPtr(0x40_0000), UserPtr(0x50_0000))?;
    tell("transfer_call", timed(|| raw("transfer_call", [entry, 0, 0, 0, 0, 0])).0);
    tell("transfer_send", timed(|| raw("transfer_send", [entry, 0, 0, 0, 0, 0])).0);
    tell("transfer_reply", timed(|| raw("transfer_reply", none)).0);
    let owners = &environment.system.slots.owners;
    let mine = |slot: &usize| owners[*slot].load(Relaxed) == environment.id.0;
    let first = (0..owners.len()).find(mine).ok_or(Error::OutOfRange)?;
    let count = (first..owners.len()).take_while(mine).count();
    // To itself, which needs no more than the right to.
    let words = [own, first as u64, count as u64, own, 0, 0];
    both("slots_assign", words, none)?;
    tell("slice_yield", timed(sys::slice_yield).0);
    tell("slice_donate", timed(|| sys::slice_donate(SELF)).0);
    let now = timestamp();
    tell("wait", timed(|| raw("wait", [u64::MAX, now, 0, 0, 0, 0])).0);
    tell("wait_until", timed(|| raw("wait_until", [text, 342, text, now, 0, 0])).0);
    if let Some(console) = environment.start.console {
        // Behind the rows of a batch.
        let text = text + 2304;
        (0..128).for_each(|word| write(PAGE, 2304 + 8 * word, 0x0a6c_6f6e_676c_696e));
        let words = [console.into_word(), text, 1024, 0, 0, 0];
        both("console_write", words, none)?;
    }
    child.destroy()
}

fn memory(maker: &Maker) -> Result<(), Error> {
    let frames = maker.frames;
    let (own, none) = (SELF.into_word(), [0; 6]);
    let capability = frames.capability.into_word();
    let first = frames.find(WHOLE * BATCH_MAX).ok_or(Error::NotFree)?;
    let (from, count) = (first.into_word(), u64::from(WHOLE));
    let next = [0, 0, count, 0, 0, 0];
    let take = |first: u64| [capability, own, first, count, 0, 0];
    tell("frames_take", timed(|| raw("frames_take", take(from))).0);
    tell("frames_free", timed(|| raw("frames_free", [from, count, 0, 0, 0, 0])).0);
    tell("batch of frames_take", batch("frames_take", take(from), next)?);
    for number in 0..BATCH_MAX {
        let _ = sys::frames_take(frames.capability, SELF, first.plus(number * WHOLE), WHOLE);
    }
    tell(
        "batch of frames_free",
        batch("frames_free", [from, count, 0, 0, 0, 0], [count, 0, 0, 0, 0, 0])?,
    );
    for number in 0..BATCH_MAX {
        let _ = sys::frames_free(first.plus(number * WHOLE), WHOLE);
    }
    // Mapped over two tables; then all of them, thirty-two times.
    let first = frames.take(SELF, WHOLE)?;
    for table in 0..6_u64 {
        frames.cover(SELF, VirtAddr::new(RUN + table * ALIGNED).ok_or(Error::BadAddress)?)?;
    }
    let map = [own, own, first.into_word(), RUN, count, Protection::ReadWrite.into_word()];
    let along = [0, 0, 0, count * FRAME_BYTES, 0, 0];
    let unmap = [own, RUN, count, 0, 0, 0];
    tell("map", longest(|| raw("map", map))?);
    tell("unmap", longest(|| raw("unmap", unmap))?);
    tell("batch of map", batch("map", map, along)?);
    tell("batch of unmap", batch("unmap", unmap, [0, count * FRAME_BYTES, 0, 0, 0, 0])?);
    for number in 0..u64::from(BATCH_MAX) {
        raw("unmap", [own, RUN + number * count * FRAME_BYTES, count, 0, 0, 0])?;
    }
    // Refused at the last of them.
    raw("map", [own, own, first.into_word(), RUN + 63 * FRAME_BYTES, 1, 1])?;
    both("map", map, none)?;
    raw("unmap", unmap)?;
    frames.give(first, WHOLE)
}

/// A directory in `space`; all its entries map the same large page, of `owner`.
fn directory(maker: &Maker, space: Handle, first: Pfn) -> Result<(), Error> {
    for (level, place) in [(3, 0), (2, 1)] {
        let level = Level::new(level).ok_or(Error::BadArgument)?;
        let frame = maker.frames.take(space, 1)?;
        let at = VirtAddr::new(LARGE).ok_or(Error::BadAddress)?;
        match sys::table_install(space, at, level, frame) {
            Err(Error::Occupied) if place == 0 => {}
            result => drop(result?),
        }
    }
    for page in 0..512 {
        let at = VirtAddr::new(LARGE + page * ALIGNED).ok_or(Error::BadAddress)?;
        sys::map(space, space, first, at, LARGE_PAGES, Protection::ReadWrite)?;
    }
    Ok(())
}

/// Code that is nothing but gates; and an environment that takes part, with pages behind a key.
fn keys(maker: &Maker) -> Result<(), Error> {
    const GATE: [u8; GATE_BYTES] = exo_abi::gate(exo_abi::CLOSED);
    let (frames, own, at) = (maker.frames, SELF.into_word(), window(1));
    let code = frames.take(SELF, 1 + BATCH_MAX)?;
    frames.cover(SELF, at)?;
    for frame in (0..=BATCH_MAX).map(|offset| code.plus(offset)) {
        sys::map(SELF, SELF, frame, at, 1, Protection::ReadWrite)?;
        for place in (0..FRAME_BYTES as usize / GATE_BYTES).map(|place| place * GATE_BYTES) {
            let here = core::ptr::with_exposed_provenance_mut(at.get() as usize + place);
            // SAFETY: in the page that was just mapped here.
            unsafe { core::ptr::write_unaligned(here, GATE) };
        }
        sys::unmap(SELF, at, 1)?;
    }
    both("code_admit", [own, code.into_word(), 0, 0, 0, 0], [0, 1, 0, 0, 0, 0])?;
    let child = maker.bare()?;
    let env = child.env.into_word();
    both("env_guard", [env, 0, 0, 0, 0, 0], [0; 6])?;
    frames.cover(child.env, at)?;
    let page = frames.take(SELF, 1)?;
    let words = [env, own, page.into_word(), at.get(), 1, 15];
    both("map_keyed", words, [0, 0, 0, FRAME_BYTES, 0, 0])?;
    child.destroy()?;
    frames.give(page, 1)?;
    frames.give(code, 1 + BATCH_MAX)
}

fn objects(maker: &Maker) -> Result<(), Error> {
    keys(maker)?;
    let frames = maker.frames;
    let (own, none) = (SELF.into_word(), [0; 6]);
    // Environments, from frames side by side.
    let parts = frames.take(SELF, 4 * BATCH_MAX)?;
    let four = |first: Pfn| [0, 1, 2, 3].map(|part| first.plus(part).into_word());
    let [a, b, c, d] = four(parts);
    let create = [a, b, c, d, 0, 0];
    let (instructions, env) = timed(|| raw("env_create", create));
    tell("env_create", instructions);
    Handle::from_word(env?).and_then(selftest::child::destroy)?;
    sys::frames_take(frames.capability, SELF, parts, 4)?;
    tell("batch of env_create", batch("env_create", create, [4, 4, 4, 4, 0, 0])?);
    // What was made is destroyed, the rest given back.
    for number in 0..BATCH_MAX {
        match answer(number as usize) {
            Ok(env) => Handle::from_word(env).and_then(selftest::child::destroy)?,
            Err(_) => frames.give(parts.plus(4 * number), 4)?,
        }
    }
    // Page tables in one directory.
    let tables = frames.take(SELF, BATCH_MAX)?;
    frames.cover(SELF, VirtAddr::new(LARGE).ok_or(Error::BadAddress)?)?;
    let install = [own, LARGE + ALIGNED, 1, tables.into_word(), 0, 0];
    let remove = [own, LARGE + ALIGNED, 1, 0, 0, 0];
    tell("table_install", timed(|| raw("table_install", install)).0);
    tell("table_remove", timed(|| raw("table_remove", remove)).0);
    tell("batch of table_install", batch("table_install", install, [0, ALIGNED, 0, 1, 0, 0])?);
    tell("batch of table_remove", batch("table_remove", remove, [0, ALIGNED, 0, 0, 0, 0])?);
    sys::table_remove(
        SELF,
        VirtAddr::new(LARGE).ok_or(Error::BadAddress)?,
        Level::new(1).ok_or(Error::BadArgument)?,
    )?;
    // One large page, often.
    let first = frames.take_large(SELF)?;
    let (run, write) = (u64::from(LARGE_PAGES), Protection::ReadWrite.into_word());
    let map = [own, own, first.into_word(), LARGE, run, write];
    let unmap = [own, LARGE, run, 0, 0, 0];
    tell("map of a large page", timed(|| raw("map", map)).0);
    tell("unmap of a large page", timed(|| raw("unmap", unmap)).0);
    tell("batch of map of large pages", batch("map", map, [0, 0, 0, ALIGNED, 0, 0])?);
    tell("batch of unmap of large pages", batch("unmap", unmap, [0, ALIGNED, 0, 0, 0, 0])?);
    for number in 0..u64::from(BATCH_MAX) {
        let _ = raw("unmap", [own, LARGE + number * ALIGNED, run, 0, 0, 0]);
    }
    for number in 0..LARGE_PAGES / WHOLE {
        sys::frames_free(first.plus(number * WHOLE), WHOLE)?;
    }
    both("cap_drop", [u64::MAX, 0, 0, 0, 0, 0], none)
}

const SHARING: Rights = Rights::GRANT.with(Rights::INSPECT).with(Rights::ENDOW);

fn derive(from: Handle) -> Result<Handle, Error> {
    sys::cap_derive(from, SHARING, 0, 0).and_then(Handle::from_word)
}

fn authority() -> Result<(), Error> {
    let top = derive(SELF)?;
    let mut lowest = top;
    for _ in 0..DERIVATION_DEPTH - 3 {
        lowest = derive(lowest)?;
    }
    // The longest way up.
    let none = [0; 6];
    let low = lowest.into_word();
    both("cap_derive", [low, SHARING.into_word(), 0, 0, 0, 0], none)?;
    both("cap_grant", [low, SELF.into_word(), 0, 0, 0, 0], none)?;
    let bell = sys::doorbell_create().and_then(Handle::from_word)?;
    both("cap_badge", [bell.into_word(), 1, 0, 0, 0, 0], none)?;
    // As many children as there is room for, of one that is dropped; then revoked.
    let middle = derive(top)?;
    while derive(middle).is_ok() {}
    tell("cap_drop", longest(|| sys::cap_drop(middle))?);
    tell("cap_revoke", longest(|| sys::cap_revoke(top))?);
    let middle = derive(top)?;
    while derive(middle).is_ok() {}
    tell("batch of cap_drop", batch("cap_drop", [middle.into_word(), 0, 0, 0, 0, 0], none)?);
    let _ = until_done(|| sys::cap_drop(middle));
    tell("batch of cap_revoke", batch("cap_revoke", [top.into_word(), 0, 0, 0, 0, 0], none)?);
    until_done(|| sys::cap_revoke(top))?;
    sys::cap_drop(bell)?;
    sys::cap_drop(top).map(drop)
}

/// An environment with a directory full of a large page, and a frame of that.
fn full(maker: &Maker) -> Result<(Child<'_>, Pfn), Error> {
    let child = maker.child()?;
    let first = maker.frames.take_large(child.env)?;
    directory(maker, child.env, first)?;
    Ok((child, first))
}

fn removals(maker: &Maker) -> Result<(), Error> {
    let (child, frame) = full(maker)?;
    tell("revoke_enforce", longest(|| sys::revoke_enforce(child.env, frame))?);
    child.destroy()?;
    let (child, _) = full(maker)?;
    tell("env_destroy", longest(|| sys::env_destroy(child.env))?);
    child.abandon()?;
    for name in ["revoke_enforce", "env_destroy"] {
        let (child, frame) = full(maker)?;
        let words = [child.env.into_word(), frame.into_word(), 0, 0, 0, 0];
        let most = (0..20)
            .map(|_| batch(name, words, [0; 6]))
            .try_fold(0, |most, one| Ok::<u64, Error>(most.max(one?)))?;
        tell(&alloc::format!("batch of {name}"), most);
        // The batches may have done it.
        let _ = until_done(|| sys::env_destroy(child.env));
        child.abandon()?;
    }
    Ok(())
}
