//! What two filters have to do with each other, decided exactly.
//!
//! For people and tests: `cargo exo filter explain` says whether two filters share a packet
//! and shows one. The kernel does not ask: which packets are an environment's is said by
//! [`Key`](crate::Key)s, which are compared in a few instructions. So this is compiled for the
//! host only.

mod cases;
mod overlap;
mod satisfy;
mod witness;

pub use overlap::{implies, overlap};
pub use witness::witness;

use crate::language::Filter;

/// Whether no packet matches `filter`: its shifts contradict themselves in every case.
pub fn is_empty(filter: &Filter) -> bool {
    filter.cases().next().is_none()
}
