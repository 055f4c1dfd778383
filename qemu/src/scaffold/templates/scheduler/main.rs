//! Threads in an order of its own: three that compute and never give way, and how many slices
//! each of them has had.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(exo_guest)]
extern crate alloc;

#[cfg(any(exo_guest, test))]
mod policy;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use alloc::boxed::Box;
    use core::error::Error;
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use libos::abi::Pages;
    use libos::measure::workload;
    use libos::println;
    use libos::runtime::Environment;
    use libos::sched::threads::{self, Threads, end_of_it};

    use crate::policy::LeastServed;

    /// Pages of the stack of a thread.
    const STACK: Pages = 16;
    /// Pages of the stack on which the policy decides.
    const UPCALL_STACK: Pages = 4;
    /// Slices of all threads together.
    const SLICES: u64 = 30;

    pub(crate) fn main(environment: Environment) -> u64 {
        run(&environment).map_or_else(
            |error| {
                println!("{error}");
                1
            },
            |()| 0,
        )
    }

    fn run(environment: &Environment) -> Result<(), Box<dyn Error>> {
        // For `cargo exo measure`: what a decision costs.
        workload::policy(&mut LeastServed::new(), ());

        let memory = environment.memory;
        let slices = [const { AtomicU64::new(0) }; 3];
        // An exception in a thread ends the application: there is no handler.
        let mut threads = Threads::new(LeastServed::new(), end_of_it);
        for own in &slices {
            let all = &slices;
            // The second argument is what the policy is told of the thread.
            threads.spawn(memory.map_region(STACK)?, (), move || {
                while all.iter().map(|slices| slices.load(Relaxed)).sum::<u64>() < SLICES {
                    own.store(threads::turns(), Relaxed);
                }
            })?;
        }
        threads.run(memory.map_region(UPCALL_STACK)?); // until all have ended
        println!("slices: {:?}", slices.map(AtomicU64::into_inner));
        Ok(())
    }
}
