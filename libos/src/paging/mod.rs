//! Self-paging: regions whose pages come when they are touched.
//!
//! The kernel does not page. A page fault is an exception, the application is told of
//! it, and what a page that is not there means is decided by a [`Pager`]: zeros
//! ([`DemandZero`]), another's page until it is written ([`CopyOnWrite`]), something
//! computed, something fetched from elsewhere. One pager serves one region of
//! consecutive pages, called by number from zero.
//!
//! A pager maps with [`Pages`] and knows nothing else; so it is tested on the host, by
//! [`conformance`], against a simulated processor. `guest::Paged` puts one behind real
//! addresses.
//!
//! A pager runs on the upcall stack in the middle of whatever touched the page: it must
//! not allocate, print, wait or touch paged memory. A fault in it ends the application.

pub mod conformance;
mod copy_on_write;
mod demand_zero;
#[cfg(exo_guest)]
pub mod guest;

pub use copy_on_write::CopyOnWrite;
pub use demand_zero::DemandZero;

use exo_abi::{FRAME_BYTES, Pfn};

use crate::memory::MemoryError;

/// Bytes of a page.
pub const PAGE_BYTES: usize = FRAME_BYTES as usize;
/// What is in a page.
pub type Contents = [u8; PAGE_BYTES];

/// Decides what is in the pages of one region.
///
/// Seen from the application the region must be memory: a read gives what was last
/// written there, or what was there at first.
pub trait Pager {
    /// Page `page` was read, or written if `write`, and is not mapped so. On return it
    /// is.
    ///
    /// # Errors
    /// The page cannot be had; nothing has changed then. The application ends of it.
    fn fault(&mut self, page: u32, write: bool, pages: &mut dyn Pages) -> Result<(), MemoryError>;

    /// Unmaps everything and gives back every frame that it took.
    ///
    /// # Errors
    /// The kernel's refusal; the rest is lost until the application ends.
    fn close(&mut self, pages: &mut dyn Pages) -> Result<(), MemoryError>;
}

/// What a pager works with: the page table of its region, and frames.
pub trait Pages {
    /// Takes a frame, zeroed.
    ///
    /// # Errors
    /// [`MemoryError::OutOfFrames`].
    fn take(&mut self) -> Result<Pfn, MemoryError>;

    /// Gives a frame back that is mapped nowhere.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn give(&mut self, frame: Pfn) -> Result<(), MemoryError>;

    /// Maps `frame` as page `page`, in place of what was there.
    ///
    /// # Errors
    /// The kernel's refusal; [`MemoryError::OutOfAddresses`] behind the region's end.
    fn map(&mut self, page: u32, frame: Pfn, writable: bool) -> Result<(), MemoryError>;

    /// Takes zeroed frames and maps them, for writing, from page `page` on, where nothing is
    /// mapped: at least one and at most `count`. `note` is told each page and its frame.
    ///
    /// # Errors
    /// As [`Pages::take`] and [`Pages::map`], if there was not a single one.
    fn map_zeros(
        &mut self,
        page: u32,
        count: u32,
        note: &mut dyn FnMut(u32, Pfn),
    ) -> Result<(), MemoryError>;

    /// Unmaps page `page`, if it is mapped.
    ///
    /// # Errors
    /// As [`Pages::map`].
    fn unmap(&mut self, page: u32) -> Result<(), MemoryError>;

    /// Lets `act` see and change what is in `frame`, wherever it is mapped.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn edit(&mut self, frame: Pfn, act: &mut dyn FnMut(&mut Contents)) -> Result<(), MemoryError>;

    /// Copies what is in `from` to `to`, another frame.
    ///
    /// # Errors
    /// The kernel's refusal.
    fn copy(&mut self, from: Pfn, to: Pfn) -> Result<(), MemoryError>;
}
