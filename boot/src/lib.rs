//! From power-on to the kernel's first line of Rust, and what is found there:
//! the PVH entry, the start information, the boot bundle, the memory map.
//!
//! The machine monitor loads the kernel's ELF file at the addresses it asks for
//! and jumps to the 32-bit entry named by its PVH note; the boot bundle (the
//! first environment, the other applications, the manifest) arrives as the
//! initial ramdisk. Nothing here knows what a manifest says.

#![cfg_attr(not(test), no_std)]

pub mod bundle;
pub mod entry;
pub mod layout;
pub mod pvh;
