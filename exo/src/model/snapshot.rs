//! States of the simulated kernel, kept as bytes and put back.

use std::hash::{DefaultHasher, Hasher};
use std::mem::MaybeUninit;

use exo_abi::{FrameKind, Pfn};

use super::machine::{ENTRIES, HANDED_OUT, Machine, Names};
use super::world::Frame;
use crate::cores::{Core, MAX_CORES};
use crate::kernel::Kernel;
use crate::memory;
use crate::net::Net;
use crate::testing::FIRST_FREE;

/// A state to return to.
pub(super) struct Snapshot {
    frames: Vec<(Frame, Box<[u8; 4096]>)>,
    state: State,
    names: Names,
}

/// What of the kernel's state lies outside of frames. Neither part owns anything,
/// so a copy of the bytes is a copy of the state.
struct State {
    cores: MaybeUninit<[Core; MAX_CORES]>,
    net: MaybeUninit<Net>,
}

impl State {
    fn of(kernel: &Kernel) -> Self {
        let mut state = Self { cores: MaybeUninit::uninit(), net: MaybeUninit::uninit() };
        // SAFETY: both places hold values of those types, and nothing borrows
        // them between calls; the copies are never used as values of their own.
        unsafe {
            state.cores.as_mut_ptr().copy_from_nonoverlapping(&raw const kernel.cores, 1);
            state.net.as_mut_ptr().copy_from_nonoverlapping(kernel.net.as_ptr(), 1);
        }
        state
    }

    fn restore(&self, kernel: &Kernel) {
        // SAFETY: as above; a processor is nothing but cells and atomics.
        unsafe {
            let cores = (&raw const kernel.cores).cast_mut();
            cores.copy_from_nonoverlapping(self.cores.as_ptr(), 1);
            kernel.net.as_ptr().copy_from_nonoverlapping(self.net.as_ptr(), 1);
        }
    }
}

impl Snapshot {
    /// A hash of what is kept in frames. Free frames do not count: they are cleared
    /// when they are taken.
    pub(super) fn hash(&self, kernel: &Kernel) -> u64 {
        let mut state = DefaultHasher::new();
        for (frame, bytes) in &self.frames {
            if kernel.frames.kind(Pfn(*frame)) != Some(FrameKind::Free) {
                state.write_u32(*frame);
                state.write(&bytes[..]);
            }
        }
        state.finish()
    }
}

impl Machine {
    /// Keeps the present state.
    pub(super) fn save(&self) -> Snapshot {
        let used = FIRST_FREE..FIRST_FREE + HANDED_OUT;
        let used = used.filter(|frame| {
            self.kernel.frames.generation(Pfn(*frame)) != 0
                || self.kernel.frames.kind(Pfn(*frame)) != Some(FrameKind::Free)
        });
        let published = [ENTRIES, self.kernel.info_frame.0, self.kernel.network.frame().0];
        let frames = published.into_iter().chain(used);
        let copy = |frame| {
            // SAFETY: a frame of simulated memory, to which no exclusive reference exists
            // between calls.
            (frame, Box::new(unsafe { memory::frame(Pfn(frame)).cast::<[u8; 4096]>().read() }))
        };
        Snapshot {
            frames: frames.map(copy).collect(),
            state: State::of(self.kernel),
            names: self.names.clone(),
        }
    }

    /// Returns to an earlier state.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) {
        for (frame, bytes) in &snapshot.frames {
            // SAFETY: as in `save`; all that is kept in frames are cells, atomics
            // and plain bytes, and what they held before is again valid.
            unsafe { memory::frame(Pfn(*frame)).copy_from_nonoverlapping(bytes.as_ptr(), 4096) };
        }
        snapshot.state.restore(self.kernel);
        self.names.clone_from(&snapshot.names);
    }
}
