//! The sizes of chunks: one class for each bucket.
//!
//! Item sizes are divided by a geometric scale, so that the part of a chunk lost
//! to rounding is bounded by the growth factor whatever the size. Small items,
//! which are the common ones, get finer steps. In a store that has pages enough for many buckets,
//! all steps are half of what the configuration says, and those up to [`FINE`] bytes a
//! quarter. Each class then widens its chunk to what the page divides into evenly: the rounding
//! goes to items instead of the end of the page.

use super::config::{Config, SetupError};
use super::table::{Record, Table};

/// The most buckets a store can have.
pub(super) const MAX_CLASSES: usize = 96;

/// The number of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClassId(pub(super) u8);

/// The shape of one bucket's slabs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Class {
    /// Bytes in a chunk: a multiple of 8.
    pub(super) chunk: u32,
    /// Contiguous pages in a slab. 1 unless a chunk is larger than a page.
    pub(super) span: u32,
    /// Chunks in a slab. 1 if `span` is above 1.
    pub(super) per_slab: u32,
}

impl Class {
    /// The class with the largest chunk of at most `size` bytes that divides a page
    /// evenly, and holds at least `least`.
    fn between(least: u32, size: u32, page: u32) -> Self {
        if least > page {
            let span = least.max(size).div_ceil(page);
            return Self { chunk: span * page, span, per_slab: 1 };
        }
        let chunk = |per_slab| (page / per_slab) & !7;
        let per_slab = page.div_ceil(size);
        let per_slab = if chunk(per_slab) < least { page / least } else { per_slab };
        let chunk = chunk(per_slab);
        Self { chunk, span: 1, per_slab: page / chunk }
    }
}

impl Record<12> for Class {
    #[inline]
    fn decode(b: &[u8; 12]) -> Self {
        let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        Self { chunk: word(0), span: word(4), per_slab: word(8) }
    }

    fn encode(self) -> [u8; 12] {
        let mut b = [0; 12];
        b[..4].copy_from_slice(&self.chunk.to_le_bytes());
        b[4..8].copy_from_slice(&self.span.to_le_bytes());
        b[8..].copy_from_slice(&self.per_slab.to_le_bytes());
        b
    }
}

/// All classes, by rising chunk size.
pub(super) struct Classes<'m> {
    list: Table<'m, Class, 12>,
    len: u8,
    /// The class that holds so many times eight bytes.
    small: &'m mut [u8],
}

/// Chunks up to this size grow more slowly than others, in a store of many pages.
const FINE: u32 = 640;

/// With so many pages there are some for each of more buckets.
pub(super) const ENOUGH: usize = 512;

/// Sizes in units of eight bytes for which a table tells the class.
const SMALL: usize = 256;

/// Bytes of the classes' tables.
pub(super) const CLASSES: usize = Table::<Class, 12>::BYTES + SMALL;

impl<'m> Classes<'m> {
    /// The classes from `config.min_chunk` up to the first that holds `max_item`, for so many
    /// pages, in [`CLASSES`] bytes of `memory`; and what is left of that.
    pub(super) fn new(
        memory: &'m mut [u8],
        config: &Config,
        max_item: u32,
        pages: usize,
    ) -> Result<(Self, &'m mut [u8]), SetupError> {
        let len = Self::count(config, max_item, pages)?;
        let (mut list, rest) = Table::new(memory, Class::default());
        for (class, number) in scale(config, max_item, pages).zip(0..len) {
            list.set(ClassId(number), class);
        }
        let (small, rest) = rest.split_at_mut(SMALL);
        let classes = Self { list, len, small };
        for eights in 0..SMALL {
            classes.small[eights] = classes.search(8 * eights);
        }
        Ok((classes, rest))
    }

