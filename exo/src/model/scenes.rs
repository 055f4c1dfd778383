//! What is tried exhaustively: scenes of three principals and four frames.
//!
//! One alphabet of all calls with all arguments would be hopelessly large for six
//! steps. So there are five scenes, each with the calls that act on each other and
//! the arguments that make a difference: every capability of the kind in question
//! that the caller holds at that moment, the four frames, one refused variant of
//! what is checked. Arguments that are refused whatever the state is (a wrong
//! kind, a forged handle) are left to the random test.

use exo_abi::{Protection, Rights};

use super::pair::{Cast, Pair};
use super::request::{Call, Request};
use super::world::{CapName, EnvName, Thing, World};

/// What a scene begins with, and what may be asked in it.
pub(super) struct Scene {
    pub name: &'static str,
    pub set_up: fn(&mut Pair, &Cast),
    pub alphabet: fn(&World, &Cast) -> Vec<Request>,
}

pub(super) const SCENES: [Scene; 5] = [
    Scene { name: "authority", set_up: authority::set_up, alphabet: authority::alphabet },
    Scene { name: "spaces", set_up: spaces::set_up, alphabet: spaces::alphabet },
    Scene { name: "life", set_up: life::set_up, alphabet: life::alphabet },
    Scene { name: "network", set_up: network::set_up, alphabet: network::alphabet },
    Scene { name: "extents", set_up: extents::set_up, alphabet: extents::alphabet },
];

/// The capabilities of `holder` that are of a kind.
fn held(world: &World, holder: EnvName, wanted: impl Fn(Thing) -> bool) -> Vec<CapName> {
    let caps = world.caps.iter().filter(|(_, cap)| cap.holder == holder && wanted(cap.thing));
    caps.map(|(name, _)| *name).collect()
}

fn environments(world: &World, holder: EnvName) -> Vec<CapName> {
    held(world, holder, |thing| matches!(thing, Thing::Env(_)))
}

/// Principals that still exist.
fn acting(world: &World, cast: &Cast) -> Vec<EnvName> {
    let alive = |name: &EnvName| world.envs.get(name).is_some_and(|env| !env.dying);
    [cast.root, cast.a, cast.b].into_iter().filter(alive).collect()
}

const FEW: Rights = Rights::TAKE.with(Rights::GRANT);

/// Ranges of frames are narrowed, passed on, used and revoked.
mod authority {
    use super::*;

    pub(super) fn set_up(pair: &mut Pair, cast: &Cast) {
        let derive = Call::Derive { source: cast.frames, rights: FEW, first: cast.rest, count: 4 };
        pair.must(cast.root, derive);
        pair.must(cast.root, Call::Grant { cap: cast.to_b, env: cast.to_a });
    }

    pub(super) fn alphabet(world: &World, cast: &Cast) -> Vec<Request> {
        let mut all = Vec::new();
        for by in acting(world, cast) {
            let mut add = |call| all.push(Request { by, call });
            let ranges =
                held(world, by, |thing| matches!(thing, Thing::Frames(_, count) if count <= 4));
            let envs = environments(world, by);
            for cap in ranges {
                let first = cast.rest;
                add(Call::Derive { source: cap, rights: FEW, first, count: 2 });
                add(Call::Derive { source: cap, rights: Rights::TAKE, first, count: 4 });
                add(Call::Revoke { cap });
                add(Call::Drop { cap });
                for &env in &envs {
                    add(Call::Grant { cap, env });
                }
                for (first, count) in [(first, 1), (first + 1, 2), (first + 3, 1)] {
                    add(Call::Take { frames: cap, env: envs[0], first, count });
                }
            }
            for (first, count) in [(cast.rest, 1), (cast.rest + 1, 2), (cast.rest + 2, 2)] {
                add(Call::Free { first, count });
            }
        }
        all
    }
}

/// Frames become page tables and pages, of the caller's own and of others.
mod spaces {
    use super::*;

    /// A page without a table yet, and one that has its table.
    const BARE: u64 = 0x3ff;
    const COVERED: u64 = 0x401;

    pub(super) fn set_up(pair: &mut Pair, cast: &Cast) {
        for (env, first) in [(cast.to_a, cast.rest), (cast.to_b, cast.rest + 2)] {
            pair.must(cast.root, Call::Take { frames: cast.frames, env, first, count: 2 });
        }
        pair.must(cast.root, Call::Grant { cap: cast.to_b, env: cast.to_a });
    }

