//! One request to the specification, and the world it begins with.

use exo_abi::Rights;

use super::extents::SECTORS;
use super::life::OVER_ITSELF;
use super::request::{Answer, Call, Request};
use super::world::{CapName, EnvName, Frame, Thing, World};

/// What the first environment holds, in the order it got it.
pub(super) struct FirstCaps {
    pub itself: CapName,
    pub frames: CapName,
    pub slots: CapName,
    pub net: CapName,
    pub disk: CapName,
}

impl World {
    /// A machine with one environment, of the first four frames, that may do
    /// everything.
    pub(super) fn new(start: Frame, end: Frame, info: Frame) -> (Self, FirstCaps) {
        let mut world = Self {
            start,
            end,
            info,
            first: EnvName(0),
            owners: [].into(),
            envs: [].into(),
            caps: [].into(),
            bindings: [].into(),
            disk_bindings: [].into(),
            scopes: [].into(),
            slots: [].into(),
            texts: [].into(),
            names: 0,
        };
        let first = world.found(None, [start, start + 1, start + 2, start + 3]);
        world.first = first;
        let caps = FirstCaps {
            itself: world.hold(first, Thing::Env(first), OVER_ITSELF, None),
            frames: world.hold(first, Thing::Frames(0, end), Rights::ALL, None),
            slots: world.hold(first, Thing::Slots(0, 64), Rights::ALL, None),
            net: world.hold(first, Thing::Net, Rights::ALL, None),
            disk: world.hold(first, Thing::Disk(0, SECTORS), Rights::ALL, None),
        };
        (world, caps)
    }

    /// Does what is asked, or says why not.
    pub(super) fn step(&mut self, request: &Request) -> Answer {
        let by = request.by;
        match request.call {
            Call::Derive { source, rights, first, count } => {
                self.derive(by, source, rights, first, count)
            }
            Call::Grant { cap, env } => self.grant(by, cap, env),
            Call::Revoke { cap } => self.revoke(by, cap),
            Call::Drop { cap } => self.drop(by, cap),
            Call::Grow { frame } => self.grow(by, frame),
            Call::Take { frames, env, first, count } => self.take(by, frames, env, first, count),
            Call::Free { first, count } => self.free(by, first, count),
            Call::Install { env, page, level, frame } => self.install(by, env, page, level, frame),
            Call::Remove { env, page, level } => self.remove(by, env, page, level),
            Call::Map { space, owner, first, page, count, how } => {
                self.map(by, space, owner, first, page, count, how)
            }
            Call::Unmap { space, page, count } => self.unmap(by, space, page, count),
            Call::Guard { env } => self.guard(by, env),
            Call::Admit { env, frame } => self.admit(by, env, frame),
            Call::MapKeyed { space, owner, frame, page, how, key } => {
                self.map_keyed(by, space, owner, frame, page, how, key)
            }
            Call::Create { parts } => self.create(by, parts),
            Call::Destroy { env } => self.destroy(by, env),
            Call::Assign { slots, first, count, env } => self.assign(by, slots, first, count, env),
            Call::Bind { net, first, order, object } => self.bind(by, net, first, order, object),
            Call::Unbind { binding } => self.unbind(by, binding),
            Call::Attach { binding, filter, object, code } => {
                self.attach(by, binding, filter, object, code)
            }
            Call::Detach { binding, object } => self.detach(by, binding, object),
            Call::Scope { net, key, object, code } => self.scope(by, net, key, object, code),
            Call::Unscope { object } => self.unscope(by, object),
            Call::DiskBind { disk, ring, object } => self.disk_bind(by, disk, ring, object),
            Call::DiskUnbind { object } => self.disk_unbind(by, object),
        }
    }

    /// The capability that `env` was born with, if it still holds it.
    pub(super) fn birthright(&self, env: EnvName) -> Option<CapName> {
        let own = |cap: &super::world::Capability| {
            cap.holder == env && cap.thing == Thing::Env(env) && cap.parent.is_none()
        };
        self.caps.iter().find(|(_, cap)| own(cap)).map(|(name, _)| *name)
    }
}
