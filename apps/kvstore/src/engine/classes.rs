//! The sizes of chunks: one class for each bucket.
//!
//! Item sizes are divided by a geometric scale, so that the part of a chunk lost
//! to rounding is bounded by the growth factor whatever the size. Small items,
//! which are the common ones, get finer steps, if there are pages enough for as many buckets: up to
//! [`FINE`] bytes chunks grow by half of what larger ones do. Each class then widens its chunk
//! to what the page divides into evenly: the rounding goes to items instead of the
//! end of the page.

use super::config::{Config, SetupError};

/// The most buckets a store can have.
pub(super) const MAX_CLASSES: usize = 58;

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
        Self { chunk: chunk(per_slab), span: 1, per_slab }
    }
}

/// All classes, by rising chunk size.
pub(super) struct Classes {
    list: [Class; MAX_CLASSES],
    len: usize,
    /// The class that holds so many times eight bytes.
    small: [u8; SMALL],
}

/// Chunks up to this size grow slowly.
const FINE: u32 = 640;

/// With so many pages there are some for each of more buckets.
pub(super) const ENOUGH: usize = 512;

/// Sizes in units of eight bytes for which a table tells the class.
const SMALL: usize = 256;

impl Classes {
    /// The classes from `config.min_chunk` up to the first that holds `max_item`, for so many
    /// pages.
    pub(super) fn new(config: &Config, max_item: u32, pages: usize) -> Result<Self, SetupError> {
        if !(101..=400).contains(&config.growth_percent) {
            return Err(SetupError::BadGrowth);
        }
        let list = [Class::default(); MAX_CLASSES];
        let mut classes = Self { list, len: 0, small: [0; SMALL] };
        let fine = if pages < ENOUGH { 0 } else { FINE };
        let (mut least, mut size) = (config.min_chunk, config.min_chunk);
        loop {
            let least_chunk = least.next_multiple_of(8);
            let class = Class::between(least_chunk, size.max(least_chunk), config.page_size);
            *classes.list.get_mut(classes.len).ok_or(SetupError::BadGrowth)? = class;
            classes.len += 1;
            if class.chunk >= max_item {
                classes.tell_small();
                return Ok(classes);
            }
            least = class.chunk + 1;
            let growth = config.growth_percent - 100;
            let growth = 100 + if class.chunk < fine { growth.div_ceil(2) } else { growth };
            size = (u64::from(class.chunk) * u64::from(growth) / 100) as u32;
            size = size.min(max_item.next_multiple_of(8));
        }
    }

    /// The smallest class that holds `bytes`. `None` if none does.
    pub(super) fn holding(&self, bytes: usize) -> Option<ClassId> {
        let small = self.small.get(bytes.div_ceil(8));
        let class = small.map_or_else(|| self.search(bytes), |class| usize::from(*class));
        (class < self.len).then_some(ClassId(class as u8))
    }

    /// Fills the table. In place, and not part of what calls it: Linux's kernel has a small stack.
    #[inline(never)]
    fn tell_small(&mut self) {
        for eights in 0..SMALL {
            self.small[eights] = self.search(8 * eights) as u8;
        }
    }

    fn search(&self, bytes: usize) -> usize {
        self.all().partition_point(|class| (class.chunk as usize) < bytes)
    }

    pub(super) fn get(&self, id: ClassId) -> Class {
        self.list[usize::from(id.0)]
    }

    pub(super) fn all(&self) -> &[Class] {
        &self.list[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_rise_and_lose_no_more_than_the_growth_factor() {
        let config = Config::default();
        let few = Classes::new(&config, config.max_item, ENOUGH - 1).unwrap();
        assert_eq!(few.all().len(), 45, "as the documentation of `Config` has it");
        let classes = Classes::new(&config, config.max_item, ENOUGH).unwrap();
        assert_eq!(classes.all().len(), 57, "each has pages in a store of 64 MiB");
        assert!(classes.all().is_sorted_by(|a, b| a.chunk < b.chunk));
        for class in classes.all() {
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
                assert!(chunk <= bytes * 5 / 4 + 8, "{bytes} in {chunk}");
            }
        }
        assert!(classes.holding(config.max_item as usize + 1).is_none());
    }

    #[test]
    fn too_fine_a_scale_is_refused() {
        let config = Config { growth_percent: 105, ..Config::default() };
        assert_eq!(Classes::new(&config, 1 << 20, 1).err(), Some(SetupError::BadGrowth));
    }
}
