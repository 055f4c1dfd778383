//! Which threads there are, and which of them can run.
//!
//! The half of [`threads`](super::threads) that is not about registers: it tells the
//! policy what it must know, wakes who is to be woken, and says what to do next. It
//! makes no system call, so it is tested on the host.

use exo_abi::EventCount;

use super::policy::{MAX_THREADS, Policy, ThreadId};
use super::{Ticks, Until};

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Let this thread run.
    Run(ThreadId),
    /// Nobody can: sleep until an event, or the time.
    Sleep(Option<Ticks>),
    /// All have ended.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Vacant,
    Ready,
    Blocked(Until),
}

/// Threads, under a policy.
pub(super) struct Table<P> {
    policy: P,
    states: [State; MAX_THREADS],
    /// Whom another thread woke before it blocked.
    woken: [bool; MAX_THREADS],
    turns: [u64; MAX_THREADS],
    running: Option<ThreadId>,
    since: Ticks,
}

impl<P: Policy> Table<P> {
    pub(super) const fn new(policy: P) -> Self {
        Self {
            policy,
            states: [State::Vacant; MAX_THREADS],
            woken: [false; MAX_THREADS],
            turns: [0; MAX_THREADS],
            running: None,
            since: Ticks(0),
        }
    }

    /// A new thread, ready; `None` if there are [`MAX_THREADS`].
    pub(super) fn admit(&mut self, terms: P::Terms, now: Ticks) -> Option<ThreadId> {
        let index = self.states.iter().position(|state| *state == State::Vacant)?;
        let thread = ThreadId::new(index)?;
        self.states[index] = State::Ready;
        self.woken[index] = false;
        self.turns[index] = 0;
        self.policy.admit(thread, terms);
        self.policy.ready(thread, now);
        Some(thread)
    }

    /// Who runs.
    pub(super) fn running(&self) -> Option<ThreadId> {
        self.running
    }

    /// How often a thread was chosen.
    pub(super) fn turns(&self, thread: ThreadId) -> u64 {
        self.turns[thread.index()]
    }

    /// The running thread has the processor from now on.
    pub(super) fn resume(&mut self, now: Ticks) {
        self.since = now;
    }

    /// The running thread had the processor until now.
    pub(super) fn stop(&mut self, now: Ticks) {
        if let Some(running) = self.running {
            self.policy.charge(running, Ticks(now.0.saturating_sub(self.since.0)));
        }
        self.since = now;
    }

    /// The running thread blocks, unless it was woken before.
    pub(super) fn block(&mut self, until: Until) {
        let Some(running) = self.running else { return };
        let index = running.index();
        if core::mem::take(&mut self.woken[index]) {
            return;
        }
        self.states[index] = State::Blocked(until);
        self.policy.blocked(running);
    }

    /// Wakes `thread`, or keeps it from blocking the next time. Whether it should run
    /// at once.
    pub(super) fn wake(&mut self, thread: ThreadId, now: Ticks) -> bool {
        let index = thread.index();
        match self.states[index] {
            State::Vacant => false,
            State::Ready => {
                self.woken[index] = true;
                false
            }
            State::Blocked(_) => {
                self.states[index] = State::Ready;
                self.policy.ready(thread, now);
                self.running.is_some_and(|running| self.policy.preempts(thread, running))
            }
        }
    }

    /// The running thread has ended.
    pub(super) fn end(&mut self) {
        if let Some(running) = self.running.take() {
            self.states[running.index()] = State::Vacant;
            self.policy.blocked(running);
            self.policy.forget(running);
        }
    }

