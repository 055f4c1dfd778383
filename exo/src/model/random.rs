//! Long sequences, chosen at random and shrunk when they fail.
//!
//! A draft is eight small numbers. Which environment acts, with which capability, on which
//! frame, is read from them against the world as it then is, so that most requests are almost
//! right, and a draft still means something when others before it have been left out.
//! Capabilities include those that are gone and those of others; callers include environments
//! that were made on the way.

use std::collections::BTreeMap;

use exo_abi::{Protection, Rights, Word};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use super::pair::{Cast, Pair};
use super::request::{Call, Request};
use super::scenes::SCENES;
use super::world::{CapName, EnvName, Frame, Thing, World};

type Draft = [u8; 8];

/// Frames that requests name: few, so that they meet.
const FRAMES: u32 = 32;

/// One of `all`, chosen by `pick`.
fn choose<T: Copy>(all: &[T], pick: u8) -> Option<T> {
    all.get(usize::from(pick) % all.len().max(1)).copied()
}

/// Reads drafts against a world.
struct Reader<'a> {
    world: &'a World,
    cast: &'a Cast,
    /// Every capability there ever was, oldest first.
    ever: &'a [CapName],
    by: EnvName,
}

impl Reader<'_> {
    /// Mostly a capability of the caller's of the wanted kind, else any.
    fn cap(&self, pick: u8, wanted: impl Fn(Thing) -> bool) -> CapName {
        let own = |name: &&CapName| {
            self.world.caps.get(name).is_some_and(|cap| {
                cap.holder == self.by && wanted(cap.thing) && (pick < 240 || cap.parent.is_none())
            })
        };
        let fitting: Vec<CapName> = self.ever.iter().filter(own).copied().collect();
        let any = || choose(self.ever, pick).unwrap_or(self.cast.itself);
        if pick % 16 == 15 { any() } else { choose(&fitting, pick).unwrap_or_else(any) }
    }

    fn env(&self, pick: u8) -> CapName {
        self.cap(pick, |thing| matches!(thing, Thing::Env(_)))
    }

    fn binding(&self, pick: u8) -> CapName {
        self.cap(pick, |thing| matches!(thing, Thing::Binding(_)))
    }

    /// Mostly one of those that had no owner at first, or a free one.
    fn frame(&self, pick: u8) -> Frame {
        match pick {
            0..200 => self.cast.rest + u32::from(pick) % FRAMES,
            200..253 => self.world.start + u32::from(pick) % 16,
            253 => self.world.info,
            254 => self.world.end,
            255 => self.world.end + 5,
        }
    }

    /// Mostly plain memory of the caller's.
    fn own_frame(&self, pick: u8) -> Frame {
        let frames = self.cast.rest..self.cast.rest + FRAMES;
        let own: Vec<Frame> = frames.filter(|one| self.world.is_memory_of(*one, self.by)).collect();
        match pick % 8 {
            0 => self.frame(pick),
            _ => choose(&own, pick).unwrap_or_else(|| self.frame(pick)),
        }
    }

    fn rights(pick: u8, more: u8) -> Rights {
        let clear = if more < 128 { 0 } else { 1 << (pick % 12) };
        Rights::from_word(Rights::ALL.into_word() & !clear).unwrap_or(Rights::ALL)
    }

    fn call(&self, draft: &Draft) -> Call {
        let [_, what, a, b, c, d, e, f] = *draft;
        let any = |_: Thing| true;
        let is_net = |thing: Thing| matches!(thing, Thing::Net | Thing::Scope(_));
        let count = u32::from(d) % 4 + 1;
        match what % 31 {
            28 => Call::Guard { env: self.env(a) },
            29 => Call::Admit { env: self.env(a), frame: self.own_frame(b) },
            30 => Call::MapKeyed {
                space: self.cap(a, |thing| match thing {
                    Thing::Env(env) => self.world.envs.get(&env).is_some_and(|env| env.guarded),
                    _ => false,
                }),
                owner: self.env(b),
                frame: self.own_frame(c),
                page: self.page(d),
                how: [Protection::ReadWrite, Protection::Read, Protection::ReadExecute]
                    [usize::from(e % 5 / 2)],
                key: u32::from(f % 17),
            },
            0..3 => {
                let source = self.cap(a, any);
                let cap = self.world.caps.get(&source);
                // As many rights as the source has, or one less; now and then more.
                let rights = Self::rights(b, e);
                let rights = match cap {
                    Some(cap) if f < 240 => rights.only(cap.rights),
                    _ => rights,
                };
                let (first, count) = match cap.map(|cap| cap.thing) {
                    Some(Thing::Frames(..)) => (self.frame(c), count * 4),
                    Some(Thing::Slots(..)) => (u32::from(c % 8), count),
                    Some(Thing::Disk(..)) => (u32::from(c % 8), count * 2),
                    _ => (u32::from(c == 0), u32::from(d == 0)),
                };
                Call::Derive { source, rights, first, count }
            }
            3..7 => Call::Grant { cap: self.cap(a, any), env: self.env(b) },
            7 => Call::Revoke { cap: self.cap(a, any) },
            8 => Call::Drop { cap: self.cap(a, any) },
            9 if f % 4 == 0 => Call::Grow { frame: self.own_frame(a) },
            9..13 => Call::Take {
                frames: self.cap(a, |thing| matches!(thing, Thing::Frames(..))),
                env: self.env(b),
                first: self.frame(c),
                count: if e == 0 { 65 } else { count.max(u32::from(f % 5)) },
            },
            13 => Call::Free { first: self.own_frame(a), count: 1 + u32::from(b % 4 == 0) },
            14 => Call::Install {
                env: self.env(a),
                page: self.page(b),
                level: 1 + c % 3,
                frame: self.own_frame(d),
            },
            20 if f % 4 == 0 => Call::Destroy { env: self.env(a) },
            15 | 20 => Call::Remove {
                env: self.env(a),
                page: 0x3ff + u64::from(b % 2),
                level: 1 + c % 7 / 5,
            },
            16..18 => Call::Map {
                space: self.env(a),
                owner: self.env(b),
                first: self.own_frame(c),
                page: self.page(e),
                count: 1 + u32::from(d % 3),
                how: [Protection::Read, Protection::ReadWrite, Protection::ReadExecute]
                    [usize::from(f % 3)],
            },
            18 => Call::Unmap { space: self.env(a), page: self.page(b).max(0x401), count },
            19 => Call::Create {
                parts: match a % 8 {
                    0 => [b, c, d, e].map(|pick| self.own_frame(pick)),
                    _ => self.four(b),
                },
            },
            21 => Call::Assign {
                slots: self.cap(a, |thing| matches!(thing, Thing::Env(_) | Thing::Slots(..))),
                first: if e == 0 { 63 } else { u32::from(b % 8) },
                count: u32::from(d % 2) + 1,
                env: self.env(c),
            },
            22 => {
                let [first, .., object] = self.four(b);
                let object = if c % 8 == 0 { self.own_frame(d) } else { object };
                Call::Bind { net: self.cap(a, is_net), first, order: 1 + u8::from(e == 0), object }
            }
            24 => {
                let [ring, .., object] = self.four(b);
                let object = if c % 8 == 0 { self.own_frame(d) } else { object };
                let disk = self.cap(a, |thing| matches!(thing, Thing::Disk(..)));
                Call::DiskBind { disk, ring, object }
            }
            25 => {
                let bindings = self.world.disk_bindings.values();
                let objects: Vec<Frame> = bindings.map(|binding| binding.object).collect();
                Call::DiskUnbind { object: choose(&objects, b).unwrap_or(self.frame(c)) }
            }
            23 if a % 4 == 0 => Call::Unbind { binding: self.binding(b) },
            23 if a % 4 == 1 => Call::Scope {
                net: self.cap(b, is_net),
                key: usize::from(c) % super::network::FILTERS,
                object: self.own_frame(d),
                code: self.own_frame(e),
            },
            23 if a % 8 == 2 => {
                let scopes: Vec<Frame> =
                    self.world.scopes.values().map(|scope| scope.object).collect();
                Call::Unscope { object: choose(&scopes, b).unwrap_or(self.frame(c)) }
            }
            23 => {
                let binding = self.binding(b);
                Call::Detach { binding, object: self.filter(c).unwrap_or(self.frame(c)) }
            }
            _ => Call::Attach {
                binding: self.binding(a),
                filter: usize::from(b) % super::network::FILTERS,
                object: self.own_frame(c),
                code: self.own_frame(d),
            },
        }
    }

    /// Pages around the end of one page table and the beginning of the next.
    fn page(&self, pick: u8) -> u64 {
        let texts = self.world.envs[&self.by].pages.contains_key(&super::network::TEXTS);
        // Nothing else is put where texts belong.
        let page = 0x3fe + u64::from(pick) % 8;
        if page == super::network::TEXTS && !texts { page + 1 } else { page }
    }

    /// Four frames in a row, of the caller's memory if there are.
    fn four(&self, pick: u8) -> [Frame; 4] {
        let rows: Vec<Frame> = (self.cast.rest..self.cast.rest + FRAMES - 3)
            .filter(|first| (0..4).all(|n| self.world.is_memory_of(first + n, self.by)))
            .collect();
        let first = choose(&rows, pick).unwrap_or_else(|| self.frame(pick));
        [0, 1, 2, 3].map(|n| first + n)
    }

    /// A frame with a filter.
    fn filter(&self, pick: u8) -> Option<Frame> {
        let filters = self.world.bindings.values().flat_map(|binding| binding.filters.keys());
        choose(&filters.copied().collect::<Vec<_>>(), pick)
    }
}

