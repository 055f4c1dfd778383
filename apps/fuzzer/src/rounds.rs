//! Round after round: make a crew, let it rage, destroy it, count the frames.

use core::cell::Cell;
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{Error, EventCount, Pages, Pfn, VirtAddr, Word};
use libos::runtime::Environment;
use libos::{println, sys};
use selftest::child::Maker;
use selftest::frames::{Frames, window, write};
use selftest::random::Random;
use selftest::server::events;

use crate::crew::Yard;
use crate::place::{Board, CREW, FAULTED, FILTERS, GRANTED, KEY, LENGTHS, board_at};
use crate::slots::Slots;

/// Calls of each child in a round.
const PER_CHILD: u64 = 2500;
/// Frames to play with: two runs that can be mapped as a large page.
const FIELD: Pages = 1024;
/// Looks without progress after which a round is over: all sleep, or wait for each
/// other.
const IDLE: u32 = 12;
/// Microseconds between two looks.
const LOOK: u64 = 700;
/// Rounds between two lines on the console.
const TELL: u64 = 8;

/// What the arguments say.
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) calls: u64,
    pub(crate) silent: bool,
}

/// What came of it.
pub(crate) struct Report {
    calls: u64,
    rounds: u64,
    faulted: usize,
    lost: i64,
}

impl Report {
    /// Whether every frame came back.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, rounds, faulted, lost } = self;
        write!(f, "done, {calls} calls in {rounds} rounds, {faulted} deaths, {lost} frames lost")
    }
}

/// All that is needed for them.
pub(crate) struct Rounds {
    environment: Environment,
    maker: Maker,
    setting: Setting,
    random: Cell<Random>,
    slots: Slots,
    board: &'static Board,
    board_frame: Pfn,
    scratch: [Pfn; CREW],
    scratch_window: VirtAddr,
    window: VirtAddr,
    field: Pfn,
}

/// A page of the program's own, with a frame of it.
fn page(frames: &Frames, index: u32) -> Result<(VirtAddr, Pfn), Error> {
    let at = window(index);
    frames.cover(SELF, at)?;
    Ok((at, frames.page(at)?))
}

impl Rounds {
    pub(crate) fn new(environment: Environment, setting: Setting) -> Result<Self, Error> {
        let maker = Maker::new(&environment)?;
        let frames = maker.frames;
        let slots = Slots::new(&maker, environment.system, environment.id)?;
        let (at, board_frame) = page(&frames, 16)?;
        let board = board_at(at);
        let (scratch_window, first) = page(&frames, 17)?;
        let mut scratch = [first; CREW];
        for place in &mut scratch[1..] {
            *place = frames.take(SELF, 1)?;
        }
        let window = window(18);
        frames.cover(SELF, window)?;
        // In the middle of the grant: the library OS takes from below, children are
        // made from above.
        let middle = frames.range.first.0 + frames.range.count / 3;
        let field = Pfn(middle.next_multiple_of(512));
        let free = |pfn: u32| {
            frames.look(Pfn(pfn)).is_some_and(|(kind, _)| kind == exo_abi::FrameKind::Free)
        };
        if !frames.grants(field.plus(FIELD)) || !(field.0..field.0 + FIELD).all(free) {
            return Err(Error::NotFree);
        }
        let random = Cell::new(Random::new(setting.seed));
        board.frames[0].store(field.into_word(), Relaxed);
        board.frames[1].store(FIELD.into(), Relaxed);
        if let Some((_, extent)) = environment.start.disk {
            board.extent[0].store(extent.first.into(), Relaxed);
            board.extent[1].store(extent.sectors.into(), Relaxed);
        }
        board.table.store(frames.table.len() as u64, Relaxed);
        board.budget.store(PER_CHILD, Relaxed);
        board.speaks.store((!setting.silent).into(), Relaxed);
        let address = environment.start.address.unwrap_or([10, 0, 2, 17]);
        board.address.store(u32::from_le_bytes(address).into(), Relaxed);
        Ok(Self {
            environment,
            maker,
            setting,
            random,
            slots,
            board,
            board_frame,
            scratch,
            scratch_window,
            window,
            field,
        })
    }

