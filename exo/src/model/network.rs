//! Bindings and filters.
//!
//! A filter, or key of a scope, is the set of packets it takes, out of a handful of sample
//! packets that distinguish those used here; whether one is within another, or shares a packet
//! with it, is then seen by looking. A test holds the real filters against the samples.

use exo_abi::{Error, Rights};

use super::request::{Answer, Reasons};
use super::world::{Binding, BindingName, CapName, EnvName, Frame, Scope, ScopeName, Thing, World};

/// The page at which every environment that installs filters keeps their texts.
pub(super) const TEXTS: u64 = 0x400;

/// Sample packets that each filter takes, one bit each: UDP to port 1 and to port
/// 2 of an address, ICMP to it, ARP for it, UDP to port 1 of another address.
pub(super) const TAKES: [u8; 5] = [0b00001, 0b00010, 0b00111, 0b01000, 0b10000];
/// How many filters there are to install.
pub(super) const FILTERS: usize = TAKES.len();

/// Whether all packets that the filter takes are among these.
fn is_within(filter: usize, takes: u8) -> bool {
    TAKES[filter] & !takes == 0
}

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
        let thing = cap.map_or(Thing::Net, |cap| cap.thing);
        why.when(!matches!(thing, Thing::Net | Thing::Scope(_)), Error::BadHandle);
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
        let binding = Binding { owner: by, object, first, count, net: thing, filters: [].into() };
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
        why.when(!self.envs[&by].reads(TEXTS), Error::BadPointer);
        let Some(name) = name else { return Err(why) };
        let owner = self.bindings[&name].owner;
        why.when(owner != by, Error::NotOwned);
        self.check_donation(object, owner, &mut why);
        self.check_donation(code, owner, &mut why);
        why.when(object == code, Error::BadArgument);
        let net = self.bindings[&name].net;
        why.when(!self.exists(net) || !is_within(filter, self.takes(net)), Error::NoRight);
        why.when(self.is_installed(net, filter), Error::FilterConflict);
        why.none()?;
        let binding = self.bindings.get_mut(&name).expect("found above");
        binding.filters.insert(object, (filter, code));
        Ok(None)
    }

    /// Whether a binding made by the same has this filter.
    fn is_installed(&self, net: Thing, filter: usize) -> bool {
        let beside = self.bindings.values().filter(|binding| binding.net == net);
        let mut filters = beside.flat_map(|binding| binding.filters.values());
        filters.any(|(installed, _)| *installed == filter)
    }

    /// The sample packets that are in a scope.
    fn takes(&self, net: Thing) -> u8 {
        match net {
            Thing::Scope(name) => self.scopes.get(&name).map_or(0, |scope| TAKES[scope.key]),
            _ => u8::MAX,
        }
    }

    /// How many scopes a scope is within.
    fn depth(&self, net: Thing) -> u32 {
        match net {
            Thing::Scope(name) => {
                self.scopes.get(&name).map_or(0, |scope| 1 + self.depth(scope.parent))
            }
            _ => 0,
        }
    }

    /// Frames of the scopes made from what the capability `net` is for that hold packets which
    /// the key takes.
    pub(super) fn in_the_way(&self, net: CapName, key: usize) -> Vec<Frame> {
        let Some(parent) = self.caps.get(&net).map(|cap| cap.thing) else { return Vec::new() };
        let beside = self.scopes.values().filter(|scope| scope.parent == parent);
        let sharing = beside.filter(|scope| TAKES[scope.key] & TAKES[key] != 0);
        sharing.map(|scope| scope.object).collect()
    }

    pub(super) fn scope(
        &mut self,
        by: EnvName,
        net: CapName,
        key: usize,
        object: Frame,
        code: Frame,
    ) -> Answer {
        let mut why = Reasons::default();
        let cap = self.find(by, net, Rights::GRANT.with(Rights::BIND), &mut why);
        let parent = cap.map_or(Thing::Net, |cap| cap.thing);
        why.when(!matches!(parent, Thing::Net | Thing::Scope(_)), Error::BadHandle);
        why.when(self.is_full(by), Error::TableFull);
        why.when(!self.envs[&by].reads(TEXTS), Error::BadPointer);
        self.check_donation(object, by, &mut why);
        self.check_donation(code, by, &mut why);
        why.when(object == code, Error::BadArgument);
        why.when(!is_within(key, self.takes(parent)), Error::NoRight);
        why.when(self.depth(parent) + 1 >= 8, Error::TooMuch);
        why.when(!self.in_the_way(net, key).is_empty(), Error::FilterConflict);
        why.none()?;
        let name = ScopeName(self.fresh());
        self.scopes.insert(name, Scope { owner: by, object, code, parent, key });
        let rights = Rights::GRANT.with(Rights::BIND);
        Ok(Some(self.hold(by, Thing::Scope(name), rights, Some(net))))
    }

    pub(super) fn unscope(&mut self, by: EnvName, object: Frame) -> Answer {
        let mine = |scope: &Scope| scope.object == object && scope.owner == by;
        if !self.scopes.values().any(mine) {
            return Err(Error::NotOwned.into());
        }
        self.unscope_all(mine);
        Ok(None)
    }

    /// Takes away scopes, all that is within them, and the filters of bindings made by them.
    pub(super) fn unscope_all(&mut self, go: impl Fn(&Scope) -> bool) {
        self.scopes.retain(|_, scope| !go(scope));
        loop {
            let there: Vec<_> = self.scopes.keys().map(|name| Thing::Scope(*name)).collect();
            let before = self.scopes.len();
            let has_parent =
                |scope: &Scope| scope.parent == Thing::Net || there.contains(&scope.parent);
            self.scopes.retain(|_, scope| has_parent(scope));
            if self.scopes.len() == before {
                break;
            }
        }
        let there: Vec<_> = self.scopes.keys().map(|name| Thing::Scope(*name)).collect();
        for binding in self.bindings.values_mut() {
            if binding.net != Thing::Net && !there.contains(&binding.net) {
                binding.filters.clear();
            }
        }
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
