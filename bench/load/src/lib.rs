//! A memcached load generator over UDP that says what it did not measure.
//!
//! It stands at both ends of a packet's journey: it sends the requests and checks the
//! replies. Between them lies the server, which is not trusted: not to answer, not to
//! answer once, and not to answer right.
//!
//! | module | what it is |
//! |---|---|
//! | [`workload`] | which keys and values there are, and which are asked for |
//! | [`protocol`] | requests as bytes; replies checked for id, key and contents |
//! | [`schedule`] | when a request is to be sent: closed loop, or open loop with intended times |
//! | [`driver`] | ids, sending, matching replies, time limits |
//! | [`account`] | where every request went, and how long the answered ones took |
//! | [`run`] | probe, prefill, warm-up, measurement |
//! | [`search`] | the highest rate that keeps a latency objective |
//! | [`report`] | text and JSON |
//! | [`wire`] | back ends: UDP sockets, or vhost-user: the NIC of a virtual machine |
//!
//! Latency in an open loop is counted from the *intended* time of a request, so a server
//! (or a generator) that falls behind cannot hide it by delaying the next request:
//! "coordinated omission", G. Tene, *How NOT to Measure Latency*, 2013.

#![forbid(unsafe_code)]

pub mod account;
pub mod driver;
pub mod progress;
pub mod protocol;
pub mod report;
pub mod run;
pub mod schedule;
pub mod search;
pub mod wire;
pub mod workload;

pub use account::Account;
pub use run::{Ended, Load, Measured, Plan, Watch};
pub use schedule::{Arrivals, Schedule};
pub use wire::{Batch, Wire};
pub use workload::{Items, Popularity, Sizes, Workload};