    pub(super) fn alphabet(world: &World, cast: &Cast) -> Vec<Request> {
        let mut all = Vec::new();
        for by in acting(world, cast) {
            let mut add = |call| all.push(Request { by, call });
            let envs = environments(world, by);
            let own = envs[0];
            let frames = cast.rest..cast.rest + 4;
            for (space, owner) in
                envs.iter().flat_map(|one| envs.iter().map(move |two| (*one, *two)))
            {
                let mut map = |first, page, count, how| {
                    add(Call::Map { space, owner, first, page, count, how });
                };
                if by == cast.root && (space != own || owner == own) {
                    continue;
                }
                for first in frames.clone() {
                    map(first, COVERED, 1, Protection::Read);
                }
                map(cast.rest, BARE, 2, Protection::ReadWrite);
            }
            if by == cast.root {
                add(Call::Unmap { space: own, page: BARE, count: 3 });
                add(Call::Destroy { env: cast.to_b });
                continue;
            }
            for &env in &envs {
                if env != own && world.envs.values().any(|env| env.dying) {
                    add(Call::Grant { cap: own, env });
                }
                for frame in [cast.rest, cast.rest + 2] {
                    add(Call::Install { env, page: BARE, level: 1, frame });
                }
                add(Call::Remove { env, page: BARE, level: 1 });
                add(Call::Unmap { space: env, page: BARE, count: 3 });
            }
            for first in frames {
                if by == cast.a {
                    add(Call::Unscope { object: first });
                }
                add(Call::Free { first, count: 1 });
            }
        }
        all
    }
}

/// An environment is made of the four frames, given time and power, and destroyed.
mod life {
    use super::*;

    pub(super) fn set_up(pair: &mut Pair, cast: &Cast) {
        let (first, count) = (cast.rest, 4);
        pair.must(cast.root, Call::Take { frames: cast.frames, env: cast.to_a, first, count });
        // The first may do anything to the second; that one may do anything to itself,
        // and give things to the first.
        let rights = Rights::ENDOW.with(Rights::GRANT);
        let weak = Call::Derive { source: cast.to_a, rights, first: 0, count: 0 };
        let weak = pair.must(cast.root, weak).expect("a handle");
        for (cap, env) in [(cast.to_b, cast.to_a), (cast.to_b, cast.to_b), (weak, cast.to_b)] {
            pair.must(cast.root, Call::Grant { cap, env });
        }
        pair.must(cast.root, Call::Drop { cap: weak });
        pair.must(
            cast.root,
            Call::Assign { slots: cast.slots, first: 0, count: 2, env: cast.to_a },
        );
    }

    pub(super) fn alphabet(world: &World, cast: &Cast) -> Vec<Request> {
        let mut all = Vec::new();
        let [w, x, y, z] = [0, 1, 2, 3].map(|n| cast.rest + n);
        for by in acting(world, cast) {
            let mut add = |call| all.push(Request { by, call });
            let envs = environments(world, by);
            if by == cast.a {
                add(Call::Create { parts: [w, x, y, z] });
                add(Call::Create { parts: [z, y, x, x] });
                add(Call::Free { first: w, count: 1 });
            } else if by == cast.root {
                add(Call::Assign { slots: cast.slots, first: 1, count: 2, env: cast.to_b });
            }
            for &cap in envs.iter().filter(|cap| **cap != cast.itself) {
                for &slots in envs.iter().filter(|_| by != cast.root) {
                    add(Call::Assign { slots, first: 1, count: 1, env: cap });
                }
                if by == cast.b {
                    continue;
                }
                add(Call::Destroy { env: cap });
                add(Call::Drop { cap });
                add(Call::Revoke { cap });
                for &env in envs.iter().filter(|env| **env != cap) {
                    add(Call::Grant { cap, env });
                }
            }
        }
        all
    }
}

/// Claims are made, refused, passed on and given up.
mod network {
    use super::*;

    /// Where the second child's frames begin, behind the first one's.
    const SECOND: u32 = 12;
    /// The code of the filter in frame `n` lies this much further on.
    const CODE: u32 = 6;

    /// Each child has a binding, and two frames for its filters, and two for their code.
    /// The first has two filters more, so that there is a middle to take one from.
    pub(super) fn set_up(pair: &mut Pair, cast: &Cast) {
        for (env, by, first) in
            [(cast.to_a, cast.a, cast.rest), (cast.to_b, cast.b, SECOND + cast.rest)]
        {
            pair.must(cast.root, Call::Take { frames: cast.frames, env, first, count: 8 });
            let net = pair.must(cast.root, Call::Grant { cap: cast.net, env });
            let net = net.expect("a handle");
            let bind = Call::Bind { net, first: first + 2, order: 1, object: first + 5 };
            let binding = pair.must(by, bind).expect("a handle");
            if by == cast.a {
                let (first, count) = (first + 8, 4);
                pair.must(cast.root, Call::Take { frames: cast.frames, env, first, count });
                for (filter, object) in [(1, first), (4, first + 1)] {
                    let code = object + 2;
                    pair.must(by, Call::Attach { binding, filter, object, code });
                }
            }
        }
        pair.must(cast.root, Call::Grant { cap: cast.to_b, env: cast.to_a });
    }

