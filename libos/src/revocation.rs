//! Visible revocation: asking an environment for frames, waiting, and taking them.
//!
//! After Aegis (SOSP'95, 3.4 and 3.5). The kernel passes a request on, and takes a frame that it
//! is told to take. What lies between is policy, and here: how much is owed, when patience ends,
//! and which frame goes first. All of it is read off the published frame table, so that the
//! environment that was asked is asked for nothing more, and cannot lie about what it gave.
//!
//! 1. [`Demand::new`] notes what the environment has, and `ask` makes the request: words in its
//!    U-area, an event, an upcall.
//! 2. The environment gives back what it likes least, or names frames expendable.
//! 3. After the deadline, `enforce` takes what is owed, one frame after the other, and the
//!    environment finds them in its repossession vector.

use core::sync::atomic::Ordering::Relaxed;

#[cfg(exo_guest)]
use exo_abi::Handle;
use exo_abi::{EnvId, Error, FrameInfo, FrameKind, Pages, Pfn};

use crate::memory::Range;
#[cfg(exo_guest)]
use crate::{sys, time::timestamp};

/// What was asked of an environment, and what it had then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    id: EnvId,
    /// Where its frames are.
    range: Range,
    had: Pages,
    wanted: Pages,
    deadline: u64,
}

impl Demand {
    /// Of `wanted` frames of environment `id`, wherever they are, until the time-stamp counter passes
    /// `deadline`.
    pub fn new(table: &[FrameInfo], id: EnvId, wanted: Pages, deadline: u64) -> Self {
        let range = Range { first: Pfn(0), count: table.len() as Pages };
        Self::within(range, table, id, wanted, deadline)
    }

    /// The same of an environment that can have frames of `range` only, as a child has: what is owed is
    /// found by looking at these.
    pub fn within(
        range: Range,
        table: &[FrameInfo],
        id: EnvId,
        wanted: Pages,
        deadline: u64,
    ) -> Self {
        Self { id, range, had: held(table, id, range), wanted, deadline }
    }

    /// Frames still owed. What the environment has got since it was asked it owes, too: taking
    /// frames to give them back is not giving back.
    pub fn owed(&self, table: &[FrameInfo]) -> Pages {
        let [wanted, has, had] =
            [self.wanted, held(table, self.id, self.range), self.had].map(u64::from);
        let owed = if wanted == 0 { 0 } else { (wanted + has).saturating_sub(had) };
        owed.min(Pages::MAX.into()) as Pages
    }

    /// The frame to be taken at the time `now`: one that is `expendable`, or else the first
    /// that can be taken.
    ///
    /// # Errors
    /// [`Error::WrongState`] before the deadline, and if nothing is owed; [`Error::Vacant`] if
    /// there is none to take.
    /// **Trust**: the environment that was asked wrote `expendable`, and may lie.
    pub fn due(
        &self,
        table: &[FrameInfo],
        expendable: impl IntoIterator<Item = Pfn>,
        now: u64,
    ) -> Result<Pfn, Error> {
        if now < self.deadline || self.owed(table) == 0 {
            return Err(Error::WrongState);
        }
        let can_be_taken = |pfn: &Pfn| {
            table.get(pfn.0 as usize).is_some_and(|entry| {
                entry.owner.load(Relaxed) == self.id.0
                    && entry.kind.load(Relaxed) == FrameKind::Memory as u8
                    && entry.pins.load(Relaxed) == 0
            })
        };
        let all = (0..self.range.count).map(|number| self.range.first.plus(number));
        expendable.into_iter().chain(all).find(can_be_taken).ok_or(Error::Vacant)
    }

    /// Makes a demand known to the environment behind `env`, with that of `slots` slots.
    ///
    /// # Errors
    /// Those of `revoke_request`.
    #[cfg(exo_guest)]
    pub fn ask(self, env: Handle, slots: u32) -> Result<Self, Error> {
        sys::revoke_request(env, self.wanted, slots, self.deadline)?;
        Ok(self)
    }

    /// Takes a frame that is due, and returns it.
    ///
    /// # Errors
    /// Those of [`Demand::due`] and `revoke_enforce`.
    #[cfg(exo_guest)]
    pub fn enforce(
        &self,
        env: Handle,
        table: &[FrameInfo],
        expendable: impl IntoIterator<Item = Pfn>,
    ) -> Result<Pfn, Error> {
        let frame = self.due(table, expendable, timestamp())?;
        loop {
            match sys::revoke_enforce(env, frame) {
                Err(Error::Again) => {}
                result => return result.map(|_| frame),
            }
        }
    }
}

