//! Says how much memory it has.
//!
//! `cfg(exo_guest)` is set where code is built for the machine, and `cfg(exo_hosted)` where it is to
//! run as a process of the host. Where lints and tests build everything, the program is an empty
//! `main`.
#![cfg_attr(exo_guest, no_std, no_main)]

libos::app!(guest::main);

#[cfg(any(exo_guest, exo_hosted))]
mod guest {
    use libos::runtime::Environment;
    use libos::{measure, println};

    /// `environment` has all that the manifest grants. What is returned is the exit code.
    pub(crate) fn main(environment: Environment) -> u64 {
        println!("{} frames are free", environment.free_frames());

        // Done once, and a thousand times under `cargo exo measure`, which says how many
        // instructions it takes and how many of them before the mark.
        let mut refused = 0;
        measure::repeat("take a page frame and give it back", || {
            let frame = environment.memory.take_frame();
            measure::mark("take");
            let given = frame.and_then(|frame| environment.memory.give_frame(frame));
            refused += u64::from(given.is_err());
        });
        refused
    }
}
