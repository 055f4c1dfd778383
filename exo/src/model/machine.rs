//! The kernel as the comparison drives it: the calls' own entry, over simulated
//! memory.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use exo_abi::{EnvState, Error, FrameInfo, FrameKind, Handle, Pfn, Rights, VirtAddr, Word};

use super::extents::SECTORS;
use super::request::{Call, Request};
use super::texts;
use super::view::{SeenThing, View};
use super::world::{CapName, EnvName, Frame, World};
use crate::capability::{self, CapRef, Kind, Object};
use crate::env::Env;
use crate::kernel::Kernel;
use crate::memory;
use crate::object;
use crate::paging;
use crate::testing::{self, FIRST_FREE};

/// Frames handed out in these tests.
pub(super) const HANDED_OUT: u32 = 64;
/// Where the simulated frame table has its entries for those.
pub(super) const ENTRIES: Frame = 16 + FIRST_FREE / 256;
const _: () = assert!(FIRST_FREE % 256 + HANDED_OUT <= 256);

/// Pages of which the mappings are compared.
pub(super) const PAGES: std::ops::Range<u64> = 0x3fe..0x408;

/// What the specification's names are in the kernel.
#[derive(Clone, Default)]
pub(super) struct Names {
    pub handles: BTreeMap<CapName, u64>,
    holders: BTreeMap<CapName, EnvName>,
    /// Every handle there ever was, by holder.
    issued: Vec<(EnvName, u64)>,
    envs: BTreeMap<EnvName, Frame>,
}

impl Names {
    /// Notes a new handle; false if the holder has had it before.
    pub(super) fn enter(&mut self, holder: EnvName, cap: CapName, handle: u64) -> bool {
        let known = self.issued.contains(&(holder, handle));
        self.issued.push((holder, handle));
        self.handles.insert(cap, handle);
        self.holders.insert(cap, holder);
        !known
    }

    /// Notes a new environment.
    pub(super) fn enter_env(&mut self, env: EnvName, object: Frame) {
        self.envs.insert(env, object);
    }

    /// The handles that `holder` was ever given for slot `index`, newest first.
    fn known(&self, holder: EnvName, index: u32) -> impl Iterator<Item = u64> {
        let of_slot =
            move |(env, handle): &&(EnvName, u64)| *env == holder && *handle as u32 == index;
        self.issued.iter().rev().filter(of_slot).map(|(_, handle)| *handle)
    }

    /// The newest environment with its object in `frame`.
    fn name_of(&self, frame: Frame) -> EnvName {
        let found = self.envs.iter().rev().find(|(_, object)| **object == frame);
        found.map_or(EnvName(0), |(name, _)| *name)
    }
}

/// What the published frame table says of a frame's pins.
fn published_pins(pfn: Pfn) -> usize {
    // SAFETY: an entry of the simulated frame table, all atomics.
    let entry = unsafe { &*memory::frame(Pfn(16)).cast::<FrameInfo>().add(pfn.0 as usize) };
    entry.pins.load(Relaxed).into()
}

/// A kernel and its names.
pub(super) struct Machine {
    pub kernel: &'static Kernel,
    pub names: Names,
}

impl Machine {
    /// A kernel just started; its first environment is the world's.
    pub(super) fn new(world: &World) -> Self {
        let (kernel, root) = testing::machine();
        let disk = Object::range(Kind::Disk, 0, SECTORS);
        capability::insert(&kernel.frames, &root.capabilities, disk, Rights::ALL, CapRef::NONE)
            .expect("room in the table");
        let mut names = Names::default();
        names.envs.insert(world.first, root.id().0);
        for (index, cap) in (0..).zip(world.caps.keys()) {
            names.enter(world.first, *cap, Handle::first(index).into_word());
        }
        Self { kernel, names }
    }

