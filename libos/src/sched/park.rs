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
}

/// Sleeps in the kernel.
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
    fn seen(&mut self) -> EventCount {
        EventCount(self.u_area.events.load(core::sync::atomic::Ordering::Acquire))
    }

    fn park(&mut self, seen: EventCount, deadline: Option<Ticks>) {
        // The kernel takes zero for "none"; the clock has long passed zero, so a
        // deadline of zero is as good as one tick.
        let deadline = deadline.map_or(0, |ticks| ticks.0.max(1));
        // A refusal means no sleep, which is allowed; the scheduler looks for
        // work again.
        let _ = crate::sys::wait(seen, deadline);
    }
}
