//! A machine's memory, mapped to be read.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;

/// Bytes of a page frame.
const FRAME: usize = exo_abi::FRAME_BYTES as usize;
/// What QEMU calls the file that has the guest's memory.
const NAME: &str = "memfd:memory-backend-memfd";

/// The physical memory of a machine, from address zero on.
pub(crate) struct Memory {
    map: Mmap,
}

/// A type of which every reading is a value, whatever is written to it meanwhile.
///
/// # Safety
/// It consists of atomics alone, without padding that could be read, or of others of these.
pub(crate) unsafe trait Shared {}

// SAFETY: consist of atomics; a reserved word is never read.
unsafe impl Shared for exo_abi::SystemInfo {}
// SAFETY: consists of atomics.
unsafe impl Shared for exo_abi::FrameInfo {}
// SAFETY: consists of atomics.
unsafe impl Shared for exo_abi::RingPage {}

impl Memory {
    /// Maps that of the QEMU with this process id.
    ///
    /// # Errors
    /// It does not share its memory, or not with this user.
    pub(crate) fn of_process(process: u32) -> Result<Self> {
        let file = open(process).with_context(|| {
            format!("process {process} shares no memory of a machine that could be looked at")
        })?;
        // SAFETY: QEMU neither cuts the file while it runs nor gives it to another; what the guest
        // writes to it is read through atomics, or copied byte by byte from where races garble only
        // the copy.
        let map = unsafe { Mmap::map(&file) }.context("cannot map the machine's memory")?;
        Ok(Self { map })
    }

    /// Number of page frames.
    pub(crate) fn frames(&self) -> u32 {
        (self.map.len() / FRAME) as u32
    }

    /// What lies at the beginning of a frame.
    pub(crate) fn at<T: Shared>(&self, frame: u32) -> Option<&T> {
        self.slice(frame, 1)?.first()
    }

    /// As many of these as `count`, from the beginning of a frame on.
    pub(crate) fn slice<T: Shared>(&self, frame: u32, count: usize) -> Option<&[T]> {
        let first = frame as usize * FRAME;
        let end = first.checked_add(count.checked_mul(size_of::<T>())?)?;
        let bytes = self.map.get(first..end)?;
        // SAFETY: the bytes are there as long as the map, at a page's beginning, which suffices
        // for the alignment of everything that fits a page; any bytes are values of atomics, which
        // another process may change.
        Some(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<T>(), count) })
    }

    /// A copy of bytes that the guest may be writing meanwhile.
    pub(crate) fn copy(&self, frame: u32, offset: usize, length: usize) -> Option<Vec<u8>> {
        let first = (frame as usize * FRAME).checked_add(offset)?;
        let bytes = self.map.get(first..first.checked_add(length)?)?;
        // SAFETY: valid for reads; volatile, since the guest may write meanwhile.
        Some(bytes.iter().map(|byte| unsafe { std::ptr::from_ref(byte).read_volatile() }).collect())
    }
}

/// The file that has the memory of the machine that this process is.
fn open(process: u32) -> Result<File> {
    let folder = PathBuf::from(format!("/proc/{process}/fd"));
    let mut descriptors = std::fs::read_dir(&folder).context("cannot look at its files")?;
    let found = descriptors.find_map(|entry| {
        let path = entry.ok()?.path();
        let target = std::fs::read_link(&path).ok()?;
        target.to_string_lossy().contains(NAME).then_some(path)
    });
    let path = found.context("it has no memory in a file")?;
    let file = File::open(path)?;
    ensure!(file.metadata()?.len() as usize >= FRAME, "its memory is empty");
    Ok(file)
}
