//! Several calls in one crossing.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{
    BATCH_MAX, BATCH_WORDS, Error, FrameKind, Protection, UserPtr, VirtAddr, Word, call_number,
};
use libos::sys;
use selftest::check::{Outcome, holds, refused, same};
use selftest::frames::{read, write};

use crate::bench::{Bench, Check};

pub(crate) const CHECKS: &[Check] = &[
    ("each call of a batch has its own answer", answers),
    ("a batch is one crossing", crossing),
    ("a batch refuses calls that leave", leaving),
    ("a batch survives the loss of its page", page_lost),
    ("a batch lies in one writable page", one_page),
    ("a batch does no more work than an entry may", bounded),
];

const BYTES: usize = BATCH_WORDS * 8;

fn put(page: VirtAddr, place: usize, name: &str, arguments: &[u64]) {
    write(page, place * BYTES, call_number(name));
    for (index, argument) in arguments.iter().enumerate() {
        write(page, place * BYTES + 8 + 8 * index, *argument);
    }
}

fn answer(page: VirtAddr, place: usize) -> (u64, u64) {
    (read(page, place * BYTES + 56), read(page, place * BYTES + 64))
}

fn run(page: VirtAddr, count: u32) -> Result<u64, Error> {
    sys::batch(UserPtr(page.get()), count)
}

fn answers(bench: &mut Bench) -> Outcome {
    let page = bench.window();
    let frame = bench.frames.page(page)?;
    let most = BATCH_MAX as usize;
    for place in 0..most {
        // Every third is refused.
        match place % 3 {
            0 => put(page, place, "cap_derive", &[SELF.into_word(), 0, 0, 0]),
            1 => put(page, place, "null", &[]),
            _ => put(page, place, "cap_drop", &[u64::MAX]),
        }
    }
    same("made", run(page, BATCH_MAX)?, BATCH_MAX.into())?;
    let mut made = alloc::vec::Vec::new();
    for place in 0..most {
        let (code, value) = answer(page, place);
        match place % 3 {
            0 => made.push((code, value)),
            1 => same("null", (code, value), (0, 0))?,
            _ => same("refused", (code, value), (Error::BadHandle.code(), 0))?,
        }
    }
    for (place, (code, value)) in made.iter().enumerate() {
        same("a handle", *code, 0)?;
        put(page, place, "cap_drop", &[*value]);
    }
    same("dropped", run(page, made.len() as u32)?, made.len() as u64)?;
    same("dropped again", run(page, made.len() as u32)?, made.len() as u64)?;
    same("the last", answer(page, made.len() - 1), (Error::BadHandle.code(), 0))?;
    Ok(bench.frames.drop_page(page, frame)?)
}

fn crossing(bench: &mut Bench) -> Outcome {
    let page = bench.window();
    let frame = bench.frames.page(page)?;
    for place in 0..BATCH_MAX as usize {
        put(page, place, "null", &[]);
    }
    let system = bench.environment.system;
    let mut tries = 0;
    loop {
        let (calls, traps) = (system.calls.load(Relaxed), system.traps.load(Relaxed));
        same("made", run(page, BATCH_MAX)?, u64::from(BATCH_MAX))?;
        let counted = (system.calls.load(Relaxed) - calls, system.traps.load(Relaxed) - traps);
        if counted == (1, 0) {
            break;
        }
        // Another environment may have run in between.
        tries += 1;
        holds("never one crossing", tries < 100)?;
    }
    Ok(bench.frames.drop_page(page, frame)?)
}

fn leaving(bench: &mut Bench) -> Outcome {
    let page = bench.window();
    let frame = bench.frames.page(page)?;
    for name in [
        "exit",
        "slice_yield",
        "wait",
        "wait_until",
        "net_wait",
        "machine_exit",
        "slice_donate",
        "transfer_call",
        "transfer_send",
        "transfer_reply",
        "batch",
    ] {
        put(page, 0, name, &[SELF.into_word(), 0, 0, 0, 0, 0]);
        same(name, (run(page, 1)?, answer(page, 0)), (1, (Error::BadArgument.code(), 0)))?;
    }
    for number in [u64::MAX, 64, 1 << 32, exo_abi::SYSCALLS.len() as u64] {
        write(page, 0, number);
        same("no call", (run(page, 1)?, answer(page, 0)), (1, (Error::NoSuchCall.code(), 0)))?;
    }
    Ok(bench.frames.drop_page(page, frame)?)
}

fn page_lost(bench: &mut Bench) -> Outcome {
    let (page, again) = (bench.window(), bench.window());
    let frame = bench.frames.page(page)?;
    bench.frames.cover(SELF, again)?;
    let own = SELF.into_word();
    let pfn = frame.into_word();
    put(page, 0, "unmap", &[own, page.get(), 1]);
    put(page, 1, "frames_free", &[pfn, 1]);
    put(page, 2, "cap_grow", &[pfn]);
    put(page, 3, "map", &[own, own, pfn, again.get(), 1, Protection::ReadWrite.into_word()]);
    same("made", run(page, 4)?, 4)?;
    let in_use = (Error::InUse.code(), 0);
    let answers: [_; 4] = core::array::from_fn(|place| answer(again, place));
    same("answers", answers, [(0, 0), in_use, in_use, (0, 0)])?;
    same("kind", bench.kind(frame), Some(FrameKind::Memory))?;
    Ok(bench.frames.drop_page(again, frame)?)
}

fn one_page(bench: &mut Bench) -> Outcome {
    let (page, next) = (bench.window(), bench.window());
    let frames = [bench.frames.page(page)?, bench.frames.page(next)?];
    let at = |address: u64, count| sys::batch(UserPtr(address), count);
    refused(at(page.get(), BATCH_MAX + 1), Error::TooMuch)?;
    for offset in 1..8 {
        refused(at(page.get() + offset, 1), Error::BadPointer)?;
    }
    let whole = BATCH_MAX as usize * BYTES;
    refused(at(next.get() - whole as u64 + 8, BATCH_MAX), Error::BadPointer)?;
    same("up to the end", at(next.get() - whole as u64, BATCH_MAX)?, BATCH_MAX.into())?;
    // Text, the kernel, nothing.
    for address in [0x40_0000, 0xffff_ffff_8020_0000, 0xffff_8000_0000_0000, 0x10, u64::MAX - 7] {
        refused(at(address, 1), Error::BadPointer)?;
    }
    for (at, frame) in [page, next].into_iter().zip(frames) {
        bench.frames.drop_page(at, frame)?;
    }
    Ok(())
}

fn bounded(bench: &mut Bench) -> Outcome {
    let page = bench.window();
    let frame = bench.frames.page(page)?;
    // Each walks down four levels sixty-four times, and finds nothing.
    let most = BATCH_MAX as usize;
    let own = SELF.into_word();
    for place in 0..most {
        put(page, place, "unmap", &[own, 0x6000_0000_0000, 64]);
        write(page, place * BYTES + 56, u64::MAX);
    }
    let made = run(page, BATCH_MAX)? as usize;
    holds("no call was made, or all", made > 0 && made < most)?;
    for place in 0..most {
        let code = if place < made { 0 } else { u64::MAX };
        same("code", answer(page, place).0, code)?;
    }
    Ok(bench.frames.drop_page(page, frame)?)
}
