//! Runs its own code in ring 0, and does there what goes wrong in programs: it shows that
//! elevation is given and taken as the capability says, and what of a buggy program the
//! machine survives.
//!
//! Wants `elevate = "deep"` in its manifest. Exits with the number of the first check that
//! failed, or 0. With the argument `as=ladder` it counts instructions instead.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(exo_guest)]
extern crate alloc;

#[cfg(exo_guest)]
mod bench;
#[cfg(exo_guest)]
mod direct;
#[cfg(exo_guest)]
mod example;
#[cfg(exo_guest)]
mod faults;
#[cfg(exo_guest)]
mod ladder;
#[cfg(exo_guest)]
mod limits;
#[cfg(exo_guest)]
mod others;
#[cfg(exo_guest)]
mod stretches;
#[cfg(exo_guest)]
mod threads;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use libos::runtime::Environment;
    use selftest::check;

    use crate::bench::{Bench, Check};
    use crate::{direct, faults, ladder, limits, others, stretches, threads};

    const CHECKS: &[&[Check]] = &[
        stretches::CHECKS,
        faults::CHECKS,
        limits::CHECKS,
        direct::CHECKS,
        others::CHECKS,
        threads::CHECKS,
    ];

    pub(crate) fn main(environment: Environment) -> u64 {
        if environment.argument("as") == Some("ladder") {
            return ladder::run(&environment);
        }
        check::run_and_close(CHECKS, Bench::new(environment), Bench::close)
    }
}

#[cfg(not(exo_guest))]
use {exo_abi as _, ruler as _, selftest as _};
