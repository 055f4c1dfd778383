//! What is done with environments: creation, events, transfers, revocation, destruction.
//! What they are is in [`crate::state::env`].

mod destroy;
pub mod events;
mod family;
mod lifecycle;
pub mod predicate;
pub mod revocation;
pub mod transfer;
pub mod upcall;

pub use crate::state::context::{Context, VectorState};
pub use crate::state::env::{Env, is_gone};
pub use destroy::destroy_step;
pub use events::{notify, ring, wake};
pub use lifecycle::{Parts, create, end, start};

#[cfg(test)]
mod tests;
