//! The frame table: for every page frame which environment pays for it, what it is, and what
//! still refers to it.
//!
//! This is the kernel's one ledger of memory and the ground truth for every
//! check elsewhere. It is published read-only, so allocation needs no kernel
//! policy: an environment looks for frames it likes and asks for them by name.

pub mod object;

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::{EnvId, Error, FrameInfo, FrameKind, Pages, Pfn};

use crate::memory;

/// Most frames handled by one call, to bound its time.
pub const BATCH: Pages = 64;

/// The frame table.
pub struct FrameTable {
    entries: &'static [FrameInfo],
}

impl FrameTable {
    /// Adopts the table in `entries`.
    pub const fn new(entries: &'static [FrameInfo]) -> Self {
        Self { entries }
    }

    /// Number of frames.
    pub fn count(&self) -> u32 {
        self.entries.len() as u32
    }

    fn entry(&self, pfn: Pfn) -> Option<&'static FrameInfo> {
        self.entries.get(pfn.0 as usize)
    }

    /// What the frame is; `None` if there is no such frame.
    #[inline]
    pub fn kind(&self, pfn: Pfn) -> Option<FrameKind> {
        FrameKind::from_u8(self.entry(pfn)?.kind.load(Relaxed))
    }

    /// Whether the frame is of kind `kind` still, or again, in its life `generation`.
    #[inline]
    pub fn is(&self, pfn: Pfn, kind: FrameKind, generation: u32) -> bool {
        self.entry(pfn).is_some_and(|entry| {
            entry.kind.load(Relaxed) == kind as u8 && entry.generation.load(Relaxed) == generation
        })
    }

    /// Level of a page table, or position of a capability table.
    pub fn level(&self, pfn: Pfn) -> u8 {
        self.entry(pfn).map_or(0, |entry| entry.level.load(Relaxed))
    }

    /// The environment that pays for the frame.
    pub fn owner(&self, pfn: Pfn) -> Option<EnvId> {
        Some(EnvId(self.entry(pfn)?.owner.load(Relaxed)))
    }

    /// How often the frame has been freed.
    pub fn generation(&self, pfn: Pfn) -> u32 {
        self.entry(pfn).map_or(0, |entry| entry.generation.load(Relaxed))
    }

    /// Whether the frame is plain memory of `owner`.
    pub fn is_memory_of(&self, pfn: Pfn, owner: EnvId) -> bool {
        self.kind(pfn) == Some(FrameKind::Memory) && self.owner(pfn) == Some(owner)
    }

    /// Whether the frame is plain memory to which nothing refers: no mapping,
    /// no device, no kernel object.
    pub fn is_quiet_memory(&self, pfn: Pfn) -> bool {
        self.kind(pfn) == Some(FrameKind::Memory) && !self.is_referred_to(pfn)
    }

    /// Whether a page table or a device or a kernel object refers to the frame.
    pub fn is_referred_to(&self, pfn: Pfn) -> bool {
        self.entry(pfn)
            .is_some_and(|entry| entry.mapped.load(Relaxed) != 0 || entry.pins.load(Relaxed) != 0)
    }

    /// Whether a device or a kernel object uses the frame.
    pub fn is_pinned(&self, pfn: Pfn) -> bool {
        self.entry(pfn).is_some_and(|entry| entry.pins.load(Relaxed) != 0)
    }

    /// Checks that `pfn` can be donated by `owner` for a kernel object.
    ///
    /// # Errors
    /// [`Error::NotOwned`] if it is not plain memory of `owner`,
    /// [`Error::InUse`] if something refers to it.
    pub fn check_donation(&self, pfn: Pfn, owner: EnvId) -> Result<(), Error> {
        self.check_quiet(pfn, owner, &[FrameKind::Memory])
    }

    fn check_quiet(&self, pfn: Pfn, owner: EnvId, kinds: &[FrameKind]) -> Result<(), Error> {
        let fits = self.kind(pfn).is_some_and(|kind| kinds.contains(&kind));
        if !fits || self.owner(pfn) != Some(owner) {
            return Err(Error::NotOwned);
        }
        if self.is_referred_to(pfn) { Err(Error::InUse) } else { Ok(()) }
    }

    /// Checks that all of `frames` can be donated by `owner`, each for another object.
    ///
    /// # Errors
    /// As [`FrameTable::check_donation`]; [`Error::BadArgument`] if two are the same.
    pub fn check_donations(&self, frames: &[Pfn], owner: EnvId) -> Result<(), Error> {
        for (index, &frame) in frames.iter().enumerate() {
            self.check_donation(frame, owner)?;
            if frames[..index].contains(&frame) {
                return Err(Error::BadArgument);
            }
        }
        Ok(())
    }

    /// Says what a frame is that was found at boot, before the table is shared.
    pub fn describe(&mut self, pfn: Pfn, kind: FrameKind, level: u8) {
        self.set_kind(pfn, kind, level);
    }

    /// Makes `heir` pay for the frame, plain memory of `owner`. False if it is not.
    pub fn give(&self, pfn: Pfn, owner: EnvId, heir: EnvId) -> bool {
        let is = self.is_memory_of(pfn, owner);
        if is {
            self.set_owner(pfn, heir);
        }
        is
    }

    /// Makes a page table that maps nothing any more and that no entry names plain memory.
    pub fn end_table(&self, pfn: Pfn) {
        if self.kind(pfn) == Some(FrameKind::PageTable) && !self.is_referred_to(pfn) {
            self.set_kind(pfn, FrameKind::Memory, 0);
        }
    }

    /// From now on no environment can map the frame, which is plain memory: it is being taken away.
    pub fn revoke(&self, pfn: Pfn) {
        if self.kind(pfn) == Some(FrameKind::Memory) {
            self.set_kind(pfn, FrameKind::Revoked, 0);
        }
    }

    /// Makes quiet memory a frame of machine code: `Code`, which the kernel alone writes, or `Text`,
    /// which nothing does.
    pub fn make_code(&self, pfn: Pfn, kind: FrameKind) {
        if self.is_quiet_memory(pfn) {
            self.set_kind(pfn, kind, 0);
        }
    }

    /// For tests of what notices.
    #[cfg(test)]
    pub fn falsify(&self, pfn: Pfn, kind: FrameKind, level: u8, owner: Option<EnvId>) {
        self.set_kind(pfn, kind, level);
        if let Some(owner) = owner {
            self.set_owner(pfn, owner);
        }
    }

    /// Changes what the frame is. `level` is for page and capability tables. Private: that a
    /// frame of a kind holds what the kind says is argued here and in [`object`].
    fn set_kind(&self, pfn: Pfn, kind: FrameKind, level: u8) {
        if let Some(entry) = self.entry(pfn) {
            entry.kind.store(kind as u8, Relaxed);
            entry.level.store(level, Relaxed);
        }
    }

    fn set_owner(&self, pfn: Pfn, owner: EnvId) {
        if let Some(entry) = self.entry(pfn) {
            entry.owner.store(owner.0, Relaxed);
        }
    }

    /// Counts one more mapping (for a page table: one more present entry).
    ///
    /// # Errors
    /// [`Error::TooMuch`] if the count is at its end.
    pub fn add_mapping(&self, pfn: Pfn) -> Result<(), Error> {
        let entry = self.entry(pfn).ok_or(Error::OutOfRange)?;
        let count = entry.mapped.load(Relaxed).checked_add(1).ok_or(Error::TooMuch)?;
        entry.mapped.store(count, Relaxed);
        Ok(())
    }

    /// Counts one more mapping of each of the `count` frames from `first` on. All or none.
    ///
    /// # Errors
    /// [`Error::NotOwned`] if one is not `owner`'s plain memory, [`Error::TooMuch`] if a
    /// count is at its end.
    #[inline(never)] // Loops over 512 frames: their code must not depend on the caller.
    pub fn add_mappings(&self, first: Pfn, count: Pages, owner: EnvId) -> Result<(), Error> {
        let entries = self.run(first, count).map_err(|_| Error::NotOwned)?;
        for entry in entries {
            let kind = entry.kind.load(Relaxed);
            if kind != FrameKind::Memory as u8 || entry.owner.load(Relaxed) != owner.0 {
                return Err(Error::NotOwned);
            }
            if entry.mapped.load(Relaxed) == u32::MAX {
                return Err(Error::TooMuch);
            }
        }
        for entry in entries {
            entry.mapped.store(entry.mapped.load(Relaxed) + 1, Relaxed);
        }
        Ok(())
    }

    /// Counts one mapping less.
    #[inline]
    pub fn remove_mapping(&self, pfn: Pfn) {
        if let Some(entry) = self.entry(pfn) {
            entry.mapped.store(entry.mapped.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// Counts one mapping less of each of the `count` frames from `first` on.
    #[inline(never)] // As `add_mappings`.
    pub fn remove_mappings(&self, first: Pfn, count: Pages) {
        for entry in self.run(first, count).unwrap_or_default() {
            entry.mapped.store(entry.mapped.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// Mappings of the frame (for a page table: present entries).
    pub fn mappings(&self, pfn: Pfn) -> u32 {
        self.entry(pfn).map_or(0, |entry| entry.mapped.load(Relaxed))
    }

    /// Counts one more device or object that uses the frame.
    ///
    /// # Errors
    /// [`Error::TooMuch`] if the count is at its end.
    pub fn pin(&self, pfn: Pfn) -> Result<(), Error> {
        let entry = self.entry(pfn).ok_or(Error::OutOfRange)?;
        let count = entry.pins.load(Relaxed).checked_add(1).ok_or(Error::TooMuch)?;
        entry.pins.store(count, Relaxed);
        Ok(())
    }

    /// Counts one more user of each of the `count` frames from `first` on. All or none.
    ///
    /// # Errors
    /// [`Error::NotOwned`] if one is not `owner`'s plain memory, [`Error::TooMuch`] if a
    /// count is at its end.
    pub fn pin_run(&self, first: Pfn, count: Pages, owner: EnvId) -> Result<(), Error> {
        self.run(first, count).map_err(|_| Error::NotOwned)?;
        for offset in 0..count {
            let pfn = first.plus(offset);
            let owned = self.is_memory_of(pfn, owner);
            let pinned = if owned { self.pin(pfn) } else { Err(Error::NotOwned) };
            if pinned.is_err() {
                self.unpin_run(first, offset);
                return pinned;
            }
        }
        Ok(())
    }

    /// Counts one user less of each of the `count` frames from `first` on.
    pub fn unpin_run(&self, first: Pfn, count: Pages) {
        (0..count).for_each(|offset| self.unpin(first.plus(offset)));
    }

    /// How many devices and kernel objects use the frame.
    #[cfg(any(test, exo_check))]
    pub fn pins(&self, pfn: Pfn) -> u16 {
        self.entry(pfn).map_or(0, |entry| entry.pins.load(Relaxed))
    }

    /// Counts one user less.
    pub fn unpin(&self, pfn: Pfn) {
        if let Some(entry) = self.entry(pfn) {
            entry.pins.store(entry.pins.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// Takes `count` free frames from `first` for `owner`, zeroed. All or none.
    ///
    /// # Errors
    /// [`Error::TooMuch`] for more than [`BATCH`], [`Error::OutOfRange`] for
    /// frames that do not exist, [`Error::NotFree`] if one is not free.
    pub fn take(&self, first: Pfn, count: Pages, owner: EnvId) -> Result<(), Error> {
        if count > BATCH {
            return Err(Error::TooMuch);
        }
        let entries = self.run(first, count)?;
        if entries.iter().any(|entry| entry.kind.load(Relaxed) != FrameKind::Free as u8) {
            return Err(Error::NotFree);
        }
        for (entry, offset) in entries.iter().zip(0..) {
            // SAFETY: a free frame exists and nothing refers to it: frames
            // become free only when nothing does.
            unsafe { memory::clear(first.plus(offset)) };
            entry.owner.store(owner.0, Relaxed);
            entry.kind.store(FrameKind::Memory as u8, Relaxed);
        }
        Ok(())
    }

    /// Gives back `count` frames of `owner`'s plain memory or admitted code. All or none.
    ///
    /// # Errors
    /// [`Error::TooMuch`], [`Error::OutOfRange`]; [`Error::NotOwned`] if one is
    /// neither of `owner`, [`Error::InUse`] if one is referred to.
    pub fn free(&self, first: Pfn, count: Pages, owner: EnvId) -> Result<(), Error> {
        if count > BATCH {
            return Err(Error::TooMuch);
        }
        self.run(first, count)?;
        for offset in 0..count {
            self.check_quiet(first.plus(offset), owner, &[FrameKind::Memory, FrameKind::Text])?;
        }
        for offset in 0..count {
            self.release(first.plus(offset));
        }
        Ok(())
    }

    /// Makes a kernel object's frame plain memory of its owner again, cleared:
    /// what the kernel kept there, no environment may read. Whatever still names the
    /// object is stale from now on.
    pub fn retire(&self, pfn: Pfn) {
        if let Some(entry) = self.entry(pfn) {
            // SAFETY: the caller is done with the object, and ring 3 cannot have
            // mapped its frame.
            unsafe { memory::clear(pfn) };
            entry.kind.store(FrameKind::Memory as u8, Relaxed);
            entry.level.store(0, Relaxed);
            Self::age(entry);
        }
    }

    /// Ends the frame's generation. After the last one the frame is never used
    /// again, so that no generation comes twice and no stale name comes true.
    fn age(entry: &FrameInfo) {
        let generation = entry.generation.load(Relaxed).saturating_add(1);
        entry.generation.store(generation, Relaxed);
        if generation == u32::MAX {
            entry.kind.store(FrameKind::Reserved as u8, Relaxed);
            entry.owner.store(0, Relaxed);
        }
    }

    /// Makes the frame free, whatever it was. The caller has made sure that
    /// nothing refers to it.
    pub fn release(&self, pfn: Pfn) {
        if let Some(entry) = self.entry(pfn) {
            entry.kind.store(FrameKind::Free as u8, Relaxed);
            entry.level.store(0, Relaxed);
            entry.owner.store(0, Relaxed);
            entry.mapped.store(0, Relaxed);
            entry.pins.store(0, Relaxed);
            Self::age(entry);
        }
    }

    fn run(&self, first: Pfn, count: Pages) -> Result<&'static [FrameInfo], Error> {
        let start = first.0 as usize;
        start
            .checked_add(count as usize)
            .and_then(|end| self.entries.get(start..end))
            .ok_or(Error::OutOfRange)
    }
}