    pub(super) fn alphabet(world: &World, cast: &Cast) -> Vec<Request> {
        let mut all = Vec::new();
        for (by, first) in [(cast.a, cast.rest), (cast.b, SECOND + cast.rest)] {
            if !acting(world, cast).contains(&by) {
                continue;
            }
            let mut add = |call| all.push(Request { by, call });
            for net in held(world, by, |thing| matches!(thing, Thing::Net | Thing::Scope(_))) {
                if by == cast.a {
                    add(Call::Scope { net, key: 2, object: first, code: first + CODE });
                }
                add(Call::Bind { net, first: first + 2, order: 1, object: first + 5 });
                add(Call::Revoke { cap: net });
            }
            for binding in held(world, by, |thing| matches!(thing, Thing::Binding(_))) {
                add(Call::Unbind { binding });
                add(Call::Drop { cap: binding });
                for filter in [0, 2, 3] {
                    let object = first + filter as u32 % 2;
                    add(Call::Attach { binding, filter, object, code: object + CODE });
                }
                add(Call::Attach { binding, filter: 1, object: first, code: first + CODE });
                for object in [first, first + 1, cast.rest + 8, cast.rest + 9] {
                    add(Call::Detach { binding, object });
                }
                if by == cast.a {
                    for env in environments(world, by) {
                        add(Call::Grant { cap: binding, env });
                    }
                }
            }
            if by == cast.a {
                add(Call::Unscope { object: first });
            }
            add(Call::Free { first, count: 1 });
            add(Call::Free { first: first + 2, count: 1 });
        }
        all.push(Request { by: cast.root, call: Call::Revoke { cap: cast.net } });
        if acting(world, cast).contains(&cast.a) {
            all.push(Request { by: cast.root, call: Call::Destroy { env: cast.to_a } });
        }
        all
    }
}

/// Extents are narrowed, passed on, bound and taken away.
mod extents {
    use super::*;

    /// A sector in the middle of the disk.
    const MIDDLE: u32 = super::super::extents::SECTORS / 2;

    /// Each child has three frames, and the first half of the disk, one of them without the right
    /// to write.
    pub(super) fn set_up(pair: &mut Pair, cast: &Cast) {
        for (env, first, rights) in [
            (cast.to_a, cast.rest, Rights::READ.with(Rights::WRITE).with(Rights::GRANT)),
            (cast.to_b, cast.rest + 3, Rights::READ.with(Rights::GRANT)),
        ] {
            pair.must(cast.root, Call::Take { frames: cast.frames, env, first, count: 3 });
            let derive = Call::Derive { source: cast.disk, rights, first: 0, count: MIDDLE };
            let half = pair.must(cast.root, derive).expect("a handle");
            pair.must(cast.root, Call::Grant { cap: half, env });
        }
        pair.must(cast.root, Call::Grant { cap: cast.to_b, env: cast.to_a });
    }

    pub(super) fn alphabet(world: &World, cast: &Cast) -> Vec<Request> {
        let mut all = Vec::new();
        for (by, first) in [(cast.a, cast.rest), (cast.b, cast.rest + 3)] {
            if !acting(world, cast).contains(&by) {
                continue;
            }
            let mut add = |call| all.push(Request { by, call });
            for disk in held(world, by, |thing| matches!(thing, Thing::Disk(..))) {
                let derive = |first, count| {
                    let rights = Rights::READ.with(Rights::GRANT);
                    Call::Derive { source: disk, rights, first, count }
                };
                for call in [derive(MIDDLE / 2, 1), derive(MIDDLE - 1, 2), derive(0, MIDDLE)] {
                    add(call);
                }
                add(Call::DiskBind { disk, ring: first, object: first + 1 });
                add(Call::DiskBind { disk, ring: first, object: first + 2 });
                add(Call::DiskBind { disk, ring: first, object: first });
                add(Call::DiskBind { disk, ring: first ^ 1, object: first + 2 });
                add(Call::Revoke { cap: disk });
                add(Call::Drop { cap: disk });
                if by == cast.a {
                    for env in environments(world, by) {
                        add(Call::Grant { cap: disk, env });
                    }
                }
            }
            for binding in held(world, by, |thing| matches!(thing, Thing::DiskBinding(_))) {
                add(Call::Drop { cap: binding });
                add(Call::Grant { cap: binding, env: environments(world, by)[0] });
            }
            for object in [cast.rest + 1, first + 2] {
                add(Call::DiskUnbind { object });
            }
            add(Call::Free { first, count: 1 });
            add(Call::Free { first: first + 1, count: 1 });
        }
        all.push(Request { by: cast.root, call: Call::Revoke { cap: cast.disk } });
        if acting(world, cast).contains(&cast.a) {
            all.push(Request { by: cast.root, call: Call::Destroy { env: cast.to_a } });
        }
        all
    }
}
