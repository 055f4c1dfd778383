//! Keys, and what filters say beside them.

use proptest::prelude::*;

use super::trie::{Blocks, block, garbage};
use super::{all_frames, domain_filter, domain_steps, example};
use crate::exact::sound;
use crate::packet::{arp_for, ipv4_all, udp_to};
use crate::{
    Atom, Filter, KEY_BYTES, Key, MAX_ATOMS, MAX_FRAME, Shift, Step, Tag, Trie, implies, overlap,
};

/// A packet's head, zero behind its end.
fn head(frame: &[u8]) -> [u8; KEY_BYTES] {
    core::array::from_fn(|at| frame.get(at).copied().unwrap_or_default())
}

fn key(filter: &Filter) -> Key {
    Key::of(filter).expect("pinned bits")
}

/// Bits of a few bytes, at most 64 in.
fn pins() -> impl Strategy<Value = Filter> {
    let atom =
        (0u16..56, any::<u64>(), any::<u64>(), 0u32..3).prop_map(|(at, mask, value, sparse)| {
            let mask = (0..sparse).fold(mask, |mask, n| mask & mask.rotate_left(7 + n)).max(1);
            Atom::masked(at, 8, mask, value & mask)
        });
    proptest::collection::vec(atom, 1..4)
        .prop_filter_map("contradictory", |atoms| Filter::new(&atoms).ok())
}

proptest! {
    /// Keys say of each other what the filters that they come from do, decided exactly.
    #[test]
    fn keys_are_compared_exactly(a in pins(), b in pins(), within: bool) {
        let both: Vec<Step> = a.steps().chain(b.steps()).collect();
        let b = if within { Filter::of_steps(&both).unwrap_or(b) } else { b };
        let (one, other) = (key(&a), key(&b));
        prop_assert_eq!(one.contradicts(&other), !overlap(&a, &b));
        // Lengths are no part of a key: compare the shortest filters.
        let (a, b) = (one.filter().unwrap(), other.filter().unwrap());
        prop_assert_eq!((key(&a), key(&b)), (one, other));
        let longer = |filter: &Filter, by: &Filter| {
            let length = by.reach().max(filter.reach()) as u16;
            let steps = filter.steps().chain([Atom::masked(length - 1, 1, 0, 0).into()]);
            Filter::of_steps(&steps.collect::<Vec<_>>()).unwrap()
        };
        prop_assert_eq!(other.is_within(&one), implies(&longer(&b, &a), &a));
        prop_assert_eq!(one.is_within(&other), implies(&longer(&a, &b), &b));
        let frame = head(&example(&a));
        prop_assert!(one.matches(&frame) && one.reach() <= KEY_BYTES);
        prop_assert_eq!(other.matches(&frame), b.matches(&frame));
    }

    /// Among packets that have the key, what is left takes what the whole took.
    #[test]
    fn what_is_behind_a_key_is_the_same_there(
        (outer_steps, outer) in domain_filter(),
        more in domain_steps(),
    ) {
        let Some(key) = Key::of(&outer) else { return Ok(()) };
        let steps: Vec<Step> = outer_steps.iter().copied().chain(more).collect();
        let Ok(filter) = Filter::of_steps(&steps) else { return Ok(()) };
        let Some(rest) = filter.behind(&key) else { return Ok(()) };
        for frame in all_frames().filter(|frame| key.matches(&head(frame))) {
            prop_assert_eq!(rest.matches(frame), filter.matches(frame));
        }
        prop_assert!(rest.steps().count() <= MAX_ATOMS);
    }
}

#[test]
fn what_a_key_pins_must_be_pinned_before_a_shift() {
    let outer = key(&Filter::new(&[Atom::exact(16, 1, 7)]).unwrap());
    let within = [Step::Atom(Atom::exact(16, 1, 7)), Step::Atom(Atom::exact(20, 1, 1))];
    assert!(Filter::of_steps(&within).unwrap().behind(&outer).is_some());
    // With either value of the shift this is at offset 16, too.
    let shift = Step::Shift(Shift { offset: 14, mask: 1, scale: 0 });
    let steps = [shift, Atom::exact(15, 1, 7).into(), Atom::exact(16, 1, 7).into()];
    assert_eq!(Filter::of_steps(&steps).unwrap().behind(&outer), None);
    assert_eq!(Filter::new(&[Atom::exact(20, 1, 1)]).unwrap().behind(&outer), None);
}

