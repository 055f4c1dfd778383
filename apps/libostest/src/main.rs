//! Runs, under real timer ticks and page faults, what the library OS builds on the
//! kernel's upcalls and its frame table: preemptive threads under several policies,
//! pagers, frames chosen by order and colour.
//!
//! Policies and pagers pass their conformance suites on the host; here the same suites
//! and more run on the machine. Exits with the number of the first check that failed,
//! or 0.
//!
//! The argument `beside=others` says that the machine has other work; with
//! `as=crash` a thread does what no handler serves, with `as=panic` one panics, with
//! `as=overflow` one uses up its stack, with `as=overflow-first` the application does so
//! without threads, with `as=server` one serves and another computes, with `as=claimant` filters are wanted
//! that a neighbour has, with `as=disk` an extent of the disk is written and read, with
//! `as=disk-later` a log is appended to while datagrams are answered, and with `as=maker`
//! children are made, which are `as=child`.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(exo_guest)]
extern crate alloc;

#[cfg(exo_guest)]
mod bench;
#[cfg(exo_guest)]
mod children;
#[cfg(exo_guest)]
mod claimant;
#[cfg(exo_guest)]
mod disk;
#[cfg(exo_guest)]
mod frames;
#[cfg(exo_guest)]
mod later;
#[cfg(exo_guest)]
mod paging;
#[cfg(exo_guest)]
mod registers;
#[cfg(exo_guest)]
mod server;
#[cfg(exo_guest)]
mod threads;

#[cfg(exo_guest)]
#[path = "../../../libos/examples/own_pager.rs"]
mod own_pager;
#[cfg(exo_guest)]
#[path = "../../../libos/examples/own_policy.rs"]
mod own_policy;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use libos::println;
    use libos::runtime::Environment;
    use selftest::check::{self, NO_BENCH};

    use crate::bench::{Bench, Check};
    use crate::{children, claimant, disk, frames, later, paging, server, threads};

    const CHECKS: &[&[Check]] = &[threads::CHECKS, paging::CHECKS, frames::CHECKS];

    pub(crate) fn main(environment: Environment) -> u64 {
        let part = environment.argument("as");
        if part == Some("server") {
            return server::run(environment);
        }
        if part == Some("disk-later") {
            return later::run(environment);
        }
        if part.is_some_and(|part| part.starts_with("disk")) {
            return disk::run(environment);
        }
        match part {
            Some("maker") => return children::make(environment),
            Some("child") => return children::child(&environment),
            _ => {}
        }
        if part == Some("claimant") {
            return claimant::run(environment);
        }
        let mut bench = match Bench::new(environment) {
            Ok(bench) => bench,
            Err(error) => {
                println!("cannot set up: {error}");
                return NO_BENCH;
            }
        };
        match part {
            Some("crash") => return threads::crash(&mut bench),
            Some("panic") => return threads::panic(&mut bench),
            Some("overflow") => return threads::overflow(&mut bench),
            Some("overflow-first") => return threads::descend(0),
            _ => {}
        }
        check::run(CHECKS, &mut bench)
    }
}

#[cfg(not(exo_guest))]
use {dpf as _, dpf_text as _, exo_abi as _, libos as _, selftest as _};
