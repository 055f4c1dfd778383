//! What can be chosen when a store is made, and how its memory is divided.
//!
//! ```text
//! | pages: cut into chunks for items ... | index | page table | tables by bucket | hot keys | lists | ghosts |
//! ```
//!
//! The index gets one four-byte chain head for each 128 bytes of memory, about
//! one for each item of the size that small-value stores see; the page table 16
//! bytes a page. Both together take 3.2 % of the memory, tables by bucket and hot keys 13 KiB. What
//! follows is there if the policy of eviction asks for it.

use super::classes::CLASSES;
use super::eviction::Eviction;
use super::hot::HOT;
use super::item::MAX_WIRE;
use super::rebalance::PRESSURE;
use super::slabs::BUCKETS;

/// The parameters of a store.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes in a page, the unit in which memory moves between buckets. A power of
    /// two, 4 KiB to 1 MiB.
    ///
    /// A small page lets a small memory serve many item sizes and makes taking a
    /// page from a bucket cheap (at most `page_size / min_chunk` evictions); a
    /// large page wastes less at its end. The default, 64 KiB, gives 247 pages in
    /// 16 MiB for 46 buckets, and evicts at most 1,638 items at once.
    pub page_size: u32,
    /// Bytes in the smallest chunk, at least 32. An item takes 21 bytes, its key,
    /// the text of its flags and length, its value and two line ends; four more if it ends.
    pub min_chunk: u32,
    /// How much larger each bucket's chunk is than that of the bucket before, in
    /// percent: 125 means a quarter. In a store of 512 pages or more they
    /// grow by half as much, chunks below 640 bytes by a quarter of it. Bounds the memory lost
    /// inside chunks.
    pub growth_percent: u32,
    /// The largest item, in bytes, header and key included. Above a page, an item
    /// takes several contiguous pages. Never more than half of all pages.
    pub max_item: u32,
    /// The secret of the index. Draw it from a source clients cannot guess.
    pub seed: [u64; 2],
    /// What `stats` gives as `pid`: the process or environment number.
    pub pid: u32,
    /// Which items are given up first. Those that keep lists add 8 bytes to each item.
    pub eviction: Eviction,
}

impl Default for Config {
    /// 64 KiB pages, chunks from 40 bytes growing by a quarter, items to 1 MiB. The
    /// seed is zero: set it.
    fn default() -> Self {
        Self {
            page_size: 64 << 10,
            min_chunk: 40,
            growth_percent: 125,
            max_item: 1 << 20,
            seed: [0; 2],
            pid: 0,
            eviction: Eviction::default(),
        }
    }
}

/// Why a store could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// The memory does not hold two pages besides the index.
    TooLittleMemory,
    /// More than 32 GiB - 8 bytes: item references have 32 bits, in units of 8 bytes. Half of
    /// that if the policy of eviction keeps lists.
    TooMuchMemory,
    /// `page_size` is not a power of two from 4 KiB to 1 MiB.
    BadPageSize,
    /// `min_chunk` is below 32 or above a page, or `max_item` below `min_chunk` or
    /// above 8 MiB - 1.
    BadItemSize,
    /// The chunk sizes from `min_chunk` to `max_item` by `growth_percent` are more
    /// than 96, or `growth_percent` is not from 101 to 400.
    BadGrowth,
}

/// Bytes of a page-table entry.
pub(super) const PAGE_ENTRY: usize = 16;

/// Bytes of what is kept for each bucket, and of hot keys.
pub(super) const TABLES: usize = CLASSES + BUCKETS + PRESSURE + HOT;

/// How a memory is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes of the heap: a whole number of pages.
    pub(super) heap: usize,
    /// Number of chain heads.
    pub(super) heads: usize,
    /// Bytes of the policy's lists, and of its ghosts.
    pub(super) lists: usize,
    pub(super) ghosts: usize,
}

impl Config {
    pub(super) fn layout(&self, bytes: usize) -> Result<Layout, SetupError> {
        if !self.page_size.is_power_of_two() || !(4 << 10..=1 << 20).contains(&self.page_size) {
            return Err(SetupError::BadPageSize);
        }
        if !(32..=self.page_size).contains(&self.min_chunk)
            || !(self.min_chunk..=MAX_WIRE).contains(&self.max_item)
        {
            return Err(SetupError::BadItemSize);
        }
        let links = self.eviction.links();
        if bytes as u64 >= (if links > 0 { 4 } else { 8 }) << 32 {
            return Err(SetupError::TooMuchMemory);
        }
        let page = self.page_size as usize;
        let heads = (bytes / 128).max(1);
        let (lists, ghosts) = (self.eviction.lists(), self.eviction.ghosts(heads));
        let other = heads * 4 + TABLES + lists + ghosts;
        let pages = bytes.saturating_sub(other) / (page + PAGE_ENTRY);
        if pages < 2 {
            return Err(SetupError::TooLittleMemory);
        }
        Ok(Layout { heap: pages * page, heads, lists, ghosts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fit_the_memory() {
        for bytes in [200 << 10, 1 << 20, (16 << 20) + 12345, 64 << 20, 1 << 30] {
            for eviction in Eviction::ALL {
                let config = Config { eviction, ..Config::default() };
                let layout = config.layout(bytes).unwrap();
                let pages = layout.heap / config.page_size as usize;
                let index = layout.heads * 4 + pages * PAGE_ENTRY + TABLES;
                let used = layout.heap + index + layout.lists + layout.ghosts;
                assert!(used <= bytes);
                assert!(bytes - used < config.page_size as usize + PAGE_ENTRY, "{bytes}");
                assert!(layout.heads * 32 <= bytes, "index takes too much of {bytes}");
            }
        }
    }

    #[test]
    fn bad_parameters_are_refused() {
        let good = Config::default();
        let try_it = |config: Config| config.layout(1 << 20).err();
        assert_eq!(try_it(good), None);
        assert_eq!(try_it(Config { page_size: 65535, ..good }), Some(SetupError::BadPageSize));
        assert_eq!(try_it(Config { page_size: 2048, ..good }), Some(SetupError::BadPageSize));
        assert_eq!(try_it(Config { min_chunk: 24, ..good }), Some(SetupError::BadItemSize));
        assert_eq!(try_it(Config { max_item: 16, ..good }), Some(SetupError::BadItemSize));
        assert_eq!(good.layout(100 << 10), Err(SetupError::TooLittleMemory));
        assert_eq!(good.layout(0), Err(SetupError::TooLittleMemory));
        assert_eq!(good.layout(8 << 32), Err(SetupError::TooMuchMemory));
    }
}
