//! The merged trie against a list of filters.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{all_frames, atoms, domain_filter, example};
use crate::packet::{arp_for, icmp_to, udp_to};
use crate::test::{Part, Test};
use crate::{
    Atom, Block, BlockId, Buckets, CodeSlot, Filter, Group, GroupId, Inspect, MAX_ATOMS, Node,
    NodeId, SLOT, Salt, Store, Tag, Trie, TrieError, UNIT,
};

const BITS: u32 = 2;

/// Blocks by number, with their owners, and few buckets. A block that is not installed
/// is absent, so that any reference to one panics.
#[derive(Default)]
pub(super) struct Blocks {
    blocks: Vec<Option<Brought>>,
    buckets: Vec<NodeId>,
    serial: u64,
}

/// What one filter brought, and it.
type Brought = (Filter, [Node; MAX_ATOMS], [Group; MAX_ATOMS]);

/// Nodes and then groups of a block.
const PLACES: usize = 2 * MAX_ATOMS;
/// Units of each.
const UNITS: usize = 64 / UNIT;

impl Blocks {
    /// The number of a block, and the place in it.
    fn place(index: u32) -> (usize, usize) {
        assert_eq!(index as usize % UNITS, 0);
        let place = index as usize / UNITS - 1;
        (place / PLACES, place % PLACES)
    }
}

impl Store for Blocks {
    fn node(&self, id: NodeId) -> &Node {
        let (block, unit) = Self::place(id.index());
        &self.blocks[block].as_ref().expect("installed").1[unit]
    }
    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        let (block, unit) = Self::place(id.index());
        &mut self.blocks[block].as_mut().expect("installed").1[unit]
    }
    fn group(&self, id: GroupId) -> &Group {
        let (block, unit) = Self::place(id.index());
        &self.blocks[block].as_ref().expect("installed").2[unit - MAX_ATOMS]
    }
    fn group_mut(&mut self, id: GroupId) -> &mut Group {
        let (block, unit) = Self::place(id.index());
        &mut self.blocks[block].as_mut().expect("installed").2[unit - MAX_ATOMS]
    }
    fn buckets(&self) -> Buckets {
        Buckets { distance: 0, bits: BITS }
    }
    fn bucket(&self, number: u32) -> NodeId {
        self.buckets.get(number as usize).copied().unwrap_or(NodeId::NONE)
    }
    fn set_bucket(&mut self, number: u32, head: NodeId) {
        self.buckets.resize(1 << BITS, NodeId::NONE);
        self.buckets[number as usize] = head;
    }
    fn salt(&mut self) -> Salt {
        self.serial += 1;
        Salt::new(7, self.serial)
    }
    fn code_address(&self, slot: CodeSlot) -> u64 {
        // Nothing is executed here.
        u64::from(slot.block.index()) << 16 | (slot.index * SLOT) as u64
    }
    fn write_code(&mut self, _: CodeSlot, code: &[u8]) {
        assert!(!code.is_empty() && code.len() <= SLOT);
    }
}

impl Inspect for Blocks {
    fn filter(&self, block: BlockId) -> Filter {
        self.blocks[Self::place(block.index()).0].as_ref().expect("installed").0
    }
}

pub(super) fn block(index: usize) -> BlockId {
    BlockId::new(((1 + index * PLACES) * UNITS) as u32).unwrap()
}

/// A node that would take every frame and leads to itself, wherever it is.
fn garbage_node(index: usize) -> Node {
    let own = block(index).node(0);
    Node {
        value: 0,
        salt: Salt::NONE,
        entry: 1,
        rank: u64::MAX,
        tag: Tag(u32::MAX),
        owner: block(index),
        groups: block(index).group(0),
        next: own,
        previous: own,
        next_in_bucket: own,
        previous_in_bucket: own,
    }
}

/// A group of that node that every frame passes, and that leads to itself.
fn garbage_group(index: usize) -> Group {
    let own = block(index).group(0);
    Group {
        previous: own,
        first: block(index).node(0),
        count: 1,
        ..Group::new(Test::VACANT, block(index), own)
    }
}

/// A block for a filter, full of what could not be worse.
fn place_garbage(store: &mut Blocks, index: usize, filter: &Filter) {
    let (node, group) = (garbage_node(index), garbage_group(index));
    store.blocks[index] = Some((*filter, [node; MAX_ATOMS], [group; MAX_ATOMS]));
}

