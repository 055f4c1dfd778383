//! Counting: what happens with every instruction the guest executes.
//!
//! The counts are in memory that another process reads at the same time. This
//! process is their only writer, from the one thread that executes the guest, so
//! an increment is a load and a store.
//!
//! The other process can have the guest held at its `hlt`. Meanwhile QEMU's other
//! thread works on, and puts frames into the guest's network device; with `-icount`
//! no time passes for the guest. When the `hlt` is carried out, the interrupt is
//! there already: the guest sleeps, but not for any time.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
use std::time::Duration;

use crate::layout::{NEUTRAL, Place, ROWS, word};

/// How often to look whether a `hlt` may be carried out.
const GLANCE: Duration = Duration::from_micros(50);

/// The words of the counts; none until [`start`].
static WORDS: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Counts into `words` from now on.
pub(crate) fn start(words: &'static [AtomicU64]) {
    LENGTH.store(words.len(), Relaxed);
    WORDS.store(words.as_ptr().cast_mut(), Release);
    if let Some(ready) = words.get(word::READY) {
        ready.store(1, Release);
    }
}

#[inline]
fn words() -> &'static [AtomicU64] {
    let first = WORDS.load(Acquire);
    if first.is_null() {
        return &[];
    }
    // SAFETY: pointer and length are those of the slice given to `start`, which
    // lives for ever; the length was stored before the pointer.
    unsafe { std::slice::from_raw_parts(first, LENGTH.load(Relaxed)) }
}

#[inline]
fn increment(words: &[AtomicU64], index: usize) {
    if let Some(word) = words.get(index) {
        word.store(word.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

/// An instruction is executed.
#[inline]
pub(crate) fn instruction(place: Place) {
    let words = words();
    let Some(last) = words.get(word::LAST) else { return };
    let row = match place.row() {
        NEUTRAL => last.load(Relaxed) as usize % ROWS,
        row => {
            last.store(u64::from(row), Relaxed);
            usize::from(row) % ROWS
        }
    };
    increment(words, word::TOTAL);
    increment(words, word::MATRIX + place.function() as usize * ROWS + row);
}

/// A `syscall` is executed.
pub(crate) fn call() {
    increment(words(), word::CALLS);
}

/// A `hlt` is about to be executed. Waits until it may.
pub(crate) fn halt() {
    let words = words();
    let (Some(halts), Some(allowed), Some(halted)) =
        (words.get(word::HALTS), words.get(word::HALTS_ALLOWED), words.get(word::HALTED))
    else {
        return;
    };
    let number = halts.load(Relaxed) + 1;
    // Release: whoever sees this sees all that was counted before.
    halts.store(number, Release);
    while allowed.load(Acquire) < number {
        std::thread::sleep(GLANCE);
    }
    halted.store(1, Release);
}

/// A block is about to be executed: the processor is awake.
#[inline]
pub(crate) fn block() {
    if let Some(halted) = words().get(word::HALTED)
        && halted.load(Relaxed) != 0
    {
        halted.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All in one test: the counts are the process's.
    #[test]
    fn counts() {
        instruction(Place::new(0, 1));
        let words: Vec<_> = (0..word::MATRIX + 2 * ROWS).map(|_| AtomicU64::new(0)).collect();
        let words: &'static [AtomicU64] = words.leak();
        start(words);
        let at = |index: usize| words[index].load(Relaxed);
        assert_eq!((at(word::READY), at(word::TOTAL)), (1, 0));

        instruction(Place::new(0, 3));
        instruction(Place::new(1, NEUTRAL));
        instruction(Place::new(1, 5));
        instruction(Place::new(1, NEUTRAL));
        assert_eq!(at(word::TOTAL), 4);
        assert_eq!(at(word::MATRIX + 3), 1);
        assert_eq!(at(word::MATRIX + ROWS + 3), 1);
        assert_eq!(at(word::MATRIX + ROWS + 5), 2);
        // A function that has no words is not counted by function.
        instruction(Place::new(2, 5));
        assert_eq!(at(word::TOTAL), 5);

        call();
        assert_eq!((at(word::CALLS), at(word::HALTS), at(word::HALTED)), (1, 0, 0));
        words[word::HALTS_ALLOWED].store(1, Relaxed);
        halt();
        assert_eq!((at(word::HALTS), at(word::HALTED)), (1, 1));
        block();
        assert_eq!(at(word::HALTED), 0);
        // The second is counted at once and carried out when it may be.
        let held = std::thread::spawn(halt);
        while at(word::HALTS) != 2 {
            std::thread::yield_now();
        }
        assert_eq!(at(word::HALTED), 0);
        words[word::HALTS_ALLOWED].store(u64::MAX, Release);
        held.join().unwrap();
        assert_eq!(at(word::HALTED), 1);
    }
}
