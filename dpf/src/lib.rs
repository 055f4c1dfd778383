//! Downloaded packet filters: which application does a frame belong to?
//!
//! An application describes the frames it wants as data, and the kernel runs
//! that description where it would not run the application's code. A
//! description is therefore not a program: it has no loops, no jumps and no
//! state, so it always ends, reads only the frame, and two of them can be
//! compared exactly. That last point is what makes filters safe to share a
//! device with: before a filter is installed the kernel asks whether it could
//! take a frame that somebody else's filter takes, and the answer is a proof.
//!
//! After D. Engler and M. F. Kaashoek, "DPF: Fast, Flexible Message
//! Demultiplexing Using Dynamic Code Generation", SIGCOMM 1996.
//!
//! | module | what it decides |
//! |---|---|
//! | [`language`](Step) | what a filter can say |
//! | [`interpreter`](Filter::matches) | what it means, and the walk a received frame takes |
//! | [`verify`](FilterError) | which descriptions become a [`Filter`] |
//! | `conjunction`, `cases` | the canonical form |
//! | [`wire`](Filter::decode) | how a filter crosses the system-call boundary |
//! | [`overlap`](overlap()), `satisfy` | do two filters share a frame; does one contain the other |
//! | [`budget`](Budget) | how long comparisons may take |
//! | `rank` | which of two filters is more specific |
//! | [`witness`](witness()) | a frame that two filters share |
//! | [`mirror`](mirror()) | what the owner of a filter may send |
//! | [`packet`] | the filters that ordinary UDP/IP applications want |
//! | [`storage`](Store) | what an owner brings: nodes, groups, room for code |
//! | [`trie`](Trie), `siblings` | all installed filters, merged |
//! | `runs` | where the length of a frame is asked |
//! | [`under`](Filter::under) | that nobody's filters are in the way of others' frames |
//! | [`compile`](compile()), `assembler` | the same as code |
//!
//! Place on the packet path: step 2 (classify) on receive, and the check of
//! step 6 on transmit. Everything here is pure computation on values the caller
//! holds: no heap, no `unsafe`, no device, no clock.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod assembler;
mod budget;
mod cases;
#[cfg(not(exo_guest))]
mod check;
mod compile;
mod conjunction;
mod error;
mod interpreter;
mod language;
mod mirror;
mod overlap;
pub mod packet;
mod rank;
mod runs;
mod satisfy;
mod siblings;
mod storage;
mod test;
mod trie;
mod under;
mod verify;
mod wire;
#[cfg(any(not(exo_guest), feature = "witness"))]
mod witness;

#[cfg(test)]
mod tests;

pub use budget::Budget;
pub use compile::{PREDICATE, Predicate, compile};
pub use language::{
    Atom, Filter, MAX_ATOMS, MAX_CASES, MAX_FRAME, MAX_RANGES, MAX_SHIFTS, MIN_FRAME, Shift, Step,
};
pub use mirror::{NoMirror, mirror};
pub use overlap::{conflict, implies, overlap};
pub use storage::{
    Block, BlockId, Buckets, CodeSlot, Group, GroupId, Node, NodeId, SLOT, SLOTS, Salt, Store, Tag,
    UNIT,
};
pub use trie::{Trie, TrieError};
pub use verify::FilterError;
pub use wire::MAX_WIRE;
#[cfg(any(not(exo_guest), feature = "witness"))]
pub use witness::witness;
