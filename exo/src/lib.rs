//! The exokernel: everything that runs in ring 0.
//!
//! It protects and does not manage. Page frames, processor time, the network
//! interface and the disk are handed out by their physical names through capabilities; what
//! to do with them is each environment's own affair. There is no heap: every
//! kernel object lies in a frame that some environment owns and donated for it.
//! Ring 0 runs with interrupts off, does bounded work per entry, and never
//! panics for what ring 3 does.
//!
//! | module | what it holds |
//! |---|---|
//! | [`calls`] | system calls: dispatch from the table in `exo_abi`, one handler each |
//! | [`frames`], [`paging`] | which environment owns which frame; mappings proposed and checked |
//! | [`capability`] | tables, derivation tree, revocation |
//! | [`state`] | what all of them work on: environments, processors, the frame table |
//! | [`kernel`] | that and the network's state; the lock |
//! | [`list`] | lists through kernel objects |
//! | [`env`] | environments: creation, death, destruction |
//! | [`elevation`] | environments that run in ring 0 for a time |
//! | [`keys`] | protection keys: the code that is admitted beside pages behind one |
//! | [`schedule`], [`slots`], [`cores`] | which environment's turn it is; slots; processors and the lock |
//! | [`clock`] | how fast the time-stamp counter runs |
//! | [`work`] | how much one entry may do |
//! | [`net`] | the packet path: receive, classify, deliver, transmit |
//! | [`disk`] | extents of the disk: requests checked and handed to it |
//! | [`virtio`] | what both devices lie over |
//! | [`shootdown`] | how translations are taken away from other processors |
//! | [`console`] | what was printed and has not gone out yet |
//! | [`memory`], [`frames::object`], [`user`] | the three ways to touch memory |
//! | `arch`, `trap`, `start` | the processor; guest only |

#![cfg_attr(exo_guest, no_std)]

#[cfg(exo_guest)]
pub mod arch;
pub mod calls;
pub mod capability;
#[cfg(any(test, exo_check))]
pub mod check;
pub mod clock;
pub mod console;
pub mod cores;
pub mod disk;
pub mod elevation;
pub mod env;
pub mod frames;
pub mod kernel;
pub mod keys;
pub mod list;
pub mod memory;
#[cfg(test)]
mod model;
pub mod net;
pub mod paging;
#[cfg(exo_guest)]
pub mod panic;
pub mod schedule;
pub mod shootdown;
pub mod slots;
pub mod start;
pub mod state;
#[cfg(test)]
mod testing;
#[cfg(exo_guest)]
pub mod trap;
pub mod user;
pub mod virtio;
pub mod work;

pub use frames::object;

/// Marks that a step of the packet path is done. Nothing, except in builds made
/// for measuring.
#[macro_export]
macro_rules! stamp {
    ($step:ident) => {};
}
