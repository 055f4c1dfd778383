//! What is to happen when a change is durable: a callback, or the end of an `async` wait.
//!
//! An operation is visible at once. Its owner asks for the [`Stamp`] of the commit that it will be
//! part of, and goes on; [`Journal::drive`](super::Journal::drive) says which commits are durable.

use alloc::collections::VecDeque;

use super::{Fault, Stamp};
use crate::sched::Events;

/// Whatever waits for commits, first come first: connections, callbacks, anything.
#[derive(Debug)]
pub struct Waiting<T>(VecDeque<(Stamp, T)>);

impl<T> Waiting<T> {
    /// Nothing waits.
    #[must_use]
    pub const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// `what` waits for the commit `stamp`. Stamps must not decrease from call to call.
    pub fn add(&mut self, stamp: Stamp, what: T) {
        self.0.push_back((stamp, what));
    }

    /// The first that waits for no more than `durable`, which waits no longer.
    pub fn next_due(&mut self, durable: Stamp) -> Option<T> {
        let (stamp, _) = self.0.front()?;
        if *stamp > durable {
            return None;
        }
        self.0.pop_front().map(|(_, what)| what)
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits in a task until the commit `stamp` is durable; `drive` is that of its owner, which other
/// tasks may call, too.
///
/// # Errors
/// Those of `drive`.
pub async fn durable(
    mut drive: impl FnMut() -> Result<Stamp, Fault>,
    stamp: Stamp,
    events: &Events,
) -> Result<(), Fault> {
    while drive()? < stamp {
        events.wait(None).await;
    }
    Ok(())
}
