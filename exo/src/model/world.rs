//! What there is: the state of the specification.
//!
//! Nothing is counted and nothing is stored twice. What a frame is follows from
//! which object it is part of, how often it is mapped from the page tables that map it,
//! whether it is pinned from the bindings that run over it; so the specification cannot have
//! the mistakes that a ledger can. Names of environments, capabilities and bindings are never
//! used again, so a name of something gone is simply absent.

use std::collections::{BTreeMap, BTreeSet};

use exo_abi::{FrameKind, Protection, Rights};

/// A frame number.
pub(super) type Frame = u32;

/// An environment, for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct EnvName(pub u32);

/// A capability, for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct CapName(pub u32);

/// A binding, for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct BindingName(pub u32);

/// A scope, for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct ScopeName(pub u32);

/// What a capability is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Thing {
    /// Frames from the first, so many.
    Frames(Frame, u32),
    /// Slots from the first, so many.
    Slots(u32, u32),
    Env(EnvName),
    /// Every packet.
    Net,
    Scope(ScopeName),
    Binding(BindingName),
    /// Sectors from the first, so many.
    Disk(u32, u32),
    DiskBinding(BindingName),
}

/// A capability: a node of the derivation tree, which is kept by parents alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capability {
    pub holder: EnvName,
    pub thing: Thing,
    pub rights: Rights,
    pub parent: Option<CapName>,
}

/// Names a page table of an address space: its level, and the number of the
/// stretch of pages it covers, counted in stretches of that size.
pub(super) type TablePlace = (u8, u64);

/// An environment.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    pub creator: Option<EnvName>,
    pub object: Frame,
    pub root_table: Frame,
    pub u_area: Frame,
    pub cap_tables: Vec<Frame>,
    /// Being destroyed, but held up.
    pub dying: bool,
    /// Installed page tables below the root.
    pub tables: BTreeMap<TablePlace, Frame>,
    /// Frames of what were page tables before destruction emptied them.
    pub husks: BTreeSet<Frame>,
    /// Mapped pages by page number.
    pub pages: BTreeMap<u64, (Frame, Protection)>,
    /// Whether it takes part in protection keys, and which of its pages lie behind one.
    pub guarded: bool,
    pub keyed: BTreeSet<u64>,
}

/// A binding.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub owner: EnvName,
    pub object: Frame,
    pub first: Frame,
    pub count: u32,
    /// By what it was made: [`Thing::Net`] or a scope, which may be gone.
    pub net: Thing,
    /// Which filter lies in which frame, and where its code.
    pub filters: BTreeMap<Frame, (usize, Frame)>,
}

/// A disk binding.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskBinding {
    pub owner: EnvName,
    pub object: Frame,
    pub ring: Frame,
}

/// A scope of one key.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub owner: EnvName,
    pub object: Frame,
    pub code: Frame,
    /// [`Thing::Net`] or a scope.
    pub parent: Thing,
    /// The filter that is its key.
    pub key: usize,
}

/// Everything.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// Frames below are the kernel's; those from here to `end` are handed out.
    pub start: Frame,
    pub end: Frame,
    /// The one of the kernel's frames that every environment may map.
    pub info: Frame,
    /// The environment with which the machine ends.
    pub first: EnvName,
    /// The environment that pays for each frame that is not free.
    pub owners: BTreeMap<Frame, EnvName>,
    pub envs: BTreeMap<EnvName, Environment>,
    pub caps: BTreeMap<CapName, Capability>,
    pub bindings: BTreeMap<BindingName, Binding>,
    pub disk_bindings: BTreeMap<BindingName, DiskBinding>,
    pub scopes: BTreeMap<ScopeName, Scope>,
    /// The owner of each slot that has one.
    pub slots: BTreeMap<u32, EnvName>,
    /// Frames of code that was admitted.
    pub texts: BTreeSet<Frame>,
    /// Names given so far.
    pub names: u32,
}

impl World {
    /// A name that was never given before.
    pub(super) fn fresh(&mut self) -> u32 {
        self.names += 1;
        self.names
    }

