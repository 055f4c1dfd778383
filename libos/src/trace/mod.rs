//! Trace rings: what an environment did last, with time stamps.
//!
//! A ring lives in a `static`, has a fixed size, and overwrites its oldest
//! entry, so recording never fails, never allocates and never prints. Events
//! are values of the application's own type, not text: they cost a time stamp
//! and a store, and mean something to a debugger that reads the memory.
//! [`Off`] is the recorder that records nothing and costs nothing.
//!
//! A [`probe!`](crate::probe) is for `cargo exo trace` instead, which shows it among what the kernel
//! does: one store, and nothing else in the program.

use core::fmt;
use core::sync::atomic::AtomicU64;

use crate::time::timestamp;

/// Where probes store. What was stored last means nothing.
#[doc(hidden)]
pub static PROBED: AtomicU64 = AtomicU64::new(0);

/// Tells `cargo exo trace` that the program has come here, with a number if there is one.
///
/// ```
/// let request = b"get key";
/// libos::probe!("parsed", request.len() as u64);
/// libos::probe!("answered");
/// ```
///
/// The name is in no memory of the program: it is in a section of its file that is not loaded.
///
/// **Cost** one instruction, a store, and that the compiler moves no access to memory across it.
#[macro_export]
macro_rules! probe {
    ($name:literal) => {
        $crate::probe!($name, 0_u64)
    };
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: a store to an atomic that is read by no program. The section that is written
        // to is not loaded.
        unsafe {
            core::arch::asm!(
                "2: mov qword ptr [rip + {probed}], {value}",
                ".pushsection .exo_probes, \"\", @progbits",
                ".quad 2b",
                concat!(".asciz \"", $name, "\""),
                ".popsection",
                probed = sym $crate::trace::PROBED,
                value = in(reg) value,
                options(nostack, preserves_flags),
            );
        }
    }};
}

/// Takes events of type `E`.
pub trait Record<E> {
    /// Records that `event` happened now.
    fn record(&mut self, event: E);
}

/// Records nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Off;

impl<E> Record<E> for Off {
    fn record(&mut self, _: E) {}
}

/// One event and when it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<E> {
    /// Time-stamp counter when it was recorded.
    pub at: u64,
    /// What happened.
    pub event: E,
}

/// The last `N` events.
///
/// **Cost** per event: one `rdtsc`, one store, one index. **Limits** one thread.
#[derive(Debug)]
#[repr(C)]
pub struct Ring<E, const N: usize> {
    /// Events ever recorded; the next goes to this, modulo `N`.
    recorded: u64,
    entries: [Option<Entry<E>>; N],
}

impl<E: Copy, const N: usize> Ring<E, N> {
    /// An empty ring.
    pub const fn new() -> Self {
        Self { recorded: 0, entries: [None; N] }
    }

    /// Events ever recorded, including those overwritten.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// Records `event` as having happened at `at`.
    pub fn record_at(&mut self, at: u64, event: E) {
        let count = self.entries.len() as u64;
        if let Some(slot) = self.recorded.checked_rem(count) {
            self.entries[slot as usize] = Some(Entry { at, event });
        }
        self.recorded += 1;
    }

    /// What is still there, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<E>> {
        let oldest = self.recorded.checked_rem(N as u64).unwrap_or(0) as usize;
        let (newer, older) = self.entries.split_at(oldest);
        older.iter().chain(newer).flatten()
    }
}

impl<E: Copy, const N: usize> Default for Ring<E, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Copy, const N: usize> Record<E> for Ring<E, N> {
    fn record(&mut self, event: E) {
        self.record_at(timestamp(), event);
    }
}

impl<E, R: Record<E>> Record<E> for &mut R {
    fn record(&mut self, event: E) {
        (**self).record(event);
    }
}

/// Prints the ring, oldest event first, times relative to it.
impl<E: Copy + fmt::Debug, const N: usize> fmt::Display for Ring<E, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut start = None;
        for entry in self.entries() {
            let start = *start.get_or_insert(entry.at);
            writeln!(f, "+{} {:?}", entry.at.wrapping_sub(start), entry.event)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Off, Record, Ring};

    #[test]
    fn keeps_the_last_in_order() {
        let mut ring = Ring::<u32, 4>::new();
        assert_eq!(ring.entries().count(), 0);
        for event in 0..3 {
            ring.record_at(100 + u64::from(event), event);
        }
        assert_eq!(ring.entries().map(|e| e.event).collect::<Vec<_>>(), [0, 1, 2]);
        for event in 3..10 {
            ring.record_at(100 + u64::from(event), event);
        }
        assert_eq!(ring.entries().map(|e| e.event).collect::<Vec<_>>(), [6, 7, 8, 9]);
        assert_eq!(ring.recorded(), 10);
        assert_eq!(ring.to_string(), "+0 6\n+1 7\n+2 8\n+3 9\n");
    }

    #[test]
    fn time_stamps_ascend() {
        let mut ring = Ring::<&str, 8>::new();
        let record = &mut ring;
        record.record("first");
        record.record("second");
        let times: Vec<_> = ring.entries().map(|Entry { at, .. }| *at).collect();
        assert!(times[0] <= times[1]);
        Off.record("nothing");
    }

    #[test]
    fn an_empty_ring_takes_everything() {
        let mut ring = Ring::<u8, 0>::new();
        ring.record(1);
        assert_eq!((ring.recorded(), ring.entries().count()), (1, 0));
    }
}
