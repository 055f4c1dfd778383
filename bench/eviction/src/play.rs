//! Plays a load to a contender and counts hits.
//!
//! Requests are played in windows of [`WINDOW`]: first what it reads, then what it stores. A
//! process asked through a socket would take hours otherwise; a library is played the same
//! windows, so that both see the same order. What a window misses twice is stored once.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::contender::Contender;
use crate::request::{Load, Request};

/// Requests of a window.
pub const WINDOW: usize = 64;

/// What came of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Reads that were counted.
    pub reads: u64,
    /// Of these, how many found their item.
    pub hits: u64,
    /// Seconds by which a process that time passes for was behind at the end: above a tenth of
    /// the times to expire its hits are too few.
    pub late: f64,
}

impl Outcome {
    /// Hits in a hundred reads.
    #[must_use]
    pub fn percent(&self) -> f64 {
        100.0 * self.hits as f64 / self.reads.max(1) as f64
    }
}

/// Plays a load. The first third fills the store and is not counted.
///
/// # Errors
/// Those of the contender; and what `interrupted` says between windows.
pub fn play(
    load: &Load,
    contender: &mut dyn Contender,
    interrupted: &dyn Fn() -> Result<()>,
) -> Result<Outcome> {
    let warm = load.requests.len() / 3;
    let start = Instant::now();
    let mut outcome = Outcome::default();
    let mut played = 0;
    let mut hits = Vec::with_capacity(WINDOW);
    for window in load.requests.chunks(WINDOW) {
        if let Some(rate) = load.rate {
            let at = Duration::from_secs_f64(played as f64 / f64::from(rate));
            contender.set_time(at.as_secs() as u32 + 1);
            if contender.is_in_real_time() {
                sleep(at.saturating_sub(start.elapsed()));
                outcome.late = start.elapsed().saturating_sub(at).as_secs_f64();
            }
        }
        let reads: Vec<_> = window.iter().filter(|request| !request.write).copied().collect();
        hits.clear();
        contender.read(&reads, &mut hits)?;
        let mut seen = HashSet::with_capacity(WINDOW);
        let missed = reads.iter().zip(&hits).filter(|(_, hit)| !**hit).map(|(request, _)| *request);
        let written = window.iter().filter(|request| request.write).copied();
        let stores: Vec<Request> =
            missed.chain(written).filter(|request| seen.insert(request.key)).collect();
        contender.store(&stores)?;
        if played >= warm {
            outcome.reads += reads.len() as u64;
            outcome.hits += hits.iter().filter(|&&hit| hit).count() as u64;
        }
        played += window.len();
        if played % (WINDOW * 256) == 0 {
            interrupted()?;
        }
    }
    Ok(outcome)
}
