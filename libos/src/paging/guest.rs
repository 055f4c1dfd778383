//! Pagers behind real addresses: page faults in, mappings out.
//!
//! [`fault`] is the exception handler. It may serve alone ([`serve_alone`]), or beside
//! preemptive threads, whose `Threads::new` takes it as it is.
//!
//! **Limits** Stacks cannot be paged: going back from an upcall writes below the stack
//! pointer. The kernel does not fault pages in: what is passed to a system call must
//! have been touched before, and still be there.

use alloc::boxed::Box;
use core::cell::Cell;
use core::ptr::NonNull;

use exo_abi::{FRAME_BYTES, Pages as PageCount, Pfn, Protection, VirtAddr};

use super::{Contents, PAGE_BYTES, Pager, Pages};
use crate::memory::MemoryError;
use crate::memory::frames::NextFit;
use crate::memory::guest::{KernelCalls, Memory};
use crate::memory::space::AddressSpace;
use crate::sched::uninterrupted;
use crate::upcall::{self, Exception, Frame, PAGE_FAULT, Reason};

/// Regions that can be in use at the same time.
pub const MAX_REGIONS: usize = 8;

/// Bits of a page fault's error code (SDM vol. 3, 4.7).
const WRITE: u64 = 1 << 1;
const RESERVED: u64 = 1 << 3;
const FETCH: u64 = 1 << 4;

/// [`Pages`] of the running environment.
#[derive(Debug)]
pub struct OwnPages {
    space: AddressSpace<NextFit, KernelCalls>,
    base: VirtAddr,
    count: PageCount,
    /// Two pages of addresses, to look at frames.
    glass: VirtAddr,
}

/// A region of address space and its pager.
#[derive(Debug)]
pub struct Paged<P> {
    pager: P,
    pages: OwnPages,
    faults: u64,
}

/// A region in use.
#[derive(Clone, Copy)]
struct InUse {
    start: u64,
    end: u64,
    paged: NonNull<()>,
    fault: unsafe fn(NonNull<()>, u32, bool) -> bool,
}

struct Register([Cell<Option<InUse>>; MAX_REGIONS]);

// SAFETY: written in uninterrupted sections that touch no paged memory, so no thread reads
// or writes it meanwhile; an environment runs on one processor at a time.
unsafe impl Sync for Register {}

static REGISTER: Register = Register([const { Cell::new(None) }; MAX_REGIONS]);

impl OwnPages {
    fn new(count: PageCount) -> Result<Self, MemoryError> {
        let (calls, range) = Memory::get().grant().ok_or(MemoryError::OutOfFrames)?;
        let base = Memory::get().reserve(count)?;
        let glass = Memory::get().reserve(2)?;
        Ok(Self { space: AddressSpace::new(NextFit::new(range), calls), base, count, glass })
    }

    fn at(&self, page: u32) -> Result<VirtAddr, MemoryError> {
        let at = if page < self.count { self.base.plus(page) } else { None };
        at.ok_or(MemoryError::OutOfAddresses)
    }

    /// Lets `act` see `frame` at page `pane` of the glass.
    fn look<T>(
        &mut self,
        pane: u32,
        frame: Pfn,
        act: impl FnOnce(&mut Self, NonNull<Contents>) -> Result<T, MemoryError>,
    ) -> Result<T, MemoryError> {
        let at = self.glass.plus(pane).ok_or(MemoryError::OutOfAddresses)?;
        let contents = core::ptr::with_exposed_provenance_mut(at.get() as usize);
        let contents = NonNull::new(contents).ok_or(MemoryError::OutOfAddresses)?;
        self.space.map(frame, at, 1, Protection::ReadWrite)?;
        let result = act(self, contents);
        self.space.unmap(at, 1)?;
        result
    }
}

impl Pages for OwnPages {
    fn take(&mut self) -> Result<Pfn, MemoryError> {
        self.space.take_frame()
    }

    fn give(&mut self, frame: Pfn) -> Result<(), MemoryError> {
        self.space.give_frame(frame)
    }

    fn map(&mut self, page: u32, frame: Pfn, writable: bool) -> Result<(), MemoryError> {
        let at = self.at(page)?;
        let protection = if writable { Protection::ReadWrite } else { Protection::Read };
        self.space.unmap(at, 1)?;
        self.space.map(frame, at, 1, protection)
    }

    fn map_zeros(
        &mut self,
        page: u32,
        count: u32,
        note: &mut dyn FnMut(u32, Pfn),
    ) -> Result<(), MemoryError> {
        self.at(page + count.saturating_sub(1))?;
        let run = self.space.extend(self.at(page)?, count)?;
        (0..run.count).for_each(|done| note(page + done, run.first.plus(done)));
        Ok(())
    }

    fn unmap(&mut self, page: u32) -> Result<(), MemoryError> {
        self.space.unmap(self.at(page)?, 1)
    }

    fn edit(&mut self, frame: Pfn, act: &mut dyn FnMut(&mut Contents)) -> Result<(), MemoryError> {
        self.look(0, frame, |_, mut contents| {
            // SAFETY: the pane is mapped read and write, to a frame of the application.
            // Whatever else it is mapped as is raw memory that is not borrowed while
            // a pager runs, or belongs to the one that passed the frame to the pager.
            act(unsafe { contents.as_mut() });
            Ok(())
        })
    }

    fn copy(&mut self, from: Pfn, to: Pfn) -> Result<(), MemoryError> {
        self.look(0, from, |pages, from| {
            pages.look(1, to, |_, to| {
                // SAFETY: as in `edit`, for both; different pages, so no overlap.
                unsafe { to.copy_from_nonoverlapping(from, 1) };
                Ok(())
            })
        })
    }
}

