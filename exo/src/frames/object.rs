//! Kernel objects: typed views of frames that environments donated.
//!
//! The frame table says what each frame is, and only the kernel writes it, so a frame of kind
//! `K` holds a valid object of the type with that kind. All fields of such types are cells:
//! objects are shared freely within ring 0, which is never interrupted and runs on one core
//! at a time.

use exo_abi::{FRAME_BYTES, FrameKind, Pfn};

use super::FrameTable;
use crate::memory;

/// A type that lives in a frame of its own.
///
/// # Safety
/// The type must be `repr(C)`, at most a frame long, valid when all bytes are
/// zero, and have only fields that may change through a shared reference.
/// Frames get kind `KIND` only through [`create`], and lose it only when no
/// reference to the object is used any more.
pub unsafe trait KernelObject: 'static {
    /// The kind of frames that hold such an object.
    const KIND: FrameKind;
}

/// The object in frame `pfn`, if the frame holds one of this type.
#[inline]
pub fn get<T: KernelObject>(frames: &FrameTable, pfn: Pfn) -> Option<&'static T> {
    if frames.kind(pfn)? != T::KIND {
        return None;
    }
    // SAFETY: the frame table vouches for the kind; `KernelObject`'s contract
    // makes the frame's contents a valid `T` that may be shared. The kernel
    // does not hold the reference beyond the entry that destroys the object.
    Some(unsafe { &*memory::frame(pfn).cast::<T>() })
}

/// The same, if the frame has not been freed since `generation`.
#[inline]
pub fn get_live<T: KernelObject>(
    frames: &FrameTable,
    pfn: Pfn,
    generation: u32,
) -> Option<&'static T> {
    // SAFETY: as in `get`.
    frames.is(pfn, T::KIND, generation).then(|| unsafe { &*memory::frame(pfn).cast::<T>() })
}

/// Turns frame `pfn` into an object, all zero; none if it is not plain memory that nothing
/// refers to.
pub fn create<T: KernelObject>(frames: &FrameTable, pfn: Pfn) -> Option<&'static T> {
    create_at_level(frames, pfn, 0)
}

/// The same for one of the kinds that have levels or positions: page and capability tables.
pub fn create_at_level<T: KernelObject>(
    frames: &FrameTable,
    pfn: Pfn,
    level: u8,
) -> Option<&'static T> {
    const { assert!(size_of::<T>() <= FRAME_BYTES as usize) };
    if !frames.is_quiet_memory(pfn) {
        return None;
    }
    // SAFETY: the frame exists (it has a kind), and being unmapped, unpinned
    // plain memory, neither ring 3 nor a device nor a kernel object uses it.
    unsafe { memory::clear(pfn) };
    frames.set_kind(pfn, T::KIND, level);
    get(frames, pfn)
}
