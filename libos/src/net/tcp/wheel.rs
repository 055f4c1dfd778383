//! When which connection wants attention: a hierarchical timing wheel (Varghese and Lauck,
//! "Hashed and Hierarchical Timing Wheels", SOSP 1987, scheme 7).
//!
//! Four levels of 64 slots; a slot of the first lasts a millisecond, each of a further level as
//! long as the level before it takes to go round. Setting, cancelling and firing take constant
//! time, however many timers there are; the next one is found by four bit scans.
//!
//! A connection has one timer here, for the earliest of what it waits for. When that moves to
//! later, which it does with almost every segment, the timer stays, fires early once and is
//! set anew: that is cheaper than moving it each time. The first time at which one may fire is
//! remembered, so that looking costs nothing before.

use alloc::boxed::Box;
use alloc::vec;
use core::num::NonZeroU32;

const LEVELS: usize = 4;
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const NONE: u32 = u32::MAX;
/// The list of those that have fired.
const DUE: u16 = (LEVELS * SLOTS) as u16;
const IDLE: u16 = u16::MAX;

/// Milliseconds, modulo 2^32: about 49 days. Only differences mean anything, and none of those
/// measured here is near half of that.
pub(super) type Millis = u32;

/// Whether `at` has come at `now`.
#[inline(always)]
pub(super) const fn has_come(at: Millis, now: Millis) -> bool {
    now.wrapping_sub(at) as i32 >= 0
}

/// A time at which something is due, or none: in four bytes, at the price of a millisecond once
/// in 49 days.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Alarm(Option<NonZeroU32>);

impl Alarm {
    #[inline(always)]
    pub(super) const fn clear(&mut self) {
        self.0 = None;
    }

    /// Sets it to `wait` milliseconds after `now`.
    #[inline(always)]
    pub(super) fn set(&mut self, now: Millis, wait: Millis) {
        self.0 = Some(NonZeroU32::new(now.wrapping_add(wait)).unwrap_or(NonZeroU32::MIN));
    }

    /// The same, unless it is set.
    #[inline(always)]
    pub(super) fn ensure(&mut self, now: Millis, wait: Millis) {
        if self.0.is_none() {
            self.set(now, wait);
        }
    }

    /// The same, with a wait that is computed only then.
    #[inline(always)]
    pub(super) fn ensure_with(&mut self, now: Millis, wait: impl FnOnce() -> Millis) {
        if self.0.is_none() {
            self.set(now, wait());
        }
    }

    #[inline(always)]
    pub(super) const fn is_set(self) -> bool {
        self.0.is_some()
    }

    /// When it is due.
    #[inline(always)]
    pub(super) fn at(self) -> Option<Millis> {
        self.0.map(NonZeroU32::get)
    }

    /// Whether it is set and due.
    #[inline(always)]
    pub(super) fn is_due(self, now: Millis) -> bool {
        self.at().is_some_and(|at| has_come(at, now))
    }
}

/// A timer for each of a fixed number of connections.
#[derive(Debug)]
pub(super) struct Wheel {
    /// All up to and including this have fired.
    time: Millis,
    /// No timer fires before this; not known, if there is none.
    first: Option<Millis>,
    heads: [u32; LEVELS * SLOTS + 1],
    occupied: [u64; LEVELS],
    timers: Box<[Timer]>,
}

/// A timer's place in a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    next: u32,
    before: u32,
    at: Millis,
    slot: u16,
}

impl Wheel {
    /// Timers 0 to `count` - 1, none of them set.
    pub(super) fn new(count: usize, now: Millis) -> Self {
        let timer = Timer { next: NONE, before: NONE, at: 0, slot: IDLE };
        Self {
            time: now,
            first: None,
            heads: [NONE; LEVELS * SLOTS + 1],
            occupied: [0; LEVELS],
            timers: vec![timer; count].into_boxed_slice(),
        }
    }

    /// Sees to it that the timer fires at `at` or earlier.
    #[inline]
    pub(super) fn ensure(&mut self, id: u32, at: Millis) {
        let Some(timer) = self.timers.get(id as usize) else { return };
        if timer.slot == IDLE || !has_come(timer.at, at) {
            self.cancel(id);
            self.place(id, at);
            self.first = self.first.map(|first| if has_come(at, first) { at } else { first });
        }
    }

    /// Takes the timer out.
    pub(super) fn cancel(&mut self, id: u32) {
        let Some(timer) = self.timers.get_mut(id as usize) else { return };
        let Timer { next, before, slot, .. } = *timer;
        timer.slot = IDLE;
        if slot == IDLE {
            return;
        }
        if let Some(next) = self.timers.get_mut(next as usize) {
            next.before = before;
        }
        if let Some(before) = self.timers.get_mut(before as usize) {
            before.next = next;
        } else if let Some(head) = self.heads.get_mut(usize::from(slot)) {
            *head = next;
            if next == NONE
                && let Some(bits) = self.occupied.get_mut(usize::from(slot) >> BITS)
            {
                *bits &= !(1 << (slot as usize % SLOTS));
            }
        }
    }

    /// A timer that has fired by `now`, and is not set any more.
    #[inline]
    pub(super) fn expire(&mut self, now: Millis) -> Option<u32> {
        if self.first.is_some_and(|first| !has_come(first, now)) {
            return None;
        }
        self.turn_to(now)
    }

