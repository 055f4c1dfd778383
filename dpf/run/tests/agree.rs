//! Code, interpreter and the list of filters give the same answer.

mod common;

use common::{History, frames, histories};
use dpf::{Filter, Step, compile};
use dpf_run::{Checked, Edge, Runnable, example, near};
use proptest::prelude::*;

/// As many as `DPF_CASES` says, for long runs.
fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("DPF_CASES").ok().and_then(|cases| cases.parse().ok());
    // What is generated is now and then no filter, and that adds up.
    let max_local_rejects = u32::MAX;
    let failure_persistence = None;
    ProptestConfig {
        max_shrink_iters: 2000,
        max_local_rejects,
        failure_persistence,
        ..ProptestConfig::with_cases(cases.unwrap_or(default))
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn after_any_history(history in histories(), noise in frames()) {
        History::run(&history, &noise, Checked::classify);
    }

    #[test]
    fn predicates(filter in common::filters(), noise in frames()) {
        let predicate = compile(&filter);
        prop_assert!(!predicate.bytes().is_empty(), "it fits");
        let runnable = Runnable::new(&predicate);
        let mut edge = Edge::new();
        for frame in near(&filter).into_iter().chain(noise) {
            prop_assert_eq!(runnable.matches(edge.place(&frame)), filter.matches(&frame));
            prop_assert_eq!(runnable.matches(edge.place_first(&frame)), filter.matches(&frame));
        }
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn predicates_of_any_tests((filter, others) in common::wild(), noise in frames()) {
        let runnable = Runnable::new(&compile(&filter));
        let mut edge = Edge::new();
        for frame in others.iter().flat_map(near).chain(noise) {
            prop_assert_eq!(runnable.matches(edge.place(&frame)), filter.matches(&frame));
        }
    }
}

/// Frames of every length that end where the page does, for filters of every kind.
#[test]
fn no_length_is_read_beyond() {
    let steps = |steps: &[Step]| Filter::of_steps(steps).expect("a filter");
    let shift = dpf::Shift { offset: 14, mask: 0x0f, scale: 2 };
    let filters = [
        dpf::packet::udp_to([10, 0, 2, 15], 53),
        dpf::packet::arp_for([10, 0, 2, 15]),
        steps(&[dpf::Atom::range(36, 2, 7, 9999).into()]),
        steps(&[Step::Shift(shift), dpf::Atom::exact(16, 2, 0).into()]),
        steps(&[Step::Shift(shift), dpf::Atom::range(16, 8, 0, u64::MAX - 1).into()]),
        steps(&[dpf::Atom::exact(1512, 2, 0).into()]),
        steps(&[dpf::Atom::exact(0, 1, 0).into(), dpf::Atom::range(3, 1, 0, 0x1e).into()]),
    ];
    let mut arena = dpf_run::Arena::new(1000);
    for (tag, filter) in (0..).zip(&filters) {
        arena.install(filter, dpf::Tag(tag)).expect("all differ");
    }
    for port in 100..200 {
        let filter = dpf::packet::udp_to([10, 0, 2, 15], port);
        arena.install(&filter, dpf::Tag(u32::from(port))).expect("all differ");
    }
    let mut edge = Edge::new();
    for length in 0..=dpf::MAX_FRAME + 8 {
        for fill in [0, 0xff, 0x45] {
            let frame = vec![fill; length];
            let interpreted = arena.classify_interpreted(&frame);
            assert_eq!(arena.classify(edge.place(&frame)), interpreted);
            for filter in &filters {
                // One mapping for each would be slow here; the property test has them.
                if length < 100 {
                    let runnable = Runnable::new(&compile(filter));
                    assert_eq!(runnable.matches(edge.place(&frame)), filter.matches(&frame));
                }
            }
        }
    }
}

/// Values of two groups that are equal, in two buckets.
#[test]
fn groups_that_share_buckets_are_told_apart() {
    let of = |width, value| {
        let value = dpf::Atom::exact(20, width, value);
        Filter::new(&[dpf::Atom::exact(12, 2, 0), value]).expect("a filter")
    };
    let filters: Vec<_> = (0..20).map(|i| of(if i < 10 { 2 } else { 4 }, 1 + i % 10)).collect();
    let mut arena = dpf_run::Arena::with_buckets(20, 2);
    let mut ids = Vec::new();
    for (tag, filter) in (0..).zip(&filters) {
        ids.push(arena.install(filter, dpf::Tag(tag)).expect("all differ"));
    }
    for removed in 0..=filters.len() {
        let (trie, store) = arena.parts();
        assert_eq!(trie.check(store), Ok(filters.len() - removed));
        for (tag, filter) in (0..).zip(&filters) {
            let expected = (tag as usize >= removed).then_some(dpf::Tag(tag));
            let frame = example(filter);
            assert_eq!(arena.classify(&frame), expected);
            assert_eq!(arena.classify_interpreted(&frame), expected);
        }
        if let Some(&id) = ids.get(removed) {
            arena.remove(id).expect("installed");
        }
    }
}
