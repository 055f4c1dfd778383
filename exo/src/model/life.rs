//! Environments: made of frames, and taken apart again.

use std::collections::BTreeSet;

use exo_abi::{Error, Rights};

use super::request::{Answer, Call, Reasons, Request};
use super::world::{CapName, EnvName, Environment, Frame, Thing, World};

/// The rights of an environment over itself.
pub(super) const OVER_ITSELF: Rights =
    Rights::MEMORY.with(Rights::INSPECT).with(Rights::ENDOW).with(Rights::GRANT);

impl World {
    pub(super) fn create(&mut self, by: EnvName, parts: [Frame; 4]) -> Answer {
        let mut why = Reasons::default();
        why.when(self.is_full(by), Error::TableFull);
        for frame in parts {
            self.check_donation(frame, by, &mut why);
        }
        why.when(BTreeSet::from(parts).len() < 4, Error::BadArgument);
        why.none()?;
        let name = self.found(Some(by), parts);
        self.hold(name, Thing::Env(name), OVER_ITSELF, None);
        let all = OVER_ITSELF.with(Rights::CONTROL);
        Ok(Some(self.hold(by, Thing::Env(name), all, None)))
    }

    /// An environment with nothing in its table.
    pub(super) fn found(&mut self, creator: Option<EnvName>, parts: [Frame; 4]) -> EnvName {
        let name = EnvName(self.fresh());
        let [object, root_table, cap_table, u_area] = parts;
        let env = Environment {
            creator,
            object,
            root_table,
            u_area,
            cap_tables: vec![cap_table],
            dying: false,
            tables: [].into(),
            husks: [].into(),
            pages: [].into(),
            guarded: false,
            keyed: [].into(),
        };
        self.envs.insert(name, env);
        self.owners.extend(parts.map(|frame| (frame, name)));
        name
    }

    /// `env`, and before it all that it created, and they created.
    fn family(&self, env: EnvName) -> Vec<EnvName> {
        let created = self.envs.iter().filter(|(_, other)| other.creator == Some(env));
        let mut all: Vec<EnvName> = created.flat_map(|(child, _)| self.family(*child)).collect();
        all.push(env);
        all
    }

    /// Whether the documents say what the request does. They do not say which of
    /// a family goes first when one of them cannot go, nor what becomes of an
    /// environment that takes its own creator apart.
    pub(super) fn is_foreseen(&self, request: &Request) -> bool {
        let Call::Destroy { env } = request.call else { return true };
        let mut why = Reasons::default();
        let target = self.find_env(request.by, env, Rights::CONTROL, &mut why);
        let Some(target) = target.filter(|_| why.0.is_empty()) else { return true };
        let family = self.family(target);
        let itself = target == request.by || target == self.first;
        let held_up = || {
            let outside = self.envs.iter().filter(|(name, _)| !family.contains(name));
            let mut pages = outside.flat_map(|(_, env)| env.pages.values());
            pages.any(|(frame, _)| {
                self.owners.get(frame).is_some_and(|owner| family.contains(owner))
            })
        };
        itself || !(family.contains(&request.by) || family.len() > 2 && held_up())
    }

    /// First the whole family falls silent (its processor time and its mappings
    /// go); then its members are dissolved, the youngest first. Held up half-way, it stays so
    /// until what holds it up is gone.
    pub(super) fn destroy(&mut self, by: EnvName, env: CapName) -> Answer {
        let mut why = Reasons::default();
        let target = self.find_env(by, env, Rights::CONTROL, &mut why);
        why.when(target == Some(by) || target == Some(self.first), Error::WrongState);
        let Some(target) = target else { return Err(why) };
        why.none()?;
        let family = self.family(target);
        for member in &family {
            self.slots.retain(|_, owner| owner != member);
            let env = self.env_mut(*member);
            env.dying = true;
            env.pages.clear();
            env.husks.extend(std::mem::take(&mut env.tables).into_values());
        }
        for member in family {
            self.dissolve(member)?;
        }
        Ok(None)
    }

    fn dissolve(&mut self, env: EnvName) -> Result<(), Reasons> {
        self.bindings.retain(|_, binding| binding.owner != env);
        self.disk_bindings.retain(|_, binding| binding.owner != env);
        self.unscope_all(|scope| scope.owner == env);
        let held = self.caps.iter().filter(|(_, cap)| cap.holder == env);
        let held: Vec<CapName> = held.map(|(name, _)| *name).collect();
        for cap in held {
            self.forget(cap);
        }
        let mut why = Reasons::default();
        for (frame, _) in self.owners.iter().filter(|(_, owner)| **owner == env) {
            why.when(self.is_used(*frame), Error::InUse);
        }
        why.none()?;
        self.owners.retain(|_, owner| *owner != env);
        self.texts.retain(|frame| self.owners.contains_key(frame));
        self.envs.remove(&env);
        Ok(())
    }
}
