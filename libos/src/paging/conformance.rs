//! What every [`Pager`] must do: make a region that is memory. Run it on any new one.
//!
//! [`check`] is the contract, on a simulated processor: pages that are not mapped fault,
//! and a fault must be served so that the access works. [`is_memory`] is the part that
//! an application can see; in the guest the same function runs against real pages and
//! real faults, through [`Real`].

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use exo_abi::{Error, Pfn};

use super::{Contents, PAGE_BYTES, Pager, Pages};
use crate::memory::MemoryError;
use crate::sched::conformance::Random;

/// Bytes that can be read and written.
pub trait Touch {
    /// Reads one.
    fn read(&mut self, at: usize) -> u8;
    /// Writes one.
    fn write(&mut self, at: usize, byte: u8);
}

/// Puts pagers for a region of `count` pages through the contract. `fresh` makes one,
/// `initial` is what the byte at an offset is at first.
///
/// # Panics
/// If the pager breaks it.
pub fn check<P: Pager>(
    count: u32,
    fresh: impl Fn(&mut Simulated) -> P,
    initial: impl Fn(usize) -> u8 + Copy,
) {
    for seed in 1..=8 {
        let mut pages = Simulated::new(count, 4 * count);
        let mut pager = fresh(&mut pages);
        let before = pages.taken();
        is_memory(&mut pages.region(&mut pager), count, initial, seed);
        closes(&mut pager, &mut pages, before);
        // It begins anew, or it would hold on to frames it gave back.
        let outside = pager.fault(count, false, &mut pages);
        assert!(outside.is_err(), "there is no page {count}");
        closes(&mut pager, &mut pages, before);
    }
    without_frames(count, fresh);
}

/// When there are no frames left, faults are refused and none is lost.
fn without_frames<P: Pager>(count: u32, fresh: impl Fn(&mut Simulated) -> P) {
    let mut pages = Simulated::new(count, 4 * count);
    let mut pager = fresh(&mut pages);
    let before = pages.taken();
    pages.limit = before + 1;
    for page in 0..count {
        if pager.fault(page, true, &mut pages).is_ok() {
            assert!(pages.reaches(page, true), "page {page}: served, but not mapped");
        }
        assert!(pages.taken() <= before + 1);
    }
    closes(&mut pager, &mut pages, before);
}

fn closes<P: Pager>(pager: &mut P, pages: &mut Simulated, before: u32) {
    pager.close(pages).expect("nothing keeps it from closing");
    assert!(pages.mapped.iter().all(Option::is_none), "pages are still mapped");
    assert_eq!(pages.taken(), before, "frames are lost");
}

/// Reads and writes at random places of `count` pages, and looks everywhere at the end.
///
/// # Panics
/// If a byte is not what was last written there, or what `initial` says.
pub fn is_memory(touch: &mut impl Touch, count: u32, initial: impl Fn(usize) -> u8, seed: u64) {
    let bytes = count as usize * PAGE_BYTES;
    let mut expected: Vec<u8> = (0..bytes).map(initial).collect();
    let mut random = Random(seed);
    for _ in 0..count * 20 {
        // Ends of pages more often than chance would have it.
        let page = random.below(u64::from(count)) as usize * PAGE_BYTES;
        let offset = match random.below(4) {
            0 => 0,
            1 => PAGE_BYTES - 1,
            _ => random.below(PAGE_BYTES as u64) as usize,
        };
        let at = page + offset;
        if random.below(3) == 0 {
            let byte = random.below(256) as u8;
            touch.write(at, byte);
            expected[at] = byte;
        } else {
            assert_eq!(touch.read(at), expected[at], "at {at:#x}");
        }
    }
    for (at, byte) in expected.iter().enumerate() {
        assert_eq!(touch.read(at), *byte, "at {at:#x}");
    }
}

/// Memory of the running program.
#[derive(Debug)]
pub struct Real<'a>(pub &'a mut [u8]);

impl Touch for Real<'_> {
    fn read(&mut self, at: usize) -> u8 {
        // The compiler must not remember what it wrote: whether that is still there is
        // the question.
        core::hint::black_box(&mut *self.0)[at]
    }

    fn write(&mut self, at: usize, byte: u8) {
        core::hint::black_box(&mut *self.0)[at] = byte;
    }
}

/// Page table and frames of a simulated machine.
pub struct Simulated {
    frames: Vec<Option<Box<Contents>>>,
    mapped: Vec<Option<(Pfn, bool)>>,
    limit: u32,
}

/// A region of it with a pager, which is called as the processor would have it called.
pub struct Region<'a, P> {
    pages: &'a mut Simulated,
    pager: &'a mut P,
    faults: u32,
}

impl Simulated {
    /// A region of `pages` pages, and `frames` frames.
    pub fn new(pages: u32, frames: u32) -> Self {
        Self { frames: Vec::new(), mapped: vec![None; pages as usize], limit: frames }
    }

    /// The region as `pager` makes it.
    pub fn region<'a, P: Pager>(&'a mut self, pager: &'a mut P) -> Region<'a, P> {
        Region { pages: self, pager, faults: 0 }
    }

    /// Frames that were taken and not given back.
    pub fn taken(&self) -> u32 {
        self.frames.iter().flatten().count() as u32
    }

    fn reaches(&self, page: u32, write: bool) -> bool {
        self.mapped[page as usize].is_some_and(|(_, writable)| writable || !write)
    }

