//! Pages of 2 MiB: mapped and unmapped as one, and in every other way pages.

use exo_abi::boot::SELF;
use exo_abi::{
    EnvState, EnvStatus, Error, FRAME_BYTES, FrameKind, Handle, LARGE_PAGES, Level, Pages, Pfn,
    Protection, UserPtr, VirtAddr, call_number,
};
use libos::sys;
use selftest::check::{Outcome, holds, refused, same};
use selftest::child::{Code, exit, until_done};
use selftest::frames::{read, write};

use crate::bench::{Bench, Check, PATIENCE};

pub(crate) const CHECKS: &[Check] = &[
    ("a large page is the memory of its frames", aliases),
    ("large and small pages do not mix", apart),
    ("another page at a large one's address is seen", replaced),
    ("a read-only large page cannot be written", |b| {
        faults(b, writes, Protection::Read, 1 | 2 | 4)
    }),
    ("a writable large page cannot be executed", |b| {
        faults(b, executes, Protection::ReadWrite, 1 | 4 | 16)
    }),
    ("an executable large page can be executed", executable),
    ("an unmapped large page faults", |b| faults(b, unmaps, Protection::Read, 4)),
    ("the kernel reads and writes through large pages", pointers),
    ("a frame taken out of a large page breaks it", repossessed),
];

/// Where the program and its children have large pages.
const LARGE: VirtAddr = match VirtAddr::new(0x8000_0000) {
    Some(at) => at,
    None => panic!("a page of user space"),
};
const SIZE: u64 = LARGE_PAGES as u64 * FRAME_BYTES;
/// The page in it that children touch.
const INSIDE: Pages = 300;

fn page(offset: Pages) -> Result<VirtAddr, Error> {
    LARGE.plus(offset).ok_or(Error::BadAddress)
}

/// The frames of a large page that is mapped read and write, zero.
fn make(bench: &Bench) -> Result<Pfn, Error> {
    bench.frames.cover_large(SELF, LARGE)?;
    let first = bench.frames.take_large(SELF)?;
    sys::map(SELF, SELF, first, LARGE, LARGE_PAGES, Protection::ReadWrite)?;
    Ok(first)
}

fn unmake(bench: &Bench, first: Pfn) -> Outcome {
    sys::unmap(SELF, LARGE, LARGE_PAGES)?;
    Ok(bench.frames.give(first, LARGE_PAGES)?)
}

fn mappings(bench: &Bench, pfn: Pfn) -> Option<u32> {
    let entry = bench.frames.table.get(pfn.0 as usize)?;
    Some(entry.mapped.load(core::sync::atomic::Ordering::Relaxed))
}

fn aliases(bench: &mut Bench) -> Outcome {
    let first = make(bench)?;
    for offset in 0..LARGE_PAGES {
        same("a new frame", read(page(offset)?, 8), 0)?;
        write(page(offset)?, 8, u64::from(offset) + 1);
        same("mappings", mappings(bench, first.plus(offset)), Some(1))?;
    }
    let small = bench.window();
    for offset in [0, 1, 255, 256, 510, 511] {
        bench.frames.map((SELF, SELF), first.plus(offset), small, 1, Protection::ReadWrite)?;
        same("mappings", mappings(bench, first.plus(offset)), Some(2))?;
        same("the same by its frame", read(small, 8), u64::from(offset) + 1)?;
        write(small, 8, 99);
        same("and back", read(page(offset)?, 8), 99)?;
        sys::unmap(SELF, small, 1)?;
    }
    sys::unmap(SELF, LARGE, LARGE_PAGES)?;
    let unused = |offset| mappings(bench, first.plus(offset)) == Some(0);
    holds("mappings are left", (0..LARGE_PAGES).all(unused))?;
    Ok(bench.frames.give(first, LARGE_PAGES)?)
}

