//! The memcached protocol: bytes to meaning and back.
//!
//! - [`Frame`]: the eight bytes before every UDP payload
//! - [`Input`], [`Request`]: the text protocol, read from one datagram
//! - [`Reply`]: the reply, written into a buffer of fixed size
//!
//! The wording of every answer, and which of two faults is found first, is that of
//! memcached 1.6; `tests/oracle.rs` compares byte for byte. The differences that
//! are meant:
//!
//! - a key with a control character in it is refused, as `protocol.txt` demands;
//!   memcached stores it, and stops reading a line at a zero byte;
//! - the binary protocol, the meta commands and commands that tune memcached's own
//!   inside are answered `ERROR`.
//!
//! **Trust.** Everything here reads what a stranger sent. Lengths are compared with
//! what is there before use, and a reply is bounded by its buffer, so that one
//! datagram never causes more than one.

mod frame;
mod input;
mod reply;
mod request;

pub use frame::Frame;
pub use input::{BadChunk, BadKey, Input, single_get};
pub use reply::{Reply, TooLarge};
pub use request::{Refusal, Request, StatsKind};
