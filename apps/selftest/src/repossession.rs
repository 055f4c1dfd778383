//! Visible revocation: an environment that is asked for frames can give those it likes least;
//! one that does not listen loses some, sees which, and goes on.

use core::mem::offset_of;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use exo_abi::boot::{SELF, STACK_TOP};
use exo_abi::{
    EXPENDABLE, EnvState, Error, FrameKind, Pages, Pfn, Protection, UArea, Upcall, VirtAddr,
};
use libos::revocation::Demand;
use libos::sys;
use libos::time::timestamp;
use selftest::check::{Outcome, same};
use selftest::child::{Child, Code, SHARED, exit};
use selftest::frames::{read, write};
use selftest::server::{area, events};

use crate::bench::{Bench, Check, PATIENCE};

pub(crate) const CHECKS: &[Check] = &[
    ("one that is told gives what it likes and loses nothing", |b| gives(b, true)),
    ("one that looks for itself can give, too", |b| gives(b, false)),
    ("one that is deaf loses the expendable first and goes on", deaf),
    ("touching what was taken is a fault", |b| touches(b, false)),
    ("touching what was taken can be survived", |b| touches(b, true)),
    ("a request for nothing ends a request", ends_request),
];

/// Where a child has the frames that this is about.
const DATA: VirtAddr = match VirtAddr::new(0x2110_0000) {
    Some(at) => at,
    None => panic!("a page of user space"),
};
const FRAMES: Pages = 8;
/// Not zero, and what all of them hold.
const PATTERN: u64 = 0x5ec2_e7da_7a5e_c2e7;

/// Words of the shared page: the child's frames and how many it is to give; the maker's
/// orders; then what the child reports.
const FIRST: usize = 0;
const GIVE: usize = 8;
const ORDER: usize = 16;
const READY: usize = 24;
const ALIVE: usize = 32;
const ASKED: usize = 40;
const ANSWERED: usize = 80;
const COUNT: usize = 88;
const TAKEN: usize = 96;

/// End of the stack that upcalls of children run on, as if called.
const CHILD_STACK: u64 = STACK_TOP - 0x2000 - 8;

fn fill() {
    for offset in 0..FRAMES {
        match DATA.plus(offset) {
            Some(page) => write(page, 0, PATTERN),
            None => exit(1),
        }
    }
}

fn listen(wanted: u32, entry: extern "C" fn(u64) -> !) {
    let upcall = &area().upcall;
    upcall.stack.store(CHILD_STACK, Relaxed);
    upcall.wanted.store(wanted, Relaxed);
    upcall.entry.store(entry as *const () as u64, Relaxed);
}

/// Notes what is wanted, and gives back as much as the maker allows.
fn answer() {
    let words = &area().revocation;
    write(SHARED, ASKED, words.frames.load(Relaxed).into());
    write(SHARED, ASKED + 8, words.slots.load(Relaxed).into());
    write(SHARED, ASKED + 16, words.deadline.load(Relaxed));
    let (first, count) = (Pfn(read(SHARED, FIRST) as u32), read(SHARED, GIVE) as Pages);
    if sys::unmap(SELF, DATA, count).is_err() || sys::frames_free(first, count).is_err() {
        exit(2);
    }
    write(SHARED, ANSWERED, 1);
}

fn live() -> ! {
    loop {
        write(SHARED, ALIVE, read(SHARED, ALIVE) + 1);
        let _ = sys::slice_yield();
    }
}

extern "C" fn told(reason: u64) -> ! {
    if reason != Upcall::Revoke as u64 {
        exit(3);
    }
    answer();
    live()
}

/// Asleep when it is asked.
extern "C" fn is_told(_: u64) -> ! {
    fill();
    listen(Upcall::Revoke as u32, told);
    write(SHARED, READY, 1);
    loop {
        let _ = sys::wait(events(), 0);
    }
}

/// Awake, and not told.
extern "C" fn looks(_: u64) -> ! {
    fill();
    write(SHARED, READY, 1);
    while area().revocation.frames.load(Relaxed) == 0 {
        let _ = sys::slice_yield();
    }
    answer();
    live()
}

