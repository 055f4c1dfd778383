//! Specification and kernel side by side: every request goes to both, and then
//! both must look the same.

use exo_abi::{Error, FRAME_BYTES, Handle, Pfn, Protection, Rights, Word};

use super::machine::Machine;
use super::network::TEXTS;
use super::request::{Answer, Call, Request};
use super::snapshot::Snapshot;
use super::step::FirstCaps;
use super::texts;
use super::view::View;
use super::world::{CapName, EnvName, Frame, World};
use crate::memory;
use crate::testing::{FIRST_FREE, FRAMES};

/// A world and a kernel in the same state.
pub(super) struct Pair {
    pub world: World,
    pub machine: Machine,
}

/// The principals, and what the first of them begins with.
#[derive(Clone, Copy)]
pub(super) struct Cast {
    pub root: EnvName,
    pub a: EnvName,
    pub b: EnvName,
    /// Root's capabilities.
    pub itself: CapName,
    pub frames: CapName,
    pub slots: CapName,
    pub net: CapName,
    pub disk: CapName,
    pub to_a: CapName,
    pub to_b: CapName,
    /// First of the frames without an owner.
    pub rest: Frame,
}

impl Pair {
    /// Three environments: root, and two children of its own. Each has page
    /// tables, and a page with the texts of the filters.
    pub(super) fn new() -> (Self, Cast) {
        // The kernel publishes frame 9; the first environment has what
        // `testing::machine` gives it.
        let (world, caps) = World::new(FIRST_FREE, FRAMES, 9);
        let machine = Machine::new(&world);
        let mut pair = Self { world, machine };
        pair.agree().expect("the same at first");
        let FirstCaps { itself, frames, slots, net, disk } = caps;
        let (root, mut next) = (pair.world.first, FIRST_FREE + 4);
        let mut take = |pair: &mut Self, env: CapName, count: u32| {
            let first = next;
            next += count;
            pair.must(root, Call::Take { frames, env, first, count });
            first
        };
        let mut child = || {
            let first = take(&mut pair, itself, 4);
            let parts = [first, first + 1, first + 2, first + 3];
            pair.must(root, Call::Create { parts }).expect("a handle")
        };
        let (to_a, to_b) = (child(), child());
        for env in [itself, to_a, to_b] {
            for level in [3, 2, 1] {
                let frame = take(&mut pair, env, 1);
                pair.must(root, Call::Install { env, page: TEXTS, level, frame });
            }
            let first = take(&mut pair, env, 1);
            texts::write(first);
            let how = Protection::Read;
            let page = TEXTS;
            pair.must(root, Call::Map { space: env, owner: env, first, page, count: 1, how });
        }
        let named = |cap| match pair.world.caps[&cap].thing {
            super::world::Thing::Env(env) => env,
            other => panic!("{other:?} is no environment"),
        };
        let cast = Cast {
            root,
            a: named(to_a),
            b: named(to_b),
            itself,
            frames,
            slots,
            net,
            disk,
            to_a,
            to_b,
            rest: next,
        };
        (pair, cast)
    }

