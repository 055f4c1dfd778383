//! What the checks of this program work with.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{Allowance, Error, Handle, Lowered, Rights, Word};
use libos::elevation::{self, Elevation, Stretch};
use libos::runtime::Environment;
use libos::sys;
use selftest::check::{self, Outcome, same};
use selftest::child::{Maker, until_done};

/// A name and what is done.
pub(crate) type Check = check::Check<Bench>;

/// What checks work with.
pub(crate) struct Bench {
    pub(crate) environment: Environment,
    pub(crate) maker: Maker,
    /// The capability that the manifest gives.
    pub(crate) handle: Handle,
}

impl Bench {
    /// Fails without the capability.
    pub(crate) fn new(environment: Environment) -> Result<Self, Error> {
        let handle = environment.start.elevation.ok_or(Error::BadHandle)?;
        Ok(Self { maker: Maker::new(&environment)?, environment, handle })
    }

    pub(crate) fn close(self) -> Result<(), Error> {
        self.maker.close()
    }

    pub(crate) fn right(&self) -> Elevation {
        Elevation::new(self.handle)
    }

    /// A capability for less, made from `source`, with `rights`.
    pub(crate) fn less(
        source: Handle,
        rights: Rights,
        allowance: Allowance,
    ) -> Result<Handle, Error> {
        let (first, count) = allowance.into_words();
        Handle::from_word(sys::cap_derive(source, rights, first, count)?)
    }

    /// Ticks of the time-stamp counter in `microseconds`.
    pub(crate) fn ticks(&self, microseconds: u64) -> u64 {
        self.environment.system.tsc_hz.load(Relaxed) / 1_000_000 * microseconds
    }
}

/// Drops a capability.
pub(crate) fn drop_cap(handle: Handle) -> Result<(), Error> {
    until_done(|| sys::cap_drop(handle)).map(drop)
}

/// The ring that this code runs in.
pub(crate) fn ring() -> u16 {
    let code: u16;
    // SAFETY: reading a selector.
    unsafe { asm!("mov {:x}, cs", out(reg) code, options(nomem, nostack, preserves_flags)) };
    code & 3
}

/// Fails unless this code runs in `wanted`, and the U-area agrees.
#[track_caller]
pub(crate) fn in_ring(wanted: u16) -> Outcome {
    same("ring", ring(), wanted)?;
    same("elevated", elevation::is_elevated(), wanted == 0)
}

/// Fails unless `stretch` keeps this code in ring 0. A machine that stands still for long can end it
/// between two instructions, but not always.
#[track_caller]
pub(crate) fn stays(stretch: &mut Stretch) -> Outcome {
    for _ in 0..10 {
        stretch.keep()?;
        if ring() == 0 && elevation::is_elevated() {
            return Ok(());
        }
    }
    in_ring(0)
}

/// Fails unless ring 0 was last lost for the reason `wanted`.
#[track_caller]
pub(crate) fn lost_by(wanted: Lowered) -> Outcome {
    in_ring(3)?;
    same("reason", elevation::why(), Some(wanted))
}

/// Everything that the capability can be for on this machine.
pub(crate) const WHOLE: Allowance =
    Allowance { cores: u32::MAX, stretch: 250_000, total: Allowance::UNLIMITED };

/// The rights that elevation has.
pub(crate) const RIGHTS: Rights = Rights::CONTROL.with(Rights::CALL).with(Rights::GRANT);

/// The program itself, as a handle.
pub(crate) const OWN: Handle = SELF;
