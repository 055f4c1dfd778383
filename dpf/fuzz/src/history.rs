//! Filters that come and go, and frames meanwhile.

use dpf::exact::sound;
use dpf::{Atom, Filter, Key, MAX_FRAME, Step, implies, overlap, witness};
use dpf_run::{Arena, Checked};

use crate::input::Input;
use crate::meaning::{example_of_sound, takes};
use crate::pieces::check_arena;
use crate::show;

/// The most filters at once.
const MOST: usize = 16;
/// The most filters one after the other: bits of a set.
const TAGS: usize = 64;

/// What many filters begin with: nothing, IPv4, UDP, unfragmented UDP without options.
const BEGINNINGS: [&[Atom]; 4] = [
    &[],
    &[Atom::exact(12, 2, 0x0800)],
    &[Atom::exact(12, 2, 0x0800), Atom::exact(23, 1, 17)],
    &[
        Atom::exact(12, 2, 0x0800),
        Atom::exact(14, 1, 0x45),
        Atom::masked(20, 2, 0x3fff, 0),
        Atom::exact(23, 1, 17),
    ],
];

/// The first byte says how many heads the table has, whether code is far apart, and whether
/// all filters are removed at the end; then one thing happens after the other.
///
/// # Panics
/// If something does not hold.
pub fn history(bytes: &[u8]) {
    let mut input = Input(bytes);
    let first = input.byte();
    let bits = 2 + u32::from(first & 7) % 5;
    let arena = match first & 0x80 {
        0 => Arena::with_buckets(MOST, bits),
        _ => Arena::spread(MOST, bits),
    };
    show(|| format!("2^{bits} heads, {}", if first < 0x80 { "near" } else { "far" }));
    let mut history = History { checked: Checked::new(arena), known: Vec::new() };
    while !input.is_empty() {
        history.happens(&mut input);
    }
    check_arena(history.checked.arena());
    while first & 0x40 != 0 && !history.checked.installed().is_empty() {
        history.remove(0);
    }
}

struct History {
    checked: Checked,
    /// By tag: whatever was installed.
    known: Vec<Known>,
}

struct Known {
    /// As they were written.
    steps: Vec<Step>,
    example: Vec<u8>,
    /// To those that were installed before it.
    relations: Relations,
}

/// Sets of tags, by what is said about their filters and one that came later.
#[derive(Default)]
struct Relations {
    /// They share a frame with it.
    sharing: u64,
    /// They take all that it takes.
    around: u64,
    /// It takes all that they take.
    inside: u64,
}

impl History {
    /// The next thing happens. Its kind is in the lowest bits of a byte, the filter that it
    /// is about above.
    fn happens(&mut self, input: &mut Input<'_>) {
        let first = input.byte();
        let (kind, which) = (first & 7, first >> 3);
        if kind == 0 {
            let beginning = BEGINNINGS[usize::from(which & 3)].iter().map(|&atom| atom.into());
            let rest = (0..which >> 2).map(|_| input.step());
            let steps: Vec<Step> = beginning.chain(rest).collect();
            self.install(steps);
            return;
        }
        let Some((index, tag)) = self.at(which) else {
            if kind > 3 {
                self.ask(&input.edited(vec![0; 60]));
            }
            return;
        };
        match kind {
            1 => {
                let how = input.byte();
                self.vary(tag, how, input);
            }
            2 => {
                let (count, distance) = (input.byte(), input.byte());
                let steps = self.known[tag].steps.clone();
                for number in 1..=1 + u64::from(count & 7) {
                    self.install(moved(&steps, number * (1 + u64::from(distance))));
                }
            }
            3 => self.remove(index),
            4 | 5 => self.ask(&input.edited(self.known[tag].example.clone())),
            6 => {
                let other = self.at(input.byte()).map_or(index, |(index, _)| index);
                let [a, b] = [index, other].map(|index| self.checked.installed()[index].filter);
                let mut frame = [0; MAX_FRAME];
                let length = witness(&a, &b, &mut frame);
                assert_eq!(length.is_some(), overlap(&a, &b), "{a:?}\nand {b:?}");
                let Some(length) = length else { return };
                let frame = &frame[..length];
                assert!(a.matches(frame) && b.matches(frame), "{a:?}\nand {b:?}");
                self.ask(&input.edited(frame.to_vec()));
            }
            _ => check_arena(self.checked.arena()),
        }
    }

    /// The place and the tag of one of the installed filters.
    fn at(&self, which: u8) -> Option<(usize, usize)> {
        let installed = self.checked.installed();
        let index = usize::from(which).checked_rem(installed.len())?;
        Some((index, installed[index].tag.0 as usize))
    }

    /// A filter that has much in common with one that is there.
    fn vary(&mut self, tag: usize, how: u8, input: &mut Input<'_>) {
        let old = &self.known[tag].steps;
        let mut steps = old.clone();
        let mut step = || if how & 4 == 0 { input.step() } else { beside(old, input.step()) };
        match how & 3 {
            0 => steps.push(step()),
            1 => drop(steps.pop()),
            2 => steps[old.len() - 1] = step(),
            _ => steps.insert(0, step()),
        }
        let pair = [Filter::of_steps(old), Filter::of_steps(&steps)];
        if let ([Ok(old), Ok(new)], 0 | 1) = (pair, how & 3) {
            let (inner, outer) = if how & 3 == 0 { (new, old) } else { (old, new) };
            assert!(implies(&inner, &outer), "{inner:?}\nsays more than {outer:?}");
        }
        // What it says beside a key is compared, too.
        let scope = if how & 8 == 0 { None } else { Filter::of_steps(&self.known[tag].steps).ok() };
        self.install_under(steps, scope);
    }