    /// What a frame is: the object it is part of; else memory, if it is owned.
    pub(super) fn kind(&self, frame: Frame) -> Option<FrameKind> {
        if frame >= self.end {
            return None;
        }
        if frame < self.start {
            return Some(if frame == self.info { FrameKind::Info } else { FrameKind::Kernel });
        }
        let owner = match self.owners.get(&frame) {
            None => return Some(FrameKind::Free),
            Some(owner) => &self.envs[owner],
        };
        let bound = |binding: &&Binding| binding.object == frame;
        let filtered = |binding: &&Binding| binding.filters.contains_key(&frame);
        let coded = |binding: &&Binding| binding.filters.values().any(|(_, code)| *code == frame);
        Some(if owner.object == frame {
            FrameKind::Env
        } else if self.table_place(frame).is_some() || owner.husks.contains(&frame) {
            FrameKind::PageTable
        } else if owner.cap_tables.contains(&frame) {
            FrameKind::CapTable
        } else if owner.u_area == frame {
            FrameKind::UArea
        } else if self.bindings.values().any(|binding| bound(&binding)) {
            FrameKind::Binding
        } else if self.bindings.values().any(|binding| filtered(&binding)) {
            FrameKind::Filter
        } else if self.disk_bindings.values().any(|binding| binding.object == frame) {
            FrameKind::DiskBinding
        } else if self.scopes.values().any(|scope| scope.object == frame) {
            FrameKind::Scope
        } else if self.bindings.values().any(|binding| coded(&binding))
            || self.scopes.values().any(|scope| scope.code == frame)
        {
            FrameKind::Code
        } else if self.texts.contains(&frame) {
            FrameKind::Text
        } else {
            FrameKind::Memory
        })
    }

    /// Where the frame serves as a page table. The root is of level 4.
    fn table_place(&self, frame: Frame) -> Option<(EnvName, TablePlace)> {
        let name = *self.owners.get(&frame)?;
        let env = &self.envs[&name];
        if env.root_table == frame {
            return Some((name, (4, 0)));
        }
        let place = env.tables.iter().find(|(_, table)| **table == frame)?.0;
        Some((name, *place))
    }

    /// How many pages, in whatever address space, are this frame.
    fn pages_of(&self, frame: Frame) -> usize {
        let pages = self.envs.values().flat_map(|env| env.pages.values());
        pages.filter(|(mapped, _)| *mapped == frame).count()
    }

    /// As the frame table shows it: mappings of the frame; for a page table the
    /// number of its entries that are present.
    pub(super) fn mapped(&self, frame: Frame) -> usize {
        match (self.kind(frame), self.table_place(frame)) {
            (_, Some((env, place))) => self.envs[&env].entries(place),
            (Some(FrameKind::PageTable), None) => 0,
            _ => self.pages_of(frame),
        }
    }

    /// As the frame table shows it: bindings over the frame; for a page table the
    /// pages that show it.
    pub(super) fn pins(&self, frame: Frame) -> usize {
        if self.kind(frame) == Some(FrameKind::PageTable) {
            return self.pages_of(frame);
        }
        let runs = self.bindings.values();
        runs.filter(|run| (run.first..run.first + run.count).contains(&frame)).count()
            + self.disk_bindings.values().filter(|binding| binding.ring == frame).count()
    }

    /// Whether the frame is plain memory of `owner`.
    pub(super) fn is_memory_of(&self, frame: Frame, owner: EnvName) -> bool {
        self.kind(frame) == Some(FrameKind::Memory) && self.owners.get(&frame) == Some(&owner)
    }

    /// Whether a page or a binding shows or uses the frame.
    pub(super) fn is_used(&self, frame: Frame) -> bool {
        self.mapped(frame) + self.pins(frame) != 0
    }

    /// Whether what a capability is for still exists.
    pub(super) fn exists(&self, thing: Thing) -> bool {
        match thing {
            Thing::Env(name) => self.envs.contains_key(&name),
            Thing::Binding(name) => self.bindings.contains_key(&name),
            Thing::Scope(name) => self.scopes.contains_key(&name),
            Thing::DiskBinding(name) => self.disk_bindings.contains_key(&name),
            _ => true,
        }
    }

    /// Whether `env` has no place for another capability.
    pub(super) fn is_full(&self, env: EnvName) -> bool {
        let held = self.caps.values().filter(|cap| cap.holder == env).count();
        held == 64 * self.envs[&env].cap_tables.len()
    }
}

impl Environment {
    /// Whether the kernel reads `page` for it: one that is mapped, and behind no key.
    pub(super) fn reads(&self, page: u64) -> bool {
        self.pages.contains_key(&page) && !self.keyed.contains(&page)
    }

    /// Present entries of the page table at `place`.
    pub(super) fn entries(&self, (level, stretch): TablePlace) -> usize {
        if level == 1 {
            self.pages.keys().filter(|page| **page >> 9 == stretch).count()
        } else {
            let below = |place: &&TablePlace| place.0 == level - 1 && place.1 >> 9 == stretch;
            self.tables.keys().filter(below).count()
        }
    }

    /// Whether there is a page table of `level` for `page`.
    pub(super) fn has_table(&self, level: u8, page: u64) -> bool {
        level == 4 || self.tables.contains_key(&place(level, page))
    }
}

/// The page table of `level` that covers `page`.
pub(super) fn place(level: u8, page: u64) -> TablePlace {
    (level, page >> (9 * level))
}
