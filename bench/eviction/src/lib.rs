//! Hit ratios: which part of the reads a full store answers, by policy of eviction, beside
//! memcached with as much memory.
//!
//! A *load* is a sequence of requests, generated ([`mixes`]) or read from a trace ([`trace`]). Each
//! contender ([`contender`]) is played the same one ([`play`]): a read that misses is followed by
//! a store of the item, as behind a cache that an application looks aside to. The engine is
//! called as a library; memcached runs as a process and is asked through a socket.
//!
//! **Same memory.** The engine gets so many bytes for everything: items, index and lists.
//! memcached gets the same number as `-m`, which does not count its hash table and what else its
//! process takes: it has that in addition.

pub mod contender;
pub mod fill;
pub mod mixes;
pub mod play;
pub mod request;
pub mod trace;
