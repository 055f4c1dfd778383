//! What programs need that examine the kernel from ring 3: checks, frames picked by
//! name, a look at the own page tables, and environments made of the program's
//! own image that may die in the program's stead.
//!
//! The self-test and the others that try the system share it. It uses the kernel's calls directly
//! and not the library OS's memory management, because what these programs ask
//! for is what that would never do.
#![cfg_attr(exo_guest, no_std)]

#[cfg(exo_guest)]
extern crate alloc;

#[cfg(exo_guest)]
pub mod check;
#[cfg(exo_guest)]
pub mod child;
#[cfg(exo_guest)]
pub mod frames;
pub mod image;
#[cfg(exo_guest)]
pub mod random;
#[cfg(exo_guest)]
pub mod server;
#[cfg(exo_guest)]
pub mod tables;
