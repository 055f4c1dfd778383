//! The memcached protocol: bytes to meaning and back.
//!
//! - [`Frame`]: the eight bytes before every UDP payload
//! - [`Input`], [`Request`]: the text protocol, read from a datagram or a stream
//! - [`Meta`]: the flags of the meta commands
//! - [`binary`]: the headers of the binary protocol
//! - [`Reply`]: the reply, written into a buffer of fixed size
//!
//! The wording of every answer, and which of two faults is found first, is that of
//! memcached; `tests/oracle.rs` compares byte for byte. Its parser was rewritten in 1.6.40:
//! where the older and the newer differ, `docs/memcached.md` has a table of both and of
//! what is done here, which `tests/table.rs` holds to all three.
//!
//! # Deviations
//!
//! Meant:
//! - All answers to a datagram are one answer, of as many datagrams as it needs. memcached sends one for
//!   each request, and one for each key found by a `get`.
//! - An answer that is too long for that (or, in Linux's module, for one datagram) is `SERVER_ERROR
//!   reply too large`.
//! - Requests of several datagrams are taken together, and a source that may be forged has a budget:
//!   [`crate::datagrams`].
//! - A data block longer than what was sent is `CLIENT_ERROR bad data chunk`.
//!   memcached takes the next datagram, from any source, for the rest of it.
//! - After a delayed `flush_all` has been replaced by another, what an earlier one
//!   removed stays removed; and a delay is exact, not a second short.
//! - `incr` and `decr` refuse a value of blanks only; memcached reads on in the memory behind
//!   it.
//! - `incr` and `decr` refuse a number from 2^63 up if there is a '-' in the value;
//!   memcached also if it finds one in the memory behind it.
//! - What begins like a reply (`VALUE`, `ERROR`, a number alone, a binary response…) gets no
//!   answer: memcached says `ERROR`, and two of them, set on each other by a forged datagram,
//!   say so for ever.
//! - `quit` and HTTP requests get no answer; memcached answers `quit` with an empty
//!   datagram.
//!
//! Over TCP see [`crate::stream`], and `docs/memcached.md` for what differs there. Not there
//! (answered in memcached's words, or with `ERROR`): `bget`, and the commands that tune
//! memcached's own inside (`slabs`, `lru`, `lru_crawler`, `cache_memlimit`, `watch`, `extstore`).
//!
//! **Trust.** Everything here reads what a stranger sent. Lengths are compared with
//! what is there before use, and a reply is bounded by its buffers.

mod base64;
pub mod binary;
mod frame;
mod input;
mod login;
mod meta;
mod reflection;
mod reply;
mod request;
mod usual;

pub(crate) use base64::{Decoded, encode as encode_base64};
pub use frame::Frame;
pub use input::{BadChunk, BadKey, Input};
pub(crate) use login::login;
pub(crate) use meta::put_key;
pub use meta::{Flags, Meta, SetAnswer};
pub use reflection::is_reply;
pub use reply::{Reply, Rest, TooLarge};
pub use request::{Refusal, Request, StatsKind};
pub use usual::{SingleSet, first_get, first_set, single_get, single_set};
