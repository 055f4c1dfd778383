//! System calls and small pages.

use std::arch::asm;
use std::{io, ptr};

use ruler::Counter;

use crate::check;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
/// A descriptor that is open.
const STDOUT: libc::c_int = 1;

pub(crate) fn measure(counter: &Counter) -> io::Result<()> {
    counter.measure("getpid", || {
        // SAFETY: `getpid` (39) takes no argument and touches no memory of ours. Made by
        // hand because the C library adds instructions of its own.
        unsafe {
            asm!("syscall", inlateout("rax") libc::SYS_getpid => _, out("rcx") _, out("r11") _,
                 options(nostack));
        }
        io::Result::Ok(())
    })?;
    let hole = hole()?;
    counter.measure("mmap-touch-munmap", || fill(hole))?;
    counter.measure("dup-close", || {
        // SAFETY: makes a descriptor and closes it; no memory is involved.
        check(unsafe { libc::close(libc::dup(STDOUT)) }).map(drop)
    })
}

/// A page at which nothing is mapped, between two at which something is: so its page
/// table is there already and stays, as it is where this is compared. The neighbours'
/// protection is another, so that the kernel does not join them.
fn hole() -> io::Result<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: the kernel chooses an address at which there is nothing.
    let base = unsafe { libc::mmap(ptr::null_mut(), 3 * PAGE, libc::PROT_READ, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let [before, hole, after] = [0, 1, 2].map(|page| base.cast::<u8>().wrapping_add(page * PAGE));
    for neighbour in [before, after] {
        // SAFETY: just mapped readable, and nothing writes to it.
        let _ = unsafe { neighbour.read_volatile() };
    }
    // SAFETY: nothing refers to the page.
    check(unsafe { libc::munmap(hole.cast(), PAGE) })?;
    Ok(hole)
}

/// Maps a page at `hole`, writes to it, and unmaps it.
#[inline(always)]
fn fill(hole: *mut u8) -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: nothing is mapped there; it stays reserved to this function.
    let page = unsafe { libc::mmap(hole.cast(), PAGE, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just mapped readable and writable, and not shared.
    unsafe { page.cast::<u8>().write_volatile(1) };
    // SAFETY: nothing refers to the page any more.
    check(unsafe { libc::munmap(page, PAGE) })?;
    Ok(())
}

/// A new page of zeros.
pub(crate) fn map(protection: libc::c_int, sharing: libc::c_int) -> io::Result<*mut u8> {
    let flags = sharing | libc::MAP_ANONYMOUS;
    // SAFETY: the kernel chooses an address at which there is nothing.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page.cast()) }
}
