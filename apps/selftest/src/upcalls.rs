//! Upcalls: exceptions, slice ends and events come to the application, and going back
//! from them loses nothing.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::{SELF, STACK_TOP};
use exo_abi::{EnvState, Error, Protection, Upcall, VirtAddr};
use libos::sys;
use libos::time::timestamp;
use libos::upcall::{self, Frame, Handler, Reason};
use selftest::check::{Outcome, holds, same};
use selftest::child::{Code, SHARED, exit};
use selftest::frames::{read, write};
use selftest::image::RCX;
use selftest::server::{area, events};
use selftest::{load_registers, pop_preserved, push_preserved, store_flags, store_registers};

use crate::bench::{Bench, Check, PATIENCE};
use crate::preemption::{churn, spin, with_vectors};
use crate::registers::{FLAGS, Image};

pub(crate) const CHECKS: &[Check] = &[
    ("exceptions come with the state they left", exceptions),
    ("going back from an exception is no crossing", no_crossing),
    ("a pager can be written", pager),
    ("a masked exception ends the environment", masked),
    ("an entry or stack that is none ends the environment", garbage),
    ("the end of a slice is told, and time to yield given", slice_end),
    ("the beginning of a slice is told", slice_begin),
    ("registers survive thousands of slice ends", hammer),
    ("what is taken beyond the grace is taken off later", overrun),
    ("one that yields in the grace pays nothing, even alone", polite_alone),
    ("an event is told to one that does not sleep", event),
];

#[repr(align(16))]
struct Stack(UnsafeCell<[u8; 16384]>);

// SAFETY: only the upcall entry's stack pointer refers to it.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; 16384]));

/// What the last upcall was about: vector, error code, address; `rip`, `rsp`, flags and
/// the other fifteen registers in the order of [`Image`].
static SEEN: [AtomicU64; 21] = [const { AtomicU64::new(0) }; 21];
/// Exceptions so far, and how far to go on behind the instruction.
static EXCEPTIONS: AtomicU64 = AtomicU64::new(0);
static SKIP: AtomicU64 = AtomicU64::new(0);
/// Other upcalls so far.
static ENDS: AtomicU64 = AtomicU64::new(0);
static BEGINS: AtomicU64 = AtomicU64::new(0);
static EVENTS: AtomicU64 = AtomicU64::new(0);

