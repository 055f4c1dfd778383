//! Lines of `timestamp,anonymized key,key size,value size,client id,operation,TTL`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::BufRead;

use anyhow::{Context, Result};

use super::Timed;
use crate::request::Request;

/// The largest value that a store with the usual limit takes.
const MOST: u32 = 1_000_000;

/// Reads at most so many requests. Deletions and what reads or stores nothing are passed over.
pub(super) fn read(input: impl BufRead, most: usize) -> Result<Vec<Timed>> {
    let mut requests = Vec::new();
    for (number, line) in input.lines().enumerate() {
        if requests.len() == most {
            break;
        }
        let line = line?;
        if let Some(request) =
            parse(&line).with_context(|| format!("line {}: {line}", number + 1))?
        {
            requests.push(request);
        }
    }
    Ok(requests)
}

fn parse(line: &str) -> Result<Option<Timed>> {
    // A key may have commas in it.
    let mut fields = line.rsplitn(6, ',');
    let mut field = || fields.next().context("fewer than seven fields");
    let ttl = field()?.parse().context("TTL")?;
    let operation = field()?;
    let _client = field()?;
    let value_len: u32 = field()?.parse().context("value size")?;
    let key_len = field()?.parse().context("key size")?;
    let (time, key) = field()?.split_once(',').context("fewer than seven fields")?;
    let write = match operation {
        "get" | "gets" => false,
        "set" | "add" | "replace" | "cas" | "append" | "prepend" | "incr" | "decr" => true,
        _ => return Ok(None),
    };
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let key = hasher.finish();
    let request = Request { key, key_len, value_len: value_len.min(MOST), ttl, write };
    Ok(Some((time.parse().context("timestamp")?, request)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_published() {
        let text =
            "0,q:q:1:8WTfjZU14ee,17,213,4,get,0\n5,a,b,3,0,1,delete,0\n7,yDqF,40,9,1,set,30\n";
        let requests = read(text.as_bytes(), 9).unwrap();
        assert_eq!(requests.len(), 2);
        let (time, request) = requests[1];
        assert_eq!((time, request.key_len, request.value_len), (7, 40, 9));
        assert_eq!((request.ttl, request.write), (30, true));
        assert!(!requests[0].1.write && requests[0].1.key != request.key);
        assert_eq!(read(text.as_bytes(), 1).unwrap().len(), 1);
        assert!(read(&b"0,k,1,x,1,get,0\n"[..], 9).is_err());
        assert!(read(&b"0,k,1,get,0\n"[..], 9).is_err());
    }
}
