//! How a scheduler sleeps.

use exo_abi::EventCount;

pub use crate::time::Ticks;

/// A place to sleep until an event.
pub trait Park {
    /// The number of events so far. **Cost** one load.
    fn seen(&mut self) -> EventCount;

    /// Sleeps until the number of events differs from `seen`, or the clock
    /// passes `deadline`. May also return early.
    fn park(&mut self, seen: EventCount, deadline: Option<Ticks>);

    /// Whether that is one call of the kernel, which another that sleeps could take the place of.
    #[inline]
    fn is_one_call(&self) -> bool {
        false
    }
}

/// Sleeps in the kernel, or blocks the thread if another thread could run meanwhile.
///
/// **Cost** where no other thread could run, beside the crossing one load; where one
/// sleeps until a time, an [`uninterrupted`](super::uninterrupted) section and a look at
/// the clock. Only where another thread could run is it a decision of the policy.
#[cfg(exo_guest)]
#[derive(Clone, Copy)]
pub struct KernelPark {
    u_area: &'static exo_abi::UArea,
}

#[cfg(exo_guest)]
impl KernelPark {
    /// Sleeps for the environment whose U-area this is.
    pub const fn new(u_area: &'static exo_abi::UArea) -> Self {
        Self { u_area }
    }
}

#[cfg(exo_guest)]
impl Park for KernelPark {
    #[inline]
    fn seen(&mut self) -> EventCount {
        EventCount(self.u_area.events.load(core::sync::atomic::Ordering::Acquire))
    }

    #[inline]
    fn park(&mut self, seen: EventCount, deadline: Option<Ticks>) {
        if self.is_one_call() {
            // An upcall may come before the kernel is entered. But there is no thread that
            // it could let run, and so none that could change this.
            guest::wait(seen, deadline);
        } else {
            guest::park_among_others(seen, deadline);
        }
    }

    #[inline]
    fn is_one_call(&self) -> bool {
        guest::alone_until() == super::table::FOR_GOOD
    }
}

/// Sleeping without a decision.
#[cfg(exo_guest)]
pub(super) mod guest {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use exo_abi::EventCount;

    use crate::sched::table::{FOR_GOOD, NOT_ALONE};
    use crate::sched::{Ticks, Until, threads, uninterrupted};
    use crate::sys;
    use crate::time::timestamp;

    /// What the table of threads says of the one that runs; without threads, it is alone.
    static ALONE_UNTIL: AtomicU64 = AtomicU64::new(FOR_GOOD.0);

    /// Sets it anew. Called where decisions fall, by the threads' upcall.
    pub(in crate::sched) fn set_alone_until(time: Ticks) {
        ALONE_UNTIL.store(time.0, Relaxed);
    }

    pub(super) fn alone_until() -> Ticks {
        Ticks(ALONE_UNTIL.load(Relaxed))
    }

    /// Sleeps in the kernel, with all threads of the application.
    pub(in crate::sched) fn wait(seen: EventCount, deadline: Option<Ticks>) {
        // The kernel takes zero for "none"; the clock has long passed zero, so a
        // deadline of zero is as good as one tick. A refusal means no sleep, which is
        // allowed; the scheduler looks for work again.
        let _ = sys::wait(seen, deadline.map_or(0, |ticks| ticks.0.max(1)));
    }

    #[inline(never)]
    pub(super) fn park_among_others(seen: EventCount, deadline: Option<Ticks>) {
        let until = uninterrupted(|| {
            // No other thread runs in here, so this is still so when the kernel is entered.
            // If a slice ends in here, its end is made up for after the sleep.
            let until = alone_until();
            if until != NOT_ALONE {
                let others = (until != FOR_GOOD).then_some(until);
                wait(seen, [deadline, others].into_iter().flatten().min());
            }
            until
        });
        if until == NOT_ALONE {
            threads::block(Until { time: deadline, event: Some(seen) });
        } else if until.0 <= timestamp() {
            threads::give_way();
        }
    }
}
