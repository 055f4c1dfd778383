//! Frames and mappings, and calls in a batch, which lie in a page.

use exo_abi::boot::SELF;
use exo_abi::{BATCH_MAX, Error, LARGE_PAGES, Protection, UserPtr, VirtAddr};
use libos::memory::BATCH;
use libos::sys;
use ruler::{Counter, SAMPLES};
use selftest::frames::{Frames, window, write};

/// A page of address space that nothing else uses.
const WINDOW: u32 = 16;
/// And 2 MiB of it.
const LARGE: VirtAddr = match VirtAddr::new(0x8000_0000) {
    Some(at) => at,
    None => panic!("a page of user space"),
};
/// Pages of 2 MiB taken: the kernel zeroes them, which takes most of it, and is always
/// the same.
const LARGE_SAMPLES: usize = SAMPLES / 10;

pub(crate) fn measure(counter: &Counter, frames: Frames) -> Result<(), Error> {
    batch(counter, frames)?;
    frame(counter, frames)?;
    large(counter, frames)
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
    counter.print("batch-null", u64::from(BATCH_MAX), samples);
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

/// The same with 2 MiB, mapped as one page: with frames that are there, and with frames
/// taken and given back in pieces as large as one call allows.
fn large(counter: &Counter, frames: Frames) -> Result<(), Error> {
    frames.cover_large(SELF, LARGE)?;
    let first = frames.take_large(SELF)?;
    let use_it = || {
        sys::map(SELF, SELF, first, LARGE, LARGE_PAGES, Protection::ReadWrite)?;
        write(LARGE, 0, 1);
        sys::unmap(SELF, LARGE, LARGE_PAGES)
    };
    counter.measure("large", || use_it().map(drop))?;
    frames.give(first, LARGE_PAGES)?;
    let samples = counter.samples(LARGE_SAMPLES, || {
        for piece in (0..LARGE_PAGES).step_by(BATCH as usize) {
            sys::frames_take(frames.capability, SELF, first.plus(piece), BATCH)?;
        }
        use_it()?;
        frames.give(first, LARGE_PAGES)
    })?;
    counter.print("large-frames", 1, samples);
    Ok(())
}
