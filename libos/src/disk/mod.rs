//! The disk: an extent of sectors, read, written and flushed as requests.
//!
//! Place: beside step 5 of a packet's journey. What is to outlive the machine goes from the
//! application's own frames to the device, which fetches it there; the kernel has looked at
//! sectors and frame numbers and at nothing else. [`Disk`] keeps many requests in flight and gives
//! each [`Buffer`] back with its completion; [`Blocking`] does one at a time and sleeps meanwhile.
//! Sectors are counted from the start of the extent.

mod block;
mod blocking;
mod buffer;
mod driver;
#[cfg(exo_guest)]
mod guest;
#[cfg(test)]
mod model;

pub use blocking::Blocking;
pub use buffer::Buffer;
pub use driver::{Command, Disk, Done, Doorbell, Extent, Refused, Ticket};
#[cfg(exo_guest)]
pub use guest::{Kernel, blocking, open};
