//! What checks are written with.

use alloc::string::String;
use core::cell::Cell;
use core::fmt;
use core::panic::Location;

use exo_abi::{Error, FrameKind};
use libos::runtime::Environment;
use selftest::child::Maker;
use selftest::frames::Frames;

/// A name and what is done.
pub(crate) type Check = (&'static str, fn(&mut Bench) -> Outcome);
/// How a check ends.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a check failed, and where in it.
pub(crate) struct Failure {
    what: String,
    place: &'static Location<'static>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.what, self.place.file(), self.place.line())
    }
}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self { what: alloc::format!("refused: {error}"), place: Location::caller() }
    }
}

/// Fails unless two values are the same.
#[track_caller]
pub(crate) fn same<T: PartialEq + fmt::Debug>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted {
        return Ok(());
    }
    let what = alloc::format!("{what}: {got:?} instead of {wanted:?}");
    Err(Failure { what, place: Location::caller() })
}

/// Fails unless `condition` holds.
#[track_caller]
pub(crate) fn holds(what: &str, condition: bool) -> Outcome {
    if condition {
        return Ok(());
    }
    Err(Failure { what: what.into(), place: Location::caller() })
}

/// Fails unless a call was refused for the reason `wanted`.
#[track_caller]
pub(crate) fn refused(result: Result<u64, Error>, wanted: Error) -> Outcome {
    same("answer", result.map(|_| ()), Err(wanted))
}

/// What checks work with.
pub(crate) struct Bench {
    pub(crate) environment: Environment,
    pub(crate) maker: Maker,
    pub(crate) frames: Frames,
    /// Next unused page of the looking glass.
    window: Cell<u32>,
}

impl Bench {
    pub(crate) fn new(environment: Environment) -> Result<Self, Error> {
        let maker = Maker::new(&environment)?;
        let frames = maker.frames;
        Ok(Self { environment, maker, frames, window: Cell::new(16) })
    }

    pub(crate) fn close(self) -> Result<(), Error> {
        self.maker.close()
    }

    /// A page of address space that nothing uses yet.
    pub(crate) fn window(&self) -> exo_abi::VirtAddr {
        let index = self.window.get();
        self.window.set(index + 1);
        selftest::frames::window(index)
    }

    /// What the frame table says of a frame.
    pub(crate) fn kind(&self, pfn: exo_abi::Pfn) -> Option<FrameKind> {
        self.frames.look(pfn).map(|(kind, _)| kind)
    }
}

/// Ticks of patience with a child: a guard against hanging, minutes long.
pub(crate) const PATIENCE: u64 = 1 << 38;
