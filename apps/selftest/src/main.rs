//! Checks the system-call contract from ring 3.
//!
//! Each check is a small function that makes calls and compares what comes back
//! with what `exo_abi` promises: every call's success path, the refusals a correct
//! program can meet, which registers survive, when `wait` returns, and that every
//! frame comes back. What would end the program, or takes two, is done in child
//! environments. Exits with the number of the first check that failed, or 0.
//!
//! With the argument `as=meter` it checks nothing and reports what it receives.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(exo_guest)]
extern crate alloc;

#[cfg(exo_guest)]
mod balance;
#[cfg(exo_guest)]
mod batches;
#[cfg(exo_guest)]
mod bench;
#[cfg(exo_guest)]
mod capabilities;
#[cfg(exo_guest)]
mod doorbells;
#[cfg(exo_guest)]
mod environments;
#[cfg(exo_guest)]
mod events;
#[cfg(exo_guest)]
mod grants;
#[cfg(exo_guest)]
mod large_pages;
#[cfg(exo_guest)]
mod longest;
#[cfg(exo_guest)]
mod memory;
#[cfg(exo_guest)]
mod meter;
#[cfg(exo_guest)]
mod network;
#[cfg(exo_guest)]
mod page_tables;
#[cfg(exo_guest)]
mod predicates;
#[cfg(exo_guest)]
mod preemption;
#[cfg(exo_guest)]
mod registers;
#[cfg(exo_guest)]
mod repossession;
#[cfg(exo_guest)]
mod revocation;
#[cfg(exo_guest)]
mod transfers;
#[cfg(exo_guest)]
mod upcalls;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use libos::runtime::Environment;
    use selftest::check;

    use crate::bench::{Bench, Check};
    use crate::{
        balance, batches, capabilities, doorbells, environments, events, grants, large_pages,
        longest, memory, meter, network, page_tables, predicates, preemption, registers,
        repossession, revocation, transfers, upcalls,
    };

    /// In the order in which they depend on each other.
    const CHECKS: &[&[Check]] = &[
        registers::CHECKS,
        memory::CHECKS,
        page_tables::CHECKS,
        capabilities::CHECKS,
        revocation::CHECKS,
        environments::CHECKS,
        events::CHECKS,
        preemption::CHECKS,
        doorbells::CHECKS,
        batches::CHECKS,
        upcalls::CHECKS,
        transfers::CHECKS,
        grants::CHECKS,
        predicates::CHECKS,
        repossession::CHECKS,
        large_pages::CHECKS,
        network::CHECKS,
        balance::CHECKS,
    ];

    pub(crate) fn main(environment: Environment) -> u64 {
        match environment.argument("as") {
            Some("meter") => return meter::run(environment),
            Some("longest") => return longest::run(environment),
            _ => {}
        }
        check::run_and_close(CHECKS, Bench::new(environment), Bench::close)
    }
}

#[cfg(not(exo_guest))]
use selftest as _;
