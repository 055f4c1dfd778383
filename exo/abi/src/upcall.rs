//! Upcalls: how the kernel calls an environment, and the ring its doorbells fill.
//!
//! After Aegis (SOSP'95, 5.2): the kernel does not handle an application's
//! exceptions, time slices or events, it tells the application. An upcall saves the
//! few registers it must change in the U-area, and continues the environment at the
//! entry it named. Going back is the application's own business and takes no
//! crossing.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// Why an environment is called. A single bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Upcall {
    /// It caused a processor exception. Comes whenever an entry is named.
    Exception = 1,
    /// Its slice is over. It has [`GRACE_MICROSECONDS`] to put its things in order
    /// and call `slice_yield`; what it takes beyond that is taken off its next slots.
    SliceEnd = 2,
    /// It has the processor again, after a slice's end.
    SliceBegin = 4,
    /// Something happened while it was running, or while it was not asleep.
    Event = 8,
    /// An environment in control of it wants resources back: see [`Revocation`].
    Revoke = 16,
    /// It has lost ring 0, which it had, and not by its own doing
    /// ([`crate::ElevationArea::why`]).
    Lowered = 32,
}

/// How long an environment may go on after the end of its slice.
pub const GRACE_MICROSECONDS: u64 = 100;

/// The words of an upcall, in the U-area.
///
/// While [`UpcallArea::masked`] is not zero there are no upcalls, and an exception
/// ends the environment. The kernel sets it with every upcall; the application
/// clears it when the saved words may be written over.
#[repr(C)]
#[derive(Debug)]
pub struct UpcallArea {
    /// Where upcalls begin; zero: there are none. Written by the application.
    pub entry: AtomicU64,
    /// Stack pointer they begin with. Written by the application.
    pub stack: AtomicU64,
    /// The [`Upcall`]s wanted, as bits. Written by the application.
    pub wanted: AtomicU32,
    /// Not zero: no upcalls now. Written by both.
    pub masked: AtomicU32,
    /// Why: also in `rdi`.
    pub reason: AtomicU64,
    /// For an exception its vector and, for a page fault, error code and address.
    pub vector: AtomicU64,
    /// See [`UpcallArea::vector`].
    pub code: AtomicU64,
    /// See [`UpcallArea::vector`].
    pub address: AtomicU64,
    /// The registers that were changed, as they were. All others are untouched.
    pub rip: AtomicU64,
    /// See [`UpcallArea::rip`].
    pub rsp: AtomicU64,
    /// See [`UpcallArea::rip`].
    pub flags: AtomicU64,
    /// See [`UpcallArea::rip`].
    pub rdi: AtomicU64,
}

/// The dialogue about resources that are wanted back (Aegis, SOSP'95, 3.4 and 3.5).
///
/// The kernel passes on what the environment in control asks for, and says what it has taken by
/// `revoke_enforce`. That environment decides when to take and what; by the custom of the
/// library OS (`libos::revocation`) after the deadline, and first what is called expendable.
#[repr(C)]
#[derive(Debug)]
pub struct Revocation {
    /// Frames wanted.
    pub frames: AtomicU32,
    /// Slots wanted; a holder of the capability for slots takes them by assigning them.
    pub slots: AtomicU32,
    /// Until when, by the time-stamp counter.
    pub deadline: AtomicU64,
    /// Frames to be taken first; zero ones are passed over. Written by the application, and
    /// not read by the kernel.
    pub expendable: [AtomicU32; EXPENDABLE],
    /// Frames taken so far; the next goes to this index modulo the vector's size.
    pub count: AtomicU64,
    /// The repossession vector: frames that were taken, unmapped everywhere.
    pub repossessed: [AtomicU32; REPOSSESSED],
}

/// Frames that can be called expendable at a time.
pub const EXPENDABLE: usize = 32;
/// Length of the repossession vector.
pub const REPOSSESSED: usize = 64;

/// Words in an [`EventRing`].
pub const EVENT_RING_WORDS: u32 = 32;

/// The ring that doorbells fill: one badge for each time one was rung. An
/// application that runs sees it move without a crossing.
#[repr(C)]
#[derive(Debug)]
pub struct EventRing {
    /// Badges put in so far; the next goes to this index modulo the ring's size.
    pub produced: AtomicU32,
    /// Badges taken out so far. Written by the application.
    pub consumed: AtomicU32,
    /// Badges lost because the ring was full. Their events are counted all the same.
    pub lost: AtomicU64,
    /// The badges.
    pub badges: [AtomicU64; EVENT_RING_WORDS as usize],
}
