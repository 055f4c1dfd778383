//! Public traces.
//!
//! | file | format |
//! |---|---|
//! | [`twitter`] | lines of the traces of Twitter's cache clusters (Yang and others, OSDI 2020) |
//! | [`oracle`] | `oracleGeneral`, the binary format of libCacheSim, in which most public traces are |
//!
//! Both are read as they are once decompressed (`zstd -d`). Times of a trace are days; here a
//! second of it passes as fast as is needed for its requests to come at [`RATE`], and times to
//! expire shrink by as much, to no less than a second.

mod oracle;
mod twitter;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::request::{Load, Request};

/// Requests a second at which a trace is played.
pub const RATE: u32 = 40_000;

/// Formats of traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines of `timestamp,key,key size,value size,client,operation,TTL`.
    Twitter,
    /// Records of `u32` time, `u64` object, `u32` size, `i64` next access.
    OracleGeneral,
}

impl Format {
    /// The format of a file, by how its name ends.
    ///
    /// # Errors
    /// If it ends otherwise.
    pub fn of(file: &Path) -> Result<Self> {
        let name = file.to_string_lossy();
        if name.ends_with(".csv") || name.contains("cluster") {
            Ok(Self::Twitter)
        } else if name.contains("oracleGeneral") {
            Ok(Self::OracleGeneral)
        } else {
            bail!(
                "{name}: neither .csv (Twitter's) nor .oracleGeneral (libCacheSim's), decompressed"
            )
        }
    }
}

/// A request, and the second of the trace in which it came.
type Timed = (u64, Request);

/// Reads at most so many requests of a trace.
///
/// # Errors
/// If the file cannot be read or is not in its format.
pub fn read(file: &Path, most: usize) -> Result<Load> {
    let context = || format!("cannot read {}", file.display());
    let format = Format::of(file)?;
    let opened = std::fs::File::open(file).with_context(context)?;
    let input = std::io::BufReader::new(opened);
    let timed = match format {
        Format::Twitter => twitter::read(input, most),
        Format::OracleGeneral => oracle::read(input, most),
    };
    let timed = timed.with_context(context)?;
    ensure!(!timed.is_empty(), "{}: no requests", file.display());
    let name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    Ok(paced(name, &timed))
}

/// The same at [`RATE`].
fn paced(name: String, timed: &[Timed]) -> Load {
    let first = timed.first().map_or(0, |timed| timed.0);
    let seconds = timed.last().map_or(0, |timed| timed.0.saturating_sub(first)) as f64;
    let played = timed.len() as f64 / f64::from(RATE);
    let speed = (seconds / played).max(1.0);
    let requests: Vec<_> = timed
        .iter()
        .map(|&(_, request)| match request.ttl {
            0 => request,
            ttl => Request { ttl: ((f64::from(ttl) / speed) as u32).max(1), ..request },
        })
        .collect();
    let expires = requests.iter().any(|request| request.ttl > 0);
    Load { name, rate: expires.then_some(RATE), requests }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_expire_shrink_with_the_time_between_requests() {
        let request = Request { key: 1, key_len: 3, value_len: 9, ttl: 600, write: false };
        // Ten seconds of playing stand for a thousand.
        let timed: Vec<_> = (0..10 * u64::from(RATE)).map(|n| (n / 400, request)).collect();
        let load = paced("trace".to_owned(), &timed);
        assert_eq!((load.requests[5].ttl, load.rate), (6, Some(RATE)));
    }
}
