//! Frame policies: which physical frame to take next.
//!
//! The kernel takes frames by name and shows which are free, so the choice is
//! the application's. [`NextFit`] needs no map of the frame table and is what
//! the library starts with. [`FirstFit`] reads the frame table and always takes
//! the lowest run that fits, which keeps the rest of the grant in one piece. A
//! policy that wants a certain page colour or large alignment implements
//! [`FrameSource`] in the same way.
//!
//! Neither keeps a list of free frames: the kernel's own state is the list, and
//! it cannot disagree with itself.

pub mod conformance;

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{Error, FrameInfo, FrameKind, Pages};

use super::{BATCH, MemoryCalls, Range, Run};

/// Chooses frames.
pub trait FrameSource {
    /// Takes between `least` and `most` consecutive frames, zeroed.
    ///
    /// Returns `None` if the grant has no such run, or `least` is zero or above
    /// `most`. **Cost** at least one crossing per [`BATCH`] frames.
    fn take(&mut self, calls: &mut dyn MemoryCalls, least: Pages, most: Pages) -> Option<Run>;

    /// Gives a run back that is mapped nowhere.
    ///
    /// # Errors
    /// The kernel's refusal; the frames from the refused batch on are kept.
    fn give(&mut self, calls: &mut dyn MemoryCalls, run: Run) -> Result<(), Error>;
}

impl<F: FrameSource + ?Sized> FrameSource for &mut F {
    fn take(&mut self, calls: &mut dyn MemoryCalls, least: Pages, most: Pages) -> Option<Run> {
        (**self).take(calls, least, most)
    }

    fn give(&mut self, calls: &mut dyn MemoryCalls, run: Run) -> Result<(), Error> {
        (**self).give(calls, run)
    }
}

/// The highest `count` consecutive frames of `range` that are free.
#[must_use]
pub fn highest_free(table: &[FrameInfo], range: Range, count: Pages) -> Option<Range> {
    let first = range.first.0 as usize;
    let frames = table.get(first..first + range.count as usize)?;
    let mut free = 0;
    for (offset, frame) in frames.iter().enumerate().rev() {
        free = if is_free(frame) { free + 1 } else { 0 };
        if free == count && count > 0 {
            return Some(Range { first: range.first.plus(offset as Pages), count });
        }
    }
    None
}

/// Takes upwards from where it last took, and starts again at the bottom.
///
/// **Cost** amortised one crossing per [`BATCH`] frames, plus one or two for
/// each frame met that has an owner already.
#[derive(Debug)]
pub struct NextFit {
    range: Range,
    /// Frame looked at next, counted from the start of the range.
    cursor: Pages,
    /// Frames asked for at once: halved when refused, doubled when granted.
    piece: Pages,
    /// Nothing was found in a whole round, and nothing given back since.
    exhausted: bool,
}

impl NextFit {
    /// A policy for the frames of `range`.
    pub const fn new(range: Range) -> Self {
        Self { range, cursor: 0, piece: BATCH, exhausted: false }
    }

    /// Chooses among the frames of `range` from now on.
    pub const fn limit(&mut self, range: Range) {
        self.range = range;
        self.cursor = 0;
        self.exhausted = false;
    }

    /// Takes up to `most` frames from the cursor on, until one is not free.
    fn grab(&mut self, calls: &mut dyn MemoryCalls, most: Pages) -> Pages {
        let first = self.range.first.plus(self.cursor);
        let mut got = 0;
        while got < most {
            let piece = self.piece.min(most - got);
            match calls.take(first.plus(got), piece) {
                Ok(()) => {
                    got += piece;
                    self.piece = (piece * 2).min(BATCH);
                }
                Err(_) if piece > 1 => self.piece = piece / 2,
                Err(_) => break,
            }
        }
        got
    }
}

impl FrameSource for NextFit {
    fn take(&mut self, calls: &mut dyn MemoryCalls, least: Pages, most: Pages) -> Option<Run> {
        if self.exhausted || least == 0 || least > most {
            return None;
        }
        let mut looked_at = 0;
        // Twice round: a run may begin below the cursor and end above it.
        while looked_at < 2 * u64::from(self.range.count) {
            let room = self.range.count.saturating_sub(self.cursor);
            if room < least {
                looked_at += u64::from(room.max(1));
                self.cursor = 0;
                continue;
            }
            let got = self.grab(calls, most.min(room));
            let run = Run { first: self.range.first.plus(self.cursor), count: got };
            self.cursor += got;
            if got >= least {
                return Some(run);
            }
            looked_at += u64::from(got) + 1;
            self.cursor += 1;
            give_all(calls, run).ok()?;
        }
        // A shorter run might still be found; a single frame is not.
        self.exhausted = least == 1;
        None
    }

    fn give(&mut self, calls: &mut dyn MemoryCalls, run: Run) -> Result<(), Error> {
        self.exhausted = false;
        give_all(calls, run)
    }
}

/// Takes the lowest run that fits, looking at the frame table.
///
/// **Cost** linear in the frames of the range below the run.
#[derive(Debug)]
pub struct FirstFit<'a> {
    table: &'a [FrameInfo],
    range: Range,
}

