//! Gates: code and memory of one application, which others enter without the kernel.
//!
//! A *domain* is what an application, its owner, has other applications map: its code, and memory
//! behind a protection key. A *visitor* enters it by calling the gate: some instructions that open the key
//! and change to a stack of the domain's, so that the owner's function runs on the visitor's time and
//! in its address space, and comes back. Idea and trust: `docs/keys.md`.
//!
//! ```text
//! owner                                    visitor
//! Domain::new(serve)
//! domain.join(..)  <---------------------- Gate::join(share, side)
//!                                          gate.visit(words, bytes, value)
//! serve(words..) -> Answer  <------------- runs here
//! ```
//!
//! All of it lies at the same addresses in owner and visitors, so that one domain is all that an
//! environment can visit, and references within the domain mean the same everywhere:
//!
//! | from | what | in visitors |
//! |---|---|---|
//! | [`IMAGE`](crate::memory::layout::IMAGE) | code and constants of the owner (`apps/domain.ld`) | executed and read |
//! | `GATE` | the gate's page, made for the key ([`page`]) | executed |
//! | `BOARD` | the lock ([`lock`]), and where things are | behind the key |
//! | `STACK` | stack, ticket and scratch memory: another for each visitor | behind the key |
//! | `MEMORY` | what the owner keeps for all | behind the key |
//!
//! The owner's variables, heap and U-area are not in visitors: a serving function does without
//! statics, allocation and system calls, and so does not print. If it panics, its visitor ends.

#[cfg(exo_guest)]
mod domain;
pub mod lock;
pub mod page;
pub mod shared;
#[cfg(exo_guest)]
mod visit;

#[cfg(exo_guest)]
pub use domain::Domain;
#[cfg(exo_guest)]
pub use visit::{Gate, Inside, Value};

use exo_abi::{Error, FRAME_BYTES, Pages, Rights, VirtAddr};

use crate::memory::layout::{DOMAIN, Window};

/// The gate's page.
pub const GATE: VirtAddr = DOMAIN.start;
/// The page of lock and directions.
pub const BOARD: VirtAddr = at(0x1000);
/// The lowest page of a visitor's stack; the page below is not mapped.
pub const STACK: VirtAddr = at(0x20_0000);
/// Pages of a stack.
pub const STACK_PAGES: Pages = 8;
/// The page that says which visitor this is; the stack ends where it begins.
pub const TICKET: VirtAddr = at(0x20_0000 + STACK_PAGES as u64 * FRAME_BYTES);
/// Memory that a visit uses alone.
pub const SCRATCH: VirtAddr = at(0x20_0000 + (STACK_PAGES as u64 + 1) * FRAME_BYTES);
/// Most pages of that.
pub const MOST_SCRATCH: Pages = 256;
/// Memory of the domain.
pub const MEMORY: Window = Window { start: at(0x1000_0000), end: DOMAIN.end };

/// What an environment lets the owner of a domain do that it is to visit: map pages for it, and see
/// how it fares.
pub const CONSENT: Rights = Rights::MEMORY.with(Rights::INSPECT).with(Rights::GRANT);

/// The first word of a protected call by which an environment becomes a visitor; the second is the
/// owner's handle for it, with [`CONSENT`]. Replies are [`Mapped`].
pub const JOIN: u64 = u64::from_le_bytes(*b"join the");

/// How far mapping a domain for a visitor has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapped {
    /// All is: it can visit.
    All,
    /// So many pages are left.
    Left(Pages),
    /// The visitor has no page table for this address.
    NoTable(VirtAddr),
    /// The owner is in the middle of something: ask again.
    Later,
}

impl Mapped {
    /// As a reply.
    #[must_use]
    pub fn pack(mapped: Result<Self, Error>) -> [u64; 6] {
        let (kind, value) = match mapped {
            Err(error) => (0, error as u64),
            Ok(Self::All) => (1, 0),
            Ok(Self::Left(pages)) => (2, pages.into()),
            Ok(Self::NoTable(at)) => (3, at.get()),
            Ok(Self::Later) => (4, 0),
        };
        [kind, value, 0, 0, 0, 0]
    }

    /// Out of a reply. `None` if it is none, or a refusal.
    #[must_use]
    pub fn unpack(reply: &[u64; 6]) -> Option<Self> {
        match *reply {
            [1, ..] => Some(Self::All),
            [2, pages, ..] => Pages::try_from(pages).ok().map(Self::Left),
            [3, at, ..] => VirtAddr::new(at).map(Self::NoTable),
            [4, ..] => Some(Self::Later),
            _ => None,
        }
    }
}

const fn at(offset: u64) -> VirtAddr {
    match VirtAddr::new(DOMAIN.start.get() + offset) {
        Some(at) => at,
        None => panic!("a page of the domain"),
    }
}

/// What a serving function answers: two words, which the gate passes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Answer(pub u64, pub u64);

/// What stands behind a gate: three words, address and length of what is to be read, and the same of what
/// is to be read or written. All of them may be anything.
pub type Serve = unsafe extern "C" fn(u64, u64, u64, u64, u64, u64) -> Answer;