/// Frames of `range` that belong to `id`, of any kind.
fn held(table: &[FrameInfo], id: EnvId, range: Range) -> Pages {
    let entries = table.iter().skip(range.first.0 as usize).take(range.count as usize);
    entries.filter(|entry| entry.owner.load(Relaxed) == id.0).count() as Pages
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering::Relaxed};

    use exo_abi::{EnvId, Error, FrameInfo, FrameKind, Pfn};

    use super::{Demand, Range};

    const OWNER: EnvId = EnvId(3);

    /// Frames of these kinds: of the owner's, if it is not free.
    fn table(kinds: &[FrameKind]) -> Vec<FrameInfo> {
        let entry = |kind: &FrameKind| FrameInfo {
            owner: AtomicU32::new(if *kind == FrameKind::Free { 0 } else { OWNER.0 }),
            kind: AtomicU8::new(*kind as u8),
            level: AtomicU8::new(0),
            pins: AtomicU16::new(0),
            mapped: AtomicU32::new(0),
            generation: AtomicU32::new(0),
        };
        kinds.iter().map(entry).collect()
    }

    fn set(table: &[FrameInfo], number: usize, kind: FrameKind, owner: u32) {
        table[number].kind.store(kind as u8, Relaxed);
        table[number].owner.store(owner, Relaxed);
    }

    const KINDS: [FrameKind; 8] = [
        FrameKind::Free,
        FrameKind::Env,
        FrameKind::UArea,
        FrameKind::Memory,
        FrameKind::Memory,
        FrameKind::Memory,
        FrameKind::Memory,
        FrameKind::Free,
    ];

    #[test]
    fn nothing_is_due_before_the_deadline_or_when_it_is_paid() {
        let table = table(&KINDS);
        let demand = Demand::new(&table, OWNER, 2, 100);
        assert_eq!(demand.owed(&table), 2);
        assert_eq!(demand.due(&table, [], 99), Err(Error::WrongState));
        assert_eq!(demand.due(&table, [], 100), Ok(Pfn(3)));
        set(&table, 4, FrameKind::Free, 0);
        assert_eq!(demand.owed(&table), 1);
        set(&table, 6, FrameKind::Free, 0);
        assert_eq!((demand.owed(&table), demand.due(&table, [], 200)), (0, Err(Error::WrongState)));
        let nothing = Demand::new(&table, OWNER, 0, 0);
        assert_eq!(nothing.due(&table, [], 200), Err(Error::WrongState));
    }

    #[test]
    fn only_frames_of_the_range_are_looked_at() {
        let table = table(&KINDS);
        let range = Range { first: Pfn(4), count: 2 };
        let demand = Demand::within(range, &table, OWNER, 2, 0);
        set(&table, 3, FrameKind::Free, 0);
        assert_eq!((demand.owed(&table), demand.due(&table, [], 1)), (2, Ok(Pfn(4))));
        set(&table, 4, FrameKind::Free, 0);
        assert_eq!((demand.owed(&table), demand.due(&table, [], 1)), (1, Ok(Pfn(5))));
        set(&table, 5, FrameKind::Free, 0);
        assert_eq!(demand.owed(&table), 0);
    }

    #[test]
    fn what_was_taken_meanwhile_does_not_pay() {
        let table = table(&KINDS);
        let demand = Demand::new(&table, OWNER, 1, 0);
        for _ in 0..3 {
            set(&table, 7, FrameKind::Memory, OWNER.0);
            assert_eq!(demand.owed(&table), 2);
            set(&table, 7, FrameKind::Free, 0);
            assert_eq!(demand.owed(&table), 1);
        }
        // Everything at the end, and no more.
        assert_eq!(Demand::new(&table, OWNER, u32::MAX, 0).owed(&table), u32::MAX);
    }

    #[test]
    fn expendable_frames_go_first_and_lies_are_passed_over() {
        let table = table(&KINDS);
        set(&table, 6, FrameKind::Memory, 9);
        table[3].pins.store(1, Relaxed);
        let demand = Demand::new(&table, OWNER, 3, 0);
        // None, its object, another's, one in use, none again; and one it may name.
        let list = [0, 1, 6, 3, u32::MAX, 5].map(Pfn);
        assert_eq!(demand.due(&table, list, 1), Ok(Pfn(5)));
        assert_eq!(demand.due(&table, [], 1), Ok(Pfn(4)));
        set(&table, 4, FrameKind::Free, 0);
        set(&table, 5, FrameKind::Revoked, OWNER.0);
        assert_eq!(demand.due(&table, list, 1), Err(Error::Vacant));
    }
}