/// One more of them: its number.
pub(super) fn garbage(store: &mut Blocks, filter: &Filter) -> usize {
    store.blocks.push(None);
    let index = store.blocks.len() - 1;
    place_garbage(store, index, filter);
    index
}

/// The trie beside what it stands for: which filter is installed with which block.
#[derive(Default)]
struct Model {
    trie: Trie,
    store: Blocks,
    installed: Vec<Option<Filter>>,
    /// Of each that was ever installed in a block, the last's.
    ranks: Vec<u64>,
    age: u64,
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
        self.store.blocks.resize(self.installed.len(), None);
        place_garbage(&mut self.store, index, filter);
        let tag = Tag(index as u32);
        self.age += 1;
        let rank = filter.rank(self.age);
        let result = self.trie.insert(&mut self.store, filter, block(index), tag, rank);
        if result.is_ok() {
            self.installed[index] = Some(*filter);
            self.ranks.resize(self.installed.len(), 0);
            self.ranks[index] = rank;
        } else {
            self.store.blocks[index] = None;
        }
        result.map(|()| index)
    }

    fn remove(&mut self, index: usize) {
        let filter = self.installed[index].take().unwrap();
        self.trie.remove(&mut self.store, &filter, block(index)).unwrap();
        self.store.blocks[index] = None;
    }

    fn live(&self) -> impl Iterator<Item = (u32, &Filter)> {
        (0..).zip(&self.installed).filter_map(|(tag, filter)| Some((tag, filter.as_ref()?)))
    }

    /// The greatest rank of those that take the frame.
    fn best(&self, frame: &[u8]) -> Option<u64> {
        let taken = self.live().filter(|(_, filter)| filter.matches(frame));
        taken.map(|(tag, _)| self.ranks[tag as usize]).max()
    }

    fn classify(&self, frame: &[u8]) -> Option<Tag> {
        self.trie.classify(&self.store, frame)
    }

    /// Checks that the answer is the one of the filters that match that goes first.
    fn agrees(&self, frame: &[u8]) {
        let given = self.classify(frame);
        let filter = given.map(|tag| self.installed[tag.0 as usize].expect("installed"));
        assert!(filter.is_none_or(|filter| filter.matches(frame)));
        assert_eq!(given.map(|tag| self.ranks[tag.0 as usize]), self.best(frame));
    }

    /// Checks the invariants; returns all prefixes, in order, that is, the nodes.
    fn shape(&self) -> BTreeSet<Vec<Test>> {
        assert_eq!(self.trie.check(&self.store), Ok(self.live().count()));
        let mut shape = BTreeSet::new();
        self.gather(self.trie.root, &mut Vec::new(), &mut shape);
        let prefixes = self.live().flat_map(|(_, filter)| {
            let tests: Vec<Test> = filter.tests().copied().collect();
            (1..=tests.len()).map(move |depth| tests[..depth].to_vec())
        });
        assert_eq!(shape, prefixes.collect());
        shape
    }

    fn gather(&self, mut id: GroupId, path: &mut Vec<Test>, shape: &mut BTreeSet<Vec<Test>>) {
        while id != GroupId::NONE {
            let group = self.store.group(id);
            let mut next = group.first;
            while next != NodeId::NONE {
                let node = self.store.node(next);
                path.push(group.test.with_value(node.value));
                assert!(shape.insert(path.clone()), "no two nodes after the same tests");
                self.gather(node.groups, path, shape);
                path.pop();
                next = node.next;
            }
            id = group.next;
        }
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
fn of_filters_that_pin_as_many_bits_the_older_wins() {
    let low = Filter::new(&[Atom::exact(12, 2, 0x0800), Atom::exact(30, 2, 7)]).unwrap();
    let high = Filter::new(&[Atom::exact(20, 2, 5), Atom::exact(30, 2, 7)]).unwrap();
    let mut frame = example(&low);
    frame[21] = 5;
    assert!(low.matches(&frame) && high.matches(&frame) && low.pinned() == high.pinned());
    for order in [[low, high], [high, low]] {
        let model = Model::of(order);
        model.agrees(&frame);
        assert_eq!(model.classify(&frame), Some(Tag(0)));
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
    assert_eq!(model.trie.root, GroupId::NONE);
}

#[test]
fn blocks_have_names() {
    assert_eq!((size_of::<Node>(), size_of::<Group>()), (64, 64));
    assert_eq!(size_of::<Block>(), PLACES * 64);
    assert!(size_of::<Block>() <= 2048);
    assert_eq!(BlockId::new(0), None);
    let length = (PLACES * UNITS) as u32;
    let last = BlockId::new(u32::MAX - length).unwrap();
    assert_eq!(last.group(MAX_ATOMS - 1).index(), u32::MAX - UNITS as u32);
    assert_eq!(BlockId::new(u32::MAX - length + 1), None);
    assert_eq!(Blocks::place(block(5).node(3).index()), (5, 3));
    assert_eq!(Blocks::place(block(5).group(3).index()), (5, MAX_ATOMS + 3));
}

#[test]
fn salts_are_odd_and_differ() {
    for secret in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
        let salts = (0..1000).chain([(1 << 63) - 1]).map(|serial| Salt::new(secret, serial).0);
        assert!(salts.clone().all(|salt| salt % 2 == 1));
        assert_eq!(salts.collect::<BTreeSet<_>>().len(), 1001);
    }
}

/// Values that an attacker might choose fill no bucket: as of a random function, of which
/// the longest chain would be about 8.
#[test]
fn values_spread() {
    const ALL: u64 = u64::MAX;
    type Pattern = fn(u64) -> u64;
    let patterns: [(u64, Pattern); 9] = [
        (ALL, |i| i),
        (ALL, |i| i << 48),
        (ALL, |i| i << 32 | i),
        (ALL, |i| i.wrapping_mul(0x0100_0000_0100_0001)),
        (0xffff, |i| i),
        (0xffff << 48, |i| i << 48),
        (0xffff_ffff << 16, |i| i << 16),
        (0xffff_ffff << 16, |i| i << 36),
        (0xffff_ffff << 32, |i| i.wrapping_mul(0x0010_0001) << 32),
    ];
    for (mask, pattern) in patterns {
        for serial in 0..50 {
            let salt = Salt::new(1, serial);
            let mut buckets = vec![0; 1 << 12];
            for i in 0..1 << 12 {
                let value = pattern(i) & mask;
                assert!(mask == ALL || value == pattern(i), "all differ");
                buckets[salt.bucket(Part::of(mask), value, 12) as usize] += 1;
            }
            assert!(buckets.iter().all(|&count| count <= 64), "{mask:x} {serial}");
        }
    }
}

/// Filters over as many bytes as windows, so that paths are up to
/// [`MAX_ATOMS`] long; bits are few, so that paths meet.
fn deep_filter() -> impl Strategy<Value = Filter> {
    let pin = prop_oneof![
        3 => Just(None),
        4 => Just(Some((1, 0))),
        2 => Just(Some((1, 1))),
        1 => Just(Some((3, 2))),
    ];
    let short = vec(pin.clone(), 1..4);
    let long = vec(pin, 1..=MAX_ATOMS);
    let full = vec(Just(Some((1, 0))), MAX_ATOMS);
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
                model.agrees(&frame[..*len]);
            }
            // Zero is in all of them that pin nothing else.
            let full = [0u8; 160];
            model.agrees(&full);
            for (_, filter) in model.live() {
                let frame = example(filter);
                model.agrees(&frame);
            }
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
        prop_assert!(model.trie.root == GroupId::NONE);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The same for filters with ranges and shifts, on frames of the domain.
    #[test]
    fn trie_is_the_list_of_all_kinds(
        filters in vec(domain_filter(), 1..6),
        removed in any::<prop::sample::Index>(),
    ) {
        let mut model = Model::default();
        for (_, filter) in &filters {
            let twice = model.live().any(|(_, other)| other == filter);
            prop_assert_eq!(model.insert(filter).is_err(), twice);
            model.shape();
        }
        let live: Vec<_> = model.live().map(|(tag, _)| tag as usize).collect();
        model.remove(live[removed.index(live.len())]);
        model.shape();
        for frame in all_frames().filter(|frame| frame.len() % 8 == 0) {
            model.agrees(frame);
        }
    }
}
