//! What a pager is asked for: a page that is touched.

use crate::measure::{operation, runs};
use crate::memory::MemoryError;
use crate::paging::guest::{OwnPages, Paged};
use crate::paging::{PAGE_BYTES, Pager};

/// Pages of the region that [`pager`] has served.
pub const PAGER_PAGES: u32 = 64;
/// Of which those are touched again and again.
const FEW: u32 = 4;

/// Has pagers that `fresh` makes for 64 pages serve a region: each page is written to, in order;
/// then four in turn; then all, far apart. Page faults must go to
/// [`fault`](crate::paging::guest::fault) (`serve_on`).
///
/// # Errors
/// The pager's, and the kernel's refusal.
pub fn pager<P: Pager>(
    mut fresh: impl FnMut(&mut OwnPages) -> Result<P, MemoryError>,
) -> Result<(), MemoryError> {
    for _ in 0..runs().div_ceil(PAGER_PAGES as usize) {
        let mut region = Paged::new(PAGER_PAGES, &mut fresh)?;
        region.enter(|memory| {
            let mut touch = |page: u32| {
                let at = page as usize * PAGE_BYTES;
                // The compiler may not know what is there.
                let byte = core::hint::black_box(&mut *memory).get_mut(at);
                byte.map(|byte| *byte = byte.wrapping_add(1))
            };
            for page in 0..PAGER_PAGES {
                operation("pager: a page for the first time", || touch(page));
            }
            for turn in 0..PAGER_PAGES {
                operation("pager: one of four pages in turn", || touch(turn % FEW));
            }
            for turn in 0..PAGER_PAGES {
                operation("pager: one of all pages, far apart", || touch(turn * 27 % PAGER_PAGES));
            }
        })?;
        region.close()?;
    }
    Ok(())
}
