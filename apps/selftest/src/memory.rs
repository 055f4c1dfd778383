//! Frames: taken by name, mapped, unmapped, given back.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{
    EnvState, Error, FRAME_BYTES, FrameKind, Pages, Pfn, Protection, USER_TOP, UserPtr, VirtAddr,
    Word,
};
use libos::sys;
use selftest::check::{Outcome, holds, refused, same};
use selftest::child::{Code, SHARED, exit, until_done};
use selftest::frames::{read, write};

use crate::bench::{Bench, Check, PATIENCE};

pub(crate) const CHECKS: &[Check] = &[
    ("frames come zeroed", zeroed),
    ("frames are taken all or none", all_or_none),
    ("frames outside the grant are refused", outside),
    ("a frame in use is not given back", in_use),
    ("the frame table counts mappings and lives", counts),
    ("one frame under two addresses is one memory", aliases),
    ("a new frame at an old address is seen", replaced),
    ("mapping refuses what it must", map_refusals),
    ("an unmapped page faults", unmapped_faults),
    ("a read-only page cannot be written", read_only_faults),
    ("a writable page cannot be executed", no_execute_faults),
    ("every environment can read published pages", published),
    ("the console takes at most a line", console),
];

fn zeroed(bench: &mut Bench) -> Outcome {
    let at = bench.window();
    let frame = bench.frames.page(at)?;
    for offset in (0..FRAME_BYTES as usize).step_by(8) {
        write(at, offset, u64::MAX);
    }
    bench.frames.drop_page(at, frame)?;
    sys::frames_take(bench.frames.capability, SELF, frame, 1)?;
    bench.frames.map((SELF, SELF), frame, at, 1, Protection::ReadWrite)?;
    let zero = (0..FRAME_BYTES as usize).step_by(8).all(|offset| read(at, offset) == 0);
    holds("a frame taken again still has its old contents", zero)?;
    bench.frames.drop_page(at, frame)?;
    Ok(())
}

fn all_or_none(bench: &mut Bench) -> Outcome {
    let capability = bench.frames.capability;
    let first = bench.frames.find(5).ok_or(Error::NotFree)?;
    let free = |range: core::ops::Range<Pages>| {
        range.into_iter().all(|i| bench.kind(first.plus(i)) == Some(FrameKind::Free))
    };
    sys::frames_take(capability, SELF, first.plus(3), 1)?;
    refused(sys::frames_take(capability, SELF, first, 5), Error::NotFree)?;
    holds("some were taken", free(0..3) && free(4..5))?;
    refused(sys::frames_free(first.plus(3), 2), Error::NotOwned)?;
    same("kind", bench.kind(first.plus(3)), Some(FrameKind::Memory))?;
    sys::frames_free(first.plus(3), 1)?;
    refused(sys::frames_take(capability, SELF, first, 65), Error::TooMuch)?;
    refused(sys::frames_free(first, 65), Error::TooMuch)?;
    sys::frames_take(capability, SELF, first, 0)?;
    sys::frames_take(capability, SELF, first, 5)?;
    sys::frames_free(first, 5)?;
    holds("some were kept", free(0..5))
}

fn outside(bench: &mut Bench) -> Outcome {
    let (capability, range) = (bench.frames.capability, bench.frames.range);
    let after = Pfn(range.first.0 + range.count);
    for (first, count) in [
        (Pfn(range.first.0 - 1), 1),
        (after, 1),
        (Pfn(after.0 - 1), 2),
        (Pfn(0), 1),
        (Pfn(u32::MAX), 1),
    ] {
        refused(sys::frames_take(capability, SELF, first, count), Error::OutOfRange)?;
    }
    Ok(())
}

fn in_use(bench: &mut Bench) -> Outcome {
    let at = bench.window();
    let frame = bench.frames.page(at)?;
    refused(sys::frames_free(frame, 1), Error::InUse)?;
    sys::unmap(SELF, at, 1)?;
    sys::frames_free(frame, 1)?;
    refused(sys::frames_free(frame, 1), Error::NotOwned)
}

