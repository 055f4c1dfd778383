//! Earliest deadline first (Liu and Layland, JACM 1973).
//!
//! A thread's terms are how long after becoming ready its work is due. If any order
//! meets all deadlines on one processor, this one does, as far as decisions can be
//! made often enough: the kernel's slice is the grain.

use super::{MAX_THREADS, Policy, ThreadId};
use crate::sched::Ticks;

/// Always the ready thread whose work is due first; of equals the least number.
#[derive(Debug, Default)]
pub struct EarliestDeadlineFirst {
    threads: [Entry; MAX_THREADS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    within: u64,
    /// When the work is due, while there is some.
    due: Option<u64>,
}

impl EarliestDeadlineFirst {
    /// No thread yet.
    pub const fn new() -> Self {
        Self { threads: [Entry { within: 0, due: None }; MAX_THREADS] }
    }
}

impl Policy for EarliestDeadlineFirst {
    /// Due so long after becoming ready.
    type Terms = Ticks;

    fn admit(&mut self, thread: ThreadId, within: Ticks) {
        self.threads[thread.index()] = Entry { within: within.0, due: None };
    }

    fn ready(&mut self, thread: ThreadId, now: Ticks) {
        let entry = &mut self.threads[thread.index()];
        // A thread that is ready already has work whose deadline does not move.
        entry.due.get_or_insert(now.0.saturating_add(entry.within));
    }

    fn blocked(&mut self, thread: ThreadId) {
        self.threads[thread.index()].due = None;
    }

    fn forget(&mut self, _: ThreadId) {}

    fn choose(&mut self, _: Ticks) -> Option<ThreadId> {
        let due = |(index, entry): (usize, &Entry)| entry.due.map(|due| (due, index));
        let (_, index) = self.threads.iter().enumerate().filter_map(due).min()?;
        ThreadId::new(index)
    }

    fn preempts(&self, woken: ThreadId, running: ThreadId) -> bool {
        let due = |thread: ThreadId| self.threads[thread.index()].due.unwrap_or(u64::MAX);
        due(woken) < due(running)
    }
}

#[cfg(test)]
mod tests {
    use super::EarliestDeadlineFirst;
    use crate::sched::Ticks;
    use crate::sched::conformance::{self, Load, simulate};
    use crate::sched::policy::RoundRobin;

    #[test]
    fn conforms() {
        conformance::check(EarliestDeadlineFirst::new, |index| Ticks(index as u64 * 7 % 5));
    }

    #[test]
    fn ends_in_the_order_of_deadlines() {
        let loads = [30, 10, 20].map(|due| Load::once(Ticks(due), 4));
        let history = simulate(&mut EarliestDeadlineFirst::new(), &loads, 100);
        assert_eq!(history.ended[..3], [Some(12), Some(4), Some(8)]);
    }

    /// Three periodic threads that need all of the processor: EDF meets every
    /// deadline, and an order that does not know them misses some.
    #[test]
    fn meets_what_can_be_met() {
        let tasks = [(4, 1), (6, 3), (8, 2)];
        let loads = tasks.map(|(period, cost)| Load::periodic(Ticks(period), period, cost));
        let history = simulate(&mut EarliestDeadlineFirst::new(), &loads, 24 * 20);
        assert_eq!(history.missed, 0, "{history:?}");
        let loads = tasks.map(|(period, cost)| Load::periodic((), period, cost));
        assert!(simulate(&mut RoundRobin::new(), &loads, 24 * 20).missed > 0);
    }
}
