//! Filters whose way begins with a scope.

use std::cell::Cell;

use proptest::prelude::*;

use super::trie::{Blocks, block, garbage};
use super::{all_frames, domain_filter, domain_steps, example};
use crate::packet::{arp_for, ipv4_all, udp_to};
use crate::test::Bits;
use crate::{
    Atom, BlockId, Buckets, CodeSlot, Filter, Group, GroupId, MAX_ATOMS, Node, NodeId, Salt, Shift,
    Step, Store, Tag, Trie, implies, overlap,
};

proptest! {
    /// It is the same filter: it takes the same frames, is as specific, crosses the
    /// system-call boundary as what it was, and is compared with others alike.
    #[test]
    fn it_is_the_same_filter(
        (outer_steps, outer) in domain_filter(),
        more in domain_steps(),
        (_, other) in domain_filter(),
    ) {
        let atoms = outer_steps.iter().take_while(|step| matches!(step, Step::Atom(_)));
        let steps: Vec<Step> = atoms.copied().chain(more).collect();
        let Ok(filter) = Filter::of_steps(&steps) else { return Ok(()) };
        let Some(under) = filter.under(&outer) else { return Ok(()) };
        for frame in all_frames() {
            prop_assert_eq!(under.matches(frame), filter.matches(frame));
        }
        prop_assert_eq!(under.rank(), filter.rank());
        prop_assert_eq!(under.canonical(), filter);
        prop_assert!(under.steps().count() <= MAX_ATOMS);
        prop_assert!(implies(&under, &filter) && implies(&filter, &under));
        prop_assert_eq!(overlap(&under, &other), overlap(&filter, &other));
        prop_assert_eq!(implies(&under, &other), implies(&filter, &other));
        prop_assert_eq!(implies(&other, &under), implies(&other, &filter));
        prop_assert_eq!(example(&under).len(), example(&filter).len());
        let mut wire = [0; crate::MAX_WIRE];
        let length = under.encode(&mut wire).unwrap();
        prop_assert_eq!(Filter::decode(&wire[..length]), Ok(filter));
        // And it begins as it must.
        let pins = outer.unshifted().filter(|bits| bits.mask != 0).map(Bits::test);
        prop_assert!(pins.zip(under.tests()).all(|(pin, test)| pin == *test));
    }
}

#[test]
fn what_a_scope_pins_must_be_pinned_before_a_shift() {
    let outer = Filter::new(&[Atom::exact(16, 1, 7)]).unwrap();
    let within = [Step::Atom(Atom::exact(16, 1, 7)), Step::Atom(Atom::exact(20, 1, 1))];
    assert!(Filter::of_steps(&within).unwrap().under(&outer).is_some());
    // With either value of the shift this is at offset 16, too.
    let shift = Step::Shift(Shift { offset: 14, mask: 1, scale: 0 });
    let steps = [shift, Atom::exact(15, 1, 7).into(), Atom::exact(16, 1, 7).into()];
    let behind = Filter::of_steps(&steps).unwrap();
    assert!(implies(&behind, &outer));
    assert_eq!(behind.under(&outer), None);
    assert_eq!(Filter::new(&[Atom::exact(20, 1, 1)]).unwrap().under(&outer), None);
    // It pins them, but takes shorter frames.
    let longer = Filter::new(&[Atom::exact(16, 1, 7), Atom::masked(23, 1, 0, 0)]).unwrap();
    assert_eq!(outer.under(&longer), None);
}

#[test]
fn a_way_that_is_too_long_is_refused() {
    let atoms: Vec<_> = (0..MAX_ATOMS as u16).map(|i| Atom::exact(20 + 9 * i, 8, 1)).collect();
    let full = Filter::new(&atoms).unwrap();
    let first = Filter::new(&atoms[..1]).unwrap();
    assert!(full.under(&first).is_some());
    // Half of a window is taken out of it, so there is one more.
    let half = Filter::new(&[Atom::exact(20, 4, 0)]).unwrap();
    assert_eq!(full.under(&half), None);
}

/// Counts the groups that are looked at.
struct Counting<'a>(&'a mut Blocks, Cell<usize>);

impl Store for Counting<'_> {
    fn node(&self, id: NodeId) -> &Node {
        self.0.node(id)
    }
    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.0.node_mut(id)
    }
    fn group(&self, id: GroupId) -> &Group {
        self.1.set(self.1.get() + 1);
        self.0.group(id)
    }
    fn group_mut(&mut self, id: GroupId) -> &mut Group {
        self.0.group_mut(id)
    }
    fn filter(&self, block: BlockId) -> &Filter {
        self.0.filter(block)
    }
    fn buckets(&self) -> Buckets {
        self.0.buckets()
    }
    fn bucket(&self, number: u32) -> NodeId {
        self.0.bucket(number)
    }
    fn set_bucket(&mut self, number: u32, head: NodeId) {
        self.0.set_bucket(number, head);
    }
    fn salt(&mut self) -> Salt {
        self.0.salt()
    }
    fn code_address(&self, slot: CodeSlot) -> Option<u64> {
        self.0.code_address(slot)
    }
    fn write_code(&mut self, slot: CodeSlot, code: &[u8]) {
        self.0.write_code(slot, code);
    }
}

/// Somebody installs a hundred filters of as many shapes, all within what he may. Frames of
/// somebody else meet no more groups than before.
#[test]
fn shapes_of_one_do_not_slow_frames_of_another() {
    const VICTIM: [u8; 4] = [10, 0, 2, 15];
    const ATTACKER: [u8; 4] = [10, 0, 2, 66];
    let mut blocks = Blocks::default();
    let mut trie = Trie::new();
    let install = |trie: &mut Trie, blocks: &mut Blocks, filter: Filter| {
        let index = garbage(blocks, &filter);
        trie.insert(blocks, &filter, block(index), Tag(index as u32)).unwrap();
    };
    let scoped = |filter: Filter, scope: [Filter; 2]| {
        let outer = scope.iter().find(|outer| implies(&filter, outer)).expect("allowed");
        filter.under(outer).expect("pinned")
    };
    let scope = |host| [ipv4_all(host), arp_for(host)];
    for filter in [udp_to(VICTIM, 11211), arp_for(VICTIM), udp_to(ATTACKER, 7)] {
        let host = if implies(&filter, &ipv4_all(ATTACKER)) { ATTACKER } else { VICTIM };
        install(&mut trie, &mut blocks, scoped(filter, scope(host)));
    }
    let frames = [udp_to(VICTIM, 11211), arp_for(VICTIM), udp_to(VICTIM, 7)].map(|f| example(&f));
    let cost = |trie: &Trie, blocks: &mut Blocks, frame: &[u8]| {
        let counting = Counting(blocks, Cell::new(0));
        trie.classify(&counting, frame);
        counting.1.get()
    };
    let before = frames.each_ref().map(|frame| cost(&trie, &mut blocks, frame));
    for i in 1..100 {
        // A mask of its own over the stations, which come first in a frame.
        let atoms = [
            Atom::masked(0, 8, i, 0),
            Atom::exact(12, 2, 0x0800),
            Atom::exact(30, 4, u32::from_be_bytes(ATTACKER).into()),
        ];
        install(&mut trie, &mut blocks, scoped(Filter::new(&atoms).unwrap(), scope(ATTACKER)));
    }
    let after = frames.each_ref().map(|frame| cost(&trie, &mut blocks, frame));
    assert_eq!(before, after);
    let own = example(&udp_to(ATTACKER, 7));
    assert!(cost(&trie, &mut blocks, &own) > 100, "his own frames do");
}
