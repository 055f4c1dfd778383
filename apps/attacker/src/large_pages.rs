//! Pages of 2 MiB: over frames of others, not aligned, beyond the end; and pieces
//! broken out of them.

use alloc::vec::Vec;

use exo_abi::boot::{SELF, U_AREA};
use exo_abi::{
    Error, FrameKind, Handle, LARGE_PAGES, Level, Pfn, Protection, Rights, VirtAddr, Word,
};
use libos::sys;
use selftest::child::{exit, until_done};
use selftest::frames::{read, write};

use crate::attack::{Attack, Attacker, Attempt, Verdict};
use crate::mappings::raw;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "map every run of others as a large page", run: foreign_runs },
    Attack { name: "map a large page with one frame of another's", run: one_foreign },
    Attack { name: "map large pages of frames beyond the end of memory", run: beyond },
    Attack { name: "map a large page that is not aligned", run: misaligned },
    Attack { name: "map a large page at addresses of the kernel", run: kernel_addresses },
    Attack { name: "map a large page over the last page before the hole", run: last_page },
    Attack { name: "map a large page over page tables", run: over_tables },
    Attack { name: "map a large page writable and executable", run: writable_executable },
    Attack { name: "map a large page into a space one may not touch", run: foreign_space },
    Attack { name: "donate or free a frame of a large page", run: donate_inside },
    Attack { name: "put a table below a large page", run: tables_inside },
    Attack { name: "unmap a small page as a large one, and a large one in pieces", run: confused },
    Attack { name: "write through a large page that was unmapped", run: stale },
    Attack {
        name: "destroy a child while its frames are mapped as a large page",
        run: destroy_mapped,
    },
];

/// Where the attacker has large pages.
const LARGE: VirtAddr = match VirtAddr::new(0x8000_0000) {
    Some(at) => at,
    None => panic!("a page of user space"),
};
const SIZE: u64 = 2 << 20;
/// How many pages one is to calls.
const LARGE_RUN: u64 = LARGE_PAGES as u64;
const BOTH: [Protection; 2] = [Protection::Read, Protection::ReadWrite];

/// Frames for a large page, and tables.
fn run_of(attacker: &Attacker) -> Result<Pfn, Error> {
    attacker.frames.cover_large(SELF, LARGE)?;
    attacker.frames.take_large(SELF)
}

fn mapped(attacker: &Attacker) -> Result<Pfn, Error> {
    let first = run_of(attacker)?;
    sys::map(SELF, SELF, first, LARGE, LARGE_PAGES, Protection::ReadWrite)?;
    Ok(first)
}

fn unmap_and_give(attacker: &Attacker, first: Pfn) -> Result<(), Error> {
    sys::unmap(SELF, LARGE, LARGE_PAGES)?;
    attacker.frames.give(first, LARGE_PAGES)
}

fn foreign_runs(attacker: &mut Attacker) -> Attempt {
    attacker.frames.cover_large(SELF, LARGE)?;
    let (frames, id) = (attacker.frames, attacker.id());
    let end = frames.table.len() as u32;
    let is_own = |pfn| frames.look(pfn) == Some((FrameKind::Memory, id));
    let runs = (0..end).step_by(LARGE_PAGES as usize).map(Pfn);
    let foreign = runs.filter(|first| !(0..LARGE_PAGES).all(|i| is_own(first.plus(i))));
    let tries = foreign.flat_map(|first| {
        BOTH.map(|protection| sys::map(SELF, SELF, first, LARGE, LARGE_PAGES, protection))
    });
    Ok(Verdict::every(tries, &[Error::NotOwned]))
}

