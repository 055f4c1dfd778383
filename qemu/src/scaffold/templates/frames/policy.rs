//! Which physical frame is taken next: the highest that is free.
//!
//! A beginning, to be changed. The kernel takes frames by name only. Which are free stands in the
//! frame table, which every environment reads; if another environment is faster, the kernel
//! refuses, and a policy looks again.

use libos::abi::{Error, FrameInfo, Pages};
use libos::memory::frames::{FrameSource, give_all, is_free, take_all};
use libos::memory::{MemoryCalls, Range, Run};

/// Takes from the upper end of a grant.
pub(crate) struct HighestFirst<'a> {
    table: &'a [FrameInfo],
    range: Range,
    taken: Pages,
}

impl<'a> HighestFirst<'a> {
    /// For the frames of `range`, whose state `table` shows.
    pub(crate) const fn new(table: &'a [FrameInfo], range: Range) -> Self {
        Self { table, range, taken: 0 }
    }

    /// How many frames are taken.
    pub(crate) const fn taken(&self) -> Pages {
        self.taken
    }

    /// Whether the frame `offset` of the grant is free.
    fn is_free(&self, offset: Pages) -> bool {
        self.table.get(self.range.first.plus(offset).0 as usize).is_some_and(is_free)
    }
}

impl FrameSource for HighestFirst<'_> {
    fn take(&mut self, calls: &mut dyn MemoryCalls, least: Pages, most: Pages) -> Option<Run> {
        if least == 0 || least > most {
            return None;
        }
        let mut end = self.range.count;
        while end > 0 {
            let free = (0..end).rev().take(most as usize).take_while(|&frame| self.is_free(frame));
            let count = free.count() as Pages;
            let run = Run { first: self.range.first.plus(end - count), count };
            if count >= least && take_all(calls, run).is_ok() {
                self.taken += count;
                return Some(run);
            }
            end = (end - count).saturating_sub(1);
        }
        None
    }

    fn give(&mut self, calls: &mut dyn MemoryCalls, run: Run) -> Result<(), Error> {
        give_all(calls, run)?;
        self.taken -= run.count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use libos::memory::frames::conformance;
    use libos::memory::model::Model;

    use super::*;

    /// What every policy must do.
    #[test]
    fn conforms() {
        conformance::check(HighestFirst::new);
    }

    /// What is special about this one.
    #[test]
    fn the_highest_comes_first() {
        let mut model = Model::new(1000, 256, &[255, 250]);
        let mut policy = HighestFirst::new(model.table(), model.range());
        let run = policy.take(&mut model, 1, 2).unwrap();
        assert_eq!((run.first.0, run.count), (1253, 2));
        let run = policy.take(&mut model, 3, 8).unwrap();
        assert_eq!((run.first.0, run.count, policy.taken()), (1242, 8, 10));
    }
}
