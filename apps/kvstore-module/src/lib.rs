//! The store as a Linux kernel module: the library `kvstore`, unchanged, behind three
//! functions that C can call.
//!
//! The same engine and protocol code that runs in ring 3 of the exokernel and in a Linux
//! process runs here in Linux's ring 0, so that what differs between the three is the
//! system around the store and not the store. Step 5 of a packet's journey; steps 1 to 4
//! and 6 are Linux's own, and the C files in `linux/`:
//!
//! | file | what it is |
//! |---|---|
//! | `linux/store.h` | these functions, as C declares them |
//! | `linux/packet.c` | which packets are requests; replies without a socket |
//! | `linux/workers.c` | threads that answer, and how requests are shared out |
//! | `linux/module.c` | parameters, loading, unloading |
//!
//! (`cost/` is a program that calls the store as they do, to count its instructions.)
//!
//! `cargo exo module` builds it. In ring 0 of Linux neither SSE nor the red zone may be
//! used and there is no GOT; the command compiles `core` again without them, and
//! refuses what still has them (`qemu/src/module`).
//!
//! **Trust.** Datagrams may be anything: they go to [`kvstore::Service`], which is safe
//! Rust. The pointers come from the C files beside this one.
//!
//! **Memory.** One region, handed over by [`exo_store_new`], holds everything; the
//! [`Store`] itself lies at its start.
#![cfg_attr(exo_module, no_std)]

mod boundary;
#[cfg(exo_module)]
mod panic;
mod route;

pub use boundary::{Store, exo_store_answer, exo_store_first_key, exo_store_new};
pub use route::first_key;
