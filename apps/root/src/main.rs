//! The first environment: it owns everything and keeps almost nothing.
//!
//! It reads the boot bundle, starts each application the manifest names with what
//! the manifest grants and no more, and then sleeps until one ends. It reports
//! how, takes the environment apart and checks that every frame came back. All
//! policy that a kernel would otherwise have at boot is here, in ring 3.

#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(exo_guest)]
extern crate alloc;

#[cfg(exo_guest)]
mod bundle;
#[cfg(exo_guest)]
mod child;
#[cfg(exo_guest)]
mod disk;
#[cfg(exo_guest)]
mod guest;
#[cfg(exo_guest)]
mod programs;
#[cfg(exo_guest)]
mod shares;
#[cfg(exo_guest)]
mod watch;

#[cfg(exo_guest)]
libos::entry!(guest::start);

#[cfg(not(exo_guest))]
fn main() {
    eprintln!("root runs in a virtual machine: cargo exo run");
    std::process::exit(2);
}
