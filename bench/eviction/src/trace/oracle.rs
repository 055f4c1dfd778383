//! `oracleGeneral`: records of 24 bytes, little-endian: seconds (`u32`), number of the object
//! (`u64`), bytes of the object (`u32`), index of its next access (`i64`).

use std::io::Read;

use anyhow::{Result, bail};

use super::Timed;
use crate::request::Request;

const RECORD: usize = 24;
/// What of an object's bytes is taken to be its key.
const KEY: u16 = 16;
/// The largest value that a store with the usual limit takes.
const MOST: u32 = 1_000_000;

/// Reads at most so many requests.
pub(super) fn read(mut input: impl Read, most: usize) -> Result<Vec<Timed>> {
    let mut requests = Vec::new();
    let mut record = Vec::with_capacity(RECORD);
    while requests.len() < most {
        record.clear();
        input.by_ref().take(RECORD as u64).read_to_end(&mut record)?;
        match record.len() {
            0 => break,
            RECORD => {}
            rest => bail!("the last record has {rest} bytes of {RECORD}"),
        }
        let number = |from: usize, to: usize| {
            record[from..to].iter().rev().fold(0_u64, |n, &byte| n << 8 | u64::from(byte))
        };
        let value_len = (number(12, 16) as u32).saturating_sub(u32::from(KEY)).min(MOST);
        let request = Request { key: number(4, 12), key_len: KEY, value_len, ttl: 0, write: false };
        requests.push((number(0, 4), request));
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_libcachesim_writes_them() {
        let record = |time: u32, object: u64, size: u32| {
            [&time.to_le_bytes()[..], &object.to_le_bytes(), &size.to_le_bytes(), &[0xff; 8]]
                .concat()
        };
        let bytes = [record(9, 0x0123_4567_89ab, 116), record(10, 2, 3)].concat();
        let requests = read(&bytes[..], 9).unwrap();
        assert_eq!(requests.len(), 2);
        assert_eq!((requests[0].0, requests[0].1.key), (9, 0x0123_4567_89ab));
        assert_eq!((requests[0].1.value_len, requests[1].1.value_len), (100, 0));
        assert!(read(&bytes[..30], 9).is_err());
    }
}
