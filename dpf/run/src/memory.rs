//! Pages from the operating system: data, code that two addresses show, and frames that
//! end where a page does.

use std::ffi::c_int;
use std::io;
use std::ptr::{self, NonNull};

/// Bytes in a page.
pub(crate) const PAGE: usize = 4096;

/// Pages mapped at one place, zero at first.
#[derive(Debug)]
pub(crate) struct Pages {
    start: NonNull<u8>,
    length: usize,
}

impl Pages {
    /// Pages for at least this many bytes.
    ///
    /// # Panics
    /// If memory is short.
    pub(crate) fn new(bytes: usize) -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::map(bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1)
    }

    fn map(bytes: usize, protection: c_int, flags: c_int, file: c_int) -> Self {
        let length = bytes.max(1).next_multiple_of(PAGE);
        // SAFETY: no address is asked for, so nothing that is mapped is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, file, 0) };
        assert!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        Self { start: NonNull::new(start.cast()).expect("not at zero"), length }
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Bytes `at..at + count`, to be written.
    ///
    /// # Panics
    /// If they are not all there.
    pub(crate) fn range(&self, at: usize, count: usize) -> *mut u8 {
        assert!(at <= self.length && count <= self.length - at, "within the pages");
        self.start().wrapping_add(at)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, of this length; a holder of addresses in it does not
        // outlive it.
        let result = unsafe { libc::munmap(self.start().cast(), self.length) };
        debug_assert_eq!(result, 0);
    }
}

/// The same pages twice: one view can be written, the other executed, neither both.
#[derive(Debug)]
pub(crate) struct Code {
    writable: Pages,
    executable: Pages,
    /// From one page to the next as they are executed.
    stride: usize,
}

impl Code {
    /// This many pages, `stride` bytes apart where they are executed, which is a multiple of
    /// a page.
    ///
    /// # Panics
    /// If memory is short.
    pub(crate) fn new(pages: usize, stride: usize) -> Self {
        let length = pages * PAGE;
        // SAFETY: the name is a C string; the file is owned here.
        let file = unsafe { libc::memfd_create(c"dpf".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(file >= 0, "memfd_create: {}", io::Error::last_os_error());
        // SAFETY: the file is open.
        let result = unsafe { libc::ftruncate(file, length as libc::off_t) };
        assert_eq!(result, 0, "ftruncate: {}", io::Error::last_os_error());
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let writable = Pages::map(length, both, libc::MAP_SHARED, file);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let executable = Pages::map(pages * stride, libc::PROT_NONE, flags, -1);
        // All pages at once if nothing is between them.
        let step = if stride == PAGE { pages } else { 1 };
        for first in (0..pages).step_by(step) {
            let at = executable.range(first * stride, step * PAGE).cast();
            let protection = libc::PROT_READ | libc::PROT_EXEC;
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            // SAFETY: replaces what was mapped just now and nothing refers to.
            let mapped = unsafe {
                let offset = (first * PAGE) as libc::off_t;
                libc::mmap(at, step * PAGE, protection, flags, file, offset)
            };
            assert!(mapped == at, "mmap: {}", io::Error::last_os_error());
        }
        let code = Self { writable, executable, stride };
        // SAFETY: opened above, and nothing else has it. The views stay.
        unsafe { libc::close(file) };
        code
    }

    /// Where `count` bytes at `at` of a page are executed.
    pub(crate) fn place(&self, page: usize, at: usize, count: usize) -> *const u8 {
        assert!(at + count <= PAGE, "within the page");
        self.executable.range(page * self.stride + at, count)
    }

    /// Where all of it is executed.
    pub(crate) fn places(&self) -> std::ops::Range<u64> {
        let start = self.executable.start() as u64;
        start..start + self.executable.length as u64
    }

    /// Puts code at `at` of a page. It may be executed after [`serialise`].
    pub(crate) fn write(&mut self, page: usize, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= PAGE, "within the page");
        let to = self.writable.range(page * PAGE + at, bytes.len());
        // SAFETY: in bounds, and nothing refers to the bytes.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }
}

/// Makes the processor forget what it fetched ahead of code that is written through
/// another address (SDM vol. 3, "Handling Self- and Cross-Modifying Code").
pub(crate) fn serialise() {
    // CPUID is the one serialising instruction that a user may execute everywhere.
    let _ = std::arch::x86_64::__cpuid(0);
}

/// A place for packets that ends with a page, before one that cannot be touched.
#[derive(Debug)]
pub struct Edge(Pages);

impl Default for Edge {
    fn default() -> Self {
        Self::new()
    }
}

impl Edge {
    /// # Panics
    /// If memory is short.
    pub fn new() -> Self {
        let pages = Pages::new(3 * PAGE);
        for guard in [0, 2 * PAGE] {
            // SAFETY: whole pages that were mapped just now.
            let result =
                unsafe { libc::mprotect(pages.range(guard, PAGE).cast(), PAGE, libc::PROT_NONE) };
            assert_eq!(result, 0, "mprotect: {}", io::Error::last_os_error());
        }
        Self(pages)
    }

    /// `frame` at the end of the page.
    ///
    /// # Panics
    /// If it is longer than a page.
    pub fn place(&mut self, frame: &[u8]) -> &[u8] {
        assert!(frame.len() <= PAGE, "fits a page");
        let to = self.0.range(2 * PAGE - frame.len(), frame.len());
        // SAFETY: in bounds, in the page that can be written; the borrow of `self` ends
        // before it is written again.
        unsafe {
            ptr::copy_nonoverlapping(frame.as_ptr(), to, frame.len());
            std::slice::from_raw_parts(to, frame.len())
        }
    }

    /// `frame` at the start of the page.
    ///
    /// # Panics
    /// If it is longer than a page.
    pub fn place_first(&mut self, frame: &[u8]) -> &[u8] {
        let to = self.0.range(PAGE, PAGE);
        assert!(frame.len() <= PAGE, "fits a page");
        // SAFETY: as above.
        unsafe {
            ptr::copy_nonoverlapping(frame.as_ptr(), to, frame.len());
            std::slice::from_raw_parts(to, frame.len())
        }
    }
}