    /// Wakes whoever's time or event has come, and decides.
    pub(super) fn next(&mut self, now: Ticks, events: EventCount) -> Next {
        let mut earliest: Option<Ticks> = None;
        let mut any = false;
        for index in 0..MAX_THREADS {
            let (Some(thread), state) = (ThreadId::new(index), self.states[index]) else { break };
            any |= state != State::Vacant;
            let State::Blocked(until) = state else { continue };
            let due = until.time.is_some_and(|time| time <= now);
            if due || until.event.is_some_and(|seen| seen != events) {
                self.states[index] = State::Ready;
                self.policy.ready(thread, now);
            } else {
                earliest = [earliest, until.time].into_iter().flatten().min();
            }
        }
        match self.policy.choose(now) {
            Some(thread) => {
                self.running = Some(thread);
                self.turns[thread.index()] += 1;
                self.since = now;
                Next::Run(thread)
            }
            None => {
                self.running = None;
                if any { Next::Sleep(earliest) } else { Next::Done }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use exo_abi::EventCount;

    use super::{Next, Table};
    use crate::sched::policy::{EarliestDeadlineFirst, MAX_THREADS, Policy, RoundRobin, ThreadId};
    use crate::sched::{Ticks, Until};

    const NO_EVENT: EventCount = EventCount(0);

    fn id(index: usize) -> ThreadId {
        ThreadId::new(index).unwrap()
    }

    #[test]
    fn without_threads_all_is_done() {
        let mut table = Table::new(RoundRobin::new());
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Done);
        for index in 0..MAX_THREADS {
            assert_eq!(table.admit((), Ticks(0)), Some(id(index)));
        }
        assert_eq!(table.admit((), Ticks(0)), None);
    }

    #[test]
    fn blocked_threads_run_when_their_time_or_event_has_come() {
        let mut table = Table::new(RoundRobin::new());
        for _ in 0..3 {
            table.admit((), Ticks(0)).unwrap();
        }
        let untils = [
            Until { time: Some(Ticks(50)), event: None },
            Until { time: None, event: Some(NO_EVENT) },
            Until { time: Some(Ticks(70)), event: Some(NO_EVENT) },
        ];
        for (index, until) in untils.into_iter().enumerate() {
            assert_eq!(table.next(Ticks(1), NO_EVENT), Next::Run(id(index)));
            table.block(until);
        }
        assert_eq!(table.next(Ticks(2), NO_EVENT), Next::Sleep(Some(Ticks(50))));
        assert_eq!(table.next(Ticks(50), NO_EVENT), Next::Run(id(0)));
        table.end();
        assert_eq!(table.next(Ticks(60), NO_EVENT), Next::Sleep(Some(Ticks(70))));
        assert_eq!(table.next(Ticks(61), EventCount(1)), Next::Run(id(1)));
        table.end();
        assert_eq!(table.next(Ticks(62), EventCount(1)), Next::Run(id(2)));
        assert_eq!((table.turns(id(1)), table.turns(id(2))), (2, 2));
        table.end();
        assert_eq!(table.next(Ticks(63), EventCount(1)), Next::Done);
    }

    #[test]
    fn a_wake_before_the_block_is_not_lost() {
        let mut table = Table::new(RoundRobin::new());
        let (a, b) = (table.admit((), Ticks(0)).unwrap(), table.admit((), Ticks(0)).unwrap());
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(a));
        table.wake(b, Ticks(0));
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(b));
        table.block(Until::default());
        table.block(Until::default());
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(a));
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(a), "b is blocked by the second");
        table.wake(b, Ticks(0));
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(b));
    }

    #[test]
    fn policies_say_who_preempts() {
        let mut table = Table::new(EarliestDeadlineFirst::new());
        let urgent = table.admit(Ticks(10), Ticks(0)).unwrap();
        let lazy = table.admit(Ticks(1000), Ticks(0)).unwrap();
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(urgent));
        assert!(!table.wake(lazy, Ticks(1)));
        table.block(Until::default());
        assert_eq!(table.next(Ticks(2), NO_EVENT), Next::Run(lazy));
        assert!(table.wake(urgent, Ticks(3)));
    }

    /// Sums up what it is charged.
    #[derive(Default)]
    struct Meter(RoundRobin, u64);

    impl Policy for Meter {
        type Terms = ();

        fn admit(&mut self, thread: ThreadId, (): ()) {
            self.0.admit(thread, ());
        }

        fn ready(&mut self, thread: ThreadId, now: Ticks) {
            self.0.ready(thread, now);
        }

        fn blocked(&mut self, thread: ThreadId) {
            self.0.blocked(thread);
        }

        fn forget(&mut self, thread: ThreadId) {
            self.0.forget(thread);
        }

        fn choose(&mut self, now: Ticks) -> Option<ThreadId> {
            self.0.choose(now)
        }

        fn charge(&mut self, _: ThreadId, ran: Ticks) {
            self.1 += ran.0;
        }
    }

    #[test]
    fn only_time_on_the_processor_is_charged() {
        let mut table = Table::new(Meter::default());
        table.stop(Ticks(5));
        let thread = table.admit((), Ticks(10)).unwrap();
        assert_eq!(table.next(Ticks(100), NO_EVENT), Next::Run(thread));
        table.stop(Ticks(130));
        // Others run from 130 to 200.
        table.resume(Ticks(200));
        table.stop(Ticks(207));
        assert_eq!((table.policy.1, table.running()), (37, Some(thread)));
        table.end();
        table.stop(Ticks(900));
        assert_eq!((table.policy.1, table.running()), (37, None));
    }

    #[test]
    fn numbers_are_used_again() {
        let mut table = Table::new(EarliestDeadlineFirst::new());
        let first = table.admit(Ticks(1), Ticks(0)).unwrap();
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(first));
        table.end();
        assert!(!table.wake(first, Ticks(0)), "nobody of that number");
        assert_eq!(table.admit(Ticks(9), Ticks(5)), Some(first));
        assert_eq!(table.next(Ticks(5), NO_EVENT), Next::Run(first));
    }
}