    /// Runs as many rounds as it takes.
    pub(crate) fn run(self) -> Result<Report, Error> {
        let mut report = Report { calls: 0, rounds: 0, faulted: 0, lost: 0 };
        while report.calls < self.setting.calls && report.is_clean() {
            let before = self.maker.frames.free();
            let (calls, faulted) = self.round()?;
            report.lost = i64::from(before) - i64::from(self.maker.frames.free());
            report.calls += calls;
            report.faulted += faulted;
            report.rounds += 1;
            if report.rounds.is_multiple_of(TELL) {
                println!("{} calls in {} rounds", report.calls, report.rounds);
            }
        }
        self.tell_successes();
        Ok(report)
    }

    /// Prints how often each call of children succeeded.
    fn tell_successes(&self) {
        let mut line = alloc::string::String::new();
        for (entry, count) in exo_abi::SYSCALLS.iter().zip(&self.board.succeeded) {
            use fmt::Write;
            let _ = write!(line, " {} {}", entry.name, count.load(Relaxed));
        }
        let [faulted, granted] = [FAULTED, GRANTED]
            .map(|place| self.board.succeeded.get(place).map_or(0, |count| count.load(Relaxed)));
        println!("succeeded:{line}");
        println!("{faulted} exceptions outlived, {granted} capabilities came with calls");
    }

    /// One round. Returns the calls that children made, and how many faulted.
    fn round(&self) -> Result<(u64, usize), Error> {
        let mut random = self.random.get();
        self.board.seed.store(random.word(), Relaxed);
        self.board.made.iter().for_each(|made| made.store(0, Relaxed));
        self.write_filters()?;
        let yard = Yard {
            maker: &self.maker,
            board: self.board,
            board_frame: self.board_frame,
            scratch: self.scratch,
            table: Pfn(self.environment.system.frame_table.load(Relaxed)),
            field: (self.field, FIELD),
            net: self.environment.start.net,
            disk: self.environment.start.disk,
        };
        let crew = yard.crew(&mut random)?;
        let slots = self.slots.lend(&crew.0)?;
        crew.start();
        let made = || self.board.made.iter().map(|made| made.load(Relaxed)).sum::<u64>();
        let (mut seen, mut idle) = (0, 0);
        let ticks = self.environment.system.tsc_hz.load(Relaxed) / 1_000_000 * LOOK;
        while idle < IDLE && crew.ended().0 < CREW {
            let deadline = libos::time::timestamp().saturating_add(ticks);
            let _ = sys::wait(EventCount(events().0), deadline);
            if slots < 2 * CREW {
                for (env, _) in &crew.0 {
                    let _ = sys::slice_donate(*env);
                }
            }
            crew.meddle(&mut random, self.window, &self.slots);
            let now = made();
            idle = if now == seen { idle + 1 } else { 0 };
            seen = now;
        }
        let (_, faulted) = crew.ended();
        self.slots.take_back(&crew.0, None);
        crew.destroy()?;
        self.random.set(random);
        Ok((made(), faulted))
    }

    /// Puts encoded filters on every child's scratch page: what the own address may
    /// claim, and a condition on memory.
    fn write_filters(&self) -> Result<(), Error> {
        let address = self.environment.start.address.unwrap_or([10, 0, 2, 17]);
        let filters = [
            dpf::packet::udp_to(address, 9),
            dpf::packet::arp_for(address),
            dpf::packet::icmp_to(address),
            dpf::packet::udp_to(address, 10),
        ];
        for scratch in self.scratch {
            let space = (SELF, SELF);
            sys::unmap(SELF, self.scratch_window, 1)?;
            let protection = exo_abi::Protection::ReadWrite;
            self.maker.frames.map(space, scratch, self.scratch_window, 1, protection)?;
            for (index, (filter, place)) in filters.iter().zip(FILTERS).enumerate() {
                let mut wire = [0; dpf::MAX_WIRE];
                let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
                write(self.scratch_window, LENGTHS + 8 * index, length as u64);
                let key = dpf::Key::of(filter).ok_or(Error::BadFilter)?.encode();
                for (start, text) in [(place, &wire[..length]), (place + KEY, &key)] {
                    for (offset, word) in (start..).step_by(8).zip(text.as_chunks().0) {
                        write(self.scratch_window, offset, u64::from_le_bytes(*word));
                    }
                }
            }
        }
        Ok(())
    }
}
