//! Says how much memory it has.
//!
//! `cfg(exo_guest)` is set where code is built for the machine. On the host, where lints and
//! tests build everything too, the program is an empty `main`.
#![cfg_attr(exo_guest, no_std, no_main)]

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use libos::println;
    use libos::runtime::Environment;

    /// `environment` has all that the manifest grants. What is returned is the exit code.
    pub(crate) fn main(environment: Environment) -> u64 {
        println!("{} frames are free", environment.free_frames());
        0
    }
}
