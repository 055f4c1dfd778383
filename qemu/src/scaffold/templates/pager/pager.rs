//! What is in a page that is touched and not there: what it was when it went. So many pages have a
//! frame at a time; the one that came first goes first, to a store in memory.
//!
//! A beginning, to be changed. A pager runs in the middle of whatever touched the page: it may not
//! allocate, print, or touch memory that is paged.

use alloc::vec;
use alloc::vec::Vec;

use libos::abi::Pfn;
use libos::memory::MemoryError;
use libos::paging::{Contents, PAGE_BYTES, Pager, Pages};

/// A region in few frames.
pub(crate) struct FirstOut {
    store: Vec<Contents>,
    /// Which pages have a frame, and whether they were written since they got it.
    here: Vec<Option<(u32, Pfn, bool)>>,
    /// The place of the one that came first.
    oldest: usize,
    evicted: u64,
}

impl FirstOut {
    /// `pages` pages, zeros at first, in at most `frames` frames: two at least, because one access may
    /// touch two pages.
    pub(crate) fn new(pages: u32, frames: usize) -> Self {
        let store = vec![[0; PAGE_BYTES]; pages as usize];
        Self { store, here: vec![None; frames.max(2)], oldest: 0, evicted: 0 }
    }

    /// Pages that had to go so far.
    pub(crate) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Takes the frame of a place, and keeps what was written there.
    fn evict(&mut self, place: usize, pages: &mut dyn Pages) -> Result<Option<Pfn>, MemoryError> {
        let Some((page, frame, written)) = self.here[place] else { return Ok(None) };
        pages.unmap(page)?;
        if written {
            let stored = &mut self.store[page as usize];
            pages.edit(frame, &mut |contents| stored.copy_from_slice(contents))?;
        }
        self.here[place] = None;
        Ok(Some(frame))
    }
}

impl Pager for FirstOut {
    fn fault(&mut self, page: u32, write: bool, pages: &mut dyn Pages) -> Result<(), MemoryError> {
        let place = |here: &&mut (u32, Pfn, bool)| here.0 == page;
        if let Some((_, frame, written)) = self.here.iter_mut().flatten().find(place) {
            // It is there to be read only, so that the first write is seen.
            *written = true;
            return pages.map(page, *frame, true);
        }
        if page as usize >= self.store.len() {
            return Err(MemoryError::OutOfAddresses);
        }
        let frame = match self.evict(self.oldest, pages)? {
            Some(frame) => {
                self.evicted += 1;
                frame
            }
            None => pages.take()?,
        };
        self.here[self.oldest] = Some((page, frame, write));
        self.oldest = (self.oldest + 1) % self.here.len();
        let stored = &self.store[page as usize];
        pages.edit(frame, &mut |contents| contents.copy_from_slice(stored))?;
        pages.map(page, frame, write)
    }

    fn close(&mut self, pages: &mut dyn Pages) -> Result<(), MemoryError> {
        for place in 0..self.here.len() {
            if let Some(frame) = self.evict(place, pages)? {
                pages.give(frame)?;
            }
        }
        self.oldest = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use libos::paging::conformance::{self, Simulated};

    use super::*;

    /// What every pager must do: a region is memory.
    #[test]
    fn conforms() {
        for frames in [2, 8, 40] {
            conformance::check(32, |_| FirstOut::new(32, frames), |_| 0);
        }
    }

    /// What is special about this one.
    #[test]
    fn no_more_frames_are_taken_than_were_asked_for() {
        let mut pages = Simulated::new(32, 128);
        let mut pager = FirstOut::new(32, 8);
        conformance::is_memory(&mut pages.region(&mut pager), 32, |_| 0, 1);
        assert_eq!(pages.taken(), 8);
        assert!(pager.evicted() > 0);
    }
}
