//! Scheduling inside an environment: what runs next, and when to sleep.
//!
//! The kernel gives an environment slices of a processor and nothing else; what
//! it does in them is decided here. A [`Scheduler`] runs work until there is
//! none, then parks until something happens. Two are given:
//!
//! - [`RunToCompletion`]: one function that handles what there is. No queue, no
//!   switch, no allocation; for a server whose requests never wait.
//! - [`Tasks`]: cooperative `async` tasks; for code that waits for several
//!   things at once.
//!
//! Sleeping is race-free because of the event count. A scheduler reads it
//! before it looks for work, and hands it to [`Park::park`], which returns at
//! once if it has moved since.

mod park;
mod run;
mod tasks;

#[cfg(exo_guest)]
pub use park::KernelPark;
pub use park::{Park, Ticks};
pub use run::{RunToCompletion, Turn};
pub use tasks::{Events, Full, MAX_TASKS, Tasks, yield_now};

/// Runs an application's work.
pub trait Scheduler {
    /// Runs until the work is done, and returns the exit code.
    ///
    /// **Blocking** sleeps in `park` whenever there is nothing to do.
    fn run(&mut self, park: &mut impl Park) -> u64;
}