fn counts(bench: &mut Bench) -> Outcome {
    let (one, two) = (bench.window(), bench.window());
    let frame = bench.frames.page(one)?;
    let entry = bench.frames.table.get(frame.0 as usize).ok_or(Error::OutOfRange)?;
    let generation = entry.generation.load(Relaxed);
    same("owner", entry.owner.load(Relaxed), bench.environment.id.0)?;
    same("mappings", entry.mapped.load(Relaxed), 1)?;
    bench.frames.map((SELF, SELF), frame, two, 1, Protection::Read)?;
    same("mappings", entry.mapped.load(Relaxed), 2)?;
    sys::unmap(SELF, one, 1)?;
    same("mappings", entry.mapped.load(Relaxed), 1)?;
    bench.frames.drop_page(two, frame)?;
    same("mappings", entry.mapped.load(Relaxed), 0)?;
    same("kind", bench.kind(frame), Some(FrameKind::Free))?;
    holds("the frame's generation did not move", entry.generation.load(Relaxed) != generation)
}

fn aliases(bench: &mut Bench) -> Outcome {
    let (one, two) = (bench.window(), bench.window());
    let frame = bench.frames.page(one)?;
    bench.frames.map((SELF, SELF), frame, two, 1, Protection::Read)?;
    for round in 0..64 {
        write(one, round * 8, round as u64 + 1);
        same("the alias", read(two, round * 8), round as u64 + 1)?;
    }
    sys::unmap(SELF, one, 1)?;
    bench.frames.drop_page(two, frame)?;
    Ok(())
}

fn replaced(bench: &mut Bench) -> Outcome {
    let (at, glass) = (bench.window(), bench.window());
    let frames = [bench.frames.take(SELF, 1)?, bench.frames.take(SELF, 1)?];
    for (frame, mark) in frames.into_iter().zip([11, 22]) {
        bench.frames.map((SELF, SELF), frame, glass, 1, Protection::ReadWrite)?;
        write(glass, 0, mark);
        sys::unmap(SELF, glass, 1)?;
    }
    for round in 0..100 {
        let (frame, mark) = if round % 2 == 0 { (frames[0], 11) } else { (frames[1], 22) };
        bench.frames.map((SELF, SELF), frame, at, 1, Protection::Read)?;
        same("what is there now", read(at, 0), mark)?;
        sys::unmap(SELF, at, 1)?;
    }
    for frame in frames {
        bench.frames.give(frame, 1)?;
    }
    Ok(())
}

fn map_refusals(bench: &mut Bench) -> Outcome {
    let at = bench.window();
    let frame = bench.frames.page(at)?;
    let read = Protection::Read;
    refused(sys::map(SELF, SELF, frame, at, 1, read), Error::Occupied)?;
    let nowhere = VirtAddr::new(0x60_0000_0000).ok_or(Error::BadAddress)?;
    refused(sys::map(SELF, SELF, frame, nowhere, 1, read), Error::NoTable)?;
    let last = VirtAddr::new(USER_TOP - FRAME_BYTES).ok_or(Error::BadAddress)?;
    refused(sys::map(SELF, SELF, frame, last, 1, read), Error::NoTable)?;
    refused(sys::unmap(SELF, last, 2), Error::BadAddress)?;
    refused(sys::unmap(SELF, at, 65), Error::TooMuch)?;
    // All or none: the second page is there already.
    let before = VirtAddr::new(at.get() - FRAME_BYTES).ok_or(Error::BadAddress)?;
    sys::unmap(SELF, before, 1)?;
    let pair = bench.frames.take(SELF, 2)?;
    refused(sys::map(SELF, SELF, pair, before, 2, read), Error::Occupied)?;
    same("first page", bench.maker.tables.page(before)?, None)?;
    sys::frames_free(pair, 2)?;
    // Holes are skipped.
    sys::unmap(SELF, before, 2)?;
    same("second page", bench.maker.tables.page(at)?, None)?;
    sys::unmap(SELF, nowhere, 3)?;
    bench.frames.give(frame, 1)?;
    Ok(())
}

