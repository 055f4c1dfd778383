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

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use crate::layout::{NEUTRAL, Place, ROWS, word};
use crate::words::Words;

/// How often to look whether a `hlt` may be carried out.
const GLANCE: Duration = Duration::from_micros(50);

/// The words of the counts; none until [`map`].
static WORDS: Words = Words::new();

/// Address of the last repeated string instruction, and the number of instructions until it.
static REPEATED: AtomicU64 = AtomicU64::new(0);
static REPEATED_AT: AtomicU64 = AtomicU64::new(0);

/// Counts go into `words`.
pub(crate) fn map(words: &'static [AtomicU64]) {
    WORDS.map(words);
}

/// From now on everything is counted. The processor may be asleep: `asleep` says so, and the
/// next block that wakes is noticed.
pub(crate) fn start(asleep: bool) {
    let words = words();
    if let (Some(ready), Some(halted)) = (words.get(word::READY), words.get(word::HALTED)) {
        halted.store(u64::from(asleep), Relaxed);
        ready.store(1, Release);
    }
}

/// Whether the other side wants instructions to be counted.
pub(crate) fn wanted() -> bool {
    words().get(word::WANTED).is_some_and(|wanted| wanted.load(Acquire) != 0)
}

#[inline]
fn words() -> &'static [AtomicU64] {
    WORDS.all()
}

#[inline]
fn increment(words: &[AtomicU64], index: usize) {
    if let Some(word) = words.get(index) {
        word.store(word.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

/// An instruction is executed, one of user space or of the kernel.
#[inline]
pub(crate) fn instruction(place: Place, user: bool) {
    let words = words();
    if user {
        increment(words, word::USER);
    }
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

/// An `iretq` is executed.
pub(crate) fn interrupt_return() {
    increment(words(), word::RETURNS);
}

/// A round of the repeated string instruction at `address` is executed, and was counted as
/// an instruction. It is a further round of the one before if nothing came between: two in
/// a row at one address need a jump otherwise.
pub(crate) fn round(address: u64, user: bool) {
    let words = words();
    let Some(total) = words.get(word::TOTAL).map(|total| total.load(Relaxed)) else { return };
    // Only the thread that executes the guest comes here.
    let last = (REPEATED.swap(address, Relaxed), REPEATED_AT.swap(total, Relaxed));
    let further = last == (address, total.wrapping_sub(1));
    if further {
        increment(words, word::ROUNDS);
        if user {
            increment(words, word::USER_ROUNDS);
        }
    }
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
    // Release: a reader that sees this sees all that was counted before.
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
        instruction(Place::new(0, 1), false);
        let words: Vec<_> = (0..word::MATRIX + 2 * ROWS).map(|_| AtomicU64::new(0)).collect();
        let words: &'static [AtomicU64] = words.leak();
        map(words);
        assert!(!wanted());
        words[word::WANTED].store(1, Relaxed);
        assert!(wanted());
        start(false);
        let at = |index: usize| words[index].load(Relaxed);
        assert_eq!((at(word::READY), at(word::TOTAL)), (1, 0));

        instruction(Place::new(0, 3), false);
        instruction(Place::new(1, NEUTRAL), false);
        instruction(Place::new(1, 5), true);
        instruction(Place::new(1, NEUTRAL), false);
        assert_eq!((at(word::TOTAL), at(word::USER)), (4, 1));
        assert_eq!(at(word::MATRIX + 3), 1);
        assert_eq!(at(word::MATRIX + ROWS + 3), 1);
        assert_eq!(at(word::MATRIX + ROWS + 5), 2);
        // A function that has no words is not counted by function.
        instruction(Place::new(2, 5), false);
        assert_eq!(at(word::TOTAL), 5);

        // Three rounds in a row, one after another instruction, one elsewhere.
        for (address, between) in [(9, 0), (9, 0), (9, 0), (9, 1), (7, 0)] {
            (0..between).for_each(|_| instruction(Place::new(0, 3), false));
            instruction(Place::new(0, 3), true);
            round(address, true);
        }
        assert_eq!((at(word::ROUNDS), at(word::USER_ROUNDS)), (2, 2));
        interrupt_return();
        assert_eq!(at(word::RETURNS), 1);

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
