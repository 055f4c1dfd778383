//! Demand-zero: a frame for each page that is touched, and none for the others.

use alloc::vec;
use alloc::vec::Vec;

use exo_abi::Pfn;

use super::{Pager, Pages};
use crate::memory::MemoryError;

/// Pages are zero until they are written. The kernel zeroes frames when they are taken,
/// so this need not.
///
/// **Cost** two crossings per page touched, or for so many at a time as
/// [`in_runs_of`](DemandZero::in_runs_of) says.
#[derive(Debug)]
pub struct DemandZero {
    frames: Vec<Option<Pfn>>,
    /// Pages that come with one that is touched, itself among them.
    run: usize,
}

impl DemandZero {
    /// For a region of `pages` pages.
    pub fn new(pages: u32) -> Self {
        Self { frames: vec![None; pages as usize], run: 1 }
    }

    /// The same, where `run` pages come at a time: that which is touched, and those behind it as far
    /// as they are not there. For what fills from its beginning.
    #[must_use]
    pub fn in_runs_of(self, run: u32) -> Self {
        Self { run: run.max(1) as usize, ..self }
    }

    /// Pages that have a frame.
    pub fn resident(&self) -> usize {
        self.frames.iter().flatten().count()
    }
}

impl Pager for DemandZero {
    fn fault(&mut self, page: u32, _: bool, pages: &mut dyn Pages) -> Result<(), MemoryError> {
        // One that is there is mapped for everything: the fault is about something else.
        let behind = self.frames.get(page as usize..).unwrap_or_default();
        let count = behind.iter().take(self.run).take_while(|frame| frame.is_none()).count();
        if count == 0 {
            return Err(MemoryError::OutOfAddresses);
        }
        let frames = &mut self.frames;
        pages.map_zeros(page, count as u32, &mut |page, frame| frames[page as usize] = Some(frame))
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
        for run in [1, 2, 7, 40] {
            conformance::check(32, |_| DemandZero::new(32).in_runs_of(run), |_| 0);
        }
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

    #[test]
    fn runs_end_at_pages_that_are_there_and_at_the_end() {
        let mut pager = DemandZero::new(20).in_runs_of(8);
        let mut pages = Simulated::new(20, 100);
        for (page, faults, there) in [(5, 1, 8), (0, 1, 13), (4, 0, 13), (18, 1, 15), (13, 1, 20)] {
            let mut region = pages.region(&mut pager);
            region.write(page * 4096, 1);
            assert_eq!(region.faults(), faults, "page {page}");
            assert_eq!(pager.resident(), there, "page {page}");
        }
    }
}
