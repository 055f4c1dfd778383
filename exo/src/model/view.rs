//! What can be seen of a world: what specification and kernel must agree on.
//!
//! The same view is made of both; capabilities are listed by holder and handle.
//! A second summary, the [`shape`], is of the specification alone: two worlds
//! have the same shape if they differ only in the names of things and the order
//! in which they came to be, so that the same requests do the same in both.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use exo_abi::Word;

use super::world::{CapName, EnvName, Environment, Frame, Thing, World};

/// A frame-table entry: kind, owner's object frame or zero, mappings, pins.
pub(super) type SeenFrame = (Frame, u8, Frame, usize, usize);

/// A live handle: holder's object frame, handle, rights, what it is for.
pub(super) type SeenCap = (Frame, u64, u64, SeenThing);

/// What a capability is for; objects by their frame, `None` if they are gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum SeenThing {
    Frames(Frame, u32),
    Slots(u32, u32),
    Env(Option<Frame>),
    Net,
    Scope(Option<Frame>),
    Binding(Option<Frame>),
    Disk(u32, u32),
    DiskBinding(Option<Frame>),
}

/// A page: the space's object frame, the page, the frame, whether writable.
pub(super) type SeenPage = (Frame, u64, Frame, bool);

/// Everything that can be seen.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct View {
    /// All frames that are not free.
    pub frames: Vec<SeenFrame>,
    /// All capabilities.
    pub caps: Vec<SeenCap>,
    /// Environments being destroyed.
    pub dying: Vec<Frame>,
    /// Slots that have an owner.
    pub slots: Vec<(u32, Frame)>,
    /// Of the pages that tests use, those that are mapped.
    pub pages: Vec<SeenPage>,
}

impl World {
    fn object_of(&self, env: EnvName) -> Frame {
        self.envs[&env].object
    }

    fn seen(&self, thing: Thing) -> SeenThing {
        match thing {
            Thing::Frames(first, count) => SeenThing::Frames(first, count),
            Thing::Slots(first, count) => SeenThing::Slots(first, count),
            Thing::Env(name) => SeenThing::Env(self.envs.get(&name).map(|env| env.object)),
            Thing::Net => SeenThing::Net,
            Thing::Scope(name) => {
                SeenThing::Scope(self.scopes.get(&name).map(|scope| scope.object))
            }
            Thing::Binding(name) => {
                SeenThing::Binding(self.bindings.get(&name).map(|binding| binding.object))
            }
            Thing::Disk(first, count) => SeenThing::Disk(first, count),
            Thing::DiskBinding(name) => {
                let binding = self.disk_bindings.get(&name);
                SeenThing::DiskBinding(binding.map(|binding| binding.object))
            }
        }
    }

    fn seen_frames(&self) -> Vec<SeenFrame> {
        let frames = self.owners.iter().map(|(&frame, &owner)| {
            let kind = self.kind(frame).map_or(0, |kind| kind as u8);
            (frame, kind, self.object_of(owner), self.mapped(frame), self.pins(frame))
        });
        frames.collect()
    }

    fn dying(&self) -> Vec<Frame> {
        let mut dying: Vec<Frame> =
            self.envs.values().filter(|env| env.dying).map(|env| env.object).collect();
        dying.sort_unstable();
        dying
    }

    fn seen_pages(&self) -> Vec<SeenPage> {
        let of = |env: &Environment| {
            let object = env.object;
            let open = env.pages.iter().filter(|(page, _)| !env.keyed.contains(page));
            let pages = open.map(move |(&page, &(frame, how))| {
                (object, page, frame, how == exo_abi::Protection::ReadWrite)
            });
            pages.collect::<Vec<_>>()
        };
        let mut pages: Vec<SeenPage> = self.envs.values().flat_map(of).collect();
        pages.sort_unstable();
        pages
    }

    /// The view, given under which handle the kernel knows each capability.
    pub(super) fn view(&self, handles: &BTreeMap<CapName, u64>) -> View {
        let seen = |(name, cap): (&CapName, &super::world::Capability)| {
            let handle = handles.get(name).copied().unwrap_or_default();
            (self.object_of(cap.holder), handle, cap.rights.into_word(), self.seen(cap.thing))
        };
        let mut caps: Vec<SeenCap> = self.caps.iter().map(seen).collect();
        caps.sort_unstable();
        let slots = self.slots.iter().map(|(&slot, &owner)| (slot, self.object_of(owner)));
        View {
            frames: self.seen_frames(),
            caps,
            dying: self.dying(),
            slots: slots.collect(),
            pages: self.seen_pages(),
        }
    }

    /// A hash of the world up to names and order.
    pub(super) fn shape(&self) -> u64 {
        let mut children: BTreeMap<Option<CapName>, Vec<CapName>> = BTreeMap::new();
        for (name, cap) in &self.caps {
            children.entry(cap.parent).or_default().push(*name);
        }
        let mut state = DefaultHasher::new();
        self.tree_shape(None, &children).hash(&mut state);
        self.seen_frames().hash(&mut state);
        self.seen_pages().hash(&mut state);
        self.dying().hash(&mut state);
        for (slot, owner) in &self.slots {
            (slot, self.object_of(*owner)).hash(&mut state);
        }
        let mut envs: Vec<_> = self
            .envs
            .values()
            .map(|env| {
                let creator = env.creator.and_then(|creator| self.envs.get(&creator));
                let facts = (env.guarded, env.keyed.clone());
                (env.object, creator.map(|creator| creator.object), env.tables.clone(), facts)
            })
            .collect();
        envs.sort_unstable();
        envs.hash(&mut state);
        let mut bindings: Vec<_> = self
            .bindings
            .values()
            .map(|binding| {
                let net = self.seen(binding.net);
                (binding.object, binding.first, net, binding.filters.clone())
            })
            .collect();
        bindings.sort_unstable();
        bindings.hash(&mut state);
        let mut disk_bindings: Vec<_> =
            self.disk_bindings.values().map(|binding| (binding.object, binding.ring)).collect();
        disk_bindings.sort_unstable();
        disk_bindings.hash(&mut state);
        let mut scopes: Vec<_> = self
            .scopes
            .values()
            .map(|scope| (scope.object, scope.code, self.seen(scope.parent), scope.key))
            .collect();
        scopes.sort_unstable();
        scopes.hash(&mut state);
        state.finish()
    }

    /// Of the capabilities derived from `parent`: a sum over them, so that their
    /// order does not count.
    fn tree_shape(
        &self,
        parent: Option<CapName>,
        children: &BTreeMap<Option<CapName>, Vec<CapName>>,
    ) -> u64 {
        let below = children.get(&parent).map_or(&[][..], Vec::as_slice);
        let shape = |name: &CapName| {
            let cap = &self.caps[name];
            let mut state = DefaultHasher::new();
            self.object_of(cap.holder).hash(&mut state);
            self.seen(cap.thing).hash(&mut state);
            cap.rights.into_word().hash(&mut state);
            self.tree_shape(Some(*name), children).hash(&mut state);
            state.finish()
        };
        below.iter().map(shape).fold(0, u64::wrapping_add)
    }
}
