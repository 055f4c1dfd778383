//! Pages of 2 MiB.
//!
//! Taken from the pool of `hugetlbfs`, which is filled before: so a page is never put
//! together while it is measured. A kernel without such a pool has no line.

use std::{fs, io, ptr};

use ruler::{Counter, SAMPLES};

use crate::check;

/// Bytes of a large page.
const LARGE: usize = 2 << 20;
/// The pool, and how many are wanted in it.
const POOL: &str = "/proc/sys/vm/nr_hugepages";
const WANTED: &str = "4";
/// Pages of zeros: to zero one is most of it, and always the same.
const ZEROED: usize = SAMPLES / 10;

pub(crate) fn measure(counter: &Counter) -> io::Result<()> {
    if let Err(error) = fs::write(POOL, WANTED) {
        println!("linux large pages: none: {error}");
        return Ok(());
    }
    println!("linux large pages: {} in the pool", fs::read_to_string(POOL)?.trim());
    // SAFETY: the name ends with a zero byte.
    let file = check(unsafe { libc::memfd_create(c"large".as_ptr(), libc::MFD_HUGETLB) })?;
    // SAFETY: no memory is involved.
    check(unsafe { libc::ftruncate(file, LARGE as libc::off_t) })?;
    // The first of them allocates it; it stays the file's.
    touch(libc::MAP_SHARED, file)?;
    counter.measure("hugetlb-shared", || touch(libc::MAP_SHARED, file))?;
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
    touch(anonymous, -1)?;
    let samples = counter.samples(ZEROED, || touch(anonymous, -1))?;
    counter.print("hugetlb", 1, samples);
    // SAFETY: ours, and not used again.
    check(unsafe { libc::close(file) })?;
    Ok(())
}

/// Maps a large page, writes to it, and unmaps it.
#[inline(always)]
fn touch(flags: libc::c_int, file: libc::c_int) -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses an address at which there is nothing.
    let page = unsafe { libc::mmap(ptr::null_mut(), LARGE, protection, flags, file, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just mapped readable and writable, and not shared.
    unsafe { page.cast::<u8>().write_volatile(1) };
    // SAFETY: nothing refers to the page any more.
    check(unsafe { libc::munmap(page, LARGE) })?;
    Ok(())
}
