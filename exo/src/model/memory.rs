//! Frames, page tables and pages.

use exo_abi::{Error, FrameKind, Protection, Rights, USER_TOP};

use super::authority::within;
use super::request::{Answer, Reasons};
use super::world::{CapName, EnvName, Frame, Thing, World, place};

/// Most frames or pages in one call.
const MOST: u32 = 64;

impl World {
    /// Why `frame` cannot become part of an object that `owner` pays for.
    pub(super) fn check_donation(&self, frame: Frame, owner: EnvName, why: &mut Reasons) {
        if self.is_memory_of(frame, owner) {
            why.when(self.is_used(frame), Error::InUse);
        } else {
            why.when(true, Error::NotOwned);
        }
    }

    pub(super) fn grow(&mut self, by: EnvName, frame: Frame) -> Answer {
        let mut why = Reasons::default();
        self.check_donation(frame, by, &mut why);
        why.when(self.envs[&by].cap_tables.len() == 64, Error::TooMuch);
        why.none()?;
        self.env_mut(by).cap_tables.push(frame);
        Ok(None)
    }

    pub(super) fn env_mut(&mut self, name: EnvName) -> &mut super::world::Environment {
        self.envs.get_mut(&name).expect("an environment that was looked up")
    }

    pub(super) fn take(
        &mut self,
        by: EnvName,
        frames: CapName,
        env: CapName,
        first: Frame,
        count: u32,
    ) -> Answer {
        let mut why = Reasons::default();
        match self.find(by, frames, Rights::TAKE, &mut why).map(|cap| cap.thing) {
            Some(Thing::Frames(start, all)) => {
                why.when(!within(first, count, start, all), Error::OutOfRange);
            }
            _ => why.when(true, Error::BadHandle),
        }
        why.when(count > MOST, Error::TooMuch);
        for frame in first..first + count {
            let kind = self.kind(frame);
            why.when(kind.is_none(), Error::OutOfRange);
            why.when(kind.is_some_and(|kind| kind != FrameKind::Free), Error::NotFree);
        }
        let Some(owner) = self.find_whole_env(by, env, Rights::MEMORY, &mut why) else {
            return Err(why);
        };
        why.none()?;
        self.owners.extend((first..first + count).map(|frame| (frame, owner)));
        Ok(None)
    }

    pub(super) fn free(&mut self, by: EnvName, first: Frame, count: u32) -> Answer {
        let mut why = Reasons::default();
        why.when(count > MOST, Error::TooMuch);
        for frame in first..first + count {
            if self.kind(frame).is_none() {
                why.when(true, Error::OutOfRange);
            } else if self.texts.contains(&frame) && self.owners.get(&frame) == Some(&by) {
                why.when(self.is_used(frame), Error::InUse);
            } else {
                self.check_donation(frame, by, &mut why);
            }
        }
        why.none()?;
        self.owners.retain(|frame, _| !(first..first + count).contains(frame));
        self.texts.retain(|frame| !(first..first + count).contains(frame));
        Ok(None)
    }

    pub(super) fn install(
        &mut self,
        by: EnvName,
        env: CapName,
        page: u64,
        level: u8,
        frame: Frame,
    ) -> Answer {
        let mut why = Reasons::default();
        let space = self.find_whole_env(by, env, Rights::MEMORY, &mut why);
        let Some(space) = space else { return Err(why) };
        let tables = &self.envs[&space];
        why.when(!tables.has_table(level + 1, page), Error::NoTable);
        why.when(tables.has_table(level, page), Error::Occupied);
        self.check_donation(frame, space, &mut why);
        why.none()?;
        self.env_mut(space).tables.insert(place(level, page), frame);
        Ok(None)
    }

    pub(super) fn remove(&mut self, by: EnvName, env: CapName, page: u64, level: u8) -> Answer {
        let mut why = Reasons::default();
        let space = self.find_whole_env(by, env, Rights::MEMORY, &mut why);
        let Some(space) = space else { return Err(why) };
        match self.envs[&space].tables.get(&place(level, page)) {
            None => why.when(true, Error::Vacant),
            Some(table) => why.when(self.is_used(*table), Error::InUse),
        }
        why.none()?;
        self.env_mut(space).tables.remove(&place(level, page));
        Ok(None)
    }

