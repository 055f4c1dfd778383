//! A crew: children with different authority over frames, the network and each other.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{
    EnvId, EnvState, Error, FRAME_BYTES, Handle, Pages, Pfn, Protection, Rights, VirtAddr, Word,
};
use libos::disk::Extent;
use libos::sys;
use selftest::child::{Maker, status, until_done};
use selftest::random::Random;

use crate::member::runs;
use crate::place::{BOARD, Board, CREW, FRAME_TABLE, SCRATCH, SERVICE_STACK, Told, first_of};
use crate::slots::Slots;

/// What a crew is made with.
pub(crate) struct Yard<'a> {
    pub(crate) maker: &'a Maker,
    pub(crate) board: &'static Board,
    pub(crate) board_frame: Pfn,
    pub(crate) scratch: [Pfn; CREW],
    /// First frame of the published frame table.
    pub(crate) table: Pfn,
    /// The playing field.
    pub(crate) field: (Pfn, Pages),
    pub(crate) net: Option<Handle>,
    pub(crate) disk: Option<(Handle, Extent)>,
}

/// Children, and their numbers.
pub(crate) struct Crew(pub(crate) [(Handle, EnvId); CREW]);

impl Yard<'_> {
    /// Makes children that do not run yet.
    pub(crate) fn crew(&self, random: &mut Random) -> Result<Crew, Error> {
        let nobody = (Handle::new(0, 0), EnvId(0));
        let mut crew = Crew([nobody; CREW]);
        for (place, scratch) in crew.0.iter_mut().zip(self.scratch) {
            *place = self.child(scratch)?;
        }
        for row in &self.board.told {
            row.iter().for_each(|word| word.store(0, Relaxed));
        }
        for index in 0..CREW {
            self.endow(&crew, index, random)?;
        }
        Ok(crew)
    }

    fn child(&self, scratch: Pfn) -> Result<(Handle, EnvId), Error> {
        let child = self.maker.child()?;
        child.share_at(self.board_frame, BOARD, Protection::ReadWrite)?;
        child.share_at(scratch, SCRATCH, Protection::ReadWrite)?;
        let stack = self.maker.frames.take(child.env, 1)?;
        let (space, protection) = ((child.env, child.env), Protection::ReadWrite);
        self.maker.frames.map(space, stack, SERVICE_STACK, 1, protection)?;
        let entries = size_of_val(self.maker.frames.table);
        for page in 0..entries.div_ceil(FRAME_BYTES as usize) as u32 {
            let at = FRAME_TABLE.plus(page).ok_or(Error::BadAddress)?;
            child.share_at(self.table.plus(page), at, Protection::Read)?;
        }
        let named = (child.env, child.id);
        // It may end in ways that its `Drop` does not expect.
        core::mem::forget(child);
        Ok(named)
    }

    /// Gives child `index` what it may use, and tells it.
    fn endow(&self, crew: &Crew, index: usize, random: &mut Random) -> Result<(), Error> {
        let Some((env, id)) = crew.0.get(index).copied() else { return Ok(()) };
        // Its number comes first: where a service finds out which of the crew it is.
        self.board.tell(index, 0, Told::Other, u64::from(id.0));
        for (other, (peer, _)) in crew.0.iter().enumerate().filter(|(other, _)| *other != index) {
            let mut rights = Rights::INSPECT.with(Rights::GRANT);
            for (right, chance) in [(Rights::ENDOW, 2), (Rights::MEMORY, 3), (Rights::CONTROL, 12)]
            {
                if random.below(chance) == 0 {
                    rights = rights.with(right);
                }
            }
            let handle = self.give(env, *peer, rights, (0, 0))?;
            self.board.tell(index, first_of(index, other), Told::Env, handle);
        }
        let (first, count) = (u64::from(self.field.0.0), u64::from(self.field.1));
        let range = match index {
            0 => (first, count),
            _ => (first + random.below(count / 2), 1 + random.below(count / 2)),
        };
        let rights = Rights::TAKE.with(Rights::GRANT);
        let handle = self.give(env, self.maker.frames.capability, rights, range)?;
        self.board.tell(index, CREW, Told::Frames, handle);
        if let Some(net) = self.net
            && random.below(2) == 0
        {
            let handle = self.give(env, net, Rights::BIND.with(Rights::GRANT), (0, 0))?;
            self.board.tell(index, CREW + 1, Told::Net, handle);
        }
        if let Some((disk, extent)) = self.disk
            && random.below(2) == 0
        {
            let rights = [Rights::READ, Rights::WRITE, Rights::READ.with(Rights::WRITE)];
            let rights = rights[random.below(3) as usize % 3].with(Rights::GRANT);
            let first = random.below(u64::from(extent.sectors) / 2);
            let count = 1 + random.below(u64::from(extent.sectors) / 2);
            let range = (u64::from(extent.first) + first, count);
            let handle = self.give(env, disk, rights, range)?;
            self.board.tell(index, CREW + 2, Told::Disk, handle);
        }
        Ok(())
    }

    /// Derives a capability for `env` and returns its handle there.
    fn give(
        &self,
        env: Handle,
        source: Handle,
        rights: Rights,
        (first, count): (u64, u64),
    ) -> Result<u64, Error> {
        let derived = Handle::from_word(sys::cap_derive(source, rights, first, count)?)?;
        let handle = sys::cap_grant(derived, env);
        until_done(|| sys::cap_drop(derived))?;
        handle
    }
}

