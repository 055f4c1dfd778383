//! Memory of the running environment: system calls behind [`MemoryCalls`], and
//! the one address space that heap, network and application share.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{
    Error, FRAME_BYTES, FrameInfo, Handle, Level, Pages, Pfn, Protection, SystemInfo, UArea,
    VirtAddr,
};

use super::frames::{FrameSource, NextFit, highest_free};
use super::heap::{Heap, growth_for};
use super::layout::Window;
use super::space::{AddressSpace, Regions};
use super::{MemoryCalls, MemoryError, Range, layout};
use crate::runtime::Local;
use crate::sys;

/// The environment's own memory calls, made under one frames capability.
#[derive(Clone, Copy, Debug)]
pub struct KernelCalls {
    /// Covers the frames to take.
    pub frames: Handle,
}

impl MemoryCalls for KernelCalls {
    fn take(&mut self, first: Pfn, count: Pages) -> Result<(), Error> {
        sys::frames_take(self.frames, SELF, first, count).map(drop)
    }

    fn free(&mut self, first: Pfn, count: Pages) -> Result<(), Error> {
        sys::frames_free(first, count).map(drop)
    }

    fn install_table(&mut self, at: VirtAddr, level: Level, frame: Pfn) -> Result<(), Error> {
        sys::table_install(SELF, at, level, frame).map(drop)
    }

    fn map(
        &mut self,
        first: Pfn,
        at: VirtAddr,
        count: Pages,
        protection: Protection,
    ) -> Result<(), Error> {
        sys::map(SELF, SELF, first, at, count, protection).map(drop)
    }

    fn unmap(&mut self, at: VirtAddr, count: Pages) -> Result<(), Error> {
        sys::unmap(SELF, at, count).map(drop)
    }
}

struct State {
    calls: KernelCalls,
    range: Range,
    space: AddressSpace<NextFit, KernelCalls>,
    heap: Regions,
    regions: Regions,
    devices: Regions,
    paged: Regions,
}

static STATE: Local<Option<State>> = Local::new(None);

/// Sets up the environment's memory: `frames` covers the frames of `range`.
///
/// [`app!`](crate::app) does it; an application with its own entry point calls
/// it once, before it allocates.
pub fn init(frames: Handle, range: Range) {
    let calls = KernelCalls { frames };
    let fresh = State {
        calls,
        range,
        space: AddressSpace::new(NextFit::new(range), calls),
        heap: Regions::new(layout::HEAP),
        regions: Regions::new(layout::REGIONS),
        devices: Regions::new(layout::DEVICES),
        paged: Regions::new(layout::PAGED),
    };
    STATE.with(|state| *state = Some(fresh));
}

/// The environment's memory. All values of this type mean the same.
#[derive(Clone, Copy, Debug)]
pub struct Memory(());

impl Memory {
    /// The environment's memory; without frames until [`init`].
    pub const fn get() -> Self {
        Self(())
    }

    fn with<T>(
        self,
        act: impl FnOnce(&mut State) -> Result<T, MemoryError>,
    ) -> Result<T, MemoryError> {
        STATE.with(|state| act(state.as_mut().ok_or(MemoryError::OutOfFrames)?))
    }

    /// The capability and the range of the frames granted, to take some by another
    /// policy: the kernel keeps the two apart.
    pub fn grant(self) -> Option<(KernelCalls, Range)> {
        STATE.with(|state| state.as_ref().map(|state| (state.calls, state.range)))
    }

    /// Addresses for `pages` pages, with nothing mapped there.
    ///
    /// # Errors
    /// [`MemoryError::OutOfAddresses`].
    pub fn reserve(self, pages: Pages) -> Result<VirtAddr, MemoryError> {
        self.with(|state| {
            let at = state.paged.reserve(pages, FRAME_BYTES, true);
            at.ok_or(MemoryError::OutOfAddresses)
        })
    }

