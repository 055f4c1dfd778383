//! Random filters, frames that nearly match them, and histories of installation.
#![allow(dead_code, reason = "each test uses some of it")]

pub(crate) mod decode;
pub(crate) mod pieces;

use dpf::exact::sound;
use dpf::packet::{arp_for, icmp_to, ipv4_all, udp_to};
use dpf::{Atom, Filter, Key, MAX_ATOMS, MAX_FRAME, MAX_WIRE, Shift, Step};
use dpf_run::{Arena, Checked, near};
use proptest::collection::vec;
use proptest::prelude::*;

/// What an ordinary application installs: few hosts, so that prefixes are shared.
fn ordinary() -> impl Strategy<Value = Filter> {
    let host = (0u8..3).prop_map(|host| [10, 0, 2, 15 + host]);
    (host, 0u16..30, 0..8).prop_map(|(host, port, kind)| match kind {
        0 => arp_for(host),
        1 => icmp_to(host),
        2 => ipv4_all(host),
        3 => behind(icmp_to(host), host),
        4 | 5 => behind(udp_to(host, 1000 + port * 257), host),
        _ => udp_to(host, 1000 + port * 257),
    })
}

/// What it says beside the key of an address.
fn behind(filter: Filter, host: [u8; 4]) -> Filter {
    filter.behind(&Key::of(&ipv4_all(host)).expect("pinned bits")).expect("within")
}

fn width() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![1u8, 2, 4, 8])
}

/// An equality that has few values, or any.
fn pin(offsets: impl Strategy<Value = u16>) -> impl Strategy<Value = Atom> {
    (offsets, width(), any::<u64>(), any::<u64>(), 0..5).prop_map(
        |(offset, width, mask, value, kind)| {
            let all = u64::MAX >> (64 - 8 * width);
            let mask = match kind {
                0 => mask & all,
                1 => 3,
                2 => all & !0xf0,
                _ => all,
            };
            let value = if kind == 4 { value } else { value % 12 };
            Atom::masked(offset, width, mask, value & mask)
        },
    )
}

/// A range over any run of bits.
fn range(offsets: impl Strategy<Value = u16>) -> impl Strategy<Value = Atom> {
    (offsets, width(), any::<[u8; 2]>(), any::<[u64; 2]>(), any::<bool>()).prop_map(
        |(offset, width, [first, length], bounds, small)| {
            let bits = 8 * width;
            let (first, length) = if small { (0, bits) } else { (first % bits, length) };
            let length = length % (bits - first) + 1;
            let length = if small { bits } else { length };
            let ones = u64::MAX >> (64 - length);
            let [a, b] = bounds.map(|bound| (if small { bound % 40 } else { bound }) & ones);
            Atom {
                offset,
                width,
                mask: ones << first,
                lo: a.min(b) << first,
                hi: a.max(b) << first,
            }
        },
    )
}

fn shift() -> impl Strategy<Value = Shift> {
    let mask = prop::sample::select(vec![0x0fu8, 0xf0, 0x03, 0xc0, 0x10, 0x3c, 0x80]);
    (14u16..40, mask, 0u8..=6).prop_map(|(offset, mask, scale)| Shift { offset, mask, scale })
}

/// Steps of all kinds, few offsets.
fn mixed() -> impl Strategy<Value = Filter> {
    let front = || prop_oneof![Just(12u16), Just(14), Just(23), Just(30), 0u16..60];
    let behind = || prop_oneof![Just(14u16), Just(16), 14u16..40];
    let atoms = vec(prop_oneof![3 => pin(front()), 2 => range(front())], 0..4);
    let later = move || vec(prop_oneof![3 => pin(behind()), 2 => range(behind())], 1..3);
    let tail = prop_oneof![
        3 => Just(vec![]),
        2 => (shift(), later()).prop_map(|(shift, atoms)| joined(shift, atoms)),
        1 => (shift(), later(), shift(), later())
            .prop_map(|(a, x, b, y)| [joined(a, x), joined(b, y)].concat()),
    ];
    (atoms, tail).prop_filter_map("no filter", |(atoms, tail)| {
        let steps: Vec<Step> = atoms.into_iter().map(Step::Atom).chain(tail).collect();
        Filter::of_steps(&steps).ok().filter(|filter| sound(filter).is_ok())
    })
}

fn joined(shift: Shift, atoms: Vec<Atom>) -> Vec<Step> {
    std::iter::once(Step::Shift(shift)).chain(atoms.into_iter().map(Step::Atom)).collect()
}

/// Paths as long as they can be, which meet.
fn deep() -> impl Strategy<Value = Filter> {
    let bit = prop_oneof![4 => Just(Some(0u64)), 2 => Just(Some(1)), 1 => Just(None)];
    vec(bit, 1..=MAX_ATOMS).prop_filter_map("no atoms", |pins| {
        let atoms: Vec<_> = (0u16..)
            .zip(pins)
            .filter_map(|(i, pin)| Some(Atom::masked(12 + 9 * i, 1, 1, pin?)))
            .collect();
        Filter::new(&atoms).ok()
    })
}

