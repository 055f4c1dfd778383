//! Downloaded packet filters: which application does a frame belong to?
//!
//! An application describes the frames it wants as data, and the kernel runs
//! that description where it would not run the application's code. A
//! description is therefore not a program: it has no loops, no jumps and no
//! state, so it always ends and reads only the frame.
//!
//! Two kinds of description do different work. A [`Key`] is authority: pinned bits, compared
//! in a few instructions, say which packets are an environment's. A [`Filter`] lies behind a
//! key and sorts what is its owner's already.
//!
//! After D. Engler and M. F. Kaashoek, "DPF: Fast, Flexible Message
//! Demultiplexing Using Dynamic Code Generation", SIGCOMM 1996.
//!
//! | module | what it decides |
//! |---|---|
//! | [`filter`](Filter) | what the kernel has of a filter, and what it means |
//! | [`wire`](Filter::decode) | how a filter crosses the system-call boundary, and what is checked |
//! | [`key`](Key) | which packets are an environment's, and what a filter says beside that |
//! | [`mirror`](Key::mirror) | what the holder of a key may send |
//! | [`rank`](Filter::rank) | which of two filters of one owner goes first |
//! | [`storage`](Store) | what an owner brings: nodes, groups, room for code |
//! | [`trie`](Trie), `siblings` | all filters behind one key, merged |
//! | `runs` | where the length of a frame is asked |
//! | `compile`, `assembler` | the same as code |
//! | `language` | how a filter is written and brought to its form; not in ring 0 |
//!
//! `language` is a feature: whatever writes, compares or interprets filters asks for it. The
//! kernel does not, and checks of a filter what its code relies on.
//!
//! Place on the packet path: step 2 (classify) on receive, and the check of
//! step 6 on transmit. Everything here is pure computation on values the caller
//! holds: no heap, no `unsafe`, no device, no clock.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod assembler;
mod compile;
mod filter;
mod key;
#[cfg(feature = "language")]
mod language;
mod mirror;
mod rank;
mod runs;
mod siblings;
mod storage;
mod test;
mod trie;
mod wire;

#[cfg(test)]
mod tests;

pub use compile::pass_on;
pub use filter::{Filter, MAX_ATOMS, MAX_FRAME, MAX_SHIFTS, MIN_FRAME};
pub use key::{KEY_BYTES, KEY_WIRE, Key};
#[cfg(feature = "language")]
pub use language::{
    Atom, FilterError, Inspect, MAX_RANGES, PREDICATE, Predicate, Shift, Step, compile,
    encode_keys, exact, implies, overlap, packet, witness,
};
pub use mirror::NoMirror;
pub use storage::{
    Block, BlockId, Buckets, CodeSlot, Group, GroupId, Node, NodeId, SLOT, SLOTS, Salt, Store, Tag,
    UNIT,
};
pub use trie::{Trie, TrieError};
pub use wire::MAX_WIRE;
