//! Every sequence of a few requests.
//!
//! Breadth first: from each state reached in `d` steps, every request of the
//! alphabet is made of specification and kernel, their answers and views are
//! compared, and both are put back. A request that is refused must have changed
//! nothing, and is not continued (but for destruction, which can be held up half-way).
//! Sequences that lead to worlds of one shape are continued once.
//! That is no loss as far as the specification goes; but the kernel could differ in
//! what cannot be seen (the order of lists, free slots, generations), and so other
//! tests, at less depth, continue whatever differs in a byte of a kernel object.
//!
//! Frames and principals are not taken to be interchangeable: a mistake may be in
//! the first or the last of a range only.

use std::collections::{BTreeSet, HashSet};
use std::thread;

use exo_abi::Error;

use super::pair::{Cast, Pair};
use super::request::{Call, Request};
use super::scenes::{SCENES, Scene};

/// Worker threads: each has a simulated machine of its own.
const WORKERS: usize = 2;

/// What was tried.
#[derive(Clone, Default, Debug)]
struct Tally {
    /// States that were continued.
    states: usize,
    /// Requests compared.
    requests: usize,
    /// Of these, refused.
    refused: usize,
    /// Of these, with more than one reason.
    ambiguous: usize,
    /// Calls that did what was asked at least once.
    done: BTreeSet<&'static str>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.states += other.states;
        self.requests += other.requests;
        self.refused += other.refused;
        self.ambiguous += other.ambiguous;
        self.done.extend(other.done);
    }
}

type Path = Vec<Request>;

/// Which sequences are continued only once.
#[derive(Clone, Copy, PartialEq)]
enum Merge {
    /// Those that end in worlds of one shape.
    Shapes,
    /// Those after which also every byte of the kernel's objects is the same.
    Identical,
}

impl Merge {
    fn key(self, pair: &Pair) -> u64 {
        let shape = pair.world.shape();
        match self {
            Self::Shapes => shape,
            Self::Identical => shape ^ pair.save().1.hash(pair.machine.kernel).rotate_left(1),
        }
    }
}

/// Continues each path by one request. Returns the paths that changed something.
fn continue_all(scene: &Scene, merge: Merge, paths: &[Path]) -> (Vec<(u64, Path)>, Tally) {
    let (mut pair, cast) = begin(scene);
    let first = pair.save();
    let (mut found, mut tally) = (Vec::new(), Tally::default());
    for path in paths {
        pair.restore(&first);
        for request in path {
            let _same_answer = pair.step(request).expect("went well before");
        }
        tally.states += 1;
        let here = pair.save();
        for request in (scene.alphabet)(&pair.world, &cast) {
            if !pair.world.is_foreseen(&request) {
                continue;
            }
            tally.requests += 1;
            let answer = pair.step(&request);
            let answer = answer.unwrap_or_else(|what| panic!("{}", story(scene, path, &what)));
            if let Err(reasons) = &answer {
                tally.refused += 1;
                tally.ambiguous += usize::from(reasons.0.len() > 1);
            } else {
                tally.done.insert(request.call.name());
            }
            // A destruction that is held up has begun all the same.
            let begun =
                answer == Err(Error::InUse.into()) && matches!(request.call, Call::Destroy { .. });
            if answer.is_ok() || begun {
                let longer = path.iter().copied().chain([request]).collect();
                found.push((merge.key(&pair), longer));
            }
            pair.restore(&here);
        }
    }
    (found, tally)
}

fn begin(scene: &Scene) -> (Pair, Cast) {
    let (mut pair, cast) = Pair::new();
    (scene.set_up)(&mut pair, &cast);
    (pair, cast)
}

fn story(scene: &Scene, path: &[Request], what: &str) -> String {
    let steps: Vec<String> = path.iter().map(|request| format!("  {request:?}\n")).collect();
    format!("in scene {}, after\n{}{what}", scene.name, steps.concat())
}

/// Tries every sequence of `depth` requests.
fn explore(scene: &Scene, depth: usize, merge: Merge) -> Tally {
    let mut seen = HashSet::from([merge.key(&begin(scene).0)]);
    let mut tally = Tally::default();
    let mut paths = vec![Path::new()];
    for _ in 0..depth {
        let share = paths.len().div_ceil(WORKERS).max(1);
        let results = thread::scope(|scope| {
            let workers: Vec<_> = paths
                .chunks(share)
                .map(|part| scope.spawn(move || continue_all(scene, merge, part)))
                .collect();
            workers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        paths.clear();
        for result in results {
            let (found, part) = result.expect("specification and kernel agree");
            tally.add(part);
            let fresh = found.into_iter().filter(|(key, _)| seen.insert(*key));
            paths.extend(fresh.map(|(_, path)| path));
        }
    }
    println!("{} to depth {depth}: {tally:?}, {} kinds of end", scene.name, seen.len());
    tally
}

/// Depth of the usual run; six takes minutes without optimisation.
const DEPTH: usize = 4;

/// Explores a scene to `EXO_MODEL_DEPTH`, or else [`DEPTH`]; of each call in `calls`
/// there must have been one that went well.
fn check(scene: &Scene, calls: &[&str]) {
    let given = std::env::var("EXO_MODEL_DEPTH").ok().and_then(|text| text.parse().ok());
    let tally = explore(scene, given.unwrap_or(DEPTH), Merge::Shapes);
    assert_eq!(tally.done, calls.iter().copied().collect());
}

const SPACES: &[&str] =
    &["map", "unmap", "table_install", "table_remove", "frames_free", "env_destroy"];
const AUTHORITY: &[&str] =
    &["cap_derive", "cap_grant", "cap_revoke", "cap_drop", "frames_take", "frames_free"];
const LIFE: &[&str] = &[
    "env_create",
    "env_destroy",
    "frames_free",
    "slots_assign",
    "cap_grant",
    "cap_revoke",
    "cap_drop",
];
const NETWORK: &[&str] = &[
    "net_bind",
    "net_unbind",
    "filter_install",
    "filter_remove",
    "net_scope",
    "net_unscope",
    "frames_free",
    "cap_grant",
    "cap_revoke",
    "cap_drop",
    "env_destroy",
];

const EXTENTS: &[&str] = &[
    "cap_derive",
    "cap_grant",
    "cap_revoke",
    "cap_drop",
    "disk_bind",
    "disk_unbind",
    "frames_free",
    "env_destroy",
];

#[test]
fn authority() {
    check(&SCENES[0], AUTHORITY);
}

#[test]
fn spaces() {
    check(&SCENES[1], SPACES);
}

#[test]
fn life() {
    check(&SCENES[2], LIFE);
}

#[test]
fn network() {
    check(&SCENES[3], NETWORK);
}

#[test]
fn extents() {
    check(&SCENES[4], EXTENTS);
}

/// Nothing is left out because the specification takes it to be the same.
#[test]
fn down_to_the_byte() {
    for (scene, depth) in SCENES.iter().zip([3, 2, 2, 4, 3]) {
        assert!(explore(scene, depth, Merge::Identical).states > 10);
    }
}

/// The whole of it: some minutes with `--release`, on two processors.
#[test]
#[ignore = "minutes long"]
fn six_steps() {
    for scene in &SCENES {
        assert!(explore(scene, 6, Merge::Shapes).requests > 100_000);
    }
}

/// As [`down_to_the_byte`], deeper.
#[test]
#[ignore = "minutes long"]
fn down_to_the_byte_deeper() {
    for (scene, depth) in SCENES.iter().zip([5, 4, 4, 5, 4]) {
        assert!(explore(scene, depth, Merge::Identical).states > 100);
    }
}