    /// A request of a set-up, which must succeed.
    pub(super) fn must(&mut self, by: EnvName, call: Call) -> Option<CapName> {
        let request = Request { by, call };
        match self.step(&request) {
            Ok(Ok(made)) => made,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    /// The same to both. The specification's answer, or how the two differ.
    pub(super) fn step(&mut self, request: &Request) -> Result<Answer, String> {
        let before = std::mem::take(&mut self.machine.names.handles);
        let before = (self.world.clone(), before);
        self.machine.names.handles.clone_from(&before.1);
        let answer = self.world.step(request);
        let result = self.machine.call(request);
        self.compare(&before.0, request, &answer, result)
            .and_then(|()| self.agree())
            .map_err(|what| format!("{request:?}: {what}"))?;
        Ok(answer)
    }

    fn compare(
        &mut self,
        before: &World,
        request: &Request,
        answer: &Answer,
        result: Result<u64, (Error, u64)>,
    ) -> Result<(), String> {
        let differ = Err(format!("specified {answer:?}, the kernel says {result:?}"));
        match (answer, result) {
            (Err(reasons), Err((error, value))) if reasons.0.contains(&error) => {
                if !is_explained(before, request, error, value) {
                    return Err(format!("{error} comes with {value}"));
                }
            }
            (Ok(None), Ok(0)) => {}
            (Ok(Some(made)), Ok(handle)) => self.enter(request, *made, handle)?,
            _ => return differ,
        }
        if let (Ok(_), Call::Take { first, count, .. }) = (answer, request.call) {
            zero_and_scribble(first, count)?;
        }
        for (name, cap) in &before.caps {
            let handle = self.machine.names.handles[name];
            let gone = !self.world.caps.contains_key(name);
            if gone && self.machine.accepts(cap.holder, handle) {
                return Err(format!("{name:?} should be gone, and is not"));
            }
        }
        Ok(())
    }

    /// Notes a new capability and what came with it.
    fn enter(&mut self, request: &Request, made: CapName, handle: u64) -> Result<(), String> {
        let (world, names) = (&self.world, &mut self.machine.names);
        let mut fresh = names.enter(world.caps[&made].holder, made, handle);
        if let Call::Create { parts } = request.call {
            let (name, _) = world.envs.last_key_value().ok_or("no environment was made")?;
            names.enter_env(*name, parts[0]);
            let own = world.birthright(*name).ok_or("it holds nothing")?;
            fresh &= names.enter(*name, own, Handle::first(0).into_word());
        }
        if fresh { Ok(()) } else { Err(format!("handle {handle:#x} was given before")) }
    }

    /// Whether both look the same.
    fn agree(&self) -> Result<(), String> {
        let specified = self.world.view(&self.machine.names.handles);
        let seen = self.machine.view();
        if specified == seen { Ok(()) } else { Err(difference(&specified, &seen)) }
    }

    /// Keeps the present state of both.
    pub(super) fn save(&self) -> (World, Snapshot) {
        (self.world.clone(), self.machine.save())
    }

    /// Returns both to an earlier state.
    pub(super) fn restore(&mut self, saved: &(World, Snapshot)) {
        self.world.clone_from(&saved.0);
        self.machine.restore(&saved.1);
    }
}

/// Whether `value` is what is to come with the error.
fn is_explained(world: &World, request: &Request, error: Error, value: u64) -> bool {
    match request.call {
        Call::Scope { net, key, .. } if error == Error::FilterConflict => {
            world.in_the_way(net, key).iter().any(|frame| u64::from(*frame) == value)
        }
        _ => value == 0,
    }
}

/// Frames just taken are zero; from now on they are not, so that it is noticed when another
/// environment gets them uncleared.
fn zero_and_scribble(first: Frame, count: u32) -> Result<(), String> {
    for frame in first..first + count {
        // SAFETY: a frame of simulated memory that an environment has just taken,
        // so that nothing refers to it, as plain bytes.
        let bytes = unsafe { &mut *memory::frame(Pfn(frame)).cast::<[u8; FRAME_BYTES as usize]>() };
        if *bytes != [0; FRAME_BYTES as usize] {
            return Err(format!("frame {frame} was not cleared"));
        }
        for place in [0, 64, 4095] {
            bytes[place] = 0x5a;
        }
    }
    Ok(())
}

fn difference(specified: &View, seen: &View) -> String {
    fn lines<T: PartialEq + std::fmt::Debug>(what: &str, a: &[T], b: &[T]) -> String {
        let only = |a: &[T], b: &[T]| -> Vec<String> {
            a.iter().filter(|one| !b.contains(one)).map(|one| format!("{one:?}")).collect()
        };
        let (left, right) = (only(a, b).join(" "), only(b, a).join(" "));
        if left.is_empty() && right.is_empty() {
            return String::new();
        }
        format!("\n  {what}: specified [{left}], in the kernel [{right}]")
    }
    [
        lines("frames (number, kind, owner, mapped, pins)", &specified.frames, &seen.frames),
        lines("capabilities (holder, handle, rights, thing)", &specified.caps, &seen.caps),
        lines("dying", &specified.dying, &seen.dying),
        lines("slots", &specified.slots, &seen.slots),
        lines("pages (space, page, frame, writable)", &specified.pages, &seen.pages),
    ]
    .concat()
}

#[test]
fn a_full_table_refuses_whatever_makes_a_capability() {
    let (mut pair, cast) = Pair::new();
    let (a, first) = (cast.a, cast.rest);
    pair.must(cast.root, Call::Take { frames: cast.frames, env: cast.to_a, first, count: 8 });
    let net = pair.must(cast.root, Call::Grant { cap: cast.net, env: cast.to_a });
    let net = net.expect("a handle");
    let derive = Call::Derive { source: net, rights: Rights::BIND, first: 0, count: 0 };
    for _ in 2..64 {
        pair.must(a, derive);
    }
    let bind = Call::Bind { net, first: first + 4, order: 1, object: first + 7 };
    let create = Call::Create { parts: [first, first + 1, first + 2, first + 3] };
    let grant = Call::Grant { cap: cast.slots, env: cast.to_a };
    let full = Err(Error::TableFull.into());
    for (by, call) in [(a, derive), (cast.root, grant), (a, bind), (a, create)] {
        assert_eq!(pair.step(&Request { by, call }).expect("agreement"), full, "{call:?}");
    }
    let frame = first + 8;
    pair.must(
        cast.root,
        Call::Take { frames: cast.frames, env: cast.to_a, first: frame, count: 1 },
    );
    pair.must(a, Call::Grow { frame });
    for (by, call) in [(a, derive), (cast.root, grant), (a, bind), (a, create)] {
        pair.must(by, call);
    }
}
