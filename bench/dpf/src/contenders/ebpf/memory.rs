//! Memory for compiled programs.

use anyhow::{Result, ensure};

/// Pages that can be written and executed, given back when dropped.
pub(super) struct Executable {
    start: *mut u8,
    len: usize,
}

/// What rbpf asks for at least, and the unit of mappings.
const PAGE: usize = 4096;
/// Bytes that rbpf makes of one instruction, at most, among those that are used here.
const EXPANSION: usize = 24;

impl Executable {
    /// Room for the code of so many instructions.
    pub(super) fn new(instructions: usize) -> Result<Self> {
        let len = (instructions * EXPANSION + 256).next_multiple_of(PAGE);
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        ensure!(start != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Ok(Self { start: start.cast(), len })
    }

    /// The bytes.
    ///
    /// # Safety
    /// To be called once, and what it gives not to be used once this is dropped.
    pub(super) unsafe fn bytes(&mut self) -> &'static mut [u8] {
        // SAFETY: mapped, zeroed, and by the contract not shared.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    pub(super) fn len(&self) -> u64 {
        self.len as u64
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and by the contract of `bytes` used no more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
