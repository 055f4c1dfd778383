//! What the checks of this program work with.

use core::cell::Cell;

use exo_abi::{Error, FrameKind};
use libos::runtime::Environment;
use selftest::check;
use selftest::child::Maker;
use selftest::frames::Frames;

/// A name and what is done.
pub(crate) type Check = check::Check<Bench>;

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