impl<'a> FirstFit<'a> {
    /// A policy for the frames of `range`, whose state `table` shows.
    pub const fn new(table: &'a [FrameInfo], range: Range) -> Self {
        Self { table, range }
    }
}

impl FrameSource for FirstFit<'_> {
    fn take(&mut self, calls: &mut dyn MemoryCalls, least: Pages, most: Pages) -> Option<Run> {
        if least == 0 || least > most {
            return None;
        }
        let entries = entries(self.table, self.range);
        let mut start = 0;
        while start < entries.len() {
            let free = entries[start..].iter().take(most as usize).take_while(|e| is_free(e));
            let count = free.count();
            if count >= least as usize {
                let run = Run { first: self.range.first.plus(start as u32), count: count as u32 };
                if take_all(calls, run).is_ok() {
                    return Some(run);
                }
                // Another environment was faster; the table shows it next time.
            }
            start += count + 1;
        }
        None
    }

    fn give(&mut self, calls: &mut dyn MemoryCalls, run: Run) -> Result<(), Error> {
        give_all(calls, run)
    }
}

/// How many frames of `range` are free. A hint: others may take them.
pub fn count_free(table: &[FrameInfo], range: Range) -> Pages {
    entries(table, range).iter().filter(|entry| is_free(entry)).count() as Pages
}

/// The part of `table` that describes `range`.
pub(super) fn entries(table: &[FrameInfo], range: Range) -> &[FrameInfo] {
    let from = (range.first.0 as usize).min(table.len());
    let to = from.saturating_add(range.count as usize).min(table.len());
    &table[from..to]
}

/// Whether the frame of `entry` is free. A hint: others may take it.
pub fn is_free(entry: &FrameInfo) -> bool {
    entry.kind.load(Relaxed) == FrameKind::Free as u8
}

/// Takes a whole run, or nothing.
///
/// # Errors
/// The kernel's refusal, [`Error::NotFree`] above all.
pub fn take_all(calls: &mut dyn MemoryCalls, run: Run) -> Result<(), Error> {
    let mut taken = 0;
    while taken < run.count {
        let piece = (run.count - taken).min(BATCH);
        if let Err(error) = calls.take(run.first.plus(taken), piece) {
            give_all(calls, Run { first: run.first, count: taken })?;
            return Err(error);
        }
        taken += piece;
    }
    Ok(())
}

/// Gives back a run that is mapped nowhere.
///
/// # Errors
/// The kernel's refusal; the frames from the refused [`BATCH`] on are kept.
pub fn give_all(calls: &mut dyn MemoryCalls, run: Run) -> Result<(), Error> {
    let mut given = 0;
    while given < run.count {
        let piece = (run.count - given).min(BATCH);
        calls.free(run.first.plus(given), piece)?;
        given += piece;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use exo_abi::Pfn;

    use super::{FirstFit, FrameSource, NextFit, conformance, count_free, highest_free};
    use crate::memory::model::Model;

    #[test]
    fn conform() {
        conformance::check(|_, range| NextFit::new(range));
        conformance::check(FirstFit::new);
    }

    #[test]
    fn the_highest_free_run_is_found() {
        let model = Model::new(1000, 256, &[255, 250, 100]);
        let highest = |count| highest_free(model.table(), model.range(), count);
        let found = |count| highest(count).map(|run| (run.first.0, run.count));
        assert_eq!(found(4), Some((1251, 4)));
        assert_eq!(found(5), Some((1245, 5)));
        assert_eq!(found(149), Some((1101, 149)));
        assert_eq!((found(150), found(0)), (None, None));
    }

    #[test]
    fn first_fit_takes_the_lowest() {
        let mut model = Model::new(1000, 256, &[0, 2]);
        let mut policy = FirstFit::new(model.table(), model.range());
        assert_eq!(policy.take(&mut model, 1, 8).map(|run| run.first), Some(Pfn(1001)));
        assert_eq!(
            policy.take(&mut model, 2, 8).map(|run| (run.first, run.count)),
            Some((Pfn(1003), 8))
        );
    }

    #[test]
    fn next_fit_makes_few_calls() {
        let mut model = Model::new(0, 4096, &[]);
        let mut policy = NextFit::new(model.range());
        let mut frames = 0;
        while frames < 4096 {
            frames += policy.take(&mut model, 1, 64).unwrap().count;
        }
        assert_eq!(model.calls, 4096 / 64);
        // Exhausted: a policy must not walk the whole grant at each attempt.
        assert!(policy.take(&mut model, 1, 1).is_none());
        let calls = model.calls;
        assert!(policy.take(&mut model, 1, 1).is_none());
        assert_eq!(model.calls, calls);
    }

    #[test]
    fn counting_survives_a_short_table() {
        let model = Model::new(10, 20, &[3]);
        assert_eq!(count_free(model.table(), model.range()), 19);
        assert_eq!(count_free(&model.table()[..15], model.range()), 4);
        assert_eq!(count_free(&[], model.range()), 0);
    }
}