fn apart(bench: &mut Bench) -> Outcome {
    let first = make(bench)?;
    let table = bench.frames.take(SELF, 1)?;
    let one = Level::new(1).ok_or(Error::BadArgument)?;
    let two = Level::new(2).ok_or(Error::BadArgument)?;
    write(page(7)?, 0, 7);
    refused(sys::map(SELF, SELF, first, LARGE, LARGE_PAGES, Protection::Read), Error::Occupied)?;
    refused(sys::map(SELF, SELF, table, page(7)?, 1, Protection::Read), Error::NoTable)?;
    refused(sys::table_install(SELF, page(7)?, one, table), Error::Occupied)?;
    refused(sys::table_remove(SELF, page(7)?, one), Error::Vacant)?;
    refused(sys::table_remove(SELF, page(7)?, two), Error::InUse)?;
    refused(sys::frames_free(first, 1), Error::InUse)?;
    refused(sys::frames_free(first.plus(511), 1), Error::InUse)?;
    // No small page is there to be unmapped.
    sys::unmap(SELF, page(7)?, 1)?;
    same("the page", read(page(7)?, 0), 7)?;
    sys::unmap(SELF, LARGE, LARGE_PAGES)?;
    refused(sys::unmap(SELF, LARGE, LARGE_PAGES), Error::Vacant)?;
    sys::table_install(SELF, LARGE, one, table)?;
    sys::map(SELF, SELF, first, LARGE, 1, Protection::Read)?;
    refused(sys::unmap(SELF, LARGE, LARGE_PAGES), Error::Vacant)?;
    refused(sys::map(SELF, SELF, first, LARGE, LARGE_PAGES, Protection::Read), Error::Occupied)?;
    sys::unmap(SELF, LARGE, 1)?;
    // An empty table is in the way, too.
    refused(sys::map(SELF, SELF, first, LARGE, LARGE_PAGES, Protection::Read), Error::Occupied)?;
    sys::table_remove(SELF, LARGE, one)?;
    bench.frames.give(table, 1)?;
    let odd = sys::map(SELF, SELF, first, page(1)?, LARGE_PAGES, Protection::Read);
    refused(odd, Error::BadAddress)?;
    let odd = sys::map(SELF, SELF, first.plus(1), LARGE, LARGE_PAGES, Protection::Read);
    refused(odd, Error::BadArgument)?;
    Ok(bench.frames.give(first, LARGE_PAGES)?)
}

fn replaced(bench: &mut Bench) -> Outcome {
    let first = make(bench)?;
    let table = bench.frames.take(SELF, 1)?;
    let one = Level::new(1).ok_or(Error::BadArgument)?;
    for offset in 0..LARGE_PAGES {
        write(page(offset)?, 0, u64::from(offset));
    }
    for round in 0..50 {
        let at = page(round * 10)?;
        sys::unmap(SELF, LARGE, LARGE_PAGES)?;
        sys::table_install(SELF, LARGE, one, table)?;
        sys::map(SELF, SELF, first.plus(7), at, 1, Protection::Read)?;
        same("the small page", read(at, 0), 7)?;
        sys::unmap(SELF, at, 1)?;
        sys::table_remove(SELF, LARGE, one)?;
        sys::map(SELF, SELF, first, LARGE, LARGE_PAGES, Protection::ReadWrite)?;
        same("the large page", read(at, 0), u64::from(round * 10))?;
    }
    unmake(bench, first)?;
    Ok(bench.frames.give(table, 1)?)
}

extern "C" fn writes(at: u64) -> ! {
    let Some(page) = VirtAddr::new(at) else { exit(1) };
    write(page, 0, read(page, 0) + 1);
    exit(2)
}

extern "C" fn executes(at: u64) -> ! {
    // SAFETY: a function that returns, if it can be executed at all.
    let function: extern "C" fn() = unsafe { core::mem::transmute(at as usize) };
    function();
    exit(3)
}

extern "C" fn unmaps(at: u64) -> ! {
    let Some(page) = VirtAddr::new(at) else { exit(1) };
    let before = read(page, 0);
    if before == 0 || sys::unmap(SELF, LARGE, LARGE_PAGES).is_err() {
        exit(2);
    }
    exit(100 + read(page, 0))
}

/// Runs `code` in a child that has a large page of the program's, full of `ret`s.
fn in_child(bench: &Bench, code: Code, protection: Protection) -> Result<Option<EnvStatus>, Error> {
    let first = make(bench)?;
    write(page(INSIDE)?, 0, 0xc3c3_c3c3_c3c3_c3c3);
    let child = bench.maker.child()?;
    bench.frames.cover_large(child.env, LARGE)?;
    sys::map(child.env, SELF, first, LARGE, LARGE_PAGES, protection)?;
    child.start(code, page(INSIDE)?.get())?;
    let status = child.wait(PATIENCE)?;
    child.destroy()?;
    sys::unmap(SELF, LARGE, LARGE_PAGES)?;
    bench.frames.give(first, LARGE_PAGES)?;
    Ok(status)
}