/// Names two of its frames expendable, counts, and reports what was taken;
/// touches the page that `ORDER` says.
extern "C" fn ignores(_: u64) -> ! {
    fill();
    let words = &area().revocation;
    let first = read(SHARED, FIRST) as u32;
    // None, and one that is not its own, are passed over.
    for (place, frame) in words.expendable.iter().zip([first + 5, 0, 8, first + 2]) {
        place.store(frame, Relaxed);
    }
    write(SHARED, READY, 1);
    loop {
        write(SHARED, ALIVE, read(SHARED, ALIVE) + 1);
        write(SHARED, COUNT, words.count.load(Acquire));
        for (index, taken) in words.repossessed.iter().take(4).enumerate() {
            write(SHARED, TAKEN + 8 * index, taken.load(Relaxed).into());
        }
        if let Some(page) = VirtAddr::new(read(SHARED, ORDER)).filter(|page| page.get() != 0) {
            write(page, 0, 1);
            exit(4);
        }
        let _ = sys::slice_yield();
    }
}

/// Said to be at an exception: notes where, and lives.
extern "C" fn excepted(_: u64) -> ! {
    write(SHARED, ASKED, area().upcall.address.load(Relaxed));
    write(SHARED, ANSWERED, 1);
    live()
}

extern "C" fn ignores_and_survives(_: u64) -> ! {
    listen(0, excepted);
    ignores(0)
}

/// A child with frames of its own at [`DATA`], and what it shares with the maker.
struct Victim<'a> {
    child: Child<'a>,
    window: VirtAddr,
    page: Pfn,
    first: Pfn,
    /// Its U-area, where the maker reads.
    area: VirtAddr,
}

impl<'a> Victim<'a> {
    fn new(bench: &'a Bench, code: Code, gives: Pages) -> Result<Self, Error> {
        let window = bench.window();
        let page = bench.frames.page(window)?;
        let child = bench.maker.child()?;
        child.share(page)?;
        bench.frames.cover(child.env, DATA)?;
        // Last, so that they have the lowest numbers.
        let first = bench.frames.take(child.env, FRAMES)?;
        let space = (child.env, child.env);
        bench.frames.map(space, first, DATA, FRAMES, Protection::ReadWrite)?;
        write(window, FIRST, first.0.into());
        write(window, GIVE, gives.into());
        child.start(code, 0)?;
        let area = bench.window();
        sys::map(SELF, child.env, child.parts.plus(3), area, 1, Protection::Read)?;
        let victim = Self { child, window, page, first, area };
        victim.until(READY, 0)?;
        Ok(victim)
    }

    /// Waits until a word of the shared page is more than `past`.
    fn until(&self, word: usize, past: u64) -> Result<(), Error> {
        let end = timestamp() + PATIENCE;
        while read(self.window, word) <= past {
            if timestamp() > end {
                return Err(Error::Again);
            }
            sys::slice_yield()?;
        }
        Ok(())
    }

    /// It goes round its loop, all of it.
    fn lives(&self) -> Outcome {
        self.until(ALIVE, read(self.window, ALIVE) + 2)?;
        same("state", self.child.status()?.state, EnvState::Ready as u32)
    }

    /// Asks it for frames, and for `slots` slots.
    fn ask(
        &self,
        bench: &Bench,
        frames: Pages,
        slots: u32,
        deadline: u64,
    ) -> Result<Demand, Error> {
        Demand::new(bench.frames.table, self.child.id, frames, deadline).ask(self.child.env, slots)
    }

    /// Takes what is due.
    fn enforce(&self, bench: &Bench, demand: &Demand) -> Result<Pfn, Error> {
        let list = offset_of!(UArea, revocation.expendable);
        let expendable = (0..EXPENDABLE / 2).flat_map(|pair| {
            let two = read(self.area, list + 8 * pair);
            [Pfn(two as u32), Pfn((two >> 32) as u32)]
        });
        demand.enforce(self.child.env, bench.frames.table, expendable)
    }

    fn close(self, bench: &Bench) -> Outcome {
        sys::unmap(SELF, self.area, 1)?;
        self.child.destroy()?;
        Ok(bench.frames.drop_page(self.window, self.page)?)
    }
}