    fn turn_to(&mut self, now: Millis) -> Option<u32> {
        self.first = None;
        loop {
            let due = self.heads[usize::from(DUE)];
            if due != NONE {
                self.cancel(due);
                return Some(due);
            }
            if self.occupied == [0; LEVELS] {
                // After a long idle time the difference would mean nothing.
                self.time = now;
            }
            if has_come(now, self.time) {
                return None;
            }
            let next = self.next_slot().filter(|next| has_come(*next, now)).unwrap_or(now);
            self.time = next;
            for level in (0..LEVELS as u32).rev() {
                let lower = (1 << (BITS * level)) - 1;
                if self.time & lower == 0 {
                    self.empty_slot(level);
                }
            }
        }
    }

    /// The earliest time at which a timer may fire.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Millis> {
        if self.first.is_none() {
            self.first = self.next_slot();
        }
        self.first
    }

    fn next_slot(&self) -> Option<Millis> {
        if self.heads[usize::from(DUE)] != NONE {
            return Some(self.time);
        }
        let levels = self.occupied.iter().zip(0_u32..).filter(|(bits, _)| **bits != 0);
        let starts = levels.map(|(bits, level)| {
            let current = self.time >> (BITS * level);
            let ahead = bits.rotate_right((current + 1) % SLOTS as u32).trailing_zeros() + 1;
            current.wrapping_add(ahead) << (BITS * level)
        });
        starts.min_by_key(|start| start.wrapping_sub(self.time))
    }

    /// Puts the timers of a level's current slot where they belong now.
    fn empty_slot(&mut self, level: u32) {
        let index = (self.time >> (BITS * level)) as usize % SLOTS;
        let slot = level as usize * SLOTS + index;
        while let Some(&id) = self.heads.get(slot).filter(|id| **id != NONE) {
            self.cancel(id);
            let at = self.timers.get(id as usize).map_or(self.time, |timer| timer.at);
            if has_come(at, self.time) { self.push(id, at, DUE) } else { self.place(id, at) }
        }
    }

    /// Puts a timer that is in no list into the one for `at`.
    fn place(&mut self, id: u32, at: Millis) {
        let wait = (at.wrapping_sub(self.time) as i32).max(1) as u32;
        let mut level = wait.ilog2() / BITS;
        let mut at = self.time.wrapping_add(wait);
        if level as usize >= LEVELS {
            // Longer than the wheel: it fires early and is set anew.
            level = LEVELS as u32 - 1;
            at = self.time.wrapping_add((1 << (BITS * LEVELS as u32)) - 1);
        }
        let index = (at >> (BITS * level)) as usize % SLOTS;
        if let Some(bits) = self.occupied.get_mut(level as usize) {
            *bits |= 1 << index;
        }
        self.push(id, at, (level as usize * SLOTS + index) as u16);
    }

    fn push(&mut self, id: u32, at: Millis, slot: u16) {
        let Some(head) = self.heads.get_mut(usize::from(slot)) else { return };
        let next = core::mem::replace(head, id);
        if let Some(next) = self.timers.get_mut(next as usize) {
            next.before = id;
        }
        if let Some(timer) = self.timers.get_mut(id as usize) {
            *timer = Timer { next, before: NONE, at, slot };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Wheel;

    proptest! {
        /// Every timer fires at its time, if the wheel looks then, and never before.
        #[test]
        fn fires_in_time(
            start: u32,
            waits in prop::collection::vec((1_u32..=1 << 23, any::<bool>()), 1..30),
            step in 1_u32..100_000,
        ) {
            let mut wheel = Wheel::new(waits.len(), start);
            for (id, &(wait, _)) in waits.iter().enumerate() {
                wheel.ensure(id as u32, start.wrapping_add(wait));
            }
            for (id, &(_, cancelled)) in waits.iter().enumerate() {
                if cancelled {
                    wheel.cancel(id as u32);
                }
            }
            let mut left: Vec<_> = (0..waits.len()).filter(|&id| !waits[id].1).collect();
            let mut now = start;
            while !left.is_empty() {
                // Looks when it is told to, or somewhat later.
                let next = wheel.next().expect("some are left");
                let least = left.iter().map(|&id| waits[id].0).min().unwrap();
                prop_assert!(next.wrapping_sub(start) <= least, "it would be late");
                now = if step % 2 == 0 { next } else { now.wrapping_add(step) };
                while let Some(id) = wheel.expire(now) {
                    prop_assert!(waits[id as usize].0 <= now.wrapping_sub(start), "too early");
                    left.retain(|&other| other != id as usize);
                }
                for &id in &left {
                    prop_assert!(waits[id].0 > now.wrapping_sub(start), "{} is late", id);
                }
            }
            prop_assert_eq!(wheel.next(), None);
        }
    }

    #[test]
    fn ensuring_only_brings_forward_and_the_longest_wait_is_cut() {
        let mut wheel = Wheel::new(1, 5);
        wheel.ensure(0, 1000);
        wheel.ensure(0, 5000);
        assert_eq!(wheel.expire(999), None);
        assert_eq!(wheel.expire(1000), Some(0));
        wheel.ensure(0, 5000);
        wheel.ensure(0, 1002);
        assert_eq!(wheel.expire(1002), Some(0));
        wheel.ensure(0, 1002 + (1 << 30));
        assert_eq!(wheel.expire(1002 + (1 << 24)), Some(0), "early");
        assert_eq!(wheel.expire(1002 + (1 << 31)), None);
        // Idle for a month.
        let now = 1002_u32.wrapping_add(3 << 30);
        assert_eq!(wheel.expire(now), None);
        wheel.ensure(0, now + 5);
        assert_eq!((wheel.expire(now + 4), wheel.expire(now + 5)), (None, Some(0)));
    }
}