/// Runs `code` in a child with a shared page, and compares the fault it ends with.
#[track_caller]
fn faults(bench: &Bench, code: Code, error: u64, protection: Protection) -> Outcome {
    let frame = bench.frames.take(SELF, 1)?;
    let child = bench.maker.child()?;
    child.share_at(frame, SHARED, protection)?;
    child.start(code, SHARED.get())?;
    let status = child.wait(PATIENCE)?;
    child.destroy()?;
    bench.frames.give(frame, 1)?;
    let got = status.map(|s| (s.state, s.vector, s.code, s.address));
    same("end", got, Some((EnvState::Faulted as u32, 14, error, SHARED.get())))
}

extern "C" fn reads_unmapped(at: u64) -> ! {
    let Some(page) = VirtAddr::new(at) else { exit(1) };
    let before = read(page, 0);
    if before != 0 || sys::unmap(SELF, page, 1).is_err() {
        exit(2);
    }
    exit(100 + read(page, 0))
}

extern "C" fn writes(at: u64) -> ! {
    let Some(page) = VirtAddr::new(at) else { exit(1) };
    if read(page, 0) != 0 {
        exit(2);
    }
    write(page, 0, 1);
    exit(3)
}

extern "C" fn executes(at: u64) -> ! {
    let Some(page) = VirtAddr::new(at) else { exit(1) };
    // ret, all over the word.
    write(page, 0, 0xc3c3_c3c3_c3c3_c3c3);
    // SAFETY: the bytes just written are a function that returns, if they can be
    // executed at all.
    let function: extern "C" fn() = unsafe { core::mem::transmute(at as usize) };
    function();
    exit(3)
}

// Error codes (SDM vol. 3, 4.7): 1 present, 2 write, 4 user, 16 instruction fetch.

fn unmapped_faults(bench: &mut Bench) -> Outcome {
    faults(bench, reads_unmapped, 4, Protection::ReadWrite)
}

fn read_only_faults(bench: &mut Bench) -> Outcome {
    faults(bench, writes, 1 | 2 | 4, Protection::Read)
}

fn no_execute_faults(bench: &mut Bench) -> Outcome {
    faults(bench, executes, 1 | 4 | 16, Protection::ReadWrite)
}

fn published(bench: &mut Bench) -> Outcome {
    let at = bench.window();
    let table = Pfn(bench.environment.system.frame_table.load(Relaxed));
    bench.frames.cover(SELF, at)?;
    let writable = sys::map(SELF, SELF, table, at, 1, Protection::ReadWrite);
    refused(writable, Error::NoRight)?;
    let executable = sys::map(SELF, SELF, table, at, 1, Protection::ReadExecute);
    refused(executable, Error::NoRight)?;
    sys::map(SELF, SELF, table, at, 1, Protection::Read)?;
    let entry = &bench.frames.table[0];
    let kind = u64::from(entry.kind.load(Relaxed)) << 32;
    same("frame 0", read(at, 0) & 0xff_ffff_ffff, kind | u64::from(entry.owner.load(Relaxed)))?;
    sys::unmap(SELF, at, 1)?;
    Ok(())
}

fn console(bench: &mut Bench) -> Outcome {
    let console = bench.environment.start.console.ok_or(Error::NoDevice)?;
    let mut text = [b' '; 2048];
    text[1023] = b'\n';
    let at = UserPtr(text.as_ptr().expose_provenance() as u64);
    same("printed", until_done(|| sys::console_write(console, at, 0))?, 0)?;
    same("printed", until_done(|| sys::console_write(console, at, 1))?, 1)?;
    same("printed", until_done(|| sys::console_write(console, at, 2048))?, 1024)?;
    same("printed", until_done(|| sys::console_write(console, at, u64::MAX))?, 1024)?;
    refused(sys::console_write(SELF, at, 1), Error::NoRight)?;
    let top = UserPtr(USER_TOP.wrapping_sub(1));
    refused(sys::console_write(console, top, 1), Error::BadPointer)?;
    let weaker = sys::cap_derive(console, exo_abi::Rights::NONE, 0, 0)?;
    let weaker = exo_abi::Handle::from_word(weaker)?;
    refused(sys::console_write(weaker, at, 1), Error::NoRight)?;
    sys::cap_drop(weaker)?;
    Ok(())
}
