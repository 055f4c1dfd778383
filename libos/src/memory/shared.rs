//! Bytes that other environments may write at any time.
//!
//! There is no reference to them: they are copied out, and what is looked at is the copy. So
//! nothing can change between a check and a use.

use core::arch::asm;
use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;

/// Memory in common with others, as bytes.
#[derive(Clone, Copy, Debug)]
pub struct SharedBytes<'a> {
    first: *mut u8,
    len: usize,
    words: PhantomData<&'a [AtomicU64]>,
}

// SAFETY: it is a slice of atomics under another name.
unsafe impl Send for SharedBytes<'_> {}
// SAFETY: as above; copies may run into each other, which the copying instructions allow.
unsafe impl Sync for SharedBytes<'_> {}

impl<'a> SharedBytes<'a> {
    /// The bytes of `words`.
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self {
            first: words.as_ptr().cast_mut().cast(),
            len: size_of_val(words),
            words: PhantomData,
        }
    }

    /// The `len` bytes at `first`.
    ///
    /// # Safety
    /// They are memory that can be read and written, or the environment may end for using them. No
    /// reference to them is used while this is.
    #[must_use]
    pub const unsafe fn from_raw(first: *mut u8, len: usize) -> Self {
        Self { first, len, words: PhantomData }
    }

    /// The first `at` bytes, and the rest. `None` if there are not so many.
    #[must_use]
    pub fn split_at(self, at: usize) -> Option<(Self, Self)> {
        let rest = self.len.checked_sub(at)?;
        let behind = Self { first: self.first.wrapping_add(at), len: rest, ..self };
        Some((Self { len: at, ..self }, behind))
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Copies the bytes from `at` on to `to`. `None` if there are not so many.
    #[inline]
    pub fn read(self, at: usize, to: &mut [u8]) -> Option<()> {
        let from = self.place(at, to.len())?;
        // SAFETY: so many bytes are there, and `to` has as many, which nothing else refers to.
        unsafe { copy(to.as_mut_ptr(), from, to.len()) };
        Some(())
    }

    /// Copies `from` to the bytes from `at` on. `None` if there are not so many.
    #[inline]
    pub fn write(self, at: usize, from: &[u8]) -> Option<()> {
        let to = self.place(at, from.len())?;
        // SAFETY: so many bytes are there, of atomics, and `from` has as many.
        unsafe { copy(to, from.as_ptr(), from.len()) };
        Some(())
    }

    #[inline]
    fn place(self, at: usize, len: usize) -> Option<*mut u8> {
        let room = self.len.checked_sub(at)?;
        // Within, or one past the end.
        (len <= room).then(|| self.first.wrapping_add(at))
    }
}

/// Copies `from` to the beginning of `to`, by string instructions. `None` if that is shorter.
#[inline]
pub fn copy_to(to: &mut [u8], from: &[u8]) -> Option<()> {
    let to = to.get_mut(..from.len())?;
    // SAFETY: two slices of the same length.
    unsafe { copy(to.as_mut_ptr(), from.as_ptr(), from.len()) };
    Some(())
}

/// Copies by string instructions: the compiler neither reads a byte twice nor assumes that it
/// stays. Eight bytes an instruction.
///
/// # Safety
/// `len` bytes can be read from `from` and written to `to`. Others may write either meanwhile, if
/// it is shared.
#[inline]
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: as this function's; the direction flag is clear between functions.
    unsafe {
        asm!(
            "rep movsq",
            "mov ecx, {rest:e}",
            "rep movsb",
            rest = in(reg) len % 8,
            inout("rcx") len / 8 => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::vec::Vec;

    use super::SharedBytes;

    #[test]
    fn copies_any_range_and_nothing_beside_it() {
        for (at, len) in (0..24).flat_map(|at| (0..=24 - at).map(move |len| (at, len))) {
            let words: Vec<_> = (0..3).map(|_| AtomicU64::new(0)).collect();
            let shared = SharedBytes::new(&words);
            let from: Vec<u8> = (1..=len as u8).collect();
            shared.write(at, &from).unwrap();
            let all: Vec<u8> =
                words.iter().flat_map(|word| word.load(Relaxed).to_ne_bytes()).collect();
            assert_eq!(&all[at..at + len], from);
            assert_eq!(all.iter().filter(|byte| **byte != 0).count(), len);
            let mut back = [0xff; 26];
            shared.read(at, &mut back[1..=len]).unwrap();
            assert_eq!(back[1..=len], from);
            assert_eq!((back[0], back[len + 1]), (0xff, 0xff));
        }
    }

    #[test]
    fn refuses_what_is_not_there() {
        let words = [const { AtomicU64::new(0) }; 2];
        let shared = SharedBytes::new(&words);
        assert_eq!(shared.len(), 16);
        for (at, len) in [(0, 17), (16, 1), (17, 0), (usize::MAX, 1), (usize::MAX, 0), (9, 8)] {
            assert_eq!(shared.read(at, &mut [0; 17][..len]), None);
            assert_eq!(shared.write(at, &[0; 17][..len]), None);
        }
        assert_eq!(shared.read(16, &mut []), Some(()));
    }
}
