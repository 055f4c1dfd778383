//! From power-on to the kernel's first line of Rust, and what is found there:
//! the PVH entry, the start information, the first page of the boot image, the memory map.
//!
//! The machine monitor loads the kernel's ELF file at the addresses it asks for
//! and jumps to the 32-bit entry named by its PVH note; the boot image (the
//! first environment, and what that is to start) arrives as the
//! initial ramdisk.

#![cfg_attr(not(test), no_std)]

pub mod entry;
pub mod launch;
pub mod layout;
pub mod pvh;