const DONE: &str = "done";

/// What a run of drafts came to.
#[derive(Default)]
struct Tally {
    requests: usize,
    /// How often each call ended how.
    ends: BTreeMap<(&'static str, String), usize>,
}

/// A child of root's that takes part in protection keys, with page tables around the usual pages.
fn add_guarded(pair: &mut Pair, cast: &Cast) {
    let (root, frames) = (cast.root, cast.frames);
    let first = cast.rest + FRAMES;
    pair.must(root, Call::Take { frames, env: cast.itself, first, count: 4 });
    let parts = [first, first + 1, first + 2, first + 3];
    let env = pair.must(root, Call::Create { parts }).expect("a handle");
    pair.must(root, Call::Guard { env });
    for (frame, (level, page)) in (first + 4..).zip([(3, 0), (2, 0), (1, 0x3fe), (1, 0x400)]) {
        pair.must(root, Call::Take { frames, env, first: frame, count: 1 });
        pair.must(root, Call::Install { env, page, level, frame });
    }
}

/// Plays drafts; the requests that were made, and how it ended.
fn play(drafts: &[Draft], tally: &mut Tally) -> (Vec<Request>, Result<(), String>) {
    let (mut pair, cast) = Pair::new();
    (SCENES[3].set_up)(&mut pair, &cast);
    for env in [cast.to_a, cast.to_b] {
        pair.must(cast.root, Call::Grant { cap: cast.frames, env });
        pair.must(cast.root, Call::Grant { cap: cast.disk, env });
    }
    add_guarded(&mut pair, &cast);
    let mut ever: Vec<CapName> = pair.world.caps.keys().copied().collect();
    let mut made = Vec::new();
    for draft in drafts {
        let alive: Vec<EnvName> =
            pair.world.envs.iter().filter(|(_, env)| !env.dying).map(|(name, _)| *name).collect();
        let Some(by) = choose(&alive, draft[0]) else { continue };
        let reader = Reader { world: &pair.world, cast: &cast, ever: &ever, by };
        let request = Request { by, call: reader.call(draft) };
        if !pair.world.is_foreseen(&request) {
            continue;
        }
        made.push(request);
        tally.requests += 1;
        let end = match pair.step(&request) {
            Err(what) => return (made, Err(what)),
            Ok(Err(reasons)) => reasons.to_string(),
            Ok(Ok(_)) => DONE.to_owned(),
        };
        *tally.ends.entry((request.call.name(), end)).or_default() += 1;
        let newest = ever.last().copied();
        ever.extend(pair.world.caps.keys().filter(|name| Some(**name) > newest));
    }
    (made, Ok(()))
}

/// Cases, unless `EXO_MODEL_CASES` says otherwise.
const CASES: u32 = 40;
/// Most requests of a case.
const LENGTH: usize = 400;

#[test]
fn long_sequences() {
    let cases = std::env::var("EXO_MODEL_CASES").ok().and_then(|text| text.parse().ok());
    let config =
        Config { cases: cases.unwrap_or(CASES), failure_persistence: None, ..Config::default() };
    let drafts = prop::collection::vec(any::<Draft>(), 1..LENGTH);
    let tally = std::cell::RefCell::new(Tally::default());
    let result = TestRunner::new(config).run(&drafts, |drafts| {
        let (_, end) = play(&drafts, &mut tally.borrow_mut());
        end.map_err(TestCaseError::fail)
    });
    for ((call, end), times) in &tally.borrow().ends {
        println!("{call} {end}: {times}");
    }
    if let Err(TestError::Fail(_, drafts)) = result {
        let (made, end) = play(&drafts, &mut Tally::default());
        let steps: Vec<String> = made.iter().map(|request| format!("  {request:?}\n")).collect();
        panic!("{}{}", steps.concat(), end.err().unwrap_or_default());
    }
    result.expect("a verdict");
}
