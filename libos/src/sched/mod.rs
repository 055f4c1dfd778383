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
//! Computations that do not give way by themselves are `threads` (in the guest): they
//! take turns on the kernel's upcalls, in an order that a [`policy::Policy`] decides. A
//! scheduler may run in one of them; parking then lets the others run, and costs it
//! nothing more while there is no thread to let.
//!
//! Sleeping is race-free because of the event count. A scheduler reads it
//! before it looks for work, and hands it to [`Park::park`], which returns at
//! once if it has moved since.

pub mod conformance;
mod park;
pub mod policy;
mod run;
mod section;
#[cfg(any(exo_guest, test))]
mod table;
mod tasks;
#[cfg(exo_guest)]
pub mod threads;

#[cfg(exo_guest)]
pub use park::KernelPark;
pub use park::{Park, Ticks};
pub use run::{RunToCompletion, Turn};
pub use section::uninterrupted;
pub use tasks::{Events, Full, MAX_TASKS, Tasks, yield_now};

/// What a blocked thread waits for, whichever comes first. Another thread may wake it
/// in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Until {
    /// The clock passing this.
    pub time: Option<Ticks>,
    /// The application's event count being another than this.
    pub event: Option<exo_abi::EventCount>,
}

/// Runs an application's work.
pub trait Scheduler {
    /// Runs until the work is done, and returns the exit code.
    ///
    /// **Blocking** sleeps in `park` whenever there is nothing to do.
    fn run(&mut self, park: &mut impl Park) -> u64;
}
