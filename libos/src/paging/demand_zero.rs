//! Demand-zero: a frame for each page that is touched, and none for the others.

use alloc::vec;
use alloc::vec::Vec;

use exo_abi::Pfn;

use super::{Pager, Pages};
use crate::memory::MemoryError;

/// Pages are zero until they are written. The kernel zeroes frames when they are taken,
/// so this need not.
///
/// **Cost** two crossings per page touched.
#[derive(Debug)]
pub struct DemandZero {
    frames: Vec<Option<Pfn>>,
}

impl DemandZero {
    /// For a region of `pages` pages.
    pub fn new(pages: u32) -> Self {
        Self { frames: vec![None; pages as usize] }
    }

    /// Pages that have a frame.
    pub fn resident(&self) -> usize {
        self.frames.iter().flatten().count()
    }
}

impl Pager for DemandZero {
    fn fault(&mut self, page: u32, _: bool, pages: &mut dyn Pages) -> Result<(), MemoryError> {
        // One that is there is mapped for everything: the fault is about something else.
        let Some(place @ None) = self.frames.get_mut(page as usize) else {
            return Err(MemoryError::OutOfAddresses);
        };
        let frame = pages.take()?;
        if let Err(error) = pages.map(page, frame, true) {
            pages.give(frame)?;
            return Err(error);
        }
        *place = Some(frame);
        Ok(())
    }

    fn close(&mut self, pages: &mut dyn Pages) -> Result<(), MemoryError> {
        for (page, place) in (0..).zip(&mut self.frames) {
            if let Some(frame) = place.take() {
                pages.unmap(page)?;
                pages.give(frame)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::DemandZero;
    use crate::paging::conformance::{self, Simulated, Touch};

    #[test]
    fn conforms() {
        conformance::check(32, |_| DemandZero::new(32), |_| 0);
    }

    #[test]
    fn untouched_pages_cost_nothing() {
        let mut pager = DemandZero::new(1000);
        let mut pages = Simulated::new(1000, 1000);
        let mut region = pages.region(&mut pager);
        assert_eq!(region.read(5 * 4096), 0);
        region.write(999 * 4096 + 7, 1);
        assert_eq!(region.read(999 * 4096 + 7), 1);
        assert_eq!(region.faults(), 2);
        assert_eq!((pager.resident(), pages.taken()), (2, 2));
    }
}