fn faults(bench: &mut Bench, code: Code, protection: Protection, error: u64) -> Outcome {
    let status = in_child(bench, code, protection)?;
    let got = status.map(|s| (s.state, s.vector, s.code, s.address));
    same("end", got, Some((EnvState::Faulted as u32, 14, error, page(INSIDE)?.get())))
}

fn executable(bench: &mut Bench) -> Outcome {
    let status = in_child(bench, executes, Protection::ReadExecute)?;
    same("end", status.map(|s| (s.state, s.code)), Some((EnvState::Exited as u32, 3)))
}

fn status_to(env: Handle, at: u64) -> Result<u64, Error> {
    sys::env_status(env, UserPtr(at))
}

fn pointers(bench: &mut Bench) -> Outcome {
    let first = make(bench)?;
    let child = bench.maker.bare()?;
    let wanted = EnvStatus::NEW.to_bytes();
    // Over every kind of boundary: of a frame, and of the large page.
    for offset in [1, 100, 511] {
        let at = page(offset)?.get() - 60;
        let bytes = core::ptr::with_exposed_provenance_mut::<u8>(at as usize);
        // SAFETY: in the middle of the large page, which nothing else uses.
        unsafe { bytes.write_bytes(0xff, EnvStatus::BYTES) };
        status_to(child.env, at)?;
        let mut got = [0; EnvStatus::BYTES];
        // SAFETY: as before.
        unsafe { bytes.copy_to_nonoverlapping(got.as_mut_ptr(), EnvStatus::BYTES) };
        holds("what the kernel wrote is something else", got == wanted)?;
    }
    refused(status_to(child.env, LARGE.get() + SIZE - 60), Error::BadPointer)?;
    refused(status_to(child.env, LARGE.get() - 60), Error::BadPointer)?;
    // Read over a boundary.
    let console = bench.environment.start.console.ok_or(Error::NoDevice)?;
    let text = b"through a large page\n";
    let at = page(200)?.get() - 7;
    let bytes = core::ptr::with_exposed_provenance_mut::<u8>(at as usize);
    // SAFETY: as before.
    unsafe { bytes.copy_from_nonoverlapping(text.as_ptr(), text.len()) };
    same(
        "printed",
        until_done(|| sys::console_write(console, UserPtr(at), 21))?,
        text.len() as u64,
    )?;
    // A batch within.
    write(page(INSIDE)?, 0, call_number("null"));
    write(page(INSIDE)?, 56, 7);
    same("calls", sys::batch(UserPtr(page(INSIDE)?.get()), 1)?, 1)?;
    same("its error code", read(page(INSIDE)?, 56), 0)?;
    // Where it is read-only the kernel may not write either, nor where nothing is.
    sys::unmap(SELF, LARGE, LARGE_PAGES)?;
    refused(status_to(child.env, at), Error::BadPointer)?;
    sys::map(SELF, SELF, first, LARGE, LARGE_PAGES, Protection::Read)?;
    refused(status_to(child.env, at), Error::BadPointer)?;
    refused(sys::batch(UserPtr(page(INSIDE)?.get()), 1), Error::BadPointer)?;
    same(
        "printed",
        until_done(|| sys::console_write(console, UserPtr(at), 21))?,
        text.len() as u64,
    )?;
    child.destroy()?;
    unmake(bench, first)
}

fn repossessed(bench: &mut Bench) -> Outcome {
    let before = bench.frames.free();
    let child = bench.maker.bare()?;
    let first = bench.frames.take_large(child.env)?;
    bench.frames.cover_large(child.env, LARGE)?;
    bench.frames.cover_large(SELF, LARGE)?;
    sys::map(child.env, child.env, first, LARGE, LARGE_PAGES, Protection::ReadWrite)?;
    sys::map(SELF, child.env, first, LARGE, LARGE_PAGES, Protection::ReadWrite)?;
    let taken = first.plus(300);
    until_done(|| sys::revoke_enforce(child.env, taken))?;
    same("kind", bench.kind(taken), Some(FrameKind::Free))?;
    refused(sys::unmap(SELF, LARGE, LARGE_PAGES), Error::Vacant)?;
    refused(sys::unmap(child.env, LARGE, LARGE_PAGES), Error::Vacant)?;
    let kept = |offset| {
        let pfn = first.plus(offset);
        pfn == taken
            || (bench.frames.look(pfn), mappings(bench, pfn))
                == (Some((FrameKind::Memory, child.id)), Some(0))
    };
    holds("others went with it", (0..LARGE_PAGES).all(kept))?;
    child.destroy()?;
    same("free frames", bench.frames.free(), before)
}
