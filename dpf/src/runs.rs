//! How long a frame must be is asked once for each straight run.
//!
//! A *run* goes from a group over its only node to that node's only group, and on, as far as
//! nothing is accepted on the way and no shift moves the base. Whatever gets to its end
//! has passed every test of it, so the first group can ask for the length that they all need,
//! and the others need not ask. The same holds for what a test on the way has found out.
//! What a group asks is kept in it ([`Group::length`]).
//!
//! A filter that comes or goes cuts or joins runs on its path, and nowhere else. What is
//! asked anew there are groups on the path, and groups that a fork on the path sets apart
//! from it: those of the only node there was, beside the one that is new.

use crate::compile;
use crate::filter::{Filter, MIN_FRAME};
use crate::siblings::{find_group, find_node};
use crate::storage::{Group, GroupId, NodeId, Store};
use crate::test::Test;

/// What is known of frames that come to the groups of a node.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    /// How long they are at least, from the base on.
    length: u16,
    /// The group with which the run from above goes on, if one does.
    run: GroupId,
    root: bool,
}

impl Arrival {
    pub(crate) const ROOT: Self = Self { length: 0, run: GroupId::NONE, root: true };

    /// What is known behind `group`.
    pub(crate) fn behind<S: Store>(self, store: &S, group: &Group) -> Self {
        let run = only_way(store, group).unwrap_or(GroupId::NONE);
        Self { run, ..self.past(&group.test) }
    }

    /// The same behind a test, if no run goes on.
    fn past(self, test: &Test) -> Self {
        let length = match test {
            Test::Shift { .. } => 0,
            _ => self.length.max(test.length()),
        };
        Self { length, run: GroupId::NONE, root: false }
    }

    /// At the group of a filter at this depth, if from depth `new` on no other filter has groups.
    pub(crate) fn on_new_path(filter: &Filter, new: usize, depth: usize, group: GroupId) -> Self {
        let behind = filter.tests().take(depth).fold(Self::ROOT, Self::past);
        let shifted = matches!(filter.tests().take(depth).next_back(), Some(Test::Shift { .. }));
        let run = if depth > new && !shifted { group } else { GroupId::NONE };
        Self { run, ..behind }
    }

    /// What a group must ask for.
    pub(crate) fn to_ask<S: Store>(self, store: &S, id: GroupId) -> u16 {
        let needed = run_length(store, id).max(if self.root { MIN_FRAME as u16 } else { 0 });
        if self.run == id || needed <= self.length { 0 } else { needed }
    }
}

/// The group with which the run goes on behind `group`.
fn only_way<S: Store>(store: &S, group: &Group) -> Option<GroupId> {
    if group.count != 1 || matches!(group.test, Test::Shift { .. }) {
        return None;
    }
    let node = store.node(group.first);
    let goes_on = node.rank == 0
        && node.groups != GroupId::NONE
        && store.group(node.groups).next == GroupId::NONE;
    goes_on.then_some(node.groups)
}

/// The length that the run from a group on needs.
fn run_length<S: Store>(store: &S, id: GroupId) -> u16 {
    let mut group = store.group(id);
    let mut length = group.test.length();
    while let Some(next) = only_way(store, group) {
        group = store.group(next);
        length = length.max(group.test.length());
    }
    length
}

/// Which comes first: what is nearer to the root, or what is further from it.
///
/// A group that stops asking relies on one that is nearer, so that one must ask before; and
/// the other way round.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    NearFirst,
    FarFirst,
}

/// Has all groups ask what they must after `filter` came or went.
pub(crate) fn settle<S: Store>(store: &mut S, root: GroupId, filter: &Filter, order: Order) {
    let mut tests = filter.tests();
    along(store, root, 0, &mut tests, Arrival::ROOT, order);
}

/// The same from the groups of one node on.
fn along<S: Store>(
    store: &mut S,
    groups: GroupId,
    depth: usize,
    tests: &mut dyn Iterator<Item = &Test>,
    arrival: Arrival,
    order: Order,
) {
    let step = tests.next().map(|test| test.shape());
    let on_path = step.map_or(GroupId::NONE, |(shape, _)| find_group(store, groups, &shape));
    if order == Order::NearFirst {
        near(store, groups, on_path, depth, arrival);
    }
    if let (Some((_, value)), true) = (step, on_path != GroupId::NONE) {
        let group = *store.group(on_path);
        let behind = arrival.behind(store, &group);
        let next = find_node(store, &group, value);
        // If it was the only one until now, it has one sibling; the new one is first.
        for node in [group.first, store.node(group.first).next] {
            if node != NodeId::NONE && node != next {
                near(store, store.node(node).groups, GroupId::NONE, depth + 1, behind);
            }
        }
        if next != NodeId::NONE {
            along(store, store.node(next).groups, depth + 1, tests, behind, order);
        }
    }
    if order == Order::FarFirst {
        near(store, groups, on_path, depth, arrival);
    }
}

/// Settles the groups of a node: that on the path, and the first two. If there are more, no
/// run ever led here.
fn near<S: Store>(store: &mut S, first: GroupId, on_path: GroupId, depth: usize, arrival: Arrival) {
    let second = if first == GroupId::NONE { first } else { store.group(first).next };
    for id in [first, second, on_path] {
        if id == GroupId::NONE {
            continue;
        }
        let length = arrival.to_ask(store, id);
        if store.group(id).length != length {
            store.group_mut(id).length = length;
            compile::group(store, id, depth);
        }
    }
}