    /// A new region of up to `pages` zeroed pages; fewer if frames ran out.
    ///
    /// **Cost** two crossings per 64 pages, and one per page table.
    ///
    /// # Errors
    /// [`MemoryError`], if there was not a single page.
    pub fn map_region(self, pages: Pages) -> Result<&'static mut [u8], MemoryError> {
        self.with(|state| {
            let (at, pages) = state.space.region(&mut state.regions, pages, FRAME_BYTES, true)?;
            // SAFETY: these pages were just mapped read and write from frames
            // taken for them and zeroed by the kernel; their addresses are
            // handed out once and they are never unmapped.
            Ok(unsafe { core::slice::from_raw_parts_mut(start_of(at), bytes_of(pages)) })
        })
    }

    /// [`Memory::map_region`] of frames that `frames` chooses from the same grant, those of page
    /// tables included.
    ///
    /// # Errors
    /// [`MemoryError`], if there was not a single page.
    pub fn map_region_with(
        self,
        frames: &mut dyn FrameSource,
        pages: Pages,
    ) -> Result<&'static mut [u8], MemoryError> {
        let (calls, start) = self.with(|state| {
            let start = state.regions.reserve(pages, FRAME_BYTES, true);
            Ok((state.calls, start.ok_or(MemoryError::OutOfAddresses)?))
        })?;
        let end = start.get() + bytes_of(pages) as u64;
        let mut space = AddressSpace::new(frames, calls);
        let mut regions = Regions::new(Window { start, end });
        let (at, pages) = space.region(&mut regions, pages, FRAME_BYTES, false)?;
        // SAFETY: these pages were just mapped read and write from frames taken for them and
        // zeroed by the kernel; their addresses were reserved for this alone and are never
        // unmapped.
        Ok(unsafe { core::slice::from_raw_parts_mut(start_of(at), bytes_of(pages)) })
    }

    /// A new region of physically consecutive pages for a binding to a device:
    /// its address and its first frame.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn map_device_run(self, pages: Pages) -> Result<(NonNull<u8>, Pfn), MemoryError> {
        self.with(|state| {
            let (at, first) = state.space.contiguous(&mut state.devices, pages)?;
            NonNull::new(start_of(at)).map(|at| (at, first)).ok_or(MemoryError::OutOfAddresses)
        })
    }

    /// `pages` zeroed pages at the beginning of `window`, which nothing else uses: consecutive frames, of which
    /// the first is named.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn map_at(
        self,
        window: Window,
        pages: Pages,
    ) -> Result<(&'static mut [u8], Pfn), MemoryError> {
        self.with(|state| {
            let (at, first) = state.space.contiguous(&mut Regions::new(window), pages)?;
            // SAFETY: these pages were just mapped read and write from frames taken for them and
            // zeroed by the kernel, where nothing was mapped; they are never unmapped.
            let bytes = unsafe { core::slice::from_raw_parts_mut(start_of(at), bytes_of(pages)) };
            Ok((bytes, first))
        })
    }

    /// A frame with `code`, admitted with the gates that the holder of `keys` may have. It is mapped
    /// nowhere.
    ///
    /// # Errors
    /// [`MemoryError`]; the kernel's refusal for code that is not admitted.
    ///
    /// # Panics
    /// If it is more than a page.
    pub fn admit_code(self, code: &[u8], keys: Handle) -> Result<Pfn, MemoryError> {
        let at = self.reserve(1)?;
        let frame = self.take_frame()?;
        assert!(code.len() <= FRAME_BYTES as usize, "one page of code");
        self.with(|state| {
            state.space.map(frame, at, 1, Protection::ReadWrite)?;
            // SAFETY: a page just mapped read and write, to which nothing refers.
            unsafe { start_of(at).copy_from_nonoverlapping(code.as_ptr(), code.len()) };
            state.space.unmap(at, 1)
        })?;
        sys::code_admit(SELF, frame, keys).map_err(MemoryError::Refused)?;
        Ok(frame)
    }

    /// Sets `count` frames of the grant aside that are free in one run, as high as they can be: the
    /// library takes neither these nor any above them any more. `table` is the frame table.
    ///
    /// # Errors
    /// [`MemoryError::OutOfFrames`] if there is no such run.
    pub fn set_aside(self, table: &[FrameInfo], count: Pages) -> Result<Range, MemoryError> {
        self.with(|state| {
            let run = highest_free(table, state.range, count).ok_or(MemoryError::OutOfFrames)?;
            state.range.count = run.first.0 - state.range.first.0;
            state.space.frames().limit(state.range);
            Ok(run)
        })
    }

    /// The library takes frames of a range again that was set aside, if it is the one that was set aside
    /// last of those that are.
    pub fn take_back(self, range: Range) {
        let _ = self.with(|state| {
            if state.range.first.plus(state.range.count) == range.first {
                state.range.count += range.count;
                state.space.frames().limit(state.range);
            }
            Ok(())
        });
    }

    /// Takes one frame, to donate it for a kernel object.
    ///
    /// # Errors
    /// [`MemoryError::OutOfFrames`].
    pub fn take_frame(self) -> Result<Pfn, MemoryError> {
        self.with(|state| state.space.take_frame())
    }

    /// Gives back a frame from [`Memory::take_frame`] that is in no use.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn give_frame(self, frame: Pfn) -> Result<(), MemoryError> {
        self.with(|state| state.space.give_frame(frame))
    }

    /// Maps the page of facts that the kernel names in the U-area. Once.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn map_system_info(self, u_area: &UArea) -> Result<&'static SystemInfo, MemoryError> {
        let frame = Pfn(u_area.system_info.load(Relaxed));
        self.with(|state| state.space.map(frame, layout::SYSTEM_INFO, 1, Protection::Read))?;
        // SAFETY: the kernel publishes a `SystemInfo`, all of it atomics, in the
        // frame it names in the U-area; it was just mapped here for good.
        Ok(unsafe { &*start_of(layout::SYSTEM_INFO).cast() })
    }

    /// Maps the frame table. Once.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn map_frame_table(self, system: &SystemInfo) -> Result<&'static [FrameInfo], MemoryError> {
        let window = layout::FRAME_TABLE;
        let room = (window.end - window.start.get()) as usize / size_of::<FrameInfo>();
        let entries = (system.frame_count.load(Relaxed) as usize).min(room);
        let pages = (entries * size_of::<FrameInfo>()).div_ceil(FRAME_BYTES as usize);
        let first = Pfn(system.frame_table.load(Relaxed));
        self.with(|state| state.space.map(first, window.start, pages as Pages, Protection::Read))?;
        // SAFETY: the kernel publishes `frame_count` entries, all atomics, from
        // the frame it names on; they were just mapped here for good.
        Ok(unsafe { core::slice::from_raw_parts(start_of(window.start).cast(), entries) })
    }
}

