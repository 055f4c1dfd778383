//! Bindings and filters.
//!
//! A filter is the set of packets it takes, out of a handful of sample packets
//! that tell the filters used here apart; whether two conflict is then seen by
//! looking. A test holds the real filters against the samples.

use exo_abi::{Error, Protection, Rights};

use super::request::{Answer, Reasons};
use super::world::{Binding, BindingName, CapName, EnvName, Frame, Thing, World};

/// The page at which every environment that installs filters keeps their texts.
pub(super) const TEXTS: u64 = 0x400;

/// The page to which environments may read filters.
pub(super) const READS: u64 = 0x403;

/// Sample packets that each filter takes, one bit each: UDP to port 1 and to port
/// 2 of an address, ICMP to it, ARP for it, UDP to port 1 of another address.
pub(super) const TAKES: [u8; 5] = [0b00001, 0b00010, 0b00111, 0b01000, 0b10000];

impl World {
    fn find_binding(
        &self,
        by: EnvName,
        name: CapName,
        needed: Rights,
        why: &mut Reasons,
    ) -> Option<BindingName> {
        match self.find(by, name, needed, why)?.thing {
            Thing::Binding(binding) => Some(binding),
            _ => {
                why.when(true, Error::BadHandle);
                None
            }
        }
    }

    pub(super) fn bind(
        &mut self,
        by: EnvName,
        net: CapName,
        first: Frame,
        order: u8,
        object: Frame,
    ) -> Answer {
        let mut why = Reasons::default();
        let cap = self.find(by, net, Rights::BIND, &mut why);
        why.when(cap.is_some_and(|cap| cap.thing != Thing::Net), Error::BadHandle);
        why.when(self.is_full(by), Error::TableFull);
        why.when(self.is_deep(net), Error::TooMuch);
        self.check_donation(object, by, &mut why);
        let count = 1 + (1 << order);
        for frame in first..first + count {
            why.when(frame == object, Error::BadArgument);
            why.when(!self.is_memory_of(frame, by), Error::NotOwned);
        }
        why.none()?;
        let name = BindingName(self.fresh());
        let binding = Binding { owner: by, object, first, count, filters: [].into() };
        self.bindings.insert(name, binding);
        let rights = Rights::FILTER.with(Rights::SYNC).with(Rights::GRANT);
        Ok(Some(self.hold(by, Thing::Binding(name), rights, Some(net))))
    }

    pub(super) fn unbind(&mut self, by: EnvName, binding: CapName) -> Answer {
        let mut why = Reasons::default();
        let name = self.find_binding(by, binding, Rights::FILTER, &mut why);
        let Some(name) = name else { return Err(why) };
        why.none()?;
        self.bindings.remove(&name);
        Ok(None)
    }

    pub(super) fn attach(
        &mut self,
        by: EnvName,
        binding: CapName,
        filter: usize,
        object: Frame,
        code: Frame,
    ) -> Answer {
        let mut why = Reasons::default();
        let name = self.find_binding(by, binding, Rights::FILTER, &mut why);
        why.when(!self.envs[&by].pages.contains_key(&TEXTS), Error::BadPointer);
        let Some(name) = name else { return Err(why) };
        let owner = self.bindings[&name].owner;
        why.when(owner != by, Error::NotOwned);
        self.check_donation(object, owner, &mut why);
        self.check_donation(code, owner, &mut why);
        why.when(object == code, Error::BadArgument);
        why.when(!self.in_the_way(owner, filter).is_empty(), Error::FilterConflict);
        why.none()?;
        let binding = self.bindings.get_mut(&name).expect("found above");
        binding.filters.insert(object, (filter, code));
        Ok(None)
    }

    /// Frames of the filters that `filter` of `owner` would conflict with.
    pub(super) fn in_the_way(&self, owner: EnvName, filter: usize) -> Vec<Frame> {
        let mut found = Vec::new();
        for other in self.bindings.values() {
            for (object, (claimed, _)) in &other.filters {
                let shared = TAKES[*claimed] & TAKES[filter] != 0;
                // Of an environment's own filters only equal ones exclude each other.
                if other.owner != owner && shared || TAKES[*claimed] == TAKES[filter] {
                    found.push(*object);
                }
            }
        }
        found
    }

    /// The filter in a frame.
    pub(super) fn filter_in(&self, object: Frame) -> Option<usize> {
        let mut filters = self.bindings.values().filter_map(|one| one.filters.get(&object));
        filters.next().map(|(filter, _)| *filter)
    }

    pub(super) fn read(
        &mut self,
        by: EnvName,
        binding: CapName,
        object: Frame,
        page: u64,
    ) -> Answer {
        let mut why = Reasons::default();
        self.find_binding(by, binding, Rights::FILTER, &mut why);
        why.when(self.filter_in(object).is_none(), Error::Vacant);
        let how = self.envs[&by].pages.get(&page).map(|(_, how)| *how);
        why.when(how != Some(Protection::ReadWrite), Error::BadPointer);
        why.none()?;
        Ok(None)
    }

    pub(super) fn detach(&mut self, by: EnvName, binding: CapName, object: Frame) -> Answer {
        let mut why = Reasons::default();
        let name = self.find_binding(by, binding, Rights::FILTER, &mut why);
        let Some(name) = name else { return Err(why) };
        why.when(!self.bindings[&name].filters.contains_key(&object), Error::Vacant);
        why.none()?;
        self.bindings.get_mut(&name).expect("found above").filters.remove(&object);
        Ok(None)
    }
}
