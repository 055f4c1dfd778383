//! The same work for every implementation of an abstraction, measured.
//!
//! An application calls one of these with its own; `apps/stock` does with those of the library. So
//! `cargo exo measure mine --against stock` holds one against the other, operation by operation.
//! What an implementation is good at is its author's to show, with operations of its own.

mod frames;
mod heap;
#[cfg(exo_guest)]
mod pager;
mod policy;
mod udp;

pub use frames::frames;
pub use heap::heap;
#[cfg(exo_guest)]
pub use pager::{PAGER_PAGES, pager};
pub use policy::policy;
pub use udp::udp;
