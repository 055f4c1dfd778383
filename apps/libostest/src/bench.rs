//! What the checks of this program work with.

use alloc::vec::Vec;

use libos::memory::MemoryError;
use libos::runtime::Environment;
use libos::sched::policy::{Policy, ThreadId};
use libos::sched::threads::{ExceptionHandler, Threads};
use selftest::check::{self, Failure};

/// A name and what is done.
pub(crate) type Check = check::Check<Bench>;

/// Pages of a thread's stack.
const STACK_PAGES: u32 = 8;
/// Pages of the upcall stack: a frame, and a pager that holds a page or two.
const UPCALL_PAGES: u32 = 16;

/// What checks work with.
pub(crate) struct Bench {
    pub(crate) environment: Environment,
    upcall_stack: &'static mut [u8],
    /// Stacks that no thread uses.
    stacks: Vec<&'static mut [u8]>,
}

impl Bench {
    pub(crate) fn new(environment: Environment) -> Result<Self, MemoryError> {
        let upcall_stack = environment.memory.map_region(UPCALL_PAGES)?;
        Ok(Self { environment, upcall_stack, stacks: Vec::new() })
    }

    /// The end of a stack for upcalls, which nothing else uses.
    pub(crate) fn upcall_stack(&self) -> u64 {
        self.upcall_stack.as_ptr_range().end.expose_provenance() as u64
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
        threads.run(self.upcall_stack);
        Ok(ids)
    }
}