    fn env(&self, name: EnvName) -> Option<&'static Env> {
        object::get(&self.kernel.frames, Pfn(*self.names.envs.get(&name)?))
    }

    /// Makes the call, again and again while the kernel says so.
    pub(super) fn call(&self, request: &Request) -> Result<u64, (Error, u64)> {
        let env = self.env(request.by).expect("a caller that exists");
        self.kernel.here().current.set(env.id());
        self.kernel.here().running.set(Some(env));
        let (name, arguments) = (request.call.name(), self.words(request));
        for _ in 0..1000 {
            match testing::explained(self.kernel, env, name, &arguments) {
                Err((Error::Again, 0)) => {}
                result => return result,
            }
        }
        panic!("{name} never ends");
    }

    fn words(&self, request: &Request) -> Vec<u64> {
        let cap = |name: CapName| {
            let handle = self.names.handles.get(&name).copied().unwrap_or(u64::MAX);
            // The handle of another environment's capability is but a number, which
            // may happen to be one of the caller's own.
            let own = self.names.holders.get(&name) == Some(&request.by);
            if own || !self.accepts(request.by, handle) { handle } else { u64::MAX }
        };
        let (at, n) = (|page: u64| page * 4096, u64::from);
        match request.call {
            Call::Derive { source, rights, first, count } => {
                vec![cap(source), rights.into_word(), n(first), n(count)]
            }
            Call::Grant { cap: one, env } => vec![cap(one), cap(env)],
            Call::Revoke { cap: one } => vec![cap(one)],
            Call::Drop { cap: one } => vec![cap(one)],
            Call::Grow { frame } => vec![n(frame)],
            Call::Take { frames, env, first, count } => {
                vec![cap(frames), cap(env), n(first), n(count)]
            }
            Call::Free { first, count } => vec![n(first), n(count)],
            Call::Install { env, page, level, frame } => {
                vec![cap(env), at(page), level.into(), n(frame)]
            }
            Call::Remove { env, page, level } => {
                vec![cap(env), at(page), level.into()]
            }
            Call::Map { space, owner, first, page, count, how } => {
                vec![cap(space), cap(owner), n(first), at(page), n(count), how as u64]
            }
            Call::Unmap { space, page, count } => vec![cap(space), at(page), n(count)],
            Call::Guard { env } => vec![cap(env)],
            Call::Admit { env, frame } => vec![cap(env), n(frame), 0],
            Call::MapKeyed { space, owner, frame, page, how, key } => {
                vec![cap(space), cap(owner), n(frame), at(page), how as u64, n(key)]
            }
            Call::Create { parts } => parts.map(n).to_vec(),
            Call::Destroy { env } => vec![cap(env)],
            Call::Assign { slots, first, count, env } => {
                vec![cap(slots), n(first), n(count), cap(env)]
            }
            Call::Bind { net, first, order, object } => {
                vec![cap(net), n(first), order.into(), n(object)]
            }
            Call::Unbind { binding } => vec![cap(binding)],
            Call::Attach { binding, filter, object, code } => {
                let (text, length) = texts::place(filter);
                vec![cap(binding), text, length, n(object), n(code)]
            }
            Call::Detach { binding, object } => vec![cap(binding), n(object)],
            Call::Scope { net, key, object, code } => {
                let (text, length) = texts::key_place(key);
                vec![cap(net), text, length, n(object), n(code)]
            }
            Call::Unscope { object } => vec![n(object)],
            Call::DiskBind { disk, ring, object } => vec![cap(disk), n(ring), n(object)],
            Call::DiskUnbind { object } => vec![n(object)],
        }
    }

    /// Everything that can be seen of the kernel.
    pub(super) fn view(&self) -> View {
        let kernel = self.kernel;
        let frames = &kernel.frames;
        let mut view = View::default();
        for number in FIRST_FREE..FIRST_FREE + HANDED_OUT {
            let pfn = Pfn(number);
            let kind = frames.kind(pfn).expect("a frame");
            let owner = frames.owner(pfn).expect("a frame").0;
            let (mapped, pins) = (frames.mappings(pfn) as usize, published_pins(pfn));
            if kind != FrameKind::Free || owner != 0 || mapped + pins != 0 {
                view.frames.push((number, kind as u8, owner, mapped, pins));
            }
            if let Some(env) = object::get::<Env>(frames, pfn) {
                let name = self.names.name_of(number);
                if env.state() == EnvState::Dying {
                    view.dying.push(number);
                }
                self.view_caps(name, env, &mut view);
                for page in PAGES {
                    let at = VirtAddr::new(page * 4096).expect("a user page");
                    let root = env.root_table.get();
                    if let Some(shown) = paging::translate(frames, root, at, false) {
                        let writable = paging::translate(frames, root, at, true).is_some();
                        view.pages.push((number, page, shown.0, writable));
                    }
                }
            }
        }
        view.caps.sort_unstable();
        for (slot, owner) in (0..).zip(&kernel.info.slots.owners) {
            let owner = owner.load(Relaxed);
            if owner != 0 {
                view.slots.push((slot, owner));
            }
        }
        view
    }

    fn view_caps(&self, name: EnvName, env: &Env, view: &mut View) {
        let frames = &self.kernel.frames;
        for index in 0.. {
            let Some((_, slot)) = capability::table_slot(frames, &env.capabilities, index) else {
                break;
            };
            let object = slot.object();
            let live = (!crate::env::is_gone(frames, object)).then_some(object.first);
            let thing = match object.kind {
                Kind::Empty => continue,
                Kind::Frames => SeenThing::Frames(object.first, object.extent),
                Kind::Slots => SeenThing::Slots(object.first, object.extent),
                Kind::Env => SeenThing::Env(live),
                Kind::Net if object.first == 0 => SeenThing::Net,
                Kind::Net => SeenThing::Scope(live),
                Kind::Binding => SeenThing::Binding(live),
                Kind::Disk => SeenThing::Disk(object.first, object.extent),
                Kind::DiskBinding => SeenThing::DiskBinding(live),
                other => panic!("no environment was given a capability for {other:?}"),
            };
            // One that no environment was told of shows as handle zero, which is none.
            let handle = self.names.known(name, index).find(|handle| self.accepts(name, *handle));
            let rights = slot.rights().into_word();
            view.caps.push((env.id().0, handle.unwrap_or_default(), rights, thing));
        }
    }

    /// Whether `env` could still use `handle`.
    pub(super) fn accepts(&self, env: EnvName, handle: u64) -> bool {
        let Ok(handle) = Handle::from_word(handle) else { return false };
        self.env(env).is_some_and(|env| {
            capability::occupied(&self.kernel.frames, &env.capabilities, handle).is_ok()
        })
    }
}
