//! Copy-on-write: the pages of others until they are written.

use alloc::vec;
use alloc::vec::Vec;

use exo_abi::Pfn;

use super::{Pager, Pages};
use crate::memory::MemoryError;

/// Pages are what the originals hold, and the originals stay as they are: the first
/// write to a page gets a copy of its own. Any number of regions may have the same
/// originals.
///
/// **Cost** a crossing per page read, and eight per page written, of which six are to
/// see both frames for the copy.
#[derive(Debug)]
pub struct CopyOnWrite {
    originals: Vec<Pfn>,
    copies: Vec<Option<Pfn>>,
}

impl CopyOnWrite {
    /// For a region of as many pages as there are originals: frames of the application,
    /// which outlive the region.
    pub fn new(originals: Vec<Pfn>) -> Self {
        let copies = vec![None; originals.len()];
        Self { originals, copies }
    }

    /// The frames it began with.
    pub fn originals(&self) -> &[Pfn] {
        &self.originals
    }

    /// Pages that were copied.
    pub fn copied(&self) -> usize {
        self.copies.iter().flatten().count()
    }
}

impl Pager for CopyOnWrite {
    fn fault(&mut self, page: u32, write: bool, pages: &mut dyn Pages) -> Result<(), MemoryError> {
        let index = page as usize;
        let (Some(&original), Some(place @ None)) =
            (self.originals.get(index), self.copies.get_mut(index))
        else {
            return Err(MemoryError::OutOfAddresses);
        };
        if !write {
            return pages.map(page, original, false);
        }
        let copy = pages.take()?;
        if let Err(error) = pages.copy(original, copy).and_then(|()| pages.map(page, copy, true)) {
            pages.give(copy)?;
            return Err(error);
        }
        *place = Some(copy);
        Ok(())
    }

    fn close(&mut self, pages: &mut dyn Pages) -> Result<(), MemoryError> {
        for (page, place) in (0..).zip(&mut self.copies) {
            pages.unmap(page)?;
            if let Some(copy) = place.take() {
                pages.give(copy)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::CopyOnWrite;
    use crate::paging::Pages;
    use crate::paging::conformance::{self, Simulated, Touch};

    fn pattern(at: usize) -> u8 {
        (at / 4096 * 31 + at % 251) as u8
    }

    fn originals(pages: &mut Simulated, count: usize) -> Vec<exo_abi::Pfn> {
        let mut one = |page: usize| {
            let frame = pages.take().unwrap();
            let mut fill = |contents: &mut [u8; 4096]| {
                for (offset, byte) in contents.iter_mut().enumerate() {
                    *byte = pattern(page * 4096 + offset);
                }
            };
            pages.edit(frame, &mut fill).unwrap();
            frame
        };
        (0..count).map(&mut one).collect()
    }

    #[test]
    fn conforms() {
        conformance::check(24, |pages| CopyOnWrite::new(originals(pages, 24)), pattern);
    }

    #[test]
    fn originals_stay_and_regions_do_not_see_each_other() {
        let mut pages = Simulated::new(8, 64);
        let originals = originals(&mut pages, 8);
        let mut pager = CopyOnWrite::new(originals.clone());
        let mut region = pages.region(&mut pager);
        for page in 0..8 {
            assert_eq!(region.read(page * 4096 + 3), pattern(page * 4096 + 3));
        }
        region.write(2 * 4096 + 3, 0xee);
        assert_eq!(region.read(2 * 4096 + 3), 0xee);
        assert_eq!(region.read(2 * 4096 + 4), pattern(2 * 4096 + 4));
        assert_eq!(region.faults(), 9);
        assert_eq!((pager.copied(), pages.taken()), (1, 9));
        let mut byte = 0;
        pages.edit(originals[2], &mut |contents| byte = contents[3]).unwrap();
        assert_eq!(byte, pattern(2 * 4096 + 3));
    }
}
