//! Stacks of ring 0, each with a page below it that is not mapped: what overflows faults, on
//! another stack, and the kernel says so and stops, instead of writing over what lies there.

use core::cell::UnsafeCell;

use exo_abi::FRAME_BYTES;

/// A stack of `BYTES`, whole pages.
#[repr(C, align(4096))]
pub(crate) struct Stack<const BYTES: usize> {
    guard: [u8; FRAME_BYTES as usize],
    bytes: UnsafeCell<[u8; BYTES]>,
}

// SAFETY: only the stack pointer of its processor refers to the bytes, never Rust through
// this object.
unsafe impl<const BYTES: usize> Sync for Stack<BYTES> {}

impl<const BYTES: usize> Stack<BYTES> {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        const { assert!(BYTES.is_multiple_of(FRAME_BYTES as usize)) };
        Self { guard: [0; FRAME_BYTES as usize], bytes: UnsafeCell::new([0; BYTES]) }
    }

    /// Where it begins.
    pub(crate) fn top(&self) -> u64 {
        self.bytes.get() as u64 + BYTES as u64
    }

    /// The address of the page below its end.
    pub(crate) fn guard(&self) -> u64 {
        &raw const self.guard as u64
    }
}
