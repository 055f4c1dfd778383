//! Which thread runs next: the one that has had least of the processor.
//!
//! A beginning, to be changed. `choose` decides; the other methods say what there is to decide
//! about. A policy is called on a stack of its own in the middle of whatever was interrupted:
//! it must not allocate, print or wait.

use libos::sched::Ticks;
use libos::sched::policy::{MAX_THREADS, Policy, ThreadId};

/// Which threads are ready, and how many ticks each has had.
pub(crate) struct LeastServed {
    ready: [bool; MAX_THREADS],
    served: [u64; MAX_THREADS],
}

impl LeastServed {
    pub(crate) const fn new() -> Self {
        Self { ready: [false; MAX_THREADS], served: [0; MAX_THREADS] }
    }

    /// Of the ready threads, the one that has had least.
    fn least(&self) -> Option<usize> {
        (0..MAX_THREADS).filter(|&index| self.ready[index]).min_by_key(|&index| self.served[index])
    }
}

impl Policy for LeastServed {
    /// What a thread is admitted with: nothing here. A deadline, a share, a priority go here.
    type Terms = ();

    fn admit(&mut self, thread: ThreadId, (): ()) {
        self.served[thread.index()] = 0;
    }

    fn ready(&mut self, thread: ThreadId, _: Ticks) {
        // Whatever a thread did not use while it slept, it does not get afterwards.
        let least = self.least().map_or(0, |index| self.served[index]);
        let served = &mut self.served[thread.index()];
        *served = least.max(*served);
        self.ready[thread.index()] = true;
    }

    fn blocked(&mut self, thread: ThreadId) {
        self.ready[thread.index()] = false;
    }

    fn forget(&mut self, _: ThreadId) {}

    fn choose(&mut self, _: Ticks) -> Option<ThreadId> {
        self.least().and_then(ThreadId::new)
    }

    fn charge(&mut self, thread: ThreadId, ran: Ticks) {
        self.served[thread.index()] += ran.0;
    }
}

#[cfg(test)]
mod tests {
    use libos::sched::conformance::{self, Load, simulate};

    use super::*;

    /// What every policy must do.
    #[test]
    fn conforms() {
        conformance::check(LeastServed::new, |_| ());
    }

    /// What is special about this one.
    #[test]
    fn serves_all_alike() {
        let history = simulate(&mut LeastServed::new(), &[Load::endless(()); 3], 300);
        assert_eq!(history.turns[..3], [100; 3]);
    }
}
