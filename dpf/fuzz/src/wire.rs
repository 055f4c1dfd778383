//! One filter: a description of steps in postcard's form, or tests as the kernel takes them.

use dpf::exact::sound;
use dpf::{Atom, Filter, KEY_BYTES, Key, MAX_ATOMS, MAX_FRAME, MAX_WIRE, Shift, Step};
use dpf_run::{example, near};
use serde::Deserialize;

use crate::input::Input;
use crate::meaning::{Compiled, example_of_sound, takes};
use crate::show;
use crate::text::explanation;

/// The value that a description is postcard's form of, behind its first byte.
#[derive(Deserialize)]
struct Wire {
    steps: Vec<WireStep>,
}

/// The first byte of a description, and of tests.
const STEPS: u8 = 2;
const TESTS: u8 = 3;
/// Bytes of a test.
const TEST: usize = MAX_WIRE / MAX_ATOMS;

#[derive(Clone, Copy, Deserialize)]
enum WireStep {
    Equal { offset: u16, width: u8, mask: u64, value: u64 },
    Range { offset: u16, width: u8, mask: u64, lo: u64, hi: u64 },
    Shift { offset: u16, mask: u8, scale: u8 },
}

impl From<WireStep> for Step {
    fn from(step: WireStep) -> Self {
        match step {
            WireStep::Equal { offset, width, mask, value } => {
                Atom::masked(offset, width, mask, value).into()
            }
            WireStep::Range { offset, width, mask, lo, hi } => {
                Atom { offset, width, mask, lo, hi }.into()
            }
            WireStep::Shift { offset, mask, scale } => Self::Shift(Shift { offset, mask, scale }),
        }
    }
}

/// A filter, and behind it how frames differ from one that matches.
///
/// # Panics
/// If something does not hold.
pub fn wire(bytes: &[u8]) {
    match bytes.split_first() {
        Some((&STEPS, rest)) => described(rest),
        Some((&TESTS, rest)) => tests(rest),
        _ => {}
    }
}

/// What the kernel would take from whatever writes it: how many tests, and they. It means the
/// same as code, and reads no more than the frame.
fn tests(bytes: &[u8]) {
    let Some((&count, bytes)) = bytes.split_first() else { return };
    let Some((form, rest)) = bytes.split_at_checked(TEST * usize::from(count)) else { return };
    let Some(filter) = Filter::decode(form) else { return };
    show(|| format!("{filter:#?}"));
    let mut again = [0xaa; MAX_WIRE];
    let length = filter.encode(&mut again).expect("no wire form is longer");
    assert_eq!(again[..length], *form, "it has one form");
    let mut code = Compiled::new(&filter);
    let mut input = Input(rest);
    let mut frame = vec![0; filter.reach().min(MAX_FRAME)];
    loop {
        frame = input.edited(frame);
        code.agrees_on(&frame);
        if input.is_empty() {
            break;
        }
    }
}

/// A description, and edits of a frame.
fn described(bytes: &[u8]) {
    let Ok((wire, rest)) = postcard::take_from_bytes::<Wire>(bytes) else { return };
    let steps: Vec<Step> = wire.steps.into_iter().map(Into::into).collect();
    let Ok(filter) = Filter::of_steps(&steps) else { return };
    show(|| format!("{steps:#?}\nin canonical form {filter:#?}"));

    if sound(&filter).is_err() {
        return;
    }
    let example = example_of_sound(&filter);
    explanation(&filter);
    mirrored(&filter);
    let mut code = Compiled::new(&filter);
    let mut ask = |frame: &[u8]| {
        assert_eq!(filter.matches(frame), takes(&steps, frame), "{steps:?}\non {frame:?}");
        code.agrees_on(frame);
    };
    near(&filter).iter().for_each(|frame| ask(frame));
    let mut input = Input(rest);
    while !input.is_empty() {
        ask(&input.edited(example.clone()));
    }
}

/// If it is a key with a mirror, a packet of either is one of the other with the roles swapped.
fn mirrored(filter: &Filter) {
    const STATION: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
    let Some(key) = Key::of(filter) else { return };
    assert_eq!(key.filter().and_then(|filter| Key::of(&filter)), Some(key));
    let Ok(sent) = key.mirror(STATION) else { return };
    let head = |frame: &[u8]| -> [u8; KEY_BYTES] {
        core::array::from_fn(|at| frame.get(at).copied().unwrap_or_default())
    };
    let own = head(&example(&sent.filter().expect("the station is pinned")));
    assert!(sent.matches(&own) && own[6..12] == STATION);
    assert!(key.matches(&head(&swapped(&own))), "{filter:?}\ntakes what {sent:?}\nlets out");
    let mut received = head(&example(filter));
    assert!(key.matches(&received));
    received[..6].copy_from_slice(&STATION);
    if received[12..14] == [8, 6] {
        received[32..38].copy_from_slice(&STATION);
    }
    if key.matches(&received) {
        let answer = head(&swapped(&received));
        assert!(sent.matches(&answer), "{sent:?}\nlets out what {filter:?}\ntakes");
    }
}

/// The frame with both roles swapped, field by field.
fn swapped(frame: &[u8]) -> Vec<u8> {
    let mut out = frame.to_vec();
    let mut swap = |a: usize, b: usize, length: usize| {
        out[a..a + length].copy_from_slice(&frame[b..b + length]);
        out[b..b + length].copy_from_slice(&frame[a..a + length]);
    };
    swap(0, 6, 6);
    if frame[12..14] == [8, 6] {
        swap(22, 32, 6);
        swap(28, 38, 4);
    } else {
        swap(26, 30, 4);
        if [6, 17, 33, 132, 136].contains(&frame[23]) {
            swap(34, 36, 2);
        }
    }
    out
}