fn start_of(at: VirtAddr) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(at.get() as usize)
}

fn bytes_of(pages: Pages) -> usize {
    pages as usize * FRAME_BYTES as usize
}

/// A [`Heap`] as the allocator of an application; it grows from the
/// environment's memory.
pub struct GlobalHeap<H>(Local<H>);

impl<H: Heap> GlobalHeap<H> {
    /// An empty heap.
    #[expect(clippy::new_without_default, reason = "for a static, which needs a const fn")]
    pub const fn new() -> Self {
        Self(Local::new(H::EMPTY))
    }

    fn grow(heap: &mut H, layout: Layout) -> Option<()> {
        let (bytes, align) = growth_for(layout)?;
        let pages = u32::try_from(bytes / FRAME_BYTES as usize).ok()?;
        let region = STATE.try_with(|state| {
            let State { space, heap, .. } = state.as_mut()?;
            space.region(heap, pages, align as u64, false).ok()
        });
        let (at, pages) = region.flatten()?;
        let start = NonNull::new(start_of(at))?;
        // SAFETY: a new region, mapped read and write, whose addresses are
        // handed out once and never unmapped.
        unsafe { heap.grow(start, bytes_of(pages)) };
        Some(())
    }
}

// SAFETY: blocks come from a `Heap`, which keeps them apart and aligned as its
// conformance test demands; layouts are passed through unchanged. A re-entrant
// call panics in the `Local` instead of touching the heap twice.
unsafe impl<H: Heap + Send> GlobalAlloc for GlobalHeap<H> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.0.with(|heap| {
            heap.allocate(layout).or_else(|| {
                Self::grow(heap, layout)?;
                heap.allocate(layout)
            })
        });
        block.map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller frees what `alloc` returned for this layout.
            self.0.with(|heap| unsafe { heap.free(block, layout) });
        }
    }
}
