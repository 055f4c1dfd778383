//! What the root environment decides, apart from the machine it runs on.
//!
//! Root is the one environment the kernel starts. It starts the others as the
//! boot [`manifest`] says, which the `exo` command writes on the host, and spreads
//! the processor's [`slots`] over them. On the disk it keeps the table of [`extents`]. This library is the part of it that needs
//! no kernel; the program is the binary next to it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod extents;
pub mod manifest;
pub mod slots;
