//! Two processes that take turns on the one processor.
//!
//! The partner is a fork that loops until it is killed. They share a page; what they
//! count there shows that each turn was taken.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use ruler::{Counter, SAMPLES, WARM_UP, timestamp};

use crate::calls::map;
use crate::check;

/// A descriptor: the kernel's name of an open file.
type Fd = libc::c_int;

/// What both processes see.
#[repr(C)]
struct Shared {
    /// Turns the partner has taken.
    turns: AtomicU64,
    /// When the partner woke.
    woke: AtomicU64,
    /// Which process has its turn: 0 ours, 1 the partner.
    turn: AtomicU32,
}

pub(crate) fn measure(counter: &Counter) -> io::Result<()> {
    let page = map(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED)?;
    // SAFETY: the page is never unmapped, zeros are valid atomics, and it is aligned.
    let shared: &'static Shared = unsafe { &*page.cast_const().cast() };
    pipe(counter)?;
    pipe_send(counter, shared)?;
    futex(counter, shared)?;
    sched_yield(counter, shared)?;
    eventfd(counter, shared)
}

/// A byte there and a byte back.
fn pipe(counter: &Counter) -> io::Result<()> {
    let (there, back) = (open_pipe()?, open_pipe()?);
    let partner = Partner::start(|| {
        read(there[0], 1);
        write(back[1], 1);
    })?;
    let samples = counter.samples(SAMPLES, || {
        write(there[1], 1);
        read(back[0], 1);
        io::Result::Ok(())
    })?;
    counter.print("pipe-one-way", 2, samples);
    partner.end()
}

/// A byte to another process that sleeps, which reads it and sleeps again, while the
/// writer gives way.
fn pipe_send(counter: &Counter, shared: &'static Shared) -> io::Result<()> {
    let pipe = open_pipe()?;
    let partner = Partner::start(|| {
        read(pipe[0], 1);
        shared.turns.store(shared.turns.load(Relaxed) + 1, Relaxed);
    })?;
    turns(counter, shared, "pipe-send", || {
        write(pipe[1], 1);
        yield_now();
    })?;
    partner.end()
}

/// A word that says which process has its turn, and sleep until it is one's own.
fn futex(counter: &Counter, shared: &'static Shared) -> io::Result<()> {
    let partner = Partner::start(|| {
        await_turn(&shared.turn, 1);
        pass_turn(&shared.turn, 0);
    })?;
    let samples = counter.samples(SAMPLES, || {
        pass_turn(&shared.turn, 1);
        await_turn(&shared.turn, 0);
        io::Result::Ok(())
    })?;
    counter.print("futex", 1, samples.clone());
    counter.print("futex-one-way", 2, samples);
    partner.end()
}

fn sched_yield(counter: &Counter, shared: &'static Shared) -> io::Result<()> {
    let partner = Partner::start(|| {
        shared.turns.store(shared.turns.load(Relaxed) + 1, Relaxed);
        yield_now();
    })?;
    turns(counter, shared, "sched-yield", yield_now)?;
    partner.end()
}

/// Measures round trips in which the partner ran exactly once, and prints their line.
#[inline(always)]
fn turns(counter: &Counter, shared: &Shared, name: &str, give_way: impl Fn()) -> io::Result<()> {
    let samples = counter.turns(
        || shared.turns.load(Relaxed),
        || {
            give_way();
            io::Result::Ok(())
        },
    )?;
    counter.print(name, 1, samples);
    Ok(())
}

/// From the write that wakes a sleeper until it runs. The writer sleeps then, so that
/// the sleeper is the only one that can run.
fn eventfd(counter: &Counter, shared: &'static Shared) -> io::Result<()> {
    // SAFETY: makes descriptors; no memory is involved.
    let (there, back) = unsafe { (libc::eventfd(0, 0), libc::eventfd(0, 0)) };
    let (there, back) = (check(there)?, check(back)?);
    let partner = Partner::start(|| {
        read(there, 8);
        shared.woke.store(timestamp(), Relaxed);
        write(back, 8);
    })?;
    let mut samples = Vec::with_capacity(SAMPLES);
    for number in 0..WARM_UP + SAMPLES {
        // Until the partner sleeps.
        std::thread::sleep(Duration::from_micros(100));
        let start = timestamp();
        write(there, 8);
        read(back, 8);
        if number >= WARM_UP {
            let woke = shared.woke.load(Relaxed);
            samples.push(counter.between(start, woke));
        }
    }
    counter.print("eventfd-wake", 1, samples);
    partner.end()
}

/// A process that does the same again and again.
struct Partner(libc::pid_t);

impl Partner {
    fn start(mut turn: impl FnMut()) -> io::Result<Self> {
        // SAFETY: there is one thread, so the child may do whatever this process may.
        match check(unsafe { libc::fork() })? {
            0 => loop {
                turn();
            },
            child => Ok(Self(child)),
        }
    }

    fn end(self) -> io::Result<()> {
        let mut status = 0;
        // SAFETY: a child of ours that has not been waited for; `status` is written to.
        unsafe {
            check(libc::kill(self.0, libc::SIGKILL))?;
            check(libc::waitpid(self.0, &raw mut status, 0))?;
        }
        // A partner that failed has ended by itself, and the figures mean nothing.
        if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL {
            return Ok(());
        }
        Err(io::Error::other("the second process failed"))
    }
}

fn open_pipe() -> io::Result<[Fd; 2]> {
    let mut ends = [0; 2];
    // SAFETY: writes two descriptors to `ends`.
    check(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    Ok(ends)
}

/// Reads up to eight bytes, which must come, or ends this process.
fn read(fd: Fd, count: usize) {
    let mut bytes = [0_u8; 8];
    let count = count.min(bytes.len());
    // SAFETY: writes at most `count` bytes, which fit.
    let read = unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), count) };
    ensure(read == count as isize);
}

/// Writes the first bytes of the number one, or ends this process.
fn write(fd: Fd, count: usize) {
    let bytes = 1_u64.to_le_bytes();
    let count = count.min(bytes.len());
    // SAFETY: reads at most `count` bytes, which are there.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), count) };
    ensure(written == count as isize);
}

fn yield_now() {
    // SAFETY: no memory is involved.
    ensure(unsafe { libc::sched_yield() } == 0);
}

/// Gives the turn to `process` and wakes the process that sleeps for it.
fn pass_turn(turn: &AtomicU32, process: u32) {
    turn.store(process, Release);
    // SAFETY: names a word that lives for ever; wakes one sleeper at most.
    ensure(unsafe { libc::syscall(libc::SYS_futex, turn.as_ptr(), libc::FUTEX_WAKE, 1) } >= 0);
}

/// Sleeps until the turn is `own`'s.
fn await_turn(turn: &AtomicU32, own: u32) {
    while turn.load(Acquire) != own {
        let (word, other) = (turn.as_ptr(), 1 - own);
        let forever = std::ptr::null::<libc::timespec>();
        // SAFETY: reads the word, which lives for ever. It may return for no reason, or
        // because the word has changed already: the loop looks.
        unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, other, forever) };
    }
}

/// What cannot fail has failed: end this process, whose partner or kernel will tell.
fn ensure(condition: bool) {
    if !condition {
        println!("failed: {}", io::Error::last_os_error());
        std::process::abort();
    }
}
