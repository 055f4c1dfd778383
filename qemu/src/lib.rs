//! The `exo` command and the library beneath it: build the guest, boot it in
//! QEMU, talk to it, test it, count what has to be trusted.
//!
//! [`machine`] boots a whole machine and is what the numbered whole-machine tests
//! use; [`client`] speaks the memcached protocol over UDP. The verbs of the
//! command line ([`cli`]) are thin users of these.
//!
//! Nothing here runs in the guest or is part of the trusted base.

// Verbs print through `output`: these macros panic on a closed pipe and a full disk.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod bench;
mod book;
pub mod bundle;
mod capture;
pub mod cli;
pub mod client;
pub mod conform;
pub mod disk;
mod figures;
pub mod fuzz;
mod gdb;
pub mod guest;
mod hosted;
mod inspect;
pub mod linux;
pub mod lists;
pub mod machine;
pub mod manifest;
pub mod module;
mod output;
mod plots;
pub mod prerequisites;
mod scaffold;
mod shell;
mod signals;
pub mod symbols;
pub mod tcb;
mod top;
mod trace;
mod verbs;
pub mod workspace;

pub use anyhow::{Error, Result};
pub use bench::get::{cost as get_cost, cost_over_tcp as get_cost_over_tcp};
pub use bench::primitives::unmeasured as unmeasured_primitives;
