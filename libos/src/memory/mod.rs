//! Memory: which frames, where, and what is built from them.
//!
//! The kernel answers only questions of ownership: may this environment have
//! that frame, may it map it. Everything else is decided here, in four parts
//! that can be replaced one by one:
//!
//! | part | decides | implementations |
//! |---|---|---|
//! | [`frames::FrameSource`] | which physical frame is taken next | [`frames::NextFit`], [`frames::FirstFit`] |
//! | [`space::AddressSpace`] | page tables on demand, regions | one |
//! | [`layout`] | what lies at which virtual address | one table |
//! | [`heap::Heap`] | allocation inside a region | [`heap::Buddy`], [`heap::Arena`] |
//!
//! What a device or a cache wants of frames beyond their number, size and alignment or
//! a colour, is in [`choice`].
//!
//! All of it asks the kernel through [`MemoryCalls`], so it runs against a
//! [`model`] of the kernel in tests. [`frames::conformance`] and [`heap::conformance`] are what
//! every frame policy and every heap must pass, those of an application, too.

pub mod choice;
pub mod frames;
#[cfg(exo_guest)]
pub mod guest;
pub mod heap;
pub mod layout;
pub mod model;
pub mod shared;
pub mod space;

use core::fmt;

use exo_abi::{Error, Level, Pages, Pfn, Protection, VirtAddr};

/// Most frames that one system call takes, frees or maps.
pub const BATCH: Pages = 64;

/// The system calls on memory, as the environment itself would make them.
///
/// **Trust** the kernel. **Cost** one crossing each.
pub trait MemoryCalls {
    /// Takes free frames; they come zeroed. At most [`BATCH`].
    ///
    /// # Errors
    /// [`Error::NotFree`] if one of them is not free; then none was taken.
    fn take(&mut self, first: Pfn, count: Pages) -> Result<(), Error>;

    /// Gives frames back that are mapped nowhere. At most [`BATCH`].
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::NotOwned`]; then none was given back.
    fn free(&mut self, first: Pfn, count: Pages) -> Result<(), Error>;

    /// Makes an own frame the page table of `level` that covers `at`.
    ///
    /// # Errors
    /// [`Error::Occupied`] if there is one, [`Error::NoTable`] if the one above
    /// is missing.
    fn install_table(&mut self, at: VirtAddr, level: Level, frame: Pfn) -> Result<(), Error>;

    /// Maps frames at `at`. At most [`BATCH`].
    ///
    /// # Errors
    /// [`Error::NoTable`] if a page table is missing, [`Error::Occupied`]; then
    /// none was mapped.
    fn map(
        &mut self,
        first: Pfn,
        at: VirtAddr,
        count: Pages,
        protection: Protection,
    ) -> Result<(), Error>;

    /// Unmaps pages. At most [`BATCH`].
    ///
    /// # Errors
    /// [`Error::BadAddress`].
    fn unmap(&mut self, at: VirtAddr, count: Pages) -> Result<(), Error>;
}

/// A range of frames that a capability covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// First frame.
    pub first: Pfn,
    /// Number of frames.
    pub count: Pages,
}

/// Consecutive frames that were taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// First frame.
    pub first: Pfn,
    /// Number of frames.
    pub count: Pages,
}

/// Why memory was not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryError {
    /// No frame of the grant is free, or no run of them long enough.
    OutOfFrames,
    /// The part of the address space meant for this is used up.
    OutOfAddresses,
    /// The kernel refused.
    Refused(Error),
    /// What an application that runs as a process of the host cannot have.
    NotHosted(&'static str),
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfFrames => f.write_str("out of frames"),
            Self::OutOfAddresses => f.write_str("out of addresses"),
            Self::Refused(error) => write!(f, "refused: {error}"),
            Self::NotHosted(what) => write!(f, "{what}: not to be had in a process of the host"),
        }
    }
}

impl core::error::Error for MemoryError {}

impl From<Error> for MemoryError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}
