//! Sleeping until something was received.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use exo_abi::EventCount;

use crate::sched::{Park, Ticks};
use crate::time::timestamp;

/// The number of events so far.
static EVENTS: Mutex<u64> = Mutex::new(0);
static CHANGED: Condvar = Condvar::new();

/// Longest sleep: how fast the counter runs is not known to a deadline, so that it is looked at
/// again.
const GLANCE: Duration = Duration::from_millis(1);

/// Sleeps until an event of the process.
#[derive(Clone, Copy, Debug)]
pub struct HostPark;

fn events() -> MutexGuard<'static, u64> {
    EVENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something happened.
pub(super) fn notify() {
    *events() += 1;
    CHANGED.notify_all();
}

impl Park for HostPark {
    fn seen(&mut self) -> EventCount {
        EventCount(*events())
    }

    fn park(&mut self, seen: EventCount, deadline: Option<Ticks>) {
        let mut now = events();
        while *now == seen.0 {
            now = match deadline {
                None => CHANGED.wait(now).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) if deadline.0 <= timestamp() => return,
                Some(_) => {
                    CHANGED.wait_timeout(now, GLANCE).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_or_the_deadline_wakes() {
        let mut park = HostPark;
        let seen = park.seen();
        park.park(seen, Some(Ticks(timestamp())));
        let waker = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            notify();
        });
        park.park(seen, None);
        assert!(park.seen().0 > seen.0);
        // What came since is not slept over.
        park.park(seen, None);
        waker.join().unwrap();
    }
}
