//! The merged trie against a list of filters.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{all_frames, atoms, domain_filter, example};
use crate::packet::{arp_for, icmp_to, udp_to};
use crate::test::Test;
use crate::trie::Accept;
use crate::{Atom, BlockId, Filter, MAX_ATOMS, Node, NodeId, Store, Tag, Trie, TrieError, overlap};

/// Blocks by number, and whose they are. A block that is not installed is absent, so
/// that any reference to one panics.
#[derive(Default)]
struct Blocks(Vec<Option<(Filter, [Node; MAX_ATOMS])>>);

impl Store for Blocks {
    fn node(&self, id: NodeId) -> &Node {
        &self.0[id.block().index() as usize].as_ref().expect("installed").1[id.slot()]
    }
    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.0[id.block().index() as usize].as_mut().expect("installed").1[id.slot()]
    }
    fn filter(&self, block: BlockId) -> &Filter {
        &self.0[block.index() as usize].as_ref().expect("installed").0
    }
}

fn block(index: usize) -> BlockId {
    BlockId::new(index as u32).unwrap()
}

/// A node that would take every frame and leads to itself, wherever it is.
fn garbage(index: usize) -> Node {
    let own = block(index).slot(0);
    Node {
        test: Test::VACANT,
        first_child: own,
        next_sibling: own,
        accept: Accept { rank: u64::MAX, tag: Tag(u32::MAX), block: block(index) },
    }
}

/// The trie beside what it stands for: which filter is installed with which block.
#[derive(Default)]
struct Model {
    trie: Trie,
    store: Blocks,
    installed: Vec<Option<Filter>>,
}

impl Model {
    fn of(filters: impl IntoIterator<Item = Filter>) -> Self {
        let mut model = Self::default();
        for filter in filters {
            model.insert(&filter).unwrap();
        }
        model
    }

    /// Installs with the lowest free block, which is full of garbage, and its number as tag.
    fn insert(&mut self, filter: &Filter) -> Result<usize, TrieError> {
        let free = self.installed.iter().position(Option::is_none);
        let index = free.unwrap_or(self.installed.len());
        self.installed.resize(self.installed.len().max(index + 1), None);
        self.store.0.resize(self.installed.len(), None);
        self.store.0[index] = Some((*filter, [garbage(index); MAX_ATOMS]));
        let tag = Tag(index as u32);
        let result = self.trie.insert(&mut self.store, filter, block(index), tag);
        if result.is_ok() {
            self.installed[index] = Some(*filter);
        } else {
            self.store.0[index] = None;
        }
        result.map(|()| index)
    }

    fn remove(&mut self, index: usize) {
        let filter = self.installed[index].take().unwrap();
        self.trie.remove(&mut self.store, &filter, block(index)).unwrap();
        self.store.0[index] = None;
    }

    fn live(&self) -> impl Iterator<Item = (u32, &Filter)> {
        (0..).zip(&self.installed).filter_map(|(tag, filter)| Some((tag, filter.as_ref()?)))
    }

    /// The definition of `classify`, over the list.
    fn flat(&self, frame: &[u8]) -> Option<Tag> {
        let key = |filter: &Filter| {
            let tests: Vec<Test> = filter.tests().copied().collect();
            (filter.rank(), std::cmp::Reverse(tests))
        };
        let taken = self.live().filter(|(_, filter)| filter.matches(frame));
        taken.max_by_key(|(_, filter)| key(filter)).map(|(tag, _)| Tag(tag))
    }

    fn classify(&self, frame: &[u8]) -> Option<Tag> {
        self.trie.classify(&self.store, frame)
    }

    /// Checks the invariants of the module `trie`; returns the shape in preorder.
    fn shape(&self) -> Vec<(usize, Test, Option<Filter>)> {
        let mut shape = Vec::new();
        let mut seen = BTreeSet::new();
        let mut path = Vec::new();
        self.check(self.trie.root, &mut path, &mut seen, &mut shape);
        let accepting = shape.iter().filter(|(_, _, filter)| filter.is_some()).count();
        assert_eq!(accepting, self.live().count());
        shape
    }

    fn check(
        &self,
        mut id: NodeId,
        path: &mut Vec<Test>,
        seen: &mut BTreeSet<(u32, usize)>,
        shape: &mut Vec<(usize, Test, Option<Filter>)>,
    ) {
        let mut previous = None;
        while id != NodeId::NONE {
            let node = self.store.node(id);
            let depth = path.len();
            assert!(seen.insert((id.block().index(), id.slot())), "each node is linked once");
            assert_eq!(id.slot(), depth);
            assert!(previous < Some(node.test), "siblings are sorted and differ");
            assert!(node.accept.is_some() || node.first_child != NodeId::NONE);
            path.push(node.test);
            let home = self.installed[id.block().index() as usize].expect("no removed block");
            assert!(home.tests().take(depth + 1).eq(path.iter()), "lives in a user's block");
            let accepts = node.accept.is_some().then(|| {
                let index = node.accept.block.index() as usize;
                assert_eq!(node.accept.tag, Tag(index as u32));
                self.installed[index].expect("accepts for an installed filter")
            });
            if let Some(filter) = &accepts {
                assert!(filter.tests().eq(path.iter()));
            }
            shape.push((depth, node.test, accepts));
            self.check(node.first_child, path, seen, shape);
            path.pop();
            previous = Some(node.test);
            id = node.next_sibling;
        }
    }