fn gives(bench: &mut Bench, is_upcall: bool) -> Outcome {
    let code: Code = if is_upcall { is_told } else { looks };
    let victim = Victim::new(bench, code, 3)?;
    let deadline = timestamp() + PATIENCE;
    let demand = victim.ask(bench, 3, 2, deadline)?;
    victim.until(ANSWERED, 0)?;
    let asked: [u64; 3] = core::array::from_fn(|index| read(victim.window, ASKED + 8 * index));
    same("frames, slots, deadline", asked, [3, 2, deadline])?;
    // Nothing is owed even when the time is over.
    same("owed", demand.owed(bench.frames.table), 0)?;
    same("due", demand.due(bench.frames.table, [], u64::MAX), Err(Error::WrongState))?;
    for offset in 0..FRAMES {
        let kind = if offset < 3 { FrameKind::Free } else { FrameKind::Memory };
        same("kind", bench.kind(victim.first.plus(offset)), Some(kind))?;
    }
    victim.lives()?;
    victim.close(bench)
}

fn deaf(bench: &mut Bench) -> Outcome {
    let victim = Victim::new(bench, ignores, 0)?;
    let env = victim.child.env;
    // Another environment that maps one of them loses it, too.
    let glass = bench.window();
    bench.frames.map((SELF, env), victim.first.plus(2), glass, 1, Protection::Read)?;
    same("its memory", read(glass, 0), PATTERN)?;
    let deadline = timestamp() + bench.environment.system.tsc_hz.load(Relaxed) / 20;
    let demand = victim.ask(bench, 3, 0, deadline)?;
    let early = demand.due(bench.frames.table, [], deadline - 1);
    same("before the deadline", early, Err(Error::WrongState))?;
    while timestamp() < deadline {
        sys::slice_yield()?;
    }
    let any = victim.first;
    for wanted in [victim.first.plus(5), victim.first.plus(2), any] {
        same("taken", victim.enforce(bench, &demand)?, wanted)?;
        same("kind", bench.kind(wanted), Some(FrameKind::Free))?;
        victim.lives()?;
    }
    same("more", victim.enforce(bench, &demand), Err(Error::WrongState))?;
    same("the other mapping", bench.maker.tables.page(glass)?, None)?;
    victim.lives()?;
    let shown: [u64; 5] = core::array::from_fn(|index| read(victim.window, COUNT + 8 * index));
    let taken = [victim.first.plus(5), victim.first.plus(2), any].map(|pfn| u64::from(pfn.0));
    same("count and repossession vector", shown, [3, taken[0], taken[1], taken[2], 0])?;
    // Free they are: they can be had, and hold nothing.
    for offset in [5, 2] {
        let frame = victim.first.plus(offset);
        sys::frames_take(bench.frames.capability, SELF, frame, 1)?;
        sys::map(SELF, SELF, frame, glass, 1, Protection::Read)?;
        same("contents", read(glass, 0), 0)?;
        bench.frames.drop_page(glass, frame)?;
    }
    victim.close(bench)
}

fn touches(bench: &mut Bench, survives: bool) -> Outcome {
    let code: Code = if survives { ignores_and_survives } else { ignores };
    let victim = Victim::new(bench, code, 0)?;
    let demand = victim.ask(bench, 1, 0, 0)?;
    same("taken", victim.enforce(bench, &demand)?, victim.first.plus(5))?;
    victim.lives()?;
    let page = DATA.plus(5).ok_or(Error::BadAddress)?;
    write(victim.window, ORDER, page.get());
    if survives {
        victim.until(ANSWERED, 0)?;
        same("address", read(victim.window, ASKED), page.get())?;
        victim.lives()?;
    } else {
        let end = victim.child.wait(PATIENCE)?;
        let got = end.map(|end| (end.state, end.vector, end.code, end.address));
        // Write, user, not present.
        same("end", got, Some((EnvState::Faulted as u32, 14, 6, page.get())))?;
    }
    victim.close(bench)
}

fn ends_request(bench: &mut Bench) -> Outcome {
    let victim = Victim::new(bench, ignores, 0)?;
    victim.ask(bench, 5, 5, 0)?;
    let nothing = victim.ask(bench, 0, 0, 0)?;
    let wanted = read(victim.area, offset_of!(UArea, revocation));
    same("frames and slots wanted", wanted, 0)?;
    same("due", victim.enforce(bench, &nothing), Err(Error::WrongState))?;
    let all = (0..FRAMES).map(|offset| bench.kind(victim.first.plus(offset)));
    same("kinds", all.filter(|kind| *kind == Some(FrameKind::Memory)).count(), FRAMES as usize)?;
    victim.lives()?;
    victim.close(bench)
}
