//! Frames of a size and alignment, and frames of a cache colour.
//!
//! The kernel has no "any frame" and no sizes: it takes frames by name and publishes
//! which are free (the frame table). Which of them suit is looked up here, as an
//! ordinary read of that table, and then they are taken by name. Between look and take
//! another environment may have been first; the kernel then refuses, and the next that suits
//! is tried.
//!
//! An *order* is a power of two: `2^k` frames whose first number is a multiple of
//! `2^k`, as large pages and devices want them. A *colour* is what decides into which
//! sets of a physically indexed cache a page falls (Kessler and Hill, TOCS 1992): pages
//! of different colours never compete for a line.

use exo_abi::{FRAME_BYTES, FrameInfo, Pages, Pfn};

use super::frames::{FrameSource, entries, give_all, is_free, take_all};
use super::{BATCH, MemoryCalls, Range, Run};

/// Largest order: 1 GiB.
pub const MAX_ORDER: u32 = 18;

/// Looks that are lost to others before giving up.
const PASSES: u32 = 4;

/// Chooses from a grant by what the frame table shows.
///
/// **Trust** none needed: the table is a hint, and the kernel decides. **Cost** linear
/// in the frames looked at, and one crossing per [`BATCH`] frames taken.
#[derive(Clone, Copy, Debug)]
pub struct Chooser<'a> {
    table: &'a [FrameInfo],
    range: Range,
}

/// How many colours there are: a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Colours(u32);

impl Colours {
    /// `count` colours, if that is a power of two.
    pub const fn new(count: u32) -> Option<Self> {
        if count.is_power_of_two() { Some(Self(count)) } else { None }
    }

    /// The colours of a cache of `bytes` bytes with `ways` ways: its pages per way.
    pub const fn of_cache(bytes: u64, ways: u32) -> Option<Self> {
        if ways == 0 {
            return None;
        }
        let count = bytes / ways as u64 / FRAME_BYTES;
        if count > u32::MAX as u64 { None } else { Self::new(count as u32) }
    }

    /// How many.
    pub const fn count(self) -> u32 {
        self.0
    }

    /// The colour of a frame, below [`Colours::count`].
    pub const fn of(self, frame: Pfn) -> u32 {
        frame.0 & (self.0 - 1)
    }
}

impl<'a> Chooser<'a> {
    /// Chooses from `range`, whose state `table` shows.
    pub const fn new(table: &'a [FrameInfo], range: Range) -> Self {
        Self { table, range }
    }

    /// Takes `2^order` frames whose first is a multiple of that, zeroed. The lowest such.
    ///
    /// Returns `None` if there are none, or others were always first, or `order` is
    /// above [`MAX_ORDER`].
    pub fn take_order(&self, calls: &mut dyn MemoryCalls, order: u32) -> Option<Run> {
        if order > MAX_ORDER {
            return None;
        }
        let count: Pages = 1 << order;
        for _ in 0..PASSES {
            let mut lost = false;
            let mut first = self.range.first.0.checked_next_multiple_of(count)?;
            while let Some(free) = self.free_from(first, count) {
                let run = Run { first: Pfn(first), count };
                if free == count && take_all(calls, run).is_ok() {
                    return Some(run);
                }
                lost |= free == count;
                first = first.checked_add(count)?;
            }
            if !lost {
                return None;
            }
        }
        None
    }

    /// Takes single frames of the colour `colour` for all of `frames`, zeroed, the
    /// lowest first. Returns how many there were; the rest of `frames` is unchanged.
    pub fn take_coloured(
        &self,
        calls: &mut dyn MemoryCalls,
        colours: Colours,
        colour: u32,
        frames: &mut [Pfn],
    ) -> usize {
        let mut got = 0;
        for _ in 0..PASSES {
            let mut lost = false;
            let start = self.range.first;
            let ahead = colour.wrapping_sub(colours.of(start)) & (colours.count() - 1);
            let entries = entries(self.table, self.range).iter();
            let suiting = entries.enumerate().skip(ahead as usize).step_by(colours.0 as usize);
            for (offset, entry) in suiting {
                let Some(place) = frames.get_mut(got) else { return got };
                let frame = start.plus(offset as Pages);
                if !is_free(entry) {
                    continue;
                }
                if calls.take(frame, 1).is_ok() {
                    *place = frame;
                    got += 1;
                } else {
                    lost = true;
                }
            }
            if !lost {
                break;
            }
        }
        got
    }