    fn overlapping(&self, filter: &Filter) -> Vec<u32> {
        let mut tags = Vec::new();
        let _ = self.trie.find_overlap(&self.store, filter, |Tag(tag), _| -> ControlFlow<()> {
            tags.push(tag);
            ControlFlow::Continue(())
        });
        tags.sort_unstable();
        tags
    }
}

const HOSTS: [[u8; 4]; 3] = [[10, 0, 2, 15], [10, 0, 2, 16], [10, 0, 2, 17]];

#[test]
fn three_environments_share_their_prefixes() {
    let filters =
        HOSTS.into_iter().flat_map(|host| [arp_for(host), icmp_to(host), udp_to(host, 11211)]);
    let model = Model::of(filters.clone());
    // ARP: 1 + 3; IPv4: 1, ICMP 1 + 3, UDP 1 + 3.
    assert_eq!(model.shape().len(), 13);
    for (tag, filter) in (0..).zip(filters) {
        assert_eq!(model.classify(&example(&filter)), Some(Tag(tag)));
    }
    assert_eq!(model.classify(&example(&udp_to(HOSTS[0], 11212))), None);
    assert_eq!(model.classify(&[]), None);
}

#[test]
fn the_more_specific_filter_wins_whenever_it_came() {
    let all = Filter::new(&[Atom::exact(12, 2, 0x0800)]).unwrap();
    let one = udp_to(HOSTS[0], 7);
    for order in [[all, one], [one, all]] {
        let model = Model::of(order);
        let tag = model.classify(&example(&one)).unwrap();
        assert_eq!(order[tag.0 as usize], one);
        let tag = model.classify(&example(&icmp_to(HOSTS[0]))).unwrap();
        assert_eq!(order[tag.0 as usize], all);
    }
}

#[test]
fn equally_specific_filters_win_by_their_atoms() {
    let low = Filter::new(&[Atom::exact(12, 2, 0x0800), Atom::exact(30, 2, 7)]).unwrap();
    let high = Filter::new(&[Atom::exact(20, 2, 5), Atom::exact(30, 2, 7)]).unwrap();
    let mut frame = example(&low);
    frame[21] = 5;
    assert!(low.matches(&frame) && high.matches(&frame) && low.rank() == high.rank());
    for order in [[low, high], [high, low]] {
        let tag = Model::of(order).classify(&frame).unwrap();
        assert_eq!(order[tag.0 as usize], low);
    }
}

#[test]
fn refusals_change_nothing() {
    let mut model = Model::of([udp_to(HOSTS[0], 7), udp_to(HOSTS[0], 8)]);
    let before = model.shape();
    assert_eq!(model.insert(&udp_to(HOSTS[0], 7)), Err(TrieError::Duplicate));
    let absent = [
        (udp_to(HOSTS[0], 9), block(0)),
        (udp_to(HOSTS[0], 7), block(1)),
        (Filter::new(&atoms(&udp_to(HOSTS[0], 7))[..1]).unwrap(), block(0)),
    ];
    for (filter, block) in absent {
        let result = model.trie.remove(&mut model.store, &filter, block);
        assert_eq!(result, Err(TrieError::NotInstalled));
    }
    assert_eq!(model.shape(), before);
}

#[test]
fn a_shared_node_moves_to_one_who_still_uses_it() {
    let mut model = Model::of(HOSTS.map(|host| udp_to(host, 7)));
    model.remove(0);
    model.shape();
    assert_eq!(model.classify(&example(&udp_to(HOSTS[1], 7))), Some(Tag(1)));
    model.remove(1);
    model.shape();
    assert_eq!(model.classify(&example(&udp_to(HOSTS[2], 7))), Some(Tag(2)));
    model.remove(2);
    assert_eq!(model.trie.root, NodeId::NONE);
}

#[test]
fn overlap_search_stops_when_told() {
    let model = Model::of([udp_to(HOSTS[0], 7), udp_to(HOSTS[0], 8), arp_for(HOSTS[0])]);
    let all = Filter::new(&[Atom::exact(12, 2, 0x0800)]).unwrap();
    assert_eq!(model.overlapping(&all), [0, 1]);
    let mut asked = 0;
    let found = model.trie.find_overlap(&model.store, &all, |tag, other| {
        assert!(overlap(&all, other));
        asked += 1;
        ControlFlow::Break(tag)
    });
    assert!(found.is_break());
    assert_eq!(asked, 1);
}

