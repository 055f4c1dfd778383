//! The generated code, decoded: what it may do, and what it looks like.

mod common;

use common::decode::{check_predicate, listing};
use common::pieces::check_arena;
use common::{History, histories};
use dpf::packet::udp_to;
use dpf::{Filter, Step, Tag, compile};
use dpf_run::Arena;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// After any history, every piece reads the frame under its bounds check, buckets, nodes
    /// of chains, and nothing else, writes nothing but the stack, and goes to no other code.
    #[test]
    fn code_keeps_within_bounds(history in histories()) {
        let last = History::run(&history, &[], |_, _| {});
        check_arena(last.arena());
    }

    #[test]
    fn predicates_keep_within_bounds(filter in common::filters()) {
        check_predicate(compile(&filter).bytes());
    }
}

#[test]
fn the_longest_predicate_fits() {
    let ranges =
        (0..4).map(|i| dpf::Atom::range(1010 + 16 * i, 8, (3 << 40) + 1, u64::MAX - (5 << 40) - 1));
    let pins = (0..dpf::MAX_ATOMS as u16 - 4)
        .map(|i| dpf::Atom::masked(200 + 16 * i, 8, 0x7fff_ffff_ffff_ff7f, 0x7eff_ffff_ffff_ff7f));
    let atoms: Vec<_> = ranges.chain(pins).collect();
    let filter = Filter::new(&atoms).expect("a filter");
    let length = compile(&filter).bytes().len();
    assert!(length > 450, "{length}");
    check_predicate(compile(&filter).bytes());
}

fn golden(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("DPF_BLESS").is_some() {
        std::fs::write(&path, text).expect("golden file is written");
    }
    let expected = std::fs::read_to_string(&path).expect("golden file");
    assert_eq!(text, expected, "{name}; with DPF_BLESS=1 it is written anew");
}

/// The code of an arena from its entry on, as far as jumps name it.
fn text(arena: &Arena) -> String {
    let pieces = arena.pieces();
    let at = |address| pieces.iter().find(|piece| piece.address == address);
    let mut order = vec![arena.entry().expect("code")];
    let mut next = 0;
    while let Some(&address) = order.get(next) {
        next += 1;
        let piece = at(address).expect("a piece");
        for it in common::decode::decode(&piece.bytes, address) {
            let target = it.near_branch_target();
            if at(target).is_some() && !order.contains(&target) {
                order.push(target);
            }
        }
    }
    let name = |address: u64| {
        let number = order.iter().position(|&other| other == address)?;
        Some(format!("piece {number}"))
    };
    let mut text = String::new();
    for (number, &address) in order.iter().enumerate() {
        let piece = at(address).expect("a piece");
        text += &format!("piece {number}, {} bytes\n", piece.bytes.len());
        text += &listing(&piece.bytes, address, name);
    }
    let others = pieces.len() - order.len();
    text + &format!("and {others} pieces that are entered through the table\n")
}

fn ports(count: u16) -> Arena {
    let mut arena = Arena::with_buckets(count.into(), 10);
    for i in 0..count {
        arena.install(&udp_to([10, 0, 2, 15], 1000 + i), Tag(i.into())).expect("all differ");
    }
    check_arena(&arena);
    arena
}

#[test]
fn one_port() {
    golden("one_port", &text(&ports(1)));
}

#[test]
fn three_ports() {
    golden("three_ports", &text(&ports(3)));
}

#[test]
fn ten_ports() {
    golden("ten_ports", &text(&ports(10)));
}

#[test]
fn a_thousand_ports() {
    let listing = text(&ports(1000));
    golden("a_thousand_ports", &listing);
    // What a frame runs through is the same as for ten.
    let code = |text: &str| text.lines().filter(|line| !line.starts_with("and ")).count();
    assert_eq!(code(&listing), code(&text(&ports(10))));
}

#[test]
fn every_kind() {
    let shift = Step::Shift(dpf::Shift { offset: 14, mask: 0x0f, scale: 2 });
    let mut arena = Arena::with_buckets(4, 10);
    let of = |steps: &[Step]| Filter::of_steps(steps).expect("a filter");
    let filters = [
        of(&[dpf::Atom::exact(12, 2, 0x0800).into(), dpf::Atom::range(36, 2, 80, 90).into()]),
        of(&[dpf::Atom::exact(12, 2, 0x0800).into(), shift, dpf::Atom::exact(16, 2, 53).into()]),
        of(&[dpf::Atom::exact(12, 2, 0x0800).into()]),
    ];
    for (tag, filter) in (0..).zip(&filters) {
        arena.install(filter, Tag(tag)).expect("all differ");
    }
    check_arena(&arena);
    golden("every_kind", &text(&arena));
}