/// One frame of the run is free, a table, a child's, a kernel object, the attacker's to
/// look at only.
fn one_foreign(attacker: &mut Attacker) -> Attempt {
    let frames = attacker.frames;
    let first = run_of(attacker)?;
    let far = VirtAddr::new(0x5000_0000_0000).ok_or(Error::BadAddress)?;
    let level = Level::new(3).ok_or(Error::BadArgument)?;
    let attempt = || sys::map(SELF, SELF, first, LARGE, LARGE_PAGES, Protection::ReadWrite);
    let mut tries = Vec::new();
    for odd in [first, first.plus(1), first.plus(300), first.plus(511)] {
        frames.give(odd, 1)?;
        tries.push(attempt());
        sys::frames_take(frames.capability, SELF, odd, 1)?;
        sys::table_install(SELF, far, level, odd)?;
        tries.push(attempt());
        sys::table_remove(SELF, far, level)?;
    }
    let [a, b, c, d] = [8, 9, 10, 11].map(|offset| first.plus(offset));
    let child = Handle::from_word(sys::env_create(a, b, c, d)?)?;
    tries.push(attempt());
    tries.push(sys::map(SELF, child, first, LARGE, LARGE_PAGES, Protection::Read));
    selftest::child::destroy(child)?;
    sys::frames_take(frames.capability, SELF, a, 4)?;
    // Now that all are the attacker's it can be had.
    let whole = attempt();
    let verdict = Verdict::every(tries.into_iter(), &[Error::NotOwned]);
    if whole.is_err() {
        return Ok(Verdict::breach("no even to its own frames"));
    }
    unmap_and_give(attacker, first)?;
    Ok(verdict)
}

fn beyond(attacker: &mut Attacker) -> Attempt {
    attacker.frames.cover_large(SELF, LARGE)?;
    let end = (attacker.frames.table.len() as u32).next_multiple_of(LARGE_PAGES);
    let tries = [end, end + LARGE_PAGES, 0xfee00, 1 << 31, u32::MAX - (LARGE_PAGES - 1)]
        .map(|first| sys::map(SELF, SELF, Pfn(first), LARGE, LARGE_PAGES, Protection::ReadWrite));
    Ok(Verdict::every(tries.into_iter(), &[Error::NotOwned, Error::OutOfRange]))
}

fn misaligned(attacker: &mut Attacker) -> Attempt {
    let first = run_of(attacker)?;
    let read_write = Protection::ReadWrite;
    let frames = [1, 2, 64, 256, 511].into_iter().flat_map(|odd| {
        [first.plus(odd), Pfn(first.0 - odd)]
            .map(|pfn| sys::map(SELF, SELF, pfn, LARGE, LARGE_PAGES, read_write))
    });
    let frames = Verdict::every(frames, &[Error::BadArgument]);
    let own = SELF.into_word();
    let places = [1, 8, 0xfff, 0x1000, 0x10_0000, SIZE - 0x1000, SIZE - 1]
        .map(|odd| raw("map", [own, own, first.into_word(), LARGE.get() + odd, LARGE_RUN, 1]));
    let places = Verdict::every(places.into_iter(), &[Error::BadAddress]);
    attacker.frames.give(first, LARGE_PAGES)?;
    Ok(if frames.is_repelled() { places } else { frames })
}

fn kernel_addresses(attacker: &mut Attacker) -> Attempt {
    let first = run_of(attacker)?.into_word();
    let own = SELF.into_word();
    let places = [
        0x8000_0000_0000,
        0xffff_8000_0000_0000,
        0xffff_ffff_8020_0000,
        0xffff_ffff_ffe0_0000,
        1 << 48 | 0x8000_0000,
        u64::MAX,
    ];
    let tries = places.into_iter().flat_map(|at| {
        [
            raw("map", [own, own, first, at, LARGE_RUN, 1]),
            raw("unmap", [own, at, LARGE_RUN, 0, 0, 0]),
        ]
    });
    let verdict = Verdict::every(tries, &[Error::BadAddress]);
    attacker.frames.give(Pfn(first as u32), LARGE_PAGES)?;
    Ok(verdict)
}

