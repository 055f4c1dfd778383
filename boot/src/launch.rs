//! The first page of the boot image: what ring 0 has to know to start the first environment.
//!
//! Behind it lie the pages of that environment as they are to be mapped, run by run, whole:
//! what the program finds zero, its stack among it, is zero there. So nothing is copied, and nothing
//! is parsed: the kernel gives all frames of the image to the environment and maps these by the operations
//! that any environment maps its own with, which check what there is to check. What
//! follows the last run is for the first environment alone (`exo-bundle`).
#![forbid(unsafe_code)]

/// What the page begins with: the format and its version.
pub const MAGIC: u64 = u64::from_le_bytes(*b"EXOBOOT2");
/// Most runs. One that is not used has no pages.
pub const RUNS: usize = 6;

/// The first environment. All numbers are little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Launch {
    /// [`MAGIC`].
    pub magic: u64,
    /// Where it begins.
    pub entry: u64,
    /// Its pages, in the order in which they follow.
    pub runs: [Run; RUNS],
}

/// Pages that follow each other in the file and in the address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Run {
    /// Address of the first.
    pub at: u64,
    /// How many.
    pub pages: u32,
    /// How they may be used, by the number of an `exo_abi::Protection`.
    pub protection: u32,
}
