//! Exceptions, page faults and timers that come as signals.

use std::arch::asm;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::{io, mem, ptr};

use ruler::{Counter, SAMPLES};

use crate::calls::{PAGE, map};
use crate::check;

/// Bytes of each instruction that [`skip`] goes on behind.
const SKIPPED: i64 = 2;
/// From setting the timer until it expires, in microseconds.
const ALARM: i64 = 100;
/// Timers; each takes some time.
const ALARMS: usize = SAMPLES / 5;

/// Signals that handlers have seen: nothing is stated that did not happen.
static SEEN: AtomicU64 = AtomicU64::new(0);

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

pub(crate) fn measure(counter: &Counter) -> io::Result<()> {
    handle(libc::SIGILL, skip)?;
    let seen = SEEN.load(Relaxed);
    counter.measure("sigill", || {
        // SAFETY: the handler goes on behind it; it changes no register.
        unsafe { asm!("ud2", options(nostack)) };
        io::Result::Ok(())
    })?;
    all_seen(seen, SAMPLES)?;

    let page = map(libc::PROT_NONE, libc::MAP_PRIVATE)?;
    handle(libc::SIGSEGV, skip)?;
    let seen = SEEN.load(Relaxed);
    counter.measure("sigsegv", || {
        // SAFETY: `mov al, [rdi]`, two bytes, reads what cannot be read; the handler goes
        // on behind it.
        unsafe { asm!(".byte 0x8a, 0x07", in("rdi") page, out("al") _, options(nostack)) };
        io::Result::Ok(())
    })?;
    all_seen(seen, SAMPLES)?;

    handle(libc::SIGSEGV, unprotect)?;
    let seen = SEEN.load(Relaxed);
    counter.measure("prot1-trap-unprot", || {
        // SAFETY: the page is of this function alone.
        check(unsafe { libc::mprotect(page.cast(), PAGE, libc::PROT_NONE) })?;
        // SAFETY: faults; the handler makes the page writable, and it is done again.
        unsafe { page.write_volatile(1) };
        io::Result::Ok(())
    })?;
    all_seen(seen, SAMPLES)?;

    handle(libc::SIGALRM, count)?;
    let samples = (0..ALARMS).map(|_| alarm()).collect::<io::Result<Vec<_>>>()?;
    counter.print("sigalrm", 1, samples);
    Ok(())
}

/// Instructions that a timer's signal takes from a loop that only reads the counter.
fn alarm() -> io::Result<u64> {
    let once = libc::timeval { tv_sec: 0, tv_usec: ALARM };
    let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: never, it_value: once };
    let seen = SEEN.load(Relaxed);
    // SAFETY: reads `timer`, which lives through the call.
    check(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) })?;
    Ok(ruler::interruption(|| SEEN.load(Relaxed) != seen))
}

/// Fails unless every sample since `before`, and every run before those, was a signal.
fn all_seen(before: u64, samples: usize) -> io::Result<()> {
    let seen = SEEN.load(Relaxed) - before;
    if seen == (samples + ruler::WARM_UP) as u64 {
        return Ok(());
    }
    Err(io::Error::other(format!("{seen} signals for {samples} samples")))
}

/// Has `handler` called for `signal`.
fn handle(signal: libc::c_int, handler: Handler) -> io::Result<()> {
    // SAFETY: all zeros is an empty mask and no flag.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handlers do only what is allowed in one: system calls and atomics.
    check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })?;
    Ok(())
}

extern "C" fn skip(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    SEEN.store(SEEN.load(Relaxed) + 1, Relaxed);
    // SAFETY: the kernel passes the interrupted context, and it is ours until we return.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    context.uc_mcontext.gregs[libc::REG_RIP as usize] += SKIPPED;
}

extern "C" fn unprotect(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    SEEN.store(SEEN.load(Relaxed) + 1, Relaxed);
    // SAFETY: the kernel passes what it knows of the fault, of which the address is part.
    let page = unsafe { (*info).si_addr() }.map_addr(|address| address & !(PAGE - 1));
    // SAFETY: the only page that faults while this is the handler is the one measured.
    unsafe { libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE) };
}

extern "C" fn count(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    SEEN.store(SEEN.load(Relaxed) + 1, Relaxed);
}
