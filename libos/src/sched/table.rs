//! Which threads there are, and which of them can run.
//!
//! The half of [`threads`](super::threads) that is not about registers: it tells the
//! policy what it must know, wakes the threads whose time has come, and says what to do next. It
//! makes no system call, so it is tested on the host.
//!
//! With each decision it also says until when only the chosen thread could run
//! ([`Table::alone_until`]). A thread that is alone may sleep in the kernel without
//! asking here: the answer would be to sleep.

use exo_abi::EventCount;

use super::policy::{MAX_THREADS, Policy, ThreadId};
use super::{Ticks, Until};

/// Alone whatever the clock shows: as long as the running thread wakes none.
pub(super) const FOR_GOOD: Ticks = Ticks(u64::MAX);
/// Not alone: there is something to decide.
pub(super) const NOT_ALONE: Ticks = Ticks(0);

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Let this thread run.
    Run(ThreadId),
    /// None can: sleep until an event, or the time.
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
    /// Threads that another woke before they blocked.
    woken: [bool; MAX_THREADS],
    turns: [u64; MAX_THREADS],
    running: Option<ThreadId>,
    since: Ticks,
    alone_until: Ticks,
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
            alone_until: NOT_ALONE,
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

    /// The thread that runs.
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

    /// The running thread had the processor until now. What it did with it while it was
    /// alone is not charged: it may have slept, and took nothing from any other.
    pub(super) fn stop(&mut self, now: Ticks) {
        if let Some(running) = self.running {
            let from = self.since.max(self.alone_until);
            self.policy.charge(running, Ticks(now.0.saturating_sub(from.0)));
        }
        self.since = now;
    }

    /// The time before which only the running thread can run, whatever happens,
    /// unless it wakes another: [`FOR_GOOD`] if there is no such time, [`NOT_ALONE`] if
    /// another is ready, or would be by an event. Also [`NOT_ALONE`] if the running
    /// thread was woken before it blocked, so that it must not sleep.
    pub(super) fn alone_until(&self) -> Ticks {
        self.alone_until
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
        if self.states[index] != State::Vacant {
            self.since = self.since.max(self.alone_until.min(now));
            self.alone_until = NOT_ALONE;
        }
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

    /// Wakes the threads whose time or event has come, and decides.
    pub(super) fn next(&mut self, now: Ticks, events: EventCount) -> Next {
        let mut earliest: Option<Ticks> = None;
        let (mut all, mut ready, mut wants_event) = (0, 0, false);
        for index in 0..MAX_THREADS {
            let (Some(thread), state) = (ThreadId::new(index), self.states[index]) else { break };
            all += u32::from(state != State::Vacant);
            ready += u32::from(state == State::Ready);
            let State::Blocked(until) = state else { continue };
            let due = until.time.is_some_and(|time| time <= now);
            if due || until.event.is_some_and(|seen| seen != events) {
                self.states[index] = State::Ready;
                self.policy.ready(thread, now);
                ready += 1;
            } else {
                earliest = [earliest, until.time].into_iter().flatten().min();
                wants_event |= until.event.is_some();
            }
        }
        match self.policy.choose(now) {
            Some(thread) => {
                self.running = Some(thread);
                self.turns[thread.index()] += 1;
                self.since = now;
                let alone = ready == 1 && !wants_event && !self.woken[thread.index()];
                self.alone_until = if alone { earliest.unwrap_or(FOR_GOOD) } else { NOT_ALONE };
                Next::Run(thread)
            }
            None => {
                self.running = None;
                if all > 0 { Next::Sleep(earliest) } else { Next::Done }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use exo_abi::EventCount;

    use super::{FOR_GOOD, NOT_ALONE, Next, Table};
    use crate::sched::conformance::Random;
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
        table.admit((), Ticks(10)).unwrap();
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
    fn time_alone_is_not_charged() {
        let mut table = Table::new(Meter::default());
        let other = table.admit((), Ticks(0)).unwrap();
        let thread = table.admit((), Ticks(0)).unwrap();
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(other));
        table.block(Until { time: Some(Ticks(50)), event: None });
        assert_eq!(table.next(Ticks(10), NO_EVENT), Next::Run(thread));
        table.stop(Ticks(40));
        assert_eq!(table.policy.1, 0, "no other could have run");
        assert_eq!(table.next(Ticks(40), NO_EVENT), Next::Run(thread));
        table.stop(Ticks(57));
        assert_eq!(table.policy.1, 7, "from 50 on another could");
        table.policy.1 = 0;
        assert_eq!(table.next(Ticks(60), NO_EVENT), Next::Run(other));
        table.block(Until::default());
        assert_eq!(table.next(Ticks(60), NO_EVENT), Next::Run(thread));
        table.wake(other, Ticks(75));
        table.stop(Ticks(80));
        assert_eq!(table.policy.1, 5, "since it woke the other");
    }

    #[test]
    fn alone_is_who_has_nobody_to_give_way_to() {
        let mut table = Table::new(RoundRobin::new());
        let (a, b) = (table.admit((), Ticks(0)).unwrap(), table.admit((), Ticks(0)).unwrap());
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(a));
        assert_eq!(table.alone_until(), NOT_ALONE, "the other is ready");
        table.block(Until { time: None, event: Some(NO_EVENT) });
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(b));
        assert_eq!(table.alone_until(), NOT_ALONE, "an event makes the other ready");
        table.wake(a, Ticks(0));
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(a));
        table.block(Until { time: Some(Ticks(70)), event: None });
        assert_eq!(table.next(Ticks(1), NO_EVENT), Next::Run(b));
        assert_eq!(table.alone_until(), Ticks(70));
        table.wake(b, Ticks(2));
        assert_eq!(table.alone_until(), NOT_ALONE, "it woke itself, and must not sleep");
        table.block(Until::default());
        assert_eq!(table.next(Ticks(3), NO_EVENT), Next::Run(b));
        assert_eq!(table.alone_until(), Ticks(70), "it has not slept, once");
        table.wake(a, Ticks(4));
        assert_eq!(table.alone_until(), NOT_ALONE);
        assert_eq!(table.next(Ticks(5), NO_EVENT), Next::Run(a));
        table.block(Until::default());
        assert_eq!(table.next(Ticks(6), NO_EVENT), Next::Run(b));
        assert_eq!(table.alone_until(), FOR_GOOD, "only this thread can wake the other");
        table.wake(a, Ticks(7));
        assert_eq!(table.next(Ticks(8), NO_EVENT), Next::Run(a));
        assert_eq!(table.next(Ticks(8), NO_EVENT), Next::Run(b));
        table.end();
        assert_eq!(table.next(Ticks(9), NO_EVENT), Next::Run(a));
        assert_eq!(table.alone_until(), FOR_GOOD, "there is no other");
    }

    /// A thread that is told to be alone and blocks instead of sleeping is told to sleep, and
    /// no longer than the time it was alone until; and is chosen again if the time has
    /// not come by then. So sleeping without asking is the same.
    #[test]
    fn sleeping_without_asking_is_what_the_table_says() {
        let mut alone = [0; 2];
        for seed in 1..=200 {
            let mut random = Random(seed);
            let mut table = Table::new(RoundRobin::new());
            for _ in 0..2 + random.below(3) {
                table.admit((), Ticks(0)).unwrap();
            }
            let (mut now, mut events) = (0, 0);
            for _ in 0..200 {
                now += random.below(4);
                events += u64::from(random.below(8) == 0);
                let chosen = match table.next(Ticks(now), EventCount(events)) {
                    Next::Run(chosen) => chosen,
                    Next::Sleep(until) => {
                        now = until.map_or(now, |until| until.0);
                        events += 1;
                        continue;
                    }
                    Next::Done => break,
                };
                // It runs for a while, and time passes.
                now += random.below(3);
                if random.below(3) == 0 {
                    table.wake(id(random.below(5) as usize), Ticks(now));
                }
                let until = table.alone_until();
                let time = (random.below(2) == 0).then(|| Ticks(now + 1 + random.below(9)));
                let event = (random.below(4) > 0).then_some(EventCount(events));
                table.block(Until { time, event });
                if now < until.0 {
                    alone[usize::from(until == FOR_GOOD)] += 1;
                    let others = (until != FOR_GOOD).then_some(until);
                    let first = [time, others].into_iter().flatten().min();
                    let next = table.next(Ticks(now), EventCount(events));
                    assert_eq!(next, Next::Sleep(first), "seed {seed}");
                    // What wakes it before the others' time wakes no other.
                    if event.is_some() {
                        let next = table.next(Ticks(now), EventCount(events + 1));
                        assert_eq!(next, Next::Run(chosen), "seed {seed}");
                        events += 1;
                    }
                }
            }
        }
        assert!(alone.iter().all(|&times| times > 100), "{alone:?}");
    }

    #[test]
    fn numbers_are_used_again() {
        let mut table = Table::new(EarliestDeadlineFirst::new());
        let first = table.admit(Ticks(1), Ticks(0)).unwrap();
        assert_eq!(table.next(Ticks(0), NO_EVENT), Next::Run(first));
        table.end();
        assert!(!table.wake(first, Ticks(0)), "none of that number");
        assert_eq!(table.admit(Ticks(9), Ticks(5)), Some(first));
        assert_eq!(table.next(Ticks(5), NO_EVENT), Next::Run(first));
    }
}
