//! Capabilities and slots: what each environment may do, and which environment gave it that right.

use exo_abi::{DERIVATION_DEPTH, Error, Rights};

use super::request::{Answer, Reasons};
use super::world::{CapName, Capability, EnvName, Thing, World};

/// Whether `count` from `first` on are among `all` from `start` on.
pub(super) fn within(first: u32, count: u32, start: u32, all: u32) -> bool {
    let (first, start) = (u64::from(first), u64::from(start));
    start <= first && first + u64::from(count) <= start + u64::from(all)
}

impl World {
    /// The capability that `by` means by `name`, if it is live and `by`'s.
    pub(super) fn find(
        &self,
        by: EnvName,
        name: CapName,
        needed: Rights,
        why: &mut Reasons,
    ) -> Option<Capability> {
        let cap = self.caps.get(&name).filter(|cap| cap.holder == by && self.exists(cap.thing));
        why.when(cap.is_none(), Error::BadHandle);
        why.when(cap.is_some_and(|cap| !cap.rights.allows(needed)), Error::NoRight);
        cap.copied()
    }

    /// The environment that `by` means by `name`.
    pub(super) fn find_env(
        &self,
        by: EnvName,
        name: CapName,
        needed: Rights,
        why: &mut Reasons,
    ) -> Option<EnvName> {
        match self.find(by, name, needed, why)?.thing {
            Thing::Env(env) => Some(env),
            _ => {
                why.when(true, Error::BadHandle);
                None
            }
        }
    }

    /// The same, for calls that give something to an environment or take
    /// something from it: not to one that is being destroyed.
    pub(super) fn find_whole_env(
        &self,
        by: EnvName,
        name: CapName,
        needed: Rights,
        why: &mut Reasons,
    ) -> Option<EnvName> {
        let env = self.find_env(by, name, needed, why)?;
        why.when(self.envs[&env].dying, Error::WrongState);
        Some(env)
    }

    /// Puts a new capability into `holder`'s table.
    pub(super) fn hold(
        &mut self,
        holder: EnvName,
        thing: Thing,
        rights: Rights,
        parent: Option<CapName>,
    ) -> CapName {
        let name = CapName(self.fresh());
        self.caps.insert(name, Capability { holder, thing, rights, parent });
        name
    }

    pub(super) fn derive(
        &mut self,
        by: EnvName,
        source: CapName,
        rights: Rights,
        first: u32,
        count: u32,
    ) -> Answer {
        let mut why = Reasons::default();
        let Some(cap) = self.find(by, source, Rights::GRANT, &mut why) else { return Err(why) };
        why.when(!cap.rights.allows(rights), Error::NoRight);
        let thing = match cap.thing {
            Thing::Frames(start, all) => {
                why.when(count == 0 || !within(first, count, start, all), Error::OutOfRange);
                Thing::Frames(first, count)
            }
            Thing::Slots(start, all) => {
                why.when(count == 0 || !within(first, count, start, all), Error::OutOfRange);
                Thing::Slots(first, count)
            }
            Thing::Disk(start, all) => {
                why.when(count == 0 || !within(first, count, start, all), Error::OutOfRange);
                Thing::Disk(first, count)
            }
            whole => {
                why.when(first != 0 || count != 0, Error::BadArgument);
                whole
            }
        };
        why.when(self.is_full(by), Error::TableFull);
        why.when(self.is_deep(source), Error::TooMuch);
        why.none()?;
        Ok(Some(self.hold(by, thing, rights, Some(source))))
    }

    pub(super) fn grant(&mut self, by: EnvName, cap: CapName, env: CapName) -> Answer {
        let mut why = Reasons::default();
        let copied = self.find(by, cap, Rights::GRANT, &mut why);
        let heir = self.find_whole_env(by, env, Rights::ENDOW, &mut why);
        why.when(self.is_deep(cap), Error::TooMuch);
        why.when(heir.is_some_and(|heir| self.is_full(heir)), Error::TableFull);
        let (Some(copied), Some(heir)) = (copied, heir) else { return Err(why) };
        why.none()?;
        Ok(Some(self.hold(heir, copied.thing, copied.rights, Some(cap))))
    }

    /// Whether `cap` is so deep that nothing can be derived from it.
    pub(super) fn is_deep(&self, cap: CapName) -> bool {
        let parent = |name: &CapName| self.caps.get(name).and_then(|cap| cap.parent);
        std::iter::successors(Some(cap), parent).count() >= DERIVATION_DEPTH as usize
    }

    /// Whether `cap` was derived from `ancestor`, directly or not.
    fn descends(&self, cap: CapName, ancestor: CapName) -> bool {
        let parent = self.caps[&cap].parent;
        parent.is_some_and(|parent| parent == ancestor || self.descends(parent, ancestor))
    }

    pub(super) fn revoke(&mut self, by: EnvName, cap: CapName) -> Answer {
        let mut why = Reasons::default();
        self.find(by, cap, Rights::NONE, &mut why);
        why.none()?;
        let all: Vec<CapName> = self.caps.keys().copied().collect();
        let below: Vec<CapName> = all.into_iter().filter(|one| self.descends(*one, cap)).collect();
        self.caps.retain(|name, _| !below.contains(name));
        Ok(None)
    }

    /// A capability for something gone can be dropped too: its place is the
    /// holder's.
    pub(super) fn drop(&mut self, by: EnvName, cap: CapName) -> Answer {
        match self.caps.get(&cap) {
            Some(found) if found.holder == by => {
                self.forget(cap);
                Ok(None)
            }
            _ => Err(Error::BadHandle.into()),
        }
    }

    /// Removes one capability; its children become its parent's.
    pub(super) fn forget(&mut self, name: CapName) {
        let Some(gone) = self.caps.remove(&name) else { return };
        for cap in self.caps.values_mut().filter(|cap| cap.parent == Some(name)) {
            cap.parent = gone.parent;
        }
    }

    pub(super) fn assign(
        &mut self,
        by: EnvName,
        slots: CapName,
        first: u32,
        count: u32,
        env: CapName,
    ) -> Answer {
        let mut why = Reasons::default();
        if let Some(cap) = self.find(by, slots, Rights::NONE, &mut why) {
            match cap.thing {
                Thing::Slots(start, all) => {
                    why.when(!cap.rights.allows(Rights::ASSIGN), Error::NoRight);
                    why.when(!within(first, count, start, all), Error::OutOfRange);
                }
                Thing::Env(owner) => {
                    let may = owner == by || cap.rights.allows(Rights::CONTROL);
                    why.when(!may, Error::NoRight);
                    let owned = |slot| self.slots.get(&slot) == Some(&owner);
                    why.when(!(first..first + count).all(owned), Error::OutOfRange);
                }
                _ => why.when(true, Error::BadHandle),
            }
        }
        let Some(heir) = self.find_whole_env(by, env, Rights::CONTROL, &mut why) else {
            return Err(why);
        };
        why.none()?;
        self.slots.extend((first..first + count).map(|slot| (slot, heir)));
        Ok(None)
    }
}