    fn install(&mut self, steps: Vec<Step>) {
        self.install_under(steps, None);
    }

    fn install_under(&mut self, steps: Vec<Step>, scope: Option<Filter>) {
        let full = self.checked.installed().len() == MOST || self.known.len() == TAGS;
        let filter = Filter::of_steps(&steps).ok().filter(|it| !full && sound(it).is_ok());
        let Some(filter) = filter else { return };
        let example = example_of_sound(&filter);
        // A packet that has the key is what it was.
        if let Some((key, rest)) = scope
            .and_then(|scope| Key::of(&scope))
            .and_then(|key| Some((key, filter.behind(&key)?)))
        {
            let has_key = key.filter().is_none_or(|key| key.matches(&example));
            assert!(has_key && rest.matches(&example), "{filter:?}\nbehind {key:?}");
        }
        show(|| format!("install {} {steps:?}\n  in canonical form {filter:?}", self.known.len()));
        let relations = self.compare(&filter);
        if let Some(tag) = self.checked.install(&filter) {
            assert_eq!(tag.0 as usize, self.known.len());
            self.known.push(Known { steps, example, relations });
            self.ask_all();
        }
    }

    fn remove(&mut self, index: usize) {
        let removed = self.checked.remove(index);
        show(|| format!("remove {}", removed.tag.0));
        self.ask_all();
        let example = &self.known[removed.tag.0 as usize].example;
        self.checked.classify(example);
    }

    /// What is said about a filter and the installed ones fits together.
    fn compare(&self, filter: &Filter) -> Relations {
        let mut relations = Relations::default();
        for other in self.checked.installed() {
            let (tag, other) = (1_u64 << other.tag.0, &other.filter);
            let pair = || format!("{filter:?}\nand {other:?}");
            let shares = overlap(other, filter);
            // The other is around it, or inside.
            let (around, inside) = (implies(filter, other), implies(other, filter));
            assert!(shares || !around && !inside, "{}", pair());
            let shifts = || filter.steps().any(|step| matches!(step, Step::Shift(_)));
            if around && inside {
                let canonical = |it: &Filter| Filter::of_steps(&Vec::from_iter(it.steps()));
                let same = canonical(filter) == canonical(other);
                assert!(same || shifts(), "one canonical form: {}", pair());
            }
            for (set, holds) in [
                (&mut relations.sharing, shares),
                (&mut relations.around, around),
                (&mut relations.inside, inside),
            ] {
                *set |= if holds { tag } else { 0 };
            }
        }
        relations
    }

    /// A frame arrives for each that is installed.
    fn ask_all(&mut self) {
        for installed in 0..self.checked.installed().len() {
            let tag = self.checked.installed()[installed].tag.0 as usize;
            self.checked.classify(&self.known[tag].example);
        }
    }

    /// A frame arrives.
    fn ask(&mut self, frame: &[u8]) {
        show(|| format!("frame {frame:?}"));
        self.checked.classify(frame);
        let (mut installed, mut matching) = (0, 0);
        for it in self.checked.installed() {
            let tag = it.tag.0 as usize;
            installed |= 1_u64 << tag;
            let matches = it.filter.matches(frame);
            matching |= u64::from(matches) << tag;
            let steps = &self.known[tag].steps;
            assert_eq!(matches, takes(steps, frame), "{steps:?}\non {frame:?}");
        }
        for (tag, known) in self.known.iter().enumerate() {
            let (bit, Relations { sharing, around, inside }) = (1 << tag, &known.relations);
            if matching & bit != 0 {
                assert_eq!(matching & (bit - 1) & !sharing, 0, "share {tag}'s {frame:?}");
                assert_eq!(installed & around & !matching, 0, "are around {tag}: {frame:?}");
            } else if installed & bit != 0 {
                assert_eq!(matching & inside, 0, "are inside {tag}: {frame:?}");
            }
        }
    }
}

/// The step moved so that it ends where the last of these does.
fn beside(steps: &[Step], mut step: Step) -> Step {
    if let (Some(Step::Atom(last)), Step::Atom(atom)) = (steps.last(), &mut step) {
        let end = last.offset + u16::from(last.width);
        atom.offset = end.saturating_sub(atom.width.into());
    }
    step
}

/// The steps with the last field asked to be so much greater.
fn moved(steps: &[Step], by: u64) -> Vec<Step> {
    let mut steps = steps.to_vec();
    if let Some(Step::Atom(Atom { mask, lo, hi, .. })) = steps.last_mut() {
        let unit = 1_u64 << mask.trailing_zeros().min(63);
        let [a, b] = [*lo, *hi].map(|bound| bound.wrapping_add(by.wrapping_mul(unit)) & *mask);
        (*lo, *hi) = (a.min(b), a.max(b));
    }
    steps
}
