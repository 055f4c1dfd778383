//! Run to completion: one function, called again and again.

use super::{Park, Scheduler, Ticks};

/// What one call of the function did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Something; there may be more.
    Progress,
    /// All there was: sleep until an event since the call, or the deadline.
    Idle(Option<Ticks>),
    /// The last thing; exit with this code.
    Done(u64),
}

/// Calls `F` as long as it makes progress.
///
/// **Cost** per turn: one load of the event count and the call.
#[derive(Debug)]
pub struct RunToCompletion<F> {
    turn: F,
}

impl<F: FnMut() -> Turn> RunToCompletion<F> {
    /// A scheduler for `turn`.
    pub const fn new(turn: F) -> Self {
        Self { turn }
    }
}

impl<F: FnMut() -> Turn> Scheduler for RunToCompletion<F> {
    fn run(&mut self, park: &mut impl Park) -> u64 {
        loop {
            let seen = park.seen();
            match (self.turn)() {
                Turn::Progress => {}
                Turn::Idle(deadline) => park.park(seen, deadline),
                Turn::Done(code) => return code,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use exo_abi::EventCount;

    use super::{RunToCompletion, Turn};
    use crate::sched::{Park, Scheduler, Ticks};

    /// Counts parkings; an event happens during each turn.
    struct Busy<'a> {
        events: &'a Cell<u64>,
        parked: Vec<(u64, Option<Ticks>)>,
    }

    impl Park for Busy<'_> {
        fn seen(&mut self) -> EventCount {
            EventCount(self.events.get())
        }

        fn park(&mut self, seen: EventCount, deadline: Option<Ticks>) {
            self.parked.push((seen.0, deadline));
        }
    }

    #[test]
    fn parks_only_when_idle_and_with_the_count_from_before() {
        let events = Cell::new(0);
        let mut turns = vec![
            Turn::Progress,
            Turn::Idle(Some(Ticks(9))),
            Turn::Progress,
            Turn::Idle(None),
            Turn::Done(7),
        ]
        .into_iter();
        let mut park = Busy { events: &events, parked: Vec::new() };
        let code = RunToCompletion::new(|| {
            events.set(events.get() + 1);
            turns.next().expect("stops at Done")
        })
        .run(&mut park);
        assert_eq!(code, 7);
        // Turn 2 began after one event and saw a second while it ran.
        assert_eq!(park.parked, [(1, Some(Ticks(9))), (3, None)]);
    }
}
