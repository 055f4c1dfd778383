//! Elevation: the application's own code in ring 0, for a time.
//!
//! With a capability for it, and only then, the kernel lets an environment go on in ring 0
//! where it is: same address space, same stack, same program. [`Elevation::begin`] goes there,
//! from any point to any other, and dropping the [`Stretch`] comes back. An exception, the end of the
//! longest stretch or a revocation comes back, too, at any instruction; [`is_elevated`] says
//! where the program is. System calls go on working; [`direct`] makes them without a trap.
//!
//! All threads of the environment are in the same ring: what one begins, all have.
//!
//! **Trust** In ring 0 the application can break the whole machine. What is caught of mistakes is in
//! `docs/elevation.md`.

pub mod direct;

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{ElevationArea, Error, Handle, Lowered, UArea};

use crate::sys;
use crate::time::timestamp;
use crate::upcall::u_area;

/// The right to run in ring 0.
#[derive(Clone, Copy, Debug)]
pub struct Elevation(Handle);

/// Ring 0, until it is dropped. One at a time: there is one ring 0, and the first to be dropped leaves it.
#[must_use = "dropping it goes back to ring 3"]
#[derive(Debug)]
pub struct Stretch {
    right: Elevation,
    /// When to ask for more, and until when it is granted.
    half: u64,
    end: u64,
}

impl Elevation {
    /// The right that the capability `handle` gives.
    pub const fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// Goes on in ring 0.
    ///
    /// **Cost** two crossings of the kernel, with the drop, and the processor's translations.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn begin(self) -> Result<Stretch, Error> {
        let now = timestamp();
        let end = sys::elevate(self.0)?;
        Ok(Stretch { right: self, half: now + (end - now) / 2, end })
    }
}

impl Stretch {
    /// Begins a new stretch when half of this one is over: for a loop that stays in ring 0.
    /// Also after the kernel has taken it back.
    ///
    /// **Cost** a reading of the clock.
    ///
    /// # Errors
    /// The kernel's refusal.
    #[inline]
    pub fn keep(&mut self) -> Result<(), Error> {
        if timestamp() < self.half && is_elevated() { Ok(()) } else { self.renew() }
    }

    /// Until when ring 0 is granted, by the time-stamp counter.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Whether [`direct`] calls are calls now, and not system calls.
    pub fn calls_directly(&self) -> bool {
        area().call.load(Relaxed) != direct::fallback_address()
    }

    #[cold]
    fn renew(&mut self) -> Result<(), Error> {
        let now = timestamp();
        self.end = sys::elevate(self.right.0)?;
        self.half = now + (self.end - now) / 2;
        Ok(())
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        // Refused if the kernel was faster.
        let _ = sys::lower();
    }
}

/// Whether the program runs in ring 0 now.
#[inline]
pub fn is_elevated() -> bool {
    area().until.load(Relaxed) != 0
}

/// Why it last came back from there.
pub fn why() -> Option<Lowered> {
    Lowered::from_u32(area().why.load(Relaxed) as u32)
}

/// The kernel's words about it: how often, for how long.
pub fn area() -> &'static ElevationArea {
    &u_area().elevation
}

/// Makes [`direct`] usable: done by the runtime when an application starts.
pub(crate) fn prepare(u_area: &UArea) {
    u_area.elevation.fallback.store(direct::fallback_address(), Relaxed);
    u_area.elevation.call.store(direct::fallback_address(), Relaxed);
}
