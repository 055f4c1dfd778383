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
//! | [`language`](Step) | what a filter can say |
//! | [`interpreter`](Filter::matches) | what it means, and the walk a received frame takes |
//! | [`verify`](FilterError) | which descriptions become a [`Filter`] |
//! | `conjunction` | the canonical form |
//! | [`wire`](Filter::decode) | how a filter crosses the system-call boundary |
//! | [`key`](Key) | which packets are an environment's, and what a filter says beside that |
//! | [`mirror`](Key::mirror) | what the holder of a key may send |
//! | [`rank`](Filter::rank) | which of two filters of one owner goes first |
//! | [`packet`] | the filters that ordinary UDP/IP applications want |
//! | [`storage`](Store) | what an owner brings: nodes, groups, room for code |
//! | [`trie`](Trie), `siblings` | all filters behind one key, merged |
//! | `runs` | where the length of a frame is asked |
//! | `compile`, `assembler` | the same as code |
//! | `exact` | what two filters have to do with each other; not in ring 0 |
//!
//! Place on the packet path: step 2 (classify) on receive, and the check of
//! step 6 on transmit. Everything here is pure computation on values the caller
//! holds: no heap, no `unsafe`, no device, no clock.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod assembler;
#[cfg(not(exo_guest))]
mod check;
mod compile;
mod conjunction;
mod error;
#[cfg(not(exo_guest))]
pub mod exact;
mod interpreter;
mod key;
mod language;
mod mirror;
pub mod packet;
mod rank;
mod runs;
mod siblings;
mod storage;
mod test;
mod trie;
mod verify;
mod wire;

#[cfg(test)]
mod tests;

pub use compile::pass_on;
#[cfg(not(exo_guest))]
pub use compile::{PREDICATE, Predicate, compile};
#[cfg(not(exo_guest))]
pub use exact::{implies, overlap, witness};
pub use key::{KEY_BYTES, KEY_WORDS, Key};
pub use language::{
    Atom, Filter, MAX_ATOMS, MAX_FRAME, MAX_RANGES, MAX_SHIFTS, MIN_FRAME, Shift, Step,
};
pub use mirror::NoMirror;
pub use storage::{
    Block, BlockId, Buckets, CodeSlot, Group, GroupId, Node, NodeId, SLOT, SLOTS, Salt, Store, Tag,
    UNIT,
};
pub use trie::{Trie, TrieError};
pub use verify::FilterError;
pub use wire::MAX_WIRE;
