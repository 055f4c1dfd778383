//! Frames and mappings, and calls in a batch, which lie in a page.

use exo_abi::boot::SELF;
use exo_abi::{BATCH_MAX, Error, Protection, UserPtr};
use libos::sys;
use selftest::frames::{Frames, window, write};

use crate::counter::{Counter, SAMPLES, print};

/// A page of address space that nothing else uses.
const WINDOW: u32 = 16;

pub(crate) fn measure(counter: &Counter, frames: Frames) -> Result<(), Error> {
    batch(counter, frames)?;
    frame(counter, frames)
}

/// One of the calls of a full batch, all of which do nothing. The batch lies ready; what
/// the kernel writes into it does not change what is called.
fn batch(counter: &Counter, frames: Frames) -> Result<(), Error> {
    let at = window(WINDOW);
    // Zeros: the number of the call that does nothing, and its arguments.
    let page = frames.page(at)?;
    let samples = counter.samples(SAMPLES, || match sys::batch(UserPtr(at.get()), BATCH_MAX) {
        Ok(done) if done == u64::from(BATCH_MAX) => Ok(()),
        Ok(_) => Err(Error::WrongState),
        Err(error) => Err(error),
    })?;
    print("batch-null", u64::from(BATCH_MAX), samples);
    frames.drop_page(at, page)
}

/// One page from nowhere and back: a named free frame is taken (the kernel zeroes it),
/// mapped, written to, unmapped and given back. Its page table is there already: it
/// belongs to the program, and stays.
fn frame(counter: &Counter, frames: Frames) -> Result<(), Error> {
    let at = window(WINDOW);
    frames.cover(SELF, at)?;
    let frame = frames.find(1).ok_or(Error::NotFree)?;
    counter.measure("frame", || {
        sys::frames_take(frames.capability, SELF, frame, 1)?;
        sys::map(SELF, SELF, frame, at, 1, Protection::ReadWrite)?;
        write(at, 0, 1);
        sys::unmap(SELF, at, 1)?;
        sys::frames_free(frame, 1)?;
        Ok(())
    })
}
