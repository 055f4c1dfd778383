//! The kernel's binary: nothing but the library, linked at its address.

#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(exo_guest)]
use exo as _;

#[cfg(not(exo_guest))]
fn main() {
    eprintln!("The kernel runs in a virtual machine: cargo exo run");
    std::process::exit(2);
}
