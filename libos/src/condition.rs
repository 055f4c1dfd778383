//! Sleeping until memory says so: wakeup predicates (`wait_until`), for memory that is shared.
//!
//! ```ignore
//! // The producer:                      // The consumer:
//! condition::put(&words[0], made);      condition::wait_until(&words[0], seen + 1.., None)?;
//! ```
//!
//! The kernel tries the condition when it is the sleeper's turn, and wakes it if it holds: the
//! environment that changes the memory needs no capability and makes no call.
//!
//! Conditions are packet filters and load in network order. So a word that [`wait_until`] looks at
//! is written with [`put`] and read with [`get`], which keep it big-endian; a plain `store` would
//! be compared with its bytes reversed. For other conditions (several words, bits, bytes) make a
//! [`Filter`](dpf::Filter) and take [`wait_for`].
//!
//! **Blocking** all of the environment, its other threads, too. **Cost** the sleeper's turns: the
//! filter is read and verified at each call and tried once or twice (`docs/primitives.md`).

use core::sync::atomic::{AtomicU64, Ordering};

#[cfg(exo_guest)]
pub use guest::{wait_for, wait_until};
#[cfg(any(test, exo_hosted))]
pub use hosted::wait_until;

/// Writes a word that a condition may look at; what was written before it is seen before it.
pub fn put(word: &AtomicU64, value: u64) {
    word.store(value.to_be(), Ordering::Release);
}

/// Reads such a word, and then whatever was written before it.
pub fn get(word: &AtomicU64) -> u64 {
    u64::from_be(word.load(Ordering::Acquire))
}

#[cfg(exo_guest)]
mod guest {
    use core::ops::{Bound, RangeBounds};
    use core::sync::atomic::AtomicU64;

    use dpf::{Atom, Filter, MAX_WIRE};
    use exo_abi::{Error, UserPtr};

    use super::get;
    use crate::sched::Ticks;
    use crate::sys;

    /// Sleeps until what was [`put`](super::put) into `word` is in `range`, or `deadline` has passed.
    /// Returns the word; it is in the range if the deadline has not passed.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn wait_until(
        word: &AtomicU64,
        range: impl RangeBounds<u64>,
        deadline: Option<Ticks>,
    ) -> Result<u64, Error> {
        let least = match range.start_bound() {
            Bound::Included(&least) => least,
            Bound::Excluded(&below) => below.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let most = match range.end_bound() {
            Bound::Included(&most) => most,
            Bound::Excluded(&above) => above.saturating_sub(1),
            Bound::Unbounded => u64::MAX,
        };
        // A filter looks at 14 bytes at least. In 16 that are aligned all are of one page.
        let address = core::ptr::from_ref(word).expose_provenance() as u64;
        let (block, offset) = (address & !15, (address & 15) as u16);
        while !range.contains(&get(word)) {
            let filter = Filter::new(&[Atom::range(offset, 8, least, most)]);
            sleep(&filter.map_err(|_| Error::BadFilter)?, block, deadline)?;
            if deadline.is_some_and(|deadline| crate::time::timestamp() >= deadline.0) {
                break;
            }
        }
        Ok(get(word))
    }

    /// Sleeps until `filter` matches `memory`, or `deadline` has passed.
    ///
    /// # Errors
    /// The kernel's refusal; [`Error::TooMuch`] if the filter may look further than at all of
    /// `memory`, or at 256 bytes.
    pub fn wait_for(
        filter: &Filter,
        memory: &[AtomicU64],
        deadline: Option<Ticks>,
    ) -> Result<(), Error> {
        if filter.reach() > size_of_val(memory) {
            return Err(Error::TooMuch);
        }
        sleep(filter, memory.as_ptr().expose_provenance() as u64, deadline)
    }

    fn sleep(filter: &Filter, memory: u64, deadline: Option<Ticks>) -> Result<(), Error> {
        let mut wire = [0; MAX_WIRE];
        let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
        let predicate = UserPtr(wire.as_ptr().expose_provenance() as u64);
        let deadline = deadline.map_or(0, |deadline| deadline.0.max(1));
        sys::wait_until(predicate, length as u64, UserPtr(memory), deadline).map(drop)
    }
}

#[cfg(any(test, exo_hosted))]
mod hosted {
    use core::ops::RangeBounds;
    use core::sync::atomic::AtomicU64;
    use std::time::Duration;

    use exo_abi::Error;

    use super::get;
    use crate::sched::Ticks;
    use crate::time::timestamp;

    /// How often a process looks before it begins to sleep between looks, and how long it sleeps then.
    const LOOKS: u32 = 100;
    const GLANCE: Duration = Duration::from_micros(20);

    /// As the machine's: sleeps until what was [`put`](super::put) into `word` is in `range`, or
    /// `deadline` has passed. Here the process looks every few microseconds.
    ///
    /// # Errors
    /// None; in the machine the kernel's refusal.
    pub fn wait_until(
        word: &AtomicU64,
        range: impl RangeBounds<u64>,
        deadline: Option<Ticks>,
    ) -> Result<u64, Error> {
        for look in 0_u32.. {
            let value = get(word);
            if range.contains(&value) || deadline.is_some_and(|end| timestamp() >= end.0) {
                return Ok(value);
            }
            if look < LOOKS {
                std::thread::yield_now();
            } else {
                std::thread::sleep(GLANCE);
            }
        }
        Ok(get(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_waits_for_a_word_too() {
        let word = AtomicU64::new(0);
        let past = Some(crate::sched::Ticks(0));
        assert_eq!(hosted::wait_until(&word, 1.., past), Ok(0), "the deadline has passed");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                put(&word, 9);
            });
            assert_eq!(hosted::wait_until(&word, 7..=9, None), Ok(9));
        });
    }

    #[test]
    fn words_are_in_network_order() {
        let word = AtomicU64::new(0);
        put(&word, 0x0102_0304_0506_0708);
        assert_eq!(word.load(Ordering::Relaxed).to_ne_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(get(&word), 0x0102_0304_0506_0708);
    }
}