    /// Gives back what was taken and is mapped nowhere.
    ///
    /// # Errors
    /// The kernel's refusal; the frames from the refused [`BATCH`] on are kept.
    pub fn give(&self, calls: &mut dyn MemoryCalls, run: Run) -> Result<(), exo_abi::Error> {
        give_all(calls, run)
    }

    /// How many frames from `first` on are free without a gap, at most `count`; `None`
    /// if the range has no `count` frames there.
    fn free_from(&self, first: u32, count: Pages) -> Option<Pages> {
        let offset = first.checked_sub(self.range.first.0)? as usize;
        let run = entries(self.table, self.range).get(offset..)?.get(..count as usize)?;
        Some(run.iter().take_while(|entry| is_free(entry)).count() as Pages)
    }
}

/// A [`FrameSource`] of one colour: single frames only.
#[derive(Debug)]
pub struct Coloured<'a> {
    chooser: Chooser<'a>,
    colours: Colours,
    colour: u32,
}

impl<'a> Coloured<'a> {
    /// The frames of colour `colour` among those that `chooser` chooses from.
    pub const fn new(chooser: Chooser<'a>, colours: Colours, colour: u32) -> Self {
        Self { chooser, colours, colour }
    }
}

impl FrameSource for Coloured<'_> {
    fn take(&mut self, calls: &mut dyn MemoryCalls, least: Pages, most: Pages) -> Option<Run> {
        if least != 1 || most == 0 {
            return None;
        }
        let mut frame = [Pfn(0)];
        match self.chooser.take_coloured(calls, self.colours, self.colour, &mut frame) {
            0 => None,
            _ => Some(Run { first: frame[0], count: 1 }),
        }
    }

    fn give(&mut self, calls: &mut dyn MemoryCalls, run: Run) -> Result<(), exo_abi::Error> {
        give_all(calls, run)
    }
}

const _: () = assert!(BATCH.is_power_of_two());

#[cfg(test)]
mod tests {
    use exo_abi::{Error, Level, Pages, Pfn, Protection, VirtAddr};
    use proptest::prelude::*;

    use super::{Chooser, Coloured, Colours, MAX_ORDER};
    use crate::memory::MemoryCalls;
    use crate::memory::frames::conformance;
    use crate::memory::model::Model;

    /// A kernel in which another environment takes a frame just before each of the first
    /// `times` attempts.
    struct Rival {
        model: Model,
        times: u32,
        took: u32,
    }

    impl MemoryCalls for Rival {
        fn take(&mut self, first: Pfn, count: Pages) -> Result<(), Error> {
            if self.times > 0 {
                self.times -= 1;
                if self.model.take_for_another(first) {
                    self.took += 1;
                }
            }
            self.model.take(first, count)
        }

        fn free(&mut self, first: Pfn, count: Pages) -> Result<(), Error> {
            self.model.free(first, count)
        }

        fn install_table(&mut self, at: VirtAddr, level: Level, pfn: Pfn) -> Result<(), Error> {
            self.model.install_table(at, level, pfn)
        }

        fn map(
            &mut self,
            first: Pfn,
            at: VirtAddr,
            count: Pages,
            how: Protection,
        ) -> Result<(), Error> {
            self.model.map(first, at, count, how)
        }

        fn unmap(&mut self, at: VirtAddr, count: Pages) -> Result<(), Error> {
            self.model.unmap(at, count)
        }
    }