#[test]
fn the_filters_of_an_address_lie_behind_its_keys() {
    const HOST: [u8; 4] = [10, 0, 2, 15];
    let (ip, arp) = (key(&ipv4_all(HOST)), key(&arp_for(HOST)));
    assert!(ip.contradicts(&arp) && !ip.contradicts(&ip));
    let port = key(&udp_to(HOST, 53));
    assert!(port.is_within(&ip) && !ip.is_within(&port) && port.is_within(&Key::ALL));
    assert!(port.contradicts(&key(&udp_to(HOST, 54))));
    let udp = udp_to(HOST, 53);
    assert!(udp.behind(&ip).is_some() && udp.behind(&arp).is_none());
    assert_eq!(udp.behind(&Key::ALL), Some(udp));
    // What is the key itself takes all of it.
    let all = ipv4_all(HOST).behind(&ip).unwrap();
    assert!(all.matches(&[0xff; 40]) && sound(&all).is_ok());
    // A frame that ends before what the filter asks for does not match.
    assert!(!arp_for(HOST).behind(&arp).unwrap().matches(&[0; 41]));
}

#[test]
fn what_says_more_than_pinned_bits_is_no_key() {
    let atom = |atom: Atom| Key::of(&Filter::new(&[atom]).unwrap());
    assert_eq!(atom(Atom::range(36, 2, 1, 9)), None);
    assert_eq!(atom(Atom::masked(30, 1, 0, 0)), None, "a length");
    assert_eq!(atom(Atom::exact(KEY_BYTES as u16, 1, 0)), None);
    assert!(atom(Atom::exact(KEY_BYTES as u16 - 1, 1, 0)).is_some());
    let shift = Step::Shift(Shift { offset: 14, mask: 1, scale: 0 });
    let shifted = Filter::of_steps(&[shift, Atom::exact(20, 1, 1).into()]).unwrap();
    assert_eq!(Key::of(&shifted), None);
    assert_eq!(Key::ALL.filter(), None);
    const { assert!(KEY_BYTES < MAX_FRAME) };
}

/// Its forks say how many ends a frame can get to.
#[test]
fn forks_are_counted() {
    let mut blocks = Blocks::default();
    let mut trie = Trie::new();
    let install = |trie: &mut Trie, blocks: &mut Blocks, atoms: &[Atom]| {
        let filter = Filter::new(atoms).unwrap();
        let index = garbage(blocks, &filter);
        trie.insert(blocks, &filter, block(index), Tag(0), filter.rank(index as u64)).unwrap();
        (filter, block(index))
    };
    let one = Atom::exact(20, 1, 1);
    let first = install(&mut trie, &mut blocks, &[one]);
    install(&mut trie, &mut blocks, &[Atom::exact(20, 1, 2)]);
    assert_eq!(trie.forks(), 0, "another value");
    let second = install(&mut trie, &mut blocks, &[Atom::masked(20, 1, 3, 1)]);
    assert_eq!(trie.forks(), 1, "another mask");
    // Below the first, one shape is no fork, two are.
    install(&mut trie, &mut blocks, &[one, Atom::exact(40, 1, 1)]);
    assert_eq!(trie.forks(), 1);
    install(&mut trie, &mut blocks, &[one, Atom::masked(40, 1, 7, 1)]);
    assert_eq!(trie.forks(), 2);
    assert!(trie.check(&blocks).is_ok());
    for ((filter, block), forks) in [(second, 1), (first, 1)] {
        trie.remove(&mut blocks, &filter, block).unwrap();
        assert_eq!(trie.forks(), forks);
    }
}
