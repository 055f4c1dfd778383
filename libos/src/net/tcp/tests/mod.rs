//! The stack against smoltcp's client, over good wires and bad.

pub(in crate::net) mod client;
pub(in crate::net) mod service;
mod conversation;
mod fuzz;
mod network;