fn add(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

fn general(frame: &Frame) -> [u64; 15] {
    let Frame { rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, .. } =
        *frame;
    [rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15]
}

fn notes(reason: Reason, frame: &mut Frame) {
    match reason {
        Reason::Exception(exception) => {
            let head = [exception.vector, exception.code, exception.address];
            let words = head.into_iter().chain([frame.rip, frame.rsp, frame.flags]);
            for (place, word) in SEEN.iter().zip(words.chain(general(frame))) {
                place.store(word, Relaxed);
            }
            add(&EXCEPTIONS);
            frame.rip += SKIP.load(Relaxed);
        }
        Reason::SliceEnd => {
            add(&ENDS);
            let _ = sys::slice_yield();
        }
        Reason::SliceBegin => add(&BEGINS),
        Reason::Event => add(&EVENTS),
        #[allow(unreachable_patterns, reason = "there may be more reasons some day")]
        _ => {}
    }
}

/// Runs `body` with upcalls to `handler`.
fn with_upcalls(wanted: &[Upcall], handler: Handler, body: impl FnOnce() -> Outcome) -> Outcome {
    let top = STACK.0.get() as u64 + size_of::<Stack>() as u64;
    // SAFETY: the stack is used by nothing else, and there for ever.
    unsafe { upcall::install(area(), top, wanted, handler) };
    let outcome = body();
    upcall::remove(area());
    outcome
}

/// Defines a routine that loads general registers and flags from `image`, executes one
/// instruction, and stores all registers and flags back to `image`.
macro_rules! one_instruction {
    ($name:ident, $instruction:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name(image: *mut Image) {
            naked_asm!(
                push_preserved!(),
                "push rdi",
                load_registers!(),
                $instruction,
                store_registers!(),
                store_flags!(),
                "pop rdi",
                pop_preserved!(),
                "ret",
            )
        }
    };
}

one_instruction!(invalid, "ud2");
one_instruction!(breakpoint, "int3");
one_instruction!(divides, "div ecx");
one_instruction!(halts, "hlt");
// mov rax, [0x1000] and mov [0x1000], rax, of a length that is known.
one_instruction!(loads, ".byte 0x48, 0x8b, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00");
one_instruction!(stores, ".byte 0x48, 0x89, 0x04, 0x25, 0x00, 0x10, 0x00, 0x00");

/// Routine, length of its instruction as far as it is to be skipped, and what comes:
/// vector, error code, address.
type Fault = (unsafe extern "C" fn(*mut Image), u64, [u64; 3]);

/// An `int` through a gate that ring 3 may not use is a protection fault. The kernel shows no error
/// codes but those of page faults.
const BREAKPOINT: [u64; 3] = [13, 0, 0];

const FAULTS: [Fault; 6] = [
    (invalid, 2, [6, 0, 0]),
    (breakpoint, 1, BREAKPOINT),
    (divides, 2, [0, 0, 0]),
    (halts, 1, [13, 0, 0]),
    (loads, 8, [14, 4, 0x1000]),
    (stores, 8, [14, 6, 0x1000]),
];

/// Resume flag: the processor's own (SDM vol. 3, 2.3).
const RESUME: u64 = 1 << 16;

fn cause((routine, skip, what): Fault) -> Outcome {
    SKIP.store(skip, Relaxed);
    let mut image = Image::pattern();
    image.general[RCX] = 0;
    let wanted = image;
    let words = image.vectors;
    let before_count = EXCEPTIONS.load(Relaxed);
    // SAFETY: the routine keeps the convention, once its exception was served.
    let (before, after) = unsafe {
        let image = (&raw mut image).expose_provenance() as u64;
        with_vectors(&words, routine as *const (), image)
    };
    let image = core::hint::black_box(image);
    same("exceptions", EXCEPTIONS.load(Relaxed), before_count + 1)?;
    let seen: [u64; 21] = core::array::from_fn(|index| SEEN[index].load(Relaxed));
    same("vector, code and address", seen[..3].to_vec(), what.to_vec())?;
    let at = seen[3].wrapping_sub(routine as *const () as u64);
    holds("rip is not in the routine", at < 256)?;
    holds("rsp is not on the stack", (STACK_TOP - (1 << 24)..STACK_TOP).contains(&seen[4]))?;
    same("flags at the exception", seen[5] & !RESUME, FLAGS | 0x202)?;
    same("registers at the exception", seen[6..].to_vec(), wanted.general.to_vec())?;
    same("registers afterwards", image.general, wanted.general)?;
    same("flags afterwards", image.flags, wanted.flags | 0x202)?;
    same("vector state afterwards", after, before)
}

fn exceptions(_: &mut Bench) -> Outcome {
    with_upcalls(&[], notes, || {
        for fault in FAULTS {
            for _ in 0..3 {
                cause(fault)?;
            }
        }
        Ok(())
    })
}

fn no_crossing(bench: &mut Bench) -> Outcome {
    let system = bench.environment.system;
    with_upcalls(&[], notes, || {
        let mut tries = 0;
        loop {
            let counts = || {
                let given_back = system.exceptions.iter().map(|count| count.load(Relaxed)).sum();
                [system.calls.load(Relaxed), system.traps.load(Relaxed), given_back]
            };
            let [calls, traps, given_back]: [u64; 3] = counts();
            cause(FAULTS[0])?;
            if counts() == [calls, traps, given_back + 1] {
                return Ok(());
            }
            // Another environment may have run in between, and does on another processor.
            if system.cores.load(Relaxed) > 1 {
                return Ok(());
            }
            tries += 1;
            holds("never one exception and nothing else", tries < 100)?;
        }
    })
}

/// First page the pager has charge of, and the frame it uses for it.
static PAGED: AtomicU64 = AtomicU64::new(0);
static BACKING: AtomicU64 = AtomicU64::new(0);

fn pages(reason: Reason, frame: &mut Frame) {
    let Reason::Exception(exception) = reason else { return };
    let page = VirtAddr::new(exception.address & !0xfff);
    let Some(page) = page.filter(|page| page.get() == PAGED.load(Relaxed)) else {
        exit(frame.rip);
    };
    add(&EXCEPTIONS);
    let backing = exo_abi::Pfn(BACKING.load(Relaxed) as u32);
    if sys::map(SELF, SELF, backing, page, 1, Protection::ReadWrite).is_err() {
        exit(exception.address);
    }
}

fn pager(bench: &mut Bench) -> Outcome {
    let page = bench.window();
    let frame = bench.frames.page(page)?;
    PAGED.store(page.get(), Relaxed);
    BACKING.store(frame.0.into(), Relaxed);
    let before = EXCEPTIONS.load(Relaxed);
    with_upcalls(&[], pages, || {
        for round in 1..=100 {
            sys::unmap(SELF, page, 1)?;
            write(page, 64, read(page, 64) + 1);
            same("word", read(page, 64), round)?;
        }
        Ok(())
    })?;
    same("faults", EXCEPTIONS.load(Relaxed), before + 100)?;
    Ok(bench.frames.drop_page(page, frame)?)
}

/// End of the stack that upcalls of children run on, as if called.
const CHILD_STACK: u64 = STACK_TOP - 0x2000 - 8;

/// Where an upcall of a child must not come.
extern "C" fn told_wrongly(reason: u64) -> ! {
    exit(reason)
}

extern "C" fn faults_masked(_: u64) -> ! {
    let upcall = &area().upcall;
    upcall.stack.store(CHILD_STACK, Relaxed);
    upcall.entry.store(told_wrongly as *const () as u64, Relaxed);
    upcall.masked.store(1, Relaxed);
    // SAFETY: ends this environment, which is meant.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

fn masked(bench: &mut Bench) -> Outcome {
    let code: Code = faults_masked;
    let status = bench.maker.try_out(code, 0, PATIENCE)?;
    let got = status.map(|status| (status.state, status.vector));
    same("status", got, Some((EnvState::Faulted as u32, 6)))
}

/// Faults with the entry and stack that are on the shared page.
extern "C" fn faults_astray(_: u64) -> ! {
    let upcall = &area().upcall;
    upcall.stack.store(read(SHARED, 8), Relaxed);
    upcall.entry.store(read(SHARED, 0), Relaxed);
    // SAFETY: ends this environment, which is meant.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

fn garbage(bench: &mut Bench) -> Outcome {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let good = told_wrongly as *const () as u64;
    let code: Code = faults_astray;
    // An address that is not canonical the kernel sees through; the others fault again.
    for (entry, stack, vector) in [
        (0, CHILD_STACK, 6),
        (1 << 47, CHILD_STACK, 6),
        (0xffff_8000_0000_0000, CHILD_STACK, 6),
        (0xffff_ffff_8020_0000, CHILD_STACK, 6),
        (u64::MAX, CHILD_STACK, 6),
        (8, CHILD_STACK, 14),
        (0x7fff_ffff_f000, CHILD_STACK, 14),
        (0x7fff_ffff_ffff, CHILD_STACK, 14),
        (SHARED.get(), CHILD_STACK, 14),
        (good, 0, 14),
        (good, 0x1001, 14),
        (good, 0x7fff_ffff_f000, 14),
        (good, 0x40_0800, 14),
        (good, 0xffff_ffff_8020_0000, 14),
        (good, u64::MAX, 14),
        (good, 1 << 47, 14),
    ] {
        write(window, 0, entry);
        write(window, 8, stack);
        let child = bench.maker.child()?;
        child.share(page)?;
        child.start(code, 0)?;
        let status = child.wait(PATIENCE)?.map(|status| (status.state, status.vector));
        same("status", status, Some((EnvState::Faulted as u32, vector)))?;
        child.destroy()?;
    }
    Ok(bench.frames.drop_page(window, page)?)
}

/// Computes until `enough`, with a rival beside it.
fn beside_a_rival(bench: &Bench, enough: impl Fn() -> bool) -> Outcome {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let rival = bench.maker.child()?;
    rival.share(page)?;
    let code: Code = churn;
    rival.start(code, SHARED.get())?;
    let words = Image::pattern().vectors;
    let end = timestamp() + PATIENCE;
    while !enough() || read(window, 0) == 0 {
        let mut image = Image::pattern();
        image.general[RCX] = 20_000;
        let mut wanted = image;
        wanted.general[RCX] = 0;
        wanted.flags |= 0x202;
        // SAFETY: the routine keeps the convention, and wants an image.
        let (before, after) = unsafe {
            let image = (&raw mut image).expose_provenance() as u64;
            with_vectors(&words, spin as *const (), image)
        };
        let image = core::hint::black_box(image);
        same("general registers", image.general, wanted.general)?;
        same("flags", image.flags, wanted.flags)?;
        same("vector state", before, after)?;
        holds("too few upcalls", timestamp() < end)?;
    }
    rival.destroy()?;
    Ok(bench.frames.drop_page(window, page)?)
}

fn slice_end(bench: &mut Bench) -> Outcome {
    let before = ENDS.load(Relaxed);
    with_upcalls(&[Upcall::SliceEnd], notes, || {
        beside_a_rival(bench, || ENDS.load(Relaxed) >= before + 50)
    })
}

fn slice_begin(bench: &mut Bench) -> Outcome {
    let before = BEGINS.load(Relaxed);
    with_upcalls(&[Upcall::SliceBegin], notes, || {
        beside_a_rival(bench, || BEGINS.load(Relaxed) >= before + 50)
    })
}

/// Slice ends to live through.
const HAMMER: u64 = 2000;

fn hammer(bench: &mut Bench) -> Outcome {
    let before = ENDS.load(Relaxed);
    with_upcalls(&[Upcall::SliceEnd, Upcall::SliceBegin, Upcall::Event], notes, || {
        beside_a_rival(bench, || ENDS.load(Relaxed) >= before + HAMMER)
    })
}

/// Turns of a child that are counted, of which it may lose [`LOST`] to the clock's grain. Few:
/// where instructions are the clock, each takes as long as a million of them.
const TURNS: u64 = 20;
const LOST: u64 = 5;
/// How often they are counted until so many are there.
const COUNTS: usize = 12;

/// Words of the page shared with the one that overruns: how often it was told, and for
/// how many ticks it goes on then; zero: it yields.
const TOLD: usize = 0;
const GOES_ON: usize = 8;

extern "C" fn told(_: u64) -> ! {
    write(SHARED, TOLD, read(SHARED, TOLD) + 1);
    match read(SHARED, GOES_ON) {
        0 => drop(sys::slice_yield()),
        ticks => {
            let end = timestamp() + ticks;
            while timestamp() < end {
                core::hint::spin_loop();
            }
        }
    }
    area().upcall.masked.store(0, Relaxed);
    loop {
        core::hint::spin_loop();
    }
}

extern "C" fn listens(_: u64) -> ! {
    let upcall = &area().upcall;
    upcall.stack.store(CHILD_STACK, Relaxed);
    upcall.wanted.store(Upcall::SliceEnd as u32, Relaxed);
    upcall.entry.store(told as *const () as u64, Relaxed);
    loop {
        core::hint::spin_loop();
    }
}

/// How many slots the program has: turns of its own in a turn of an environment with one.
fn own_slots(bench: &Bench) -> usize {
    let owners = &bench.environment.system.slots.owners;
    owners.iter().filter(|owner| owner.load(Relaxed) == bench.environment.id.0).count()
}

/// The turns that a told child has in [`TURNS`] turns of this program's `own` slots.
fn turns_of(window: VirtAddr, own: usize) -> Result<u64, Error> {
    let before = read(window, TOLD);
    for _ in 0..TURNS as usize * own {
        sys::slice_yield()?;
    }
    Ok(read(window, TOLD) - before)
}

/// The same of a child that yields in time. Time passes in a virtual machine while its
/// processor does not run, so that even such a child is late now and then. One that the kernel
/// makes pay for nothing pays in every count.
fn loses_few(window: VirtAddr, own: usize) -> Result<bool, Error> {
    for _ in 0..COUNTS {
        if turns_of(window, own)? >= TURNS - LOST {
            return Ok(true);
        }
    }
    Ok(false)
}

fn overrun(bench: &mut Bench) -> Outcome {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let system = bench.environment.system;
    let millisecond = system.tsc_hz.load(Relaxed) / 1000;
    let own = own_slots(bench);
    for goes_on in [0, millisecond] {
        write(window, GOES_ON, goes_on);
        let child = bench.maker.child()?;
        child.share(page)?;
        let code: Code = listens;
        child.start(code, 0)?;
        let end = timestamp() + PATIENCE;
        while read(window, TOLD) == 0 {
            sys::slice_yield()?;
            holds("never told", timestamp() < end)?;
        }
        if goes_on == 0 {
            holds("one that yields in time lost slots", loses_few(window, own)?)?;
        } else {
            let turns = turns_of(window, own)?;
            holds("one that does not yield lost none", turns * 4 <= TURNS * 3)?;
            holds("one that does not yield lost all", turns > 0)?;
        }
        child.destroy()?;
        write(window, TOLD, 0);
    }
    Ok(bench.frames.drop_page(window, page)?)
}

/// Alone, the next slice is in the same slot: its timer must not be the grace's.
fn polite_alone(bench: &mut Bench) -> Outcome {
    let window = bench.window();
    let page = bench.frames.page(window)?;
    let system = bench.environment.system;
    let own = own_slots(bench);
    let child = bench.maker.child()?;
    child.share(page)?;
    let code: Code = listens;
    child.start(code, 0)?;
    let end = timestamp() + PATIENCE;
    while read(window, TOLD) < 50 {
        let nap = timestamp() + system.tsc_hz.load(Relaxed) / 20;
        sys::wait(events(), nap)?;
        holds("never told", timestamp() < end)?;
    }
    holds("it paid for having been alone", loses_few(window, own)?)?;
    child.destroy()?;
    Ok(bench.frames.drop_page(window, page)?)
}

extern "C" fn ends(code: u64) -> ! {
    exit(code)
}

fn event(bench: &mut Bench) -> Outcome {
    let before = EVENTS.load(Relaxed);
    with_upcalls(&[Upcall::Event], notes, || {
        for round in 1..=5 {
            let child = bench.maker.child()?;
            let code: Code = ends;
            child.start(code, 0)?;
            let end = timestamp() + PATIENCE;
            while EVENTS.load(Relaxed) < before + round {
                core::hint::spin_loop();
                holds("not told", timestamp() < end)?;
            }
            same("status", child.status()?.state, EnvState::Exited as u32)?;
            child.destroy()?;
        }
        Ok(())
    })
}
