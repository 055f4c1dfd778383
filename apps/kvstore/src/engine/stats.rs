//! What the store counts. Names are those of memcached's `stats`.

/// Events since the start or the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the names are those of protocol.txt, \"General-purpose statistics\""
)]
pub struct Stats {
    pub cmd_set: u64,
    pub cmd_flush: u64,
    pub get_hits: u64,
    pub get_misses: u64,
    pub get_expired: u64,
    pub get_flushed: u64,
    pub delete_hits: u64,
    pub delete_misses: u64,
    pub incr_hits: u64,
    pub incr_misses: u64,
    pub decr_hits: u64,
    pub decr_misses: u64,
    pub cas_hits: u64,
    pub cas_misses: u64,
    pub cas_badval: u64,
    pub touch_hits: u64,
    pub touch_misses: u64,
    pub store_too_large: u64,
    pub store_no_memory: u64,
    pub total_items: u64,
    /// Items given up that clients could still have read.
    pub evictions: u64,
    /// Expired or flushed items whose memory was taken for another item.
    pub reclaimed: u64,
    /// Bytes of datagrams taken in, counted by the service.
    pub bytes_read: u64,
    /// Bytes of datagrams given out, counted by the service.
    pub bytes_written: u64,
}

/// What the memory holds now. Sizes are in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Items in the index, those included that have expired but were not met since.
    pub items: u64,
    /// Bytes those items take: header, key, suffix, value.
    pub bytes: u64,
    /// The memory given to the store.
    pub limit: u64,
    /// Of which the index takes this.
    pub index: u64,
    /// Pages in all.
    pub pages: u64,
    /// Pages in no bucket.
    pub free_pages: u64,
    /// Bytes in a page.
    pub page_size: u64,
}

/// What one bucket of the allocator holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketUsage {
    /// Its number, from 0.
    pub class: u8,
    /// Bytes in a chunk.
    pub chunk: u64,
    /// Chunks in a slab.
    pub per_slab: u64,
    /// Pages of its slabs.
    pub pages: u64,
    /// Chunks of its slabs.
    pub chunks: u64,
    /// Of these, how many hold an item.
    pub used: u64,
}
