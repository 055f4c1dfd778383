//! The processor: everything that is a fact of x86-64 rather than of Exo.
//!
//! One file per unit of the hardware. All of it is guest-only; the rest of the
//! kernel is plain Rust over memory and is also compiled, and tested, on the
//! host.

pub mod apic;
pub mod cpu;
pub mod elevated;
pub mod exit;
pub mod keys;
pub mod memory_symbols;
pub mod percpu;
pub mod serial;
pub mod stack;
pub mod syscall;
pub mod vectors;
