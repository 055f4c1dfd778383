//! Round robin: all threads in turn, a slice each.

use super::{MAX_THREADS, Policy, ThreadId};
use crate::sched::Ticks;

/// Ready threads, as a bit each, and the one that ran last.
///
/// The next one is the ready thread with the least number above the last; so between
/// two turns of one thread, each other that stays ready has exactly one.
#[derive(Debug, Default)]
pub struct RoundRobin {
    ready: u32,
    next: u32,
}

const _: () = assert!(MAX_THREADS == u32::BITS as usize);

impl RoundRobin {
    /// No thread yet.
    pub const fn new() -> Self {
        Self { ready: 0, next: 0 }
    }
}

impl Policy for RoundRobin {
    type Terms = ();

    fn admit(&mut self, _: ThreadId, (): ()) {}

    fn ready(&mut self, thread: ThreadId, _: Ticks) {
        self.ready |= 1 << thread.index();
    }

    fn blocked(&mut self, thread: ThreadId) {
        self.ready &= !(1 << thread.index());
    }

    fn forget(&mut self, _: ThreadId) {}

    fn choose(&mut self, _: Ticks) -> Option<ThreadId> {
        if self.ready == 0 {
            return None;
        }
        let ahead = self.ready.rotate_right(self.next).trailing_zeros();
        let index = (self.next + ahead) % u32::BITS;
        self.next = (index + 1) % u32::BITS;
        ThreadId::new(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::RoundRobin;
    use crate::sched::conformance::{self, Load, simulate};

    #[test]
    fn conforms() {
        conformance::check(RoundRobin::new, |_| ());
    }

    #[test]
    fn turns_are_equal() {
        for threads in 1..=9 {
            let mut policy = RoundRobin::new();
            let loads = vec![Load::endless(()); threads];
            let history = simulate(&mut policy, &loads, threads as u64 * 10);
            assert!(history.turns[..threads].iter().all(|&turns| turns == 10), "{history:?}");
        }
    }

    #[test]
    fn one_that_blocks_does_not_hold_up_the_others() {
        let mut policy = RoundRobin::new();
        // The second runs one tick in ten.
        let loads = [Load::endless(()), Load::periodic((), 10, 1), Load::endless(())];
        let history = simulate(&mut policy, &loads, 1000);
        assert_eq!(history.turns[1], 100);
        assert!(history.turns[0].abs_diff(history.turns[2]) <= 1, "{history:?}");
    }
}
