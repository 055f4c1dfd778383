//! An application brings its own pager: few frames, first in first out, and a backing
//! store.
//!
//! The region is as large as the store; at most so many of its pages have a frame. The
//! one that came first goes first, back to the store if it was written, which the pager
//! learns by mapping pages read-only at first. Put through the suite that every pager
//! must pass.
//!
//! ```sh
//! cargo run -p libos --example own_pager
//! ```

extern crate alloc;

use alloc::vec::Vec;

use exo_abi::Pfn;
use libos::memory::MemoryError;
use libos::paging::{Contents, Pager, Pages};

/// Keeps the pages of `store` in at most so many frames.
pub(crate) struct Fifo {
    store: Vec<Contents>,
    /// Which pages are there, in what frame, and whether they were written. Never longer
    /// than its capacity at the start: a pager must not allocate.
    here: Vec<(u32, Pfn, bool)>,
    limit: usize,
    oldest: usize,
    /// Pages that had to go.
    pub(crate) evicted: usize,
}

impl Fifo {
    /// A pager for as many pages as `store` has, with `limit` frames; at least two, because one
    /// access may touch two pages.
    pub(crate) fn new(store: Vec<Contents>, limit: usize) -> Self {
        let limit = limit.max(2);
        Self { store, here: Vec::with_capacity(limit), limit, oldest: 0, evicted: 0 }
    }

    /// Puts page `index` of those here back to the store, and returns its frame.
    fn evict(&mut self, index: usize, pages: &mut dyn Pages) -> Result<Pfn, MemoryError> {
        let (page, frame, written) = self.here[index];
        pages.unmap(page)?;
        if written {
            let stored = &mut self.store[page as usize];
            pages.edit(frame, &mut |contents| stored.copy_from_slice(contents))?;
        }
        Ok(frame)
    }
}

impl Pager for Fifo {
    fn fault(&mut self, page: u32, write: bool, pages: &mut dyn Pages) -> Result<(), MemoryError> {
        if let Some((_, frame, written)) = self.here.iter_mut().find(|(here, ..)| *here == page) {
            *written = true;
            return pages.map(page, *frame, true);
        }
        let stored = *self.store.get(page as usize).ok_or(MemoryError::OutOfAddresses)?;
        let index = self.here.len();
        let frame = if index < self.limit {
            let frame = pages.take()?;
            self.here.push((page, frame, write));
            frame
        } else {
            let frame = self.evict(self.oldest, pages)?;
            self.here[self.oldest] = (page, frame, write);
            self.oldest = (self.oldest + 1) % self.limit;
            self.evicted += 1;
            frame
        };
        pages.edit(frame, &mut |contents| contents.copy_from_slice(&stored))?;
        pages.map(page, frame, write)
    }

    fn close(&mut self, pages: &mut dyn Pages) -> Result<(), MemoryError> {
        while !self.here.is_empty() {
            let frame = self.evict(self.here.len() - 1, pages)?;
            self.here.pop();
            pages.give(frame)?;
        }
        self.oldest = 0;
        Ok(())
    }
}

#[cfg(not(exo_guest))]
#[cfg_attr(test, test)]
fn main() {
    use libos::paging::conformance;

    for limit in [2, 3, 8, 31, 32, 40] {
        let store = |_: &mut _| Fifo::new(vec![[7; 4096]; 32], limit);
        conformance::check(32, store, |_| 7);
        println!("32 pages in {limit} frames: is memory");
    }
}