impl<P: Pager> Paged<P> {
    /// A region of `count` pages, whose pager `pager` makes. It may fill frames before.
    ///
    /// # Errors
    /// [`MemoryError`], the pager's own included.
    pub fn new(
        count: PageCount,
        pager: impl FnOnce(&mut OwnPages) -> Result<P, MemoryError>,
    ) -> Result<Self, MemoryError> {
        let mut pages = OwnPages::new(count)?;
        Ok(Self { pager: pager(&mut pages)?, pages, faults: 0 })
    }

    /// Lets `act` use the region. Exceptions must go to [`fault`] meanwhile.
    ///
    /// # Errors
    /// [`MemoryError::OutOfAddresses`] if [`MAX_REGIONS`] are in use.
    pub fn enter<T>(&mut self, act: impl FnOnce(&mut [u8]) -> T) -> Result<T, MemoryError> {
        let (place, memory) = self.begin_use()?;
        // SAFETY: these addresses were reserved for this region alone. A page that is not
        // there faults, is put there by the pager and looks as it did before; if it
        // cannot be, the application ends. `self` is borrowed, so there is one slice.
        let result = act(unsafe { &mut *memory });
        uninterrupted(|| place.set(None));
        Ok(result)
    }

    /// The region, for as long as the application runs. Exceptions must go to [`fault`] from now on.
    ///
    /// # Errors
    /// As [`Paged::enter`].
    pub fn for_good(self) -> Result<&'static mut [u8], MemoryError>
    where
        P: 'static,
    {
        let (_, memory) = Box::leak(Box::new(self)).begin_use()?;
        // SAFETY: as in `enter`; nothing else has what was leaked.
        Ok(unsafe { &mut *memory })
    }

    /// From now on its faults are served: where that is noted, and its memory.
    fn begin_use(&mut self) -> Result<(&'static Cell<Option<InUse>>, *mut [u8]), MemoryError> {
        let start = self.pages.base.get();
        let bytes = self.pages.count as usize * PAGE_BYTES;
        let in_use = InUse {
            start,
            end: start + bytes as u64,
            paged: NonNull::from(&mut *self).cast(),
            fault: fault_in::<P>,
        };
        let place = uninterrupted(|| {
            let place = REGISTER.0.iter().find(|place| place.get().is_none())?;
            place.set(Some(in_use));
            Some(place)
        });
        let place = place.ok_or(MemoryError::OutOfAddresses)?;
        let memory = core::ptr::with_exposed_provenance_mut(start as usize);
        Ok((place, core::ptr::slice_from_raw_parts_mut(memory, bytes)))
    }

    /// Page faults served so far.
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// The pager.
    pub fn pager(&self) -> &P {
        &self.pager
    }

    /// The pager and what it works with.
    pub fn parts(&mut self) -> (&mut P, &mut OwnPages) {
        (&mut self.pager, &mut self.pages)
    }

    /// Unmaps everything and gives all frames back but those of page tables.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn close(mut self) -> Result<(), MemoryError> {
        self.pager.close(&mut self.pages)
    }
}

/// # Safety
/// `paged` must be a `Paged<P>` in use, and no fault in it be served meanwhile.
unsafe fn fault_in<P: Pager>(paged: NonNull<()>, page: u32, write: bool) -> bool {
    // SAFETY: as this function's. `enter` does not use it while the region is in use.
    let paged = unsafe { paged.cast::<Paged<P>>().as_mut() };
    paged.faults += 1;
    paged.pager.fault(page, write, &mut paged.pages).is_ok()
}

/// Serves page faults in regions that are in use; false for everything else, and for
/// pages that cannot be had.
pub fn fault(exception: Exception, _: &mut Frame) -> bool {
    if exception.vector != PAGE_FAULT || exception.code & (RESERVED | FETCH) != 0 {
        return false;
    }
    let at = exception.address;
    let mut in_use = REGISTER.0.iter().filter_map(Cell::get);
    let Some(region) = in_use.find(|region| (region.start..region.end).contains(&at)) else {
        return false;
    };
    let page = ((at - region.start) / FRAME_BYTES) as u32;
    // SAFETY: the region is in use, so `paged` is what `fault` was made for; upcalls are
    // masked and pagers do not touch paged memory, so no other fault is being served.
    unsafe { (region.fault)(region.paged, page, exception.code & WRITE != 0) }
}

/// Directs exceptions, and no other upcalls, to [`fault`]. What it does not serve ends
/// the application as it would without upcalls.
///
/// # Safety
/// `stack_top` is as [`upcall::install`] wants it.
pub unsafe fn serve_alone(stack_top: u64) {
    // SAFETY: as this function's.
    unsafe { upcall::install(upcall::u_area(), stack_top, &[], serve) };
}

/// The same, on a stack that nothing else uses: memory that was mapped for good.
pub fn serve_on(stack: &'static mut [u8]) {
    let top = stack.as_mut_ptr_range().end.expose_provenance() as u64;
    // SAFETY: mapped, writable and borrowed for good, so nothing else is on it; its end is a page's.
    unsafe { serve_alone(top & !15) };
}

fn serve(reason: Reason, frame: &mut Frame) {
    if let Reason::Exception(exception) = reason
        && !fault(exception, frame)
    {
        // It happens again, and the kernel ends the application of it.
        upcall::remove(upcall::u_area());
    }
}
