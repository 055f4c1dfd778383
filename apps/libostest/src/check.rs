//! What checks are written with.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::panic::Location;

use libos::memory::MemoryError;
use libos::runtime::Environment;
use libos::sched::policy::{Policy, ThreadId};
use libos::sched::threads::{ExceptionHandler, SpawnError, Threads};

/// A name and what is done.
pub(crate) type Check = (&'static str, fn(&mut Bench) -> Outcome);
/// How a check ends.
pub(crate) type Outcome = Result<(), Failure>;

/// Pages of a thread's stack.
const STACK_PAGES: u32 = 8;
/// Pages of the upcall stack: a frame, and a pager that holds a page or two.
const UPCALL_PAGES: u32 = 16;

/// Why a check failed, and where in it.
pub(crate) struct Failure {
    what: String,
    place: &'static Location<'static>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.what, self.place.file(), self.place.line())
    }
}

macro_rules! failures {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            #[track_caller]
            fn from(error: $error) -> Self {
                Self { what: alloc::format!("{error}"), place: Location::caller() }
            }
        })*
    };
}
failures!(exo_abi::Error, MemoryError, SpawnError);

/// Fails unless two values are the same.
#[track_caller]
pub(crate) fn same<T: PartialEq + fmt::Debug>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted {
        return Ok(());
    }
    let what = alloc::format!("{what}: {got:?} instead of {wanted:?}");
    Err(Failure { what, place: Location::caller() })
}

/// Fails unless `condition` holds.
#[track_caller]
pub(crate) fn holds(what: &str, condition: bool) -> Outcome {
    if condition {
        return Ok(());
    }
    Err(Failure { what: what.into(), place: Location::caller() })
}

/// What checks work with.
pub(crate) struct Bench {
    pub(crate) environment: Environment,
    upcall_stack: u64,
    /// Stacks that no thread uses.
    stacks: Vec<&'static mut [u8]>,
}

impl Bench {
    pub(crate) fn new(environment: Environment) -> Result<Self, MemoryError> {
        let stack = environment.memory.map_region(UPCALL_PAGES)?;
        let upcall_stack = stack.as_mut_ptr_range().end.expose_provenance() as u64;
        Ok(Self { environment, upcall_stack, stacks: Vec::new() })
    }

    /// The end of a stack for upcalls, which nothing else uses.
    pub(crate) fn upcall_stack(&self) -> u64 {
        self.upcall_stack
    }

    /// Runs `bodies` as threads, in this order, with the terms given. Returns their ids.
    pub(crate) fn run<'a, P: Policy, F: FnOnce() + Send + 'a>(
        &'a mut self,
        policy: P,
        exceptions: ExceptionHandler,
        bodies: impl IntoIterator<Item = (P::Terms, F)>,
    ) -> Result<Vec<ThreadId>, Failure> {
        let bodies: Vec<_> = bodies.into_iter().collect();
        while self.stacks.len() < bodies.len() {
            self.stacks.push(self.environment.memory.map_region(STACK_PAGES)?);
        }
        let mut threads = Threads::new(policy, exceptions);
        let mut ids = Vec::new();
        for ((terms, body), stack) in bodies.into_iter().zip(&mut self.stacks) {
            ids.push(threads.spawn(stack, terms, body)?);
        }
        // SAFETY: the stack is 64 KiB, mapped for good and used for nothing else. Bodies
        // in this program use the console, if at all, in uninterrupted sections.
        unsafe { threads.run(self.upcall_stack) };
        Ok(ids)
    }
}
