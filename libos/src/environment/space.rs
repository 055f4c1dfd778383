//! Mapping with page tables on demand, in the environment's own address space or in one that it is
//! building.

use exo_abi::{Error, Handle, Level, Pages, Pfn, Protection, VirtAddr};

use crate::memory::BATCH;
use crate::memory::guest::Memory;
use crate::sys;

/// A frame of the environment's own, for a page table.
///
/// # Errors
/// [`Error::NotFree`] if there is none.
pub fn own_frame() -> Result<Pfn, Error> {
    Memory::get().take_frame().map_err(|_| Error::NotFree)
}

/// Maps `count` frames of `owner` from `first` on at `at` in `space`. Page
/// tables that are missing come from `table`, which must return frames of
/// `space`'s.
///
/// # Errors
/// The kernel's refusal, or `table`'s.
pub fn map(
    space: Handle,
    owner: Handle,
    first: Pfn,
    at: VirtAddr,
    count: Pages,
    protection: Protection,
    mut table: impl FnMut() -> Result<Pfn, Error>,
) -> Result<(), Error> {
    let mut done = 0;
    let mut room = BATCH;
    while done < count {
        let here = at.plus(done).ok_or(Error::BadAddress)?;
        let piece = room.min(count - done);
        match sys::map(space, owner, first.plus(done), here, piece, protection) {
            Ok(_) => {
                done += piece;
                room = BATCH;
            }
            // The batch may reach into the next table: try smaller before
            // concluding that the first page has none.
            Err(Error::NoTable) if piece > 1 => room = piece / 2,
            Err(Error::NoTable) => {
                install(space, here, &mut table)?;
                room = BATCH;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Installs the page tables missing above `at`.
///
/// # Errors
/// The kernel's refusal, or `table`'s.
pub fn install(
    space: Handle,
    at: VirtAddr,
    table: &mut impl FnMut() -> Result<Pfn, Error>,
) -> Result<(), Error> {
    let mut frame = None;
    for level in (1..=3).rev().filter_map(Level::new) {
        let donation = match frame.take() {
            Some(frame) => frame,
            None => table()?,
        };
        match sys::table_install(space, at, level, donation) {
            Ok(_) => {}
            Err(Error::Occupied) => frame = Some(donation),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
