//! Capabilities: what an environment may do, and which environment gave it that right.
//!
//! A capability lies in a slot of a table in its holder's donated frames. Slots know their
//! place in one derivation tree that spans all tables: which capability was derived from
//! which. Rights and ranges only shrink along it, and revoking a capability removes
//! everything below it. All operations take constant time per link, and the unbounded ones
//! (revoke, drop) are done in bounded steps.

mod slot;
mod table;
mod tree;

pub use slot::{BADGE_END, CapRef, CapTable, Kind, Object, SLOTS_PER_FRAME, Slot};
pub use table::{CapSpace, donate, insert, occupied, table_slot};
pub use tree::{check_parent, drop_step, origin, revoke_step};

#[cfg(test)]
mod tests;
