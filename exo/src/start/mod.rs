//! From the boot stack to the first environment: what runs once.
//!
//! Finds memory, makes the final page tables, the frame table and the published
//! pages, starts the devices and the other processors, loads the first environment from the
//! boot bundle and leaves ring 0 for good. Nothing of it is used again: no other module of the
//! kernel imports this one (`cargo exo tcb` counts its lines apart, a test holds it to that).

#[cfg(exo_guest)]
mod descriptors;
#[cfg(exo_guest)]
mod devices;
#[cfg(exo_guest)]
mod first;
#[cfg(exo_guest)]
mod layout;
#[cfg(exo_guest)]
mod machine;
#[cfg(exo_guest)]
mod main;
#[cfg(exo_guest)]
mod others;
#[cfg(exo_guest)]
mod processor;
pub mod rate;
pub mod secret;
#[cfg(exo_guest)]
mod timer;
pub mod virtio;

/// For the checker, which the shipped kernel does not contain.
#[cfg(all(exo_guest, exo_check))]
pub(crate) use layout::guards;