    fn contents(&mut self, frame: Pfn) -> Result<&mut Contents, MemoryError> {
        let contents = self.frames.get_mut(frame.0 as usize).and_then(Option::as_deref_mut);
        contents.ok_or(MemoryError::Refused(Error::NotOwned))
    }
}

impl<P: Pager> Region<'_, P> {
    /// Faults so far.
    pub fn faults(&self) -> u32 {
        self.faults
    }

    fn byte(&mut self, at: usize, write: bool) -> &mut u8 {
        let page = (at / PAGE_BYTES) as u32;
        if !self.pages.reaches(page, write) {
            self.faults += 1;
            self.pager.fault(page, write, self.pages).expect("a page of the region");
            assert!(self.pages.reaches(page, write), "page {page}: served, but not mapped");
        }
        let (frame, _) = self.pages.mapped[page as usize].expect("is mapped");
        &mut self.pages.contents(frame).expect("mapped frames are own")[at % PAGE_BYTES]
    }
}

impl<P: Pager> Touch for Region<'_, P> {
    fn read(&mut self, at: usize) -> u8 {
        *self.byte(at, false)
    }

    fn write(&mut self, at: usize, byte: u8) {
        *self.byte(at, true) = byte;
    }
}

impl Pages for Simulated {
    fn take(&mut self) -> Result<Pfn, MemoryError> {
        if self.taken() >= self.limit {
            return Err(MemoryError::OutOfFrames);
        }
        let contents = Some(Box::new([0; PAGE_BYTES]));
        match self.frames.iter().position(Option::is_none) {
            Some(free) => {
                self.frames[free] = contents;
                Ok(Pfn(free as u32))
            }
            None => {
                self.frames.push(contents);
                Ok(Pfn(self.frames.len() as u32 - 1))
            }
        }
    }

    fn give(&mut self, frame: Pfn) -> Result<(), MemoryError> {
        self.contents(frame)?;
        if self.mapped.iter().flatten().any(|(mapped, _)| *mapped == frame) {
            return Err(MemoryError::Refused(Error::InUse));
        }
        self.frames[frame.0 as usize] = None;
        Ok(())
    }

    fn map(&mut self, page: u32, frame: Pfn, writable: bool) -> Result<(), MemoryError> {
        self.contents(frame)?;
        let entry = self.mapped.get_mut(page as usize).ok_or(MemoryError::OutOfAddresses)?;
        *entry = Some((frame, writable));
        Ok(())
    }

    fn map_zeros(
        &mut self,
        page: u32,
        count: u32,
        note: &mut dyn FnMut(u32, Pfn),
    ) -> Result<(), MemoryError> {
        for done in page..page + count {
            match self.take() {
                Ok(frame) => {
                    assert!(self.mapped[done as usize].is_none(), "page {done} is mapped");
                    self.map(done, frame, true)?;
                    note(done, frame);
                }
                Err(error) if done == page => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn unmap(&mut self, page: u32) -> Result<(), MemoryError> {
        let entry = self.mapped.get_mut(page as usize).ok_or(MemoryError::OutOfAddresses)?;
        *entry = None;
        Ok(())
    }

    fn edit(&mut self, frame: Pfn, act: &mut dyn FnMut(&mut Contents)) -> Result<(), MemoryError> {
        act(self.contents(frame)?);
        Ok(())
    }

    fn copy(&mut self, from: Pfn, to: Pfn) -> Result<(), MemoryError> {
        let contents = *self.contents(from)?;
        *self.contents(to)? = contents;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Pager, Pages, check};
    use crate::memory::MemoryError;
    use crate::paging::DemandZero;

    /// Forgets what was written when a page is touched the second time.
    struct Forgetful(DemandZero, u32);

    impl Pager for Forgetful {
        fn fault(&mut self, page: u32, _: bool, pages: &mut dyn Pages) -> Result<(), MemoryError> {
            self.1 += 1;
            if self.1 > 40 {
                self.1 = 0;
                self.0.close(pages)?;
            }
            self.0.fault(page, true, pages)?;
            // Several pages away from the last is unmapped again, and lost.
            if page > 3 { pages.unmap(page - 3) } else { Ok(()) }
        }

        fn close(&mut self, pages: &mut dyn Pages) -> Result<(), MemoryError> {
            self.0.close(pages)
        }
    }

    /// Keeps its frames.
    struct Hoarder(DemandZero);

    impl Pager for Hoarder {
        fn fault(&mut self, page: u32, w: bool, pages: &mut dyn Pages) -> Result<(), MemoryError> {
            self.0.fault(page, w, pages)
        }

        fn close(&mut self, _: &mut dyn Pages) -> Result<(), MemoryError> {
            Ok(())
        }
    }

    #[test]
    #[should_panic(expected = "a page of the region")]
    fn the_suite_notices_lost_pages() {
        check(16, |_| Forgetful(DemandZero::new(16), 0), |_| 0);
    }

    #[test]
    #[should_panic(expected = "still mapped")]
    fn the_suite_notices_a_hoarder() {
        check(16, |_| Hoarder(DemandZero::new(16)), |_| 0);
    }

    #[test]
    #[should_panic(expected = "left: 0")]
    fn the_suite_notices_wrong_contents() {
        check(16, |_| DemandZero::new(16), |at| u8::from(at == 5 * 4096 + 77));
    }
}