    fn chooser(model: &Model) -> Chooser<'static> {
        Chooser::new(model.table(), model.range())
    }

    #[test]
    fn orders_are_aligned_and_lowest() {
        let mut model = Model::new(1003, 2000, &[30, 200]);
        let chooser = chooser(&model);
        // 1033 and 1203 are taken.
        let firsts = [(0, 1003), (3, 1008), (4, 1040), (6, 1088), (7, 1280), (9, 1536)];
        for (order, first) in firsts {
            let run = chooser.take_order(&mut model, order).expect("there is one");
            assert_eq!((run.first, run.count), (Pfn(first), 1 << order));
            assert!((0..run.count).all(|frame| model.is_own(run.first.plus(frame))));
        }
        let own = model.own_count();
        assert!(chooser.take_order(&mut model, 11).is_none());
        assert!(chooser.take_order(&mut model, MAX_ORDER + 1).is_none());
        assert_eq!(model.own_count(), own);
    }

    #[test]
    fn loses_nothing_to_a_rival_but_what_the_rival_took() {
        for times in 0..40 {
            let model = Model::new(512, 1024, &[]);
            let chooser = chooser(&model);
            let mut rival = Rival { model, times, took: 0 };
            let run = chooser.take_order(&mut rival, 7);
            let own = rival.model.own_count();
            assert_eq!(own, run.map_or(0, |run| run.count as usize));
            assert_eq!(own + rival.model.free_count() + rival.took as usize, 1024);
            // The rival takes one of each of the eight runs there are.
            assert_eq!(run.is_some(), times < 8, "{times}");
        }
    }

    #[test]
    fn colours_go_round() {
        let colours = Colours::new(8).unwrap();
        let taken: Vec<u32> = (0..64).filter(|frame| frame % 3 == 0).collect();
        let mut model = Model::new(1005, 64, &taken);
        let chooser = chooser(&model);
        let mut all = 0;
        for colour in 0..8 {
            let mut frames = [Pfn(0); 64];
            let got = chooser.take_coloured(&mut model, colours, colour, &mut frames);
            assert!(frames[..got].iter().all(|&frame| colours.of(frame) == colour));
            assert!(frames[..got].is_sorted() && got >= 5);
            all += got;
        }
        assert_eq!((all, model.free_count()), (64 - taken.len(), 0));
    }

    #[test]
    fn takes_no_more_than_wanted() {
        let colours = Colours::new(4).unwrap();
        let mut model = Model::new(7, 100, &[]);
        let chooser = chooser(&model);
        let mut frames = [Pfn(0); 3];
        assert_eq!(chooser.take_coloured(&mut model, colours, 2, &mut frames), 3);
        assert_eq!(frames, [Pfn(10), Pfn(14), Pfn(18)]);
        assert_eq!(model.own_count(), 3);
        // Colours are counted modulo their number.
        assert_eq!(chooser.take_coloured(&mut model, colours, 6, &mut frames[..1]), 1);
        assert_eq!(frames[0], Pfn(22));
        assert_eq!(chooser.take_coloured(&mut model, colours, 0, &mut []), 0);
    }

    #[test]
    fn another_frame_of_the_colour_when_a_rival_was_first() {
        let colours = Colours::new(4).unwrap();
        let model = Model::new(0, 64, &[]);
        let chooser = chooser(&model);
        let mut rival = Rival { model, times: 3, took: 0 };
        let mut frames = [Pfn(0); 2];
        assert_eq!(chooser.take_coloured(&mut rival, colours, 1, &mut frames), 2);
        assert_eq!((frames, rival.took), ([Pfn(13), Pfn(17)], 3));
    }

    #[test]
    fn one_colour_is_a_frame_source_like_any() {
        let model = Model::new(1000, 256, &[1, 2, 77]);
        let chooser = chooser(&model);
        let one = Colours::new(1).unwrap();
        conformance::single_frames_until_none(&mut Coloured::new(chooser, one, 0), &mut { model });
    }

    #[test]
    fn colours_of_caches() {
        // 2 MiB, 16 ways: 32 pages in each way.
        assert_eq!(Colours::of_cache(2 << 20, 16).map(Colours::count), Some(32));
        assert_eq!(Colours::of_cache(3 << 20, 16), None);
        assert_eq!(Colours::of_cache(1 << 20, 0), None);
        assert_eq!(Colours::new(0), None);
    }

    proptest! {
        /// Against a plain search.
        #[test]
        fn finds_a_run_exactly_when_there_is_one(
            first in 0_u32..300,
            taken in prop::collection::vec(0_u32..200, 0..12),
            order in 0_u32..8,
        ) {
            let mut model = Model::new(first, 200, &taken);
            let size = 1 << order;
            let fits = |start: u32| {
                start.is_multiple_of(size)
                    && start + size <= first + 200
                    && !(start..start + size).any(|frame| taken.contains(&(frame - first)))
            };
            let wanted = (first..first + 200).find(|&start| fits(start));
            let found = chooser(&model).take_order(&mut model, order);
            prop_assert_eq!(found.map(|run| run.first.0), wanted);
        }
    }
}