    /// Why a frame may not be mapped so in `space`, as belonging to `owner`.
    fn check_mappable(
        &self,
        space: EnvName,
        frame: Frame,
        owner: EnvName,
        how: Protection,
        why: &mut Reasons,
    ) {
        let executes = how == Protection::ReadExecute;
        let owned = self.owners.get(&frame) == Some(&owner);
        let reads = how == Protection::Read;
        match self.kind(frame) {
            None => why.when(true, Error::OutOfRange),
            Some(FrameKind::Info) => why.when(!reads, Error::NoRight),
            _ if !owned => why.when(true, Error::NotOwned),
            Some(FrameKind::Memory | FrameKind::UArea) => {
                why.when(executes && self.envs[&space].guarded, Error::NoRight);
            }
            Some(FrameKind::Text) => why.when(how == Protection::ReadWrite, Error::NoRight),
            Some(FrameKind::PageTable) => why.when(!reads, Error::NoRight),
            _ => why.when(true, Error::NotOwned),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the call's own arguments")]
    pub(super) fn map(
        &mut self,
        by: EnvName,
        space: CapName,
        owner: CapName,
        first: Frame,
        page: u64,
        count: u32,
        how: Protection,
    ) -> Answer {
        let mut why = Reasons::default();
        why.when(count > MOST, Error::TooMuch);
        let space = self.find_whole_env(by, space, Rights::MEMORY, &mut why);
        let owner = self.find_whole_env(by, owner, Rights::MEMORY, &mut why);
        let (Some(space), Some(owner)) = (space, owner) else { return Err(why) };
        let pages: Vec<(u64, Frame)> =
            (0..count).map(|n| (page + u64::from(n), first + n)).collect();
        for &(page, frame) in &pages {
            let tables = &self.envs[&space];
            if page * 4096 >= USER_TOP {
                why.when(true, Error::BadAddress);
            } else {
                why.when(!tables.has_table(1, page), Error::NoTable);
                why.when(tables.pages.contains_key(&page), Error::Occupied);
            }
            self.check_mappable(space, frame, owner, how, &mut why);
        }
        why.none()?;
        let shown = pages.into_iter().map(|(page, frame)| (page, (frame, how)));
        self.env_mut(space).pages.extend(shown);
        Ok(None)
    }

    pub(super) fn unmap(&mut self, by: EnvName, space: CapName, page: u64, count: u32) -> Answer {
        let mut why = Reasons::default();
        let end = page + u64::from(count);
        why.when(count > MOST, Error::TooMuch);
        why.when(end * 4096 > USER_TOP, Error::BadAddress);
        let space = self.find_whole_env(by, space, Rights::MEMORY, &mut why);
        let Some(space) = space else { return Err(why) };
        let it = &self.envs[&space];
        let is_sealed = |(page, (frame, how)): (&u64, &(Frame, Protection))| {
            let owner = self.owners.get(frame);
            (it.keyed.contains(page) || *how == Protection::ReadExecute)
                && owner != Some(&space)
                && owner != Some(&by)
        };
        let sealed = it.guarded && it.pages.range(page..end).any(is_sealed);
        why.when(sealed, Error::NoRight);
        why.none()?;
        self.env_mut(space).pages.retain(|shown, _| !(page..end).contains(shown));
        self.env_mut(space).keyed.retain(|shown| !(page..end).contains(shown));
        Ok(None)
    }

    pub(super) fn guard(&mut self, by: EnvName, env: CapName) -> Answer {
        let mut why = Reasons::default();
        let Some(env) = self.find_env(by, env, Rights::CONTROL, &mut why) else { return Err(why) };
        let it = &self.envs[&env];
        why.when(it.dying || !it.tables.is_empty(), Error::WrongState);
        why.none()?;
        self.env_mut(env).guarded = true;
        Ok(None)
    }

    /// What frames hold in these tests is harmless.
    pub(super) fn admit(&mut self, by: EnvName, env: CapName, frame: Frame) -> Answer {
        let mut why = Reasons::default();
        let owner = self.find_whole_env(by, env, Rights::MEMORY, &mut why);
        let Some(owner) = owner else { return Err(why) };
        self.check_donation(frame, owner, &mut why);
        why.none()?;
        self.texts.insert(frame);
        Ok(None)
    }

    #[expect(clippy::too_many_arguments, reason = "the call's own arguments")]
    pub(super) fn map_keyed(
        &mut self,
        by: EnvName,
        space: CapName,
        owner: CapName,
        frame: Frame,
        page: u64,
        how: Protection,
        key: u32,
    ) -> Answer {
        let mut why = Reasons::default();
        why.when(!(1..16).contains(&key) || how == Protection::ReadExecute, Error::BadArgument);
        let name = self.find_whole_env(by, space, Rights::MEMORY, &mut why);
        why.when(name.is_some_and(|name| !self.envs[&name].guarded), Error::WrongState);
        let mut tried = self.clone();
        match tried.map(by, space, owner, frame, page, 1, how) {
            Err(others) => others.0.into_iter().for_each(|reason| why.when(true, reason)),
            Ok(_) if why.0.is_empty() => *self = tried,
            Ok(_) => {}
        }
        why.none()?;
        self.env_mut(name.expect("mapped into")).keyed.insert(page);
        Ok(None)
    }
}