/// A large page there would have the page below the hole, from which a `syscall` would
/// return to an address that is none.
fn last_page(attacker: &mut Attacker) -> Attempt {
    let last = VirtAddr::new(0x7fff_ffe0_0000).ok_or(Error::BadAddress)?;
    attacker.frames.cover_large(SELF, last)?;
    let first = attacker.frames.take_large(SELF)?;
    let tries = [Protection::Read, Protection::ReadWrite, Protection::ReadExecute]
        .map(|protection| sys::map(SELF, SELF, first, last, LARGE_PAGES, protection));
    let verdict = Verdict::every(tries.into_iter(), &[Error::BadAddress]);
    if verdict.is_repelled() {
        attacker.frames.give(first, LARGE_PAGES)?;
    }
    Ok(verdict)
}

/// Over the program's text, its U-area, its windows, and a table that is empty.
fn over_tables(attacker: &mut Attacker) -> Attempt {
    let window = attacker.window()?;
    let first = run_of(attacker)?;
    let table = attacker.frames.take(SELF, 1)?;
    let level = Level::new(1).ok_or(Error::BadArgument)?;
    sys::table_install(SELF, LARGE, level, table)?;
    let places = [0x40_0000, U_AREA, window.get(), LARGE.get()];
    let tries: Vec<_> = places
        .into_iter()
        .filter_map(|at| VirtAddr::new(at / SIZE * SIZE))
        .flat_map(|at| {
            BOTH.map(|protection| sys::map(SELF, SELF, first, at, LARGE_PAGES, protection))
        })
        .collect();
    sys::table_remove(SELF, LARGE, level)?;
    attacker.frames.give(table, 1)?;
    attacker.frames.give(first, LARGE_PAGES)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::Occupied]))
}

fn writable_executable(attacker: &mut Attacker) -> Attempt {
    let first = run_of(attacker)?;
    let own = SELF.into_word();
    let tries = [3, 4, 7, 1 << 7, 1 << 8, 1 << 63, u64::MAX]
        .map(|bits| raw("map", [own, own, first.into_word(), LARGE.get(), LARGE_RUN, bits]));
    attacker.frames.give(first, LARGE_PAGES)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::BadArgument]))
}

fn foreign_space(attacker: &mut Attacker) -> Attempt {
    let first = run_of(attacker)?;
    let child = attacker.maker.bare()?;
    let weak = Handle::from_word(sys::cap_derive(child.env, Rights::CONTROL, 0, 0)?)?;
    let tries = [
        sys::map(weak, SELF, first, LARGE, LARGE_PAGES, Protection::Read),
        sys::map(SELF, weak, first, LARGE, LARGE_PAGES, Protection::Read),
        sys::unmap(weak, LARGE, LARGE_PAGES),
    ];
    sys::cap_drop(weak)?;
    child.destroy()?;
    attacker.frames.give(first, LARGE_PAGES)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
}

fn donate_inside(attacker: &mut Attacker) -> Attempt {
    let frames = attacker.frames;
    let first = mapped(attacker)?;
    let far = VirtAddr::new(0x5000_0000_0000).ok_or(Error::BadAddress)?;
    let level = Level::new(3).ok_or(Error::BadArgument)?;
    let spare = frames.take(SELF, 3)?;
    let mut tries = Vec::new();
    for inside in [first, first.plus(1), first.plus(256), first.plus(511)] {
        tries.extend([
            sys::frames_free(inside, 1),
            sys::cap_grow(inside),
            sys::table_install(SELF, far, level, inside),
            sys::env_create(inside, spare, spare.plus(1), spare.plus(2)),
            sys::env_create(spare, inside, spare.plus(1), spare.plus(2)),
            sys::env_create(spare, spare.plus(1), inside, spare.plus(2)),
            sys::env_create(spare, spare.plus(1), spare.plus(2), inside),
        ]);
    }
    frames.give(spare, 3)?;
    unmap_and_give(attacker, first)?;
    Ok(Verdict::every(tries.into_iter(), &[Error::InUse]))
}

