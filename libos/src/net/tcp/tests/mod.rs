//! The stack against smoltcp's client, over good wires and bad.

pub(in crate::net) mod client;
mod conversation;
mod fuzz;
mod head;
mod network;
pub(in crate::net) mod service;
