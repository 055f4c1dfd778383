//! Linux in the same machine: what this system is compared with.
//!
//! A [`Guest`] is a value that says which kernel, files, modules and commands there are;
//! it is booted as our own system is, on the same `microvm` with the same NIC. Everything
//! that is not of this source tree comes from Debian's packages, fetched through apt once
//! and kept unpacked in `target/linux`: nothing is installed, no root is needed, and later
//! no network either.
//!
//! | file | what it is |
//! |---|---|
//! | [`guest`] | the description, and how it is booted |
//! | [`init`] | the guest's first program, a script |
//! | [`clock`] | what it is told of its clock |
//! | [`cpio`] | the archive that becomes its first root directory |
//! | [`kernel`] | Debian's kernel for virtual machines, its modules and headers |
//! | [`libraries`] | what a program of a package needs to run |
//! | [`programs`] | programs of this source tree, built for it |
//! | [`memcached`] | the original as a guest's service |
//! | [`fio`] | writes to a disk, as fio does them |
//! | [`redis`] | Redis, with its log on a disk |
//! | [`store`] | our store as a Linux process, on this host or as a guest's service |
//! | [`xdp`] | programs in XDP of a guest's NIC |
//! | [`packages`] | sets of packages, kept |
//! | [`apt`] | the package manager, without installing |
//!
//! Not on a packet's way through our own system: this is the ruler held beside it.

mod apt;
mod clock;
mod cpio;
mod fio;
mod guest;
mod init;
mod kernel;
mod libraries;
mod memcached;
mod packages;
mod programs;
mod redis;
mod store;
mod xdp;

pub use fio::Fio;
pub use guest::{ADDRESS, FAILED, Guest, Mitigations, READY};
pub use init::RECEIVE_BUFFER;
pub use kernel::Kernel;
pub use memcached::Memcached;
pub use packages::{Packages, Set, directory};
pub use programs::build;
pub use redis::Redis;
pub use store::Store;
pub use xdp::Xdp;