/// One group of many values, or many groups of one, of any width.
fn many() -> impl Strategy<Value = Filter> {
    // In a window they have the same value, whatever the width: groups meet in buckets.
    let width = prop::sample::select(vec![2u8, 2, 4, 4, 1, 8]);
    (0u64..16, 0..4, width).prop_filter_map("no filter", |(value, one, width)| {
        let atom = if one > 0 {
            Atom::exact(20, width, value)
        } else {
            let offset = 20 + 2 * (value % 16) as u16;
            Atom::range(offset, 2, value, 2 * value + 1)
        };
        Filter::new(&[Atom::exact(12, 2, 0), atom]).ok()
    })
}

/// Filters of all kinds.
pub(crate) fn filters() -> impl Strategy<Value = Filter> {
    prop_oneof![3 => ordinary(), 4 => mixed(), 1 => deep(), 2 => many()]
}

/// What the language does not make and the kernel accepts: tests of two filters in any order,
/// some of them twice, with bits changed. And those two.
pub(crate) fn wild() -> impl Strategy<Value = (Filter, [Filter; 2])> {
    let picks = vec((any::<prop::sample::Index>(), any::<u32>()), 1..=MAX_ATOMS);
    (filters(), filters(), picks, 0usize..4).prop_filter_map("no filter", |(a, b, picks, flip)| {
        let mut wire = [0; 2 * MAX_WIRE];
        let length = a.encode(&mut wire)?;
        let length = length + b.encode(&mut wire[length..])?;
        let tests: Vec<&[u8]> = wire[..length].chunks(MAX_WIRE / MAX_ATOMS).collect();
        let mut bytes = Vec::new();
        for (number, (test, bit)) in picks.iter().enumerate() {
            let start = bytes.len();
            bytes.extend_from_slice(tests[test.index(tests.len())]);
            let bit = *bit as usize % (8 * (bytes.len() - start));
            if number % 4 == flip {
                bytes[start + bit / 8] ^= 1 << (bit % 8);
            }
        }
        Some((Filter::decode(&bytes)?, [a, b]))
    })
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Install(Box<Filter>),
    /// A filter that the language does not make, and two that share tests with it.
    Wild(Box<(Filter, [Filter; 2])>),
    Remove(prop::sample::Index),
}

pub(crate) fn histories() -> impl Strategy<Value = Vec<Event>> {
    let of = |filter: BoxedStrategy<Filter>| {
        let install = filter.prop_map(|filter| Event::Install(Box::new(filter))).boxed();
        let remove = || any::<prop::sample::Index>().prop_map(Event::Remove);
        prop_oneof![
            vec(prop_oneof![3 => install.clone(), 2 => remove()], 1..60),
            vec(prop_oneof![8 => install, 1 => remove()], 20..60),
        ]
    };
    let wild = wild().prop_map(|wild| Event::Wild(Box::new(wild)));
    let some = any::<prop::sample::Index>().prop_map(Event::Remove);
    prop_oneof![
        2 => vec(prop_oneof![3 => wild, 1 => some], 1..40),
        3 => of(filters().boxed()),
        1 => of(ordinary().boxed()),
        1 => of(mixed().boxed()),
        1 => of(many().boxed()),
        1 => of(deep().boxed()),
    ]
}

/// Frames of any length with few bytes that matter.
pub(crate) fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let byte = prop_oneof![4 => Just(0u8), 2 => 0u8..16, 1 => any::<u8>()];
    let length = prop_oneof![4 => 0usize..90, 1 => 0usize..=MAX_FRAME];
    vec(length.prop_flat_map(move |length| vec(byte.clone(), length)), 4)
}

/// A history as it is gone through.
pub(crate) struct History;

impl History {
    /// Goes through a history, and asks about frames that nearly match what is installed,
    /// and `noise`. Answers what it ends with.
    pub(crate) fn run(
        events: &[Event],
        noise: &[Vec<u8>],
        mut ask: impl FnMut(&mut Checked, &[u8]),
    ) -> Checked {
        // Few buckets, so that chains are of several groups.
        let bits = 2 + events.len() as u32 % 5;
        let arena = match events.len() % 2 {
            0 => Arena::with_buckets(events.len(), bits),
            _ => Arena::spread(events.len(), bits),
        };
        let mut checked = Checked::new(arena);
        let mut candidates: Vec<Vec<u8>> = noise.to_vec();
        for (number, event) in events.iter().enumerate() {
            match event {
                Event::Install(filter) => {
                    if checked.install(filter).is_some() {
                        candidates.extend(near(filter));
                    }
                }
                Event::Wild(wild) => {
                    if checked.install(&wild.0).is_some() {
                        candidates.extend(wild.1.iter().flat_map(near));
                    }
                }
                Event::Remove(_) if checked.installed().is_empty() => continue,
                Event::Remove(index) => {
                    checked.remove(index.index(checked.installed().len()));
                }
            }
            // All of them at the end, some of them in between.
            let every = if number + 1 == events.len() { 1 } else { 7 };
            for frame in candidates.iter().skip(number % every).step_by(every) {
                ask(&mut checked, frame);
            }
        }
        checked
    }
}