#[test]
fn block_numbers_never_name_no_node() {
    let last = BlockId::new(BlockId::LIMIT - 1).unwrap();
    assert!((0..MAX_ATOMS).all(|depth| last.slot(depth) != NodeId::NONE));
    assert!((0..MAX_ATOMS).all(|depth| last.slot(depth).block() == last));
    assert_eq!(BlockId::new(BlockId::LIMIT), None);
    assert_eq!(BlockId::LIMIT, (1 << 28) - 1);
    assert_eq!(block(5).slot(3).index(), 83);
    assert_eq!((size_of::<Node>(), size_of::<[Node; MAX_ATOMS]>()), (64, 1024));
}

/// Filters over sixteen bytes in sixteen windows, so that paths are up to
/// [`MAX_ATOMS`] long; bits are few, so that paths meet.
fn deep_filter() -> impl Strategy<Value = Filter> {
    let pin = prop_oneof![
        3 => Just(None),
        4 => Just(Some((1, 0))),
        2 => Just(Some((1, 1))),
        1 => Just(Some((3, 2))),
    ];
    let short = vec(pin.clone(), 1..4);
    let long = vec(pin, 1..=16);
    let full = vec(Just(Some((1, 0))), 16);
    prop_oneof![3 => short, 3 => long, 1 => full].prop_filter_map("no atoms", |pins| {
        let atoms: Vec<_> = (0..)
            .zip(pins)
            .filter_map(|(i, pin)| {
                let (mask, value) = pin?;
                Some(Atom::masked(12 + 9 * i, 1, mask, value))
            })
            .collect();
        Filter::new(&atoms).ok()
    })
}

#[derive(Debug, Clone)]
enum Step {
    Insert(Box<Filter>),
    Remove(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => deep_filter().prop_map(|filter| Step::Insert(Box::new(filter))),
        2 => any::<prop::sample::Index>().prop_map(Step::Remove),
    ]
}

proptest! {
    /// After any history the trie answers as the list of filters does, is shaped
    /// as if built afresh, and refers to no block of a removed filter.
    #[test]
    fn trie_is_the_list(
        steps in vec(step(), 1..40),
        frames in vec((vec(0u8..4, 160), 13usize..160), 8),
        probe in deep_filter(),
    ) {
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Insert(filter) => {
                    let twice = model.live().any(|(_, other)| *other == *filter);
                    prop_assert_eq!(model.insert(&filter).is_err(), twice);
                }
                Step::Remove(index) => {
                    let live: Vec<_> = model.live().map(|(tag, _)| tag as usize).collect();
                    if !live.is_empty() {
                        model.remove(*index.get(&live));
                    }
                }
            }
            model.shape();
            for (frame, len) in &frames {
                prop_assert_eq!(model.classify(&frame[..*len]), model.flat(&frame[..*len]));
            }
            // Zero is in all of them that pin nothing else.
            let full = [0u8; 160];
            prop_assert_eq!(model.classify(&full), model.flat(&full));
            for (_, filter) in model.live() {
                let frame = example(filter);
                prop_assert_eq!(model.classify(&frame), model.flat(&frame));
            }
            let expected: Vec<_> = model
                .live()
                .filter(|(_, other)| overlap(&probe, other))
                .map(|(tag, _)| tag)
                .collect();
            prop_assert_eq!(model.overlapping(&probe), expected);
        }
        let filters: Vec<_> = model.live().map(|(_, filter)| *filter).collect();
        let fresh = Model::of(filters.into_iter().rev());
        prop_assert_eq!(model.shape(), fresh.shape());
        for index in 0..model.installed.len() {
            if model.installed[index].is_some() {
                model.remove(index);
                model.shape();
            }
        }
        prop_assert!(model.trie.root == NodeId::NONE);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The same for filters with ranges and shifts, on frames of the domain.
    #[test]
    fn trie_is_the_list_of_all_kinds(
        filters in vec(domain_filter(), 1..6),
        removed in any::<prop::sample::Index>(),
        probe in domain_filter(),
    ) {
        let mut model = Model::default();
        for (_, filter) in &filters {
            let twice = model.live().any(|(_, other)| other == filter);
            prop_assert_eq!(model.insert(filter).is_err(), twice);
            model.shape();
        }
        model.remove(removed.index(model.installed.len()));
        model.shape();
        for frame in all_frames().filter(|frame| frame.len() % 8 == 0) {
            prop_assert_eq!(model.classify(frame), model.flat(frame));
        }
        let live = model.live().filter(|(_, other)| overlap(&probe.1, other));
        let expected: Vec<_> = live.map(|(tag, _)| tag).collect();
        prop_assert_eq!(model.overlapping(&probe.1), expected);
    }
}