impl Crew {
    /// Lets them run. One may have been destroyed by those before it: then it does not.
    pub(crate) fn start(&self) {
        for (index, (env, _)) in self.0.iter().enumerate() {
            let stack = exo_abi::UserPtr(exo_abi::boot::STACK_TOP - 8);
            let entry = exo_abi::UserPtr(runs as *const () as u64);
            let _ = sys::env_start(*env, entry, stack, index as u64);
            if index == 0 {
                // It may want many frames in a row: before others take some of them.
                let _ = sys::slice_donate(*env);
                let _ = sys::slice_donate(*env);
            }
        }
    }

    /// How many have ended, and how many of them by an exception.
    pub(crate) fn ended(&self) -> (usize, usize) {
        let states = || self.0.iter().map(|(env, _)| status(*env).map(|status| status.state));
        let is = |state: EnvState| move |found: &Result<u32, Error>| *found == Ok(state as u32);
        let faulted = states().filter(is(EnvState::Faulted)).count();
        let dying = states().filter(|found| found.is_err() || is(EnvState::Dying)(found)).count();
        (faulted + dying + states().filter(is(EnvState::Exited)).count(), faulted)
    }

    /// Does something to one of them from outside.
    pub(crate) fn meddle(&self, random: &mut Random, window: VirtAddr, slots: &Slots) {
        let Some((env, _)) = self.0.get(random.below(CREW as u64) as usize) else { return };
        match random.below(24) {
            0..=2 => {
                // Or the slots would have no owner. It still runs, if it does.
                slots.take_back(&self.0, Some(*env));
                for _ in 0..random.below(40) {
                    let _ = sys::env_destroy(*env);
                }
            }
            3..=5 => {
                let _ = sys::revoke_request(*env, 1 + random.below(3) as u32, 0, 1);
                for _ in 0..random.below(24) {
                    let _ = sys::revoke_enforce(*env, Pfn(random.word() as u32 & 0x7fff));
                }
            }
            6..=12 => {
                let frame = Pfn(random.word() as u32 & 0x7fff);
                let _ = sys::map(SELF, *env, frame, window, 1, Protection::ReadWrite);
                let _ = sys::map(*env, SELF, frame, window, 1, Protection::Read);
                let _ = sys::unmap(SELF, window, 1);
            }
            13..=16 => drop(sys::slice_donate(*env)),
            17 => drop(sys::unmap(*env, SCRATCH, 1)),
            _ => drop(status(*env)),
        }
    }

    /// Destroys all of them. They may map each other's frames, so each goes as far as
    /// it can while the others do.
    ///
    /// # Errors
    /// [`Error::InUse`] if they do not go.
    pub(crate) fn destroy(self) -> Result<(), Error> {
        const PATIENCE: u32 = 400_000;
        let mut left = self.0.map(Some);
        for _ in 0..PATIENCE {
            for place in &mut left {
                let Some((env, _)) = *place else { continue };
                match sys::env_destroy(env) {
                    Err(Error::Again) => {}
                    Err(Error::InUse) => drop(sys::slice_yield()),
                    // Gone, by this call or by one of a fellow's.
                    Ok(_) | Err(Error::BadHandle) => {
                        until_done(|| sys::cap_drop(env))?;
                        *place = None;
                    }
                    Err(error) => return Err(error),
                }
            }
            if left.iter().all(Option::is_none) {
                return Ok(());
            }
        }
        Err(Error::InUse)
    }
}
