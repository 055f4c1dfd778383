//! What owner and visitors of a domain change, one at a time.
//!
//! It lies in the domain's memory, behind the lock. References in it lead to the domain's memory, or to
//! the owner's code and constants, so they mean the same wherever it is used.

use core::num::NonZeroUsize;
use core::ptr::NonNull;

use super::lock::{Lock, Number};

/// A value behind the lock of its domain, as one of those that use it sees it.
#[derive(Debug)]
pub struct Shared<T> {
    kept: NonNull<Kept<T>>,
    number: Number,
}

#[repr(C)]
struct Kept<T> {
    lock: Lock,
    value: T,
}

/// Room for a value at the beginning of a domain's memory.
#[derive(Debug)]
pub struct Place<T>(NonNull<Kept<T>>);

impl<T> Place<T> {
    /// Takes room from `memory`, which is aligned to pages; the rest comes back. `None` if it is too
    /// little.
    #[must_use]
    pub fn take(memory: &'static mut [u8]) -> Option<(Self, &'static mut [u8])> {
        let bytes = size_of::<Kept<T>>().next_multiple_of(64);
        let (room, rest) = memory.split_at_mut_checked(bytes)?;
        let kept = NonNull::from(room).cast::<Kept<T>>();
        kept.is_aligned().then_some((Self(kept), rest))
    }

    /// Puts the value there; the lock is free. The caller is the domain's owner.
    pub fn fill(self, value: T) -> Shared<T> {
        // SAFETY: so many bytes, aligned, were given to this for good, and nothing refers to them.
        unsafe { self.0.write(Kept { lock: Lock::new(), value }) };
        Shared { kept: self.0, number: Number::OWNER }
    }
}

impl<T> Shared<T> {
    /// The value at `address`, for the visitor `number`.
    ///
    /// # Safety
    /// A [`Shared::address`] of the domain that is visited, of a value of this type.
    #[must_use]
    pub unsafe fn at(address: NonZeroUsize, number: Number) -> Self {
        Self { kept: NonNull::with_exposed_provenance(address), number }
    }

    /// Where it is, for visitors.
    #[must_use]
    pub fn address(&self) -> NonZeroUsize {
        self.kept.expose_provenance()
    }

    /// The lock.
    #[must_use]
    pub fn lock(&self) -> &Lock {
        // SAFETY: it was written by `fill` and stays; the lock is only used by shared reference.
        unsafe { &(*self.kept.as_ptr()).lock }
    }

    /// Uses the value.
    ///
    /// # Errors
    /// The number of the one that uses it.
    #[inline]
    pub fn try_hold<R>(&mut self, act: impl FnOnce(&mut T) -> R) -> Result<R, Number> {
        self.lock().take(self.number)?;
        Ok(self.held(act))
    }

    /// Uses the value, as soon as it can be had: `wait` is called with the number of the one that uses
    /// it, and says whether that has ended. Then `mend` makes of what that one left a value again.
    #[inline]
    pub fn hold<R>(
        &mut self,
        mut wait: impl FnMut(Number) -> bool,
        mend: impl FnOnce(&mut T, Number),
        act: impl FnOnce(&mut T) -> R,
    ) -> R {
        let Err(holder) = self.lock().take(self.number) else { return self.held(act) };
        self.wait_for(holder, &mut wait, mend);
        self.held(act)
    }

    #[cold]
    #[inline(never)]
    fn wait_for(
        &mut self,
        mut holder: Number,
        wait: &mut dyn FnMut(Number) -> bool,
        mend: impl FnOnce(&mut T, Number),
    ) {
        loop {
            if wait(holder) && self.lock().inherit(holder, self.number) {
                // SAFETY: as in `held`: the lock was inherited, and the one that had it has ended.
                mend(unsafe { &mut (*self.kept.as_ptr()).value }, holder);
                return;
            }
            match self.lock().take(self.number) {
                Ok(()) => return,
                Err(other) => holder = other,
            }
        }
    }

    /// Uses the value and gives the lock back, which was taken.
    #[inline(always)]
    fn held<R>(&mut self, act: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: it was written by `fill` and stays, and whatever refers to the value has the lock,
        // which this has.
        let result = act(unsafe { &mut (*self.kept.as_ptr()).value });
        self.lock().give();
        result
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use super::super::lock::Number;
    use super::{Place, Shared};

    fn memory(bytes: usize) -> &'static mut [u8] {
        let words: &'static mut [u128] = Box::leak(vec![0; bytes / 16].into());
        // SAFETY: plain numbers, as bytes.
        unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), bytes) }
    }

    #[test]
    fn one_at_a_time_uses_it() {
        let (place, rest) = Place::take(memory(4096)).expect("room");
        assert_eq!(rest.len(), 4096 - 64);
        let mut owner: Shared<u64> = place.fill(5);
        // SAFETY: the value just made.
        let mut visitor = unsafe { Shared::<u64>::at(owner.address(), Number(2)) };
        assert_eq!(visitor.try_hold(|value| core::mem::replace(value, 6)), Ok(5));
        let within = owner.try_hold(|value| {
            *value += 1;
            visitor.try_hold(|_| ())
        });
        assert_eq!(within, Ok(Err(Number::OWNER)));
        assert_eq!(visitor.try_hold(|value| *value), Ok(7));
        assert!(Place::<[u64; 64]>::take(memory(256)).is_none());
    }

    #[test]
    fn the_owner_mends_what_the_dead_leave() {
        let (place, _) = Place::take(memory(4096)).expect("room");
        let mut owner: Shared<u64> = place.fill(5);
        // Three looks, and then it has ended, in the middle.
        owner.lock().take(Number(9)).unwrap();
        let (mut looks, mut mended) = (0, None);
        let wait = |number| {
            looks += 1;
            assert_eq!(number, Number(9));
            looks == 3
        };
        let mend = |value: &mut u64, number| {
            *value = 1;
            mended = Some(number);
        };
        assert_eq!(owner.hold(wait, mend, |value| *value + 1), 2);
        assert_eq!((looks, mended), (3, Some(Number(9))));
        // Or it gives the lock back.
        owner.lock().take(Number(9)).unwrap();
        // SAFETY: the value made above.
        let visitor = unsafe { Shared::<u64>::at(owner.address(), Number(9)) };
        let wait = |_| {
            visitor.lock().give();
            false
        };
        assert_eq!(owner.hold(wait, |_, _| unreachable!(), |value| *value), 1);
    }
}
