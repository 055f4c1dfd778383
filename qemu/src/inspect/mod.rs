//! A running machine seen from outside: what its kernel publishes to every environment, and what
//! lies in the environments' own frames, read from its memory.
//!
//! A machine that shares its memory (`Config::shared_memory`) has it in a file that other processes
//! of the same user can map. In it the kernel's page of facts and counters says where the frame
//! table is, and that says of every frame what it is and which environment pays for it. Nothing of
//! the kernel's private data is read, nothing is written, and the guest executes no instruction for
//! it.
//!
//! | file | what it is |
//! |---|---|
//! | [`memory`] | the mapping |
//! | [`published`] | the kernel's pages, and the environments in them |
//! | [`rings`] | packets in an environment's own rings |
//! | [`find`] | which machines run |

pub(crate) mod find;
mod memory;
mod published;
pub(crate) mod rings;

pub(crate) use memory::Memory;
pub(crate) use published::{Environment, Published};
