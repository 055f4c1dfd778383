//! The library OS: everything above protection, as an ordinary untrusted crate
//! that each application links and may replace piece by piece.
//!
//! The kernel protects frames, time slices, packets and capabilities. What
//! programs expect of an operating system beyond that is here, one module per
//! abstraction, each behind a trait, none privileged over what an application
//! writes itself:
//!
//! | module | abstraction | trait |
//! |---|---|---|
//! | [`runtime`] | from entry point to `main`, panics | |
//! | [`memory`] | frames, address space, heap | `FrameSource`, `Heap` |
//! | [`paging`] | pages that come when touched | `Pager` |
//! | [`revocation`] | frames wanted back | |
//! | [`sched`] | what runs next, sleeping, threads | `Scheduler`, `Park`, `Policy` |
//! | [`time`] | ticks and wall clock | `Clock` |
//! | [`console`] | whole lines of text | `Sink` |
//! | [`trace`] | what happened last | `Record` |
//! | [`measure`] | instructions of an application's own operations | |
//! | `transfer` | functions of other environments | `Parcel` |
//! | [`gate`] | code and memory of one application that others enter, behind a protection key | |
//! | [`lend`] | what serves calls, while the rest does not use it | `Serve` |
//! | `upcall` | exceptions, slices, events | |
//! | [`disk`] | sectors of an extent | `Doorbell` |
//! | `elevation` | own code in ring 0 | |
//! | `environment` | children from an image | |
//! | `share`, [`condition`] | memory and capabilities of several applications; sleeping until memory says so | |
//! | [`net`] | frames and datagrams | `NetDevice`, `UdpStack`, `Service` |
//! | [`storage`] | sectors, and what survives a power cut | `Block`, `Contents` |
//!
//! Modules that make system calls exist only in the guest (`cfg(exo_guest)`);
//! all others compile on the host, where they are tested. With `cfg(exo_hosted)` an application runs
//! on the host, as an ordinary process: `hosted` is in the place of some of them.
#![cfg_attr(not(any(test, exo_hosted)), no_std)]

extern crate alloc;
#[cfg(any(test, exo_hosted))]
extern crate std;

pub mod condition;
pub mod console;
pub mod disk;
#[cfg(exo_guest)]
pub mod elevation;
#[cfg(exo_guest)]
pub mod environment;
pub mod gate;
#[cfg(any(test, exo_hosted))]
pub mod hosted;
pub mod lend;
pub mod measure;
pub mod memory;
pub mod net;
pub mod paging;
pub mod revocation;
pub mod runtime;
pub mod sched;
#[cfg(exo_guest)]
pub mod share;
#[cfg(exo_hosted)]
pub use hosted::share;
pub mod start;
pub mod storage;
#[cfg(exo_guest)]
pub mod sys;
pub mod time;
pub mod trace;
#[cfg(exo_guest)]
pub mod transfer;
#[cfg(exo_guest)]
pub mod upcall;

/// Packet filters, which conditions on memory are as well.
pub use dpf;
/// The contract with the kernel.
pub use exo_abi as abi;
