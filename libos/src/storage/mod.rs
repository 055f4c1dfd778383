//! Storage: blocks, a log on them, and what keeps its contents in a log.
//!
//! Place on the packet path: beside step 5. A service that changes something durable appends the
//! change to a log before its answer leaves, as with Arrakis' storage library:
//! the log goes from the application to the device, and one write and one flush serve all the
//! requests of a batch.
//!
//! | file | what it is | trait |
//! |---|---|---|
//! | `block` | sectors that can be read, written and flushed; also while their owner goes on | [`Block`], [`Background`] |
//! | `memory` | sectors in memory | |
//! | `entry` | what an entry and the head of an area look like | |
//! | `log` | entries, one after the other, in two areas by turns | |
//! | `journal` | contents that are whole again after a power cut | [`Contents`] |
//! | `map`, `queue` | two such contents | |
//! | `later` | callbacks and tasks that wait until a change is durable | |
//! | [`conformance`] | what every device must do | |
//! | [`powercut`] | every state that a power cut can leave | |
//!
//! **What a device promises.** A sector is written as a whole or not at all. What was written
//! before a flush is there after it. Between two flushes nothing is promised: writes may be lost,
//! and become durable in any order.

mod block;
pub mod conformance;
mod entry;
mod journal;
mod later;
mod log;
mod map;
mod memory;
pub mod powercut;
mod queue;

#[cfg(test)]
mod tests;

pub use block::{Background, Block, Fault, SECTOR, sectors, within};
pub use entry::{HEADER, Refused};
pub use journal::{ApplyError, Contents, Journal, Sink, Stamp};
pub use later::{Waiting, durable};
pub use log::{Counts, Log, OpenError};
pub use map::PersistentMap;
pub use memory::MemoryDisk;
pub use queue::PersistentQueue;