    /// How many classes that makes.
    ///
    /// # Errors
    /// If they are too many.
    pub(super) fn count(config: &Config, max_item: u32, pages: usize) -> Result<u8, SetupError> {
        if !(101..=400).contains(&config.growth_percent) {
            return Err(SetupError::BadGrowth);
        }
        let count = scale(config, max_item, pages).take(MAX_CLASSES + 1).count();
        if count > MAX_CLASSES { Err(SetupError::BadGrowth) } else { Ok(count as u8) }
    }

    /// The smallest class that holds `bytes`. `None` if none does.
    #[inline(always)]
    pub(super) fn holding(&self, bytes: usize) -> Option<ClassId> {
        let small = self.small.get(bytes.div_ceil(8));
        let class = small.map_or_else(|| self.search(bytes), |class| *class);
        (class < self.len).then_some(ClassId(class))
    }

    #[inline(never)]
    fn search(&self, bytes: usize) -> u8 {
        let (mut from, mut to) = (0, self.len);
        while from < to {
            let middle = from.midpoint(to);
            let is_small = (self.get(ClassId(middle)).chunk as usize) < bytes;
            (from, to) = if is_small { (middle + 1, to) } else { (from, middle) };
        }
        from
    }

    #[inline]
    pub(super) fn get(&self, id: ClassId) -> Class {
        self.list.get(id)
    }

    /// All there are.
    pub(super) fn ids(&self) -> impl Iterator<Item = ClassId> + use<> {
        (0..self.len).map(ClassId)
    }
}

/// The classes that the configuration asks for, whatever their number.
fn scale(config: &Config, max_item: u32, pages: usize) -> impl Iterator<Item = Class> {
    let growth = u64::from(config.growth_percent - 100);
    let grown = move |chunk: u32| {
        let parts = match pages < ENOUGH {
            true => 100,
            false if chunk < FINE => 400,
            false => 200,
        };
        chunk + (u64::from(chunk) * growth / parts) as u32
    };
    let class = |least: u32, size: u32| {
        let least = least.next_multiple_of(8);
        Class::between(least, size.max(least), config.page_size)
    };
    let first = class(config.min_chunk, config.min_chunk);
    core::iter::successors(Some(first), move |last| {
        let size = grown(last.chunk).min(max_item.next_multiple_of(8));
        (last.chunk < max_item).then(|| class(last.chunk + 1, size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn sizes_rise_and_lose_no_more_than_the_growth_factor() {
        let config = Config::default();
        let few = Classes::count(&config, config.max_item, ENOUGH - 1);
        assert_eq!(few, Ok(46), "as the documentation of `Config` has it");
        let mut memory = [0xa5; CLASSES];
        let (classes, _) = Classes::new(&mut memory, &config, config.max_item, ENOUGH).unwrap();
        let all: Vec<_> = classes.ids().map(|id| classes.get(id)).collect();
        assert_eq!(all.len(), 94, "each has pages in a store of 64 MiB");
        assert!(all.is_sorted_by(|a, b| a.chunk < b.chunk));
        for class in all {
            assert!(class.per_slab * class.chunk <= class.span * config.page_size);
            assert!(
                class.span * config.page_size - class.per_slab * class.chunk < 8 * class.per_slab
            );
            assert_eq!(class.chunk % 8, 0);
        }
        for bytes in 1..=config.max_item as usize {
            let chunk = classes.get(classes.holding(bytes).unwrap()).chunk as usize;
            assert!(chunk >= bytes);
            // Where a page holds eight chunks or more, nothing but growth is lost,
            // and the rounding to eight bytes.
            if (48..=8 << 10).contains(&bytes) {
                assert!(chunk <= bytes * 9 / 8 + 8, "{bytes} in {chunk}");
            }
        }
        assert!(classes.holding(config.max_item as usize + 1).is_none());
    }

    #[test]
    fn too_fine_a_scale_is_refused() {
        let config = Config { growth_percent: 105, ..Config::default() };
        assert_eq!(Classes::count(&config, 1 << 20, 1), Err(SetupError::BadGrowth));
    }
}
