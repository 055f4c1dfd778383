//! The store for environments of the same machine: its operations are functions that they call,
//! by protected control transfer, in their own slice, instead of asking over the network.
//!
//! Both sides link this crate, so there is one definition:
//!
//! - [`request`]: what a call and its reply carry in the six message registers
//! - [`window`]: the pages that one client has in common with the store, and where in them key and
//!   value lie
//! - [`client`]: the operations, typed
//! - `door`: how a client reaches the store
//!
//! The serving side is `kvstore::local`.
//!
//! **Trust.** Neither side trusts the other with anything but the answer. The store takes
//! registers and window for what they are, bytes of another environment: it copies them once and
//! looks at the copy. A client gives the store its slice, and gets it back when the store replies,
//! ends, or the slice is over.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod client;
#[cfg(exo_guest)]
mod door;
pub mod request;
pub mod window;

pub use client::{Client, Failure, Found, Stored};
#[cfg(exo_guest)]
pub use door::{Door, STORE_SIDE};
pub use request::{Message, Operation, Reply, Request, Status};
pub use window::{Post, Window};
