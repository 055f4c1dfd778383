//! A memcached-compatible key-value store, as a library that does no input or
//! output of its own.
//!
//! Step 5 of a packet's journey: a UDP payload comes in, a UDP payload goes out, or bytes of a
//! connection do; and nothing here knows where either lives. The library asks for no clock, no
//! allocator and no operating system. All memory it will ever use is handed to it
//! once, as one slice, and time is an argument. The same source therefore runs
//! unchanged as a Linux process, as a Linux kernel module and as an application in
//! ring 3 of the exokernel.
//!
//! - [`protocol`]: bytes to meaning and back. The UDP frame; text, meta and binary requests;
//!   the reply under construction.
//! - [`engine`]: the store. Keyed hash, index, bucket allocator, policies of eviction.
//! - [`service`]: the two joined, for datagrams: [`Service::answer`].
//! - [`datagrams`]: requests and answers of several datagrams, and a budget for each source.
//! - [`stream`]: the same for a TCP connection: [`stream::Conversation`].
//! - [`users`]: which users are served, if not all.
//! - [`connections`]: how many of these there are, up to a limit.
//! - `local`: the operations for environments of the same machine, which call them.
//! - `durable`: a store whose answers are durable, where there is a device to write to.
//!
//! **Trust.** Every byte of a datagram or connection may be hostile. Nothing derived from one
//! is used as an index or a length before it was checked, and there is no unsafe
//! code in the crate.
//!
//! **Memory.** The slice given to [`Service::new`] is the bound. When it is full,
//! storing an item means evicting others.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod connections;
pub mod datagrams;
#[cfg(feature = "durable")]
pub mod durable;
pub mod engine;
#[cfg(feature = "local")]
pub mod local;
mod number;
pub mod protocol;
pub mod service;
pub mod stream;
pub mod users;
mod wide;

pub use engine::{Config, SetupError};
pub use service::{MAX_DATAGRAM, MIN_REPLY, Service, Time};
