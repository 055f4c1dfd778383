//! Physical memory as the kernel reaches it.
//!
//! In the guest every frame appears in the direct map. On the host, where the
//! kernel's logic is tested, "physical memory" is a buffer per thread. Nothing
//! here hands out a Rust reference: whether one is allowed depends on what the
//! frame is, which is [`crate::object`]'s business.

#[cfg(exo_guest)]
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use exo_abi::{FRAME_BYTES, Pfn};

/// Where physical address `address` can be accessed.
#[cfg(exo_guest)]
#[inline]
pub fn physical(address: u64) -> *mut u8 {
    (exo_boot::layout::DIRECT_MAP + address) as *mut u8
}

/// Where physical address `address` can be accessed.
#[cfg(not(exo_guest))]
pub fn physical(address: u64) -> *mut u8 {
    host::base().wrapping_add(address as usize)
}

/// First byte of a frame.
#[inline]
pub fn frame(pfn: Pfn) -> *mut u8 {
    physical(pfn.address())
}

/// Makes the direct map's page of a frame readable and executable, or readable and
/// writable: never both. `tables` is the first of the direct map's lowest page tables, which follow
/// each other. Other processors may
/// still have the page as it was: see [`crate::kernel::Kernel::protect`].
#[cfg(exo_guest)]
pub fn protect(tables: Pfn, pfn: Pfn, executable: bool) {
    const DATA: u64 = 1 << 63 | 1 << 1; // no-execute, writable (SDM vol. 3, 4.5)
    // SAFETY: the entry for a frame that exists, in tables of the kernel's that were made at boot
    // and change only here.
    let entry = unsafe { &*frame(tables).cast::<AtomicU64>().add(pfn.0 as usize) };
    let old = entry.load(Relaxed);
    entry.store(if executable { old & !DATA } else { old | DATA }, Relaxed);
    crate::arch::cpu::forget_page(frame(pfn) as u64);
}

/// On the host all memory can be written and executed.
#[cfg(not(exo_guest))]
pub fn protect(_tables: Pfn, _pfn: Pfn, _executable: bool) {}

/// What [`clear`] costs, as work.
pub const CLEAR: u32 = 500;

/// Fills a frame with zeros.
///
/// # Safety
/// The frame must exist and nothing may refer to its contents.
pub unsafe fn clear(pfn: Pfn) {
    // SAFETY: the caller vouches that nothing refers to the frame's contents.
    unsafe { frame(pfn).write_bytes(0, FRAME_BYTES as usize) };
}

/// Simulated physical memory, one per thread.
#[cfg(not(exo_guest))]
pub mod host {
    use std::alloc::{Layout, alloc_zeroed};
    use std::cell::Cell;

    use exo_abi::FRAME_BYTES;

    /// Read, write and execute.
    const ALL: i32 = 7;

    unsafe extern "C" {
        fn mprotect(address: *mut std::ffi::c_void, length: usize, protection: i32) -> i32;
    }

    thread_local! {
        static BASE: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) };
    }

    /// Gives this thread `frames` frames of physical memory, for ever: kernel
    /// objects are `'static`, so the memory is never given back. All of it can be written and
    /// executed, as the code of filters is.
    ///
    /// # Panics
    /// If memory is short.
    pub fn provide(frames: u32) {
        let bytes = frames as usize * FRAME_BYTES as usize;
        let layout = Layout::from_size_align(bytes, FRAME_BYTES as usize).expect("sane size");
        // SAFETY: the layout has a non-zero size.
        let base = unsafe { alloc_zeroed(layout) };
        assert!(!base.is_null(), "out of memory");
        // SAFETY: whole pages that were allocated just now, which stay readable and writable.
        let result = unsafe { mprotect(base.cast(), bytes, ALL) };
        assert_eq!(result, 0, "memory cannot be made executable");
        BASE.set(base);
    }

    pub(super) fn base() -> *mut u8 {
        BASE.get()
    }
}