fn tables_inside(attacker: &mut Attacker) -> Attempt {
    let first = mapped(attacker)?;
    let table = attacker.frames.take(SELF, 1)?;
    let level = |level| Level::new(level).ok_or(Error::BadArgument);
    let inside = LARGE.plus(300).ok_or(Error::BadAddress)?;
    let mut tries = Vec::new();
    for at in [LARGE, inside] {
        tries.extend([
            sys::table_install(SELF, at, level(1)?, table),
            sys::table_install(SELF, at, level(2)?, table),
            sys::table_remove(SELF, at, level(1)?),
            sys::table_remove(SELF, at, level(2)?),
            sys::map(SELF, SELF, table, at, 1, Protection::ReadWrite),
        ]);
    }
    attacker.frames.give(table, 1)?;
    unmap_and_give(attacker, first)?;
    let wanted = [Error::Occupied, Error::Vacant, Error::InUse, Error::NoTable];
    Ok(Verdict::every(tries.into_iter(), &wanted))
}

fn confused(attacker: &mut Attacker) -> Attempt {
    let window = attacker.window()?;
    let page = attacker.frames.page(window)?;
    let first = mapped(attacker)?;
    let inside = LARGE.plus(300).ok_or(Error::BadAddress)?;
    write(inside, 0, 300);
    let own = SELF.into_word();
    let small = [window.get() / SIZE * SIZE, U_AREA, 0x40_0000, 0x5000_0000_0000]
        .map(|at| raw("unmap", [own, at, LARGE_RUN, 0, 0, 0]));
    // Not there as small ones: skipped, all of them.
    for start in (0..LARGE_PAGES).step_by(64) {
        sys::unmap(SELF, LARGE.plus(start).ok_or(Error::BadAddress)?, 64)?;
    }
    let unharmed = read(inside, 0) == 300;
    unmap_and_give(attacker, first)?;
    attacker.frames.drop_page(window, page)?;
    let verdict = Verdict::every(small.into_iter(), &[Error::Vacant]);
    Ok(if unharmed { verdict } else { Verdict::breach("a part is gone") })
}

extern "C" fn writes_on(at: u64) -> ! {
    let Some(page) = VirtAddr::new(at) else { exit(1) };
    write(page, 0, 1);
    if sys::unmap(SELF, LARGE, LARGE_PAGES).is_err() {
        exit(2);
    }
    write(page, 0, 2);
    exit(3)
}

fn stale(attacker: &mut Attacker) -> Attempt {
    let first = mapped(attacker)?;
    let inside = LARGE.plus(411).ok_or(Error::BadAddress)?;
    let show = |child: &selftest::child::Child<'_>| {
        attacker.frames.cover_large(child.env, LARGE)?;
        sys::map(child.env, SELF, first, LARGE, LARGE_PAGES, Protection::ReadWrite)?;
        Ok(inside.get())
    };
    let verdict = attacker.prepared_victim(show, writes_on, &[14])?;
    let word = read(inside, 0);
    unmap_and_give(attacker, first)?;
    Ok(if word == 1 { verdict } else { Verdict::breach(alloc::format!("the word is {word}")) })
}

fn destroy_mapped(attacker: &mut Attacker) -> Attempt {
    attacker.frames.cover_large(SELF, LARGE)?;
    let before = attacker.frames.free();
    let child = attacker.maker.bare()?;
    let first = attacker.frames.take_large(child.env)?;
    sys::map(SELF, child.env, first, LARGE, LARGE_PAGES, Protection::ReadWrite)?;
    let verdict = Verdict::refused(until_done(|| sys::env_destroy(child.env)), Error::InUse);
    let theirs = Some((FrameKind::Memory, child.id));
    let held = (0..LARGE_PAGES).all(|i| attacker.frames.look(first.plus(i)) == theirs);
    sys::unmap(SELF, LARGE, LARGE_PAGES)?;
    child.destroy()?;
    let back = attacker.frames.free() == before;
    Ok(if held && back { verdict } else { Verdict::breach("no, but frames are free and mapped") })
}
