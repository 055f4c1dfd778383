//! How much memory an item takes: a store is filled with items of one size until it holds no more.

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::contender::Contender;
use crate::request::Request;

/// What stayed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Filled {
    /// Bytes of each key, and of each value.
    pub key_len: u16,
    /// The same of the value.
    pub value_len: u32,
    /// Items that the store holds when it is full.
    pub items: u64,
    /// Bytes of memory for each, beyond key and value.
    pub overhead: f64,
}

/// Stores at a time.
const BATCH: u64 = 1000;

/// Fills a store of `memory` bytes with items of this size.
///
/// # Errors
/// Those of the contender; and what `interrupted` says between batches.
pub fn fill(
    memory: usize,
    (key_len, value_len): (u16, u32),
    contender: &mut dyn Contender,
    interrupted: &dyn Fn() -> Result<()>,
) -> Result<Filled> {
    let item = u64::from(key_len) + u64::from(value_len);
    // Half as many again as if nothing was needed beyond key and value.
    let enough = memory as u64 * 3 / 2 / item;
    let mut stored = 0;
    while stored < enough {
        let requests: Vec<_> = (stored..stored + BATCH)
            .map(|key| Request { key, key_len, value_len, ttl: 0, write: true })
            .collect();
        contender.store(&requests)?;
        stored += BATCH;
        interrupted()?;
    }
    let items = contender.items()?;
    ensure!(items < stored, "{items} items, all of them: the store is not full");
    let overhead = memory as f64 / items.max(1) as f64 - item as f64;
    Ok(Filled { key_len, value_len, items, overhead })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Ours;
    use kvstore::engine::Eviction;

    #[test]
    fn what_an_item_takes_is_its_header_its_suffix_and_what_is_lost() {
        let mut memory = vec![0; 4 << 20];
        let len = memory.len();
        let mut ours = Ours::new(&mut memory, Eviction::default()).unwrap();
        // A header of 21 bytes, nine of text, and the index: this size fills its chunk.
        let filled = fill(len, (16, 10), &mut ours, &|| Ok(())).unwrap();
        assert!((30.0..34.0).contains(&filled.overhead), "{filled:?}");
    }
}
