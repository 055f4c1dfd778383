//! What steps mean, straight from the definition of the language, and what one filter has
//! to do with that.

use dpf::{Atom, Filter, MAX_WIRE, MIN_FRAME, Shift, Step, compile, implies, overlap};
use dpf_run::{Edge, Runnable, example};

use crate::decode::check_predicate;

/// Whether steps, as they are written, take a frame.
pub(crate) fn takes(steps: &[Step], frame: &[u8]) -> bool {
    let load = |start: usize, width: u8| {
        let bytes = frame.get(start..start + usize::from(width))?;
        Some(bytes.iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte)))
    };
    let mut base = 0;
    frame.len() >= MIN_FRAME
        && steps.iter().all(|step| match *step {
            Step::Atom(Atom { offset, width, mask, lo, hi }) => {
                let field = load(base + usize::from(offset), width);
                field.is_some_and(|field| (lo..=hi).contains(&(field & mask)))
            }
            Step::Shift(Shift { offset, mask, scale }) => {
                let Some(byte) = load(base + usize::from(offset), 1) else { return false };
                let field = (byte & u64::from(mask)) >> mask.trailing_zeros();
                base += (field as usize) << scale;
                true
            }
        })
}

/// What holds of any filter on its own, if some frame matches. Answers one.
pub(crate) fn example_of_sound(filter: &Filter) -> Vec<u8> {
    let mut wire = [0xaa; MAX_WIRE];
    let length = filter.encode(&mut wire).expect("no wire form is longer");
    assert_eq!(Filter::decode(&wire[..length]), Some(*filter), "decoded as it was encoded");
    let steps: Vec<Step> = filter.steps().collect();
    assert_eq!(Filter::of_steps(&steps), Ok(*filter), "the canonical form is one");
    let shortest = example(filter);
    assert!(filter.matches(&shortest), "a witness matches");
    assert!(shortest.len() <= filter.reach());
    assert!(overlap(filter, filter) && implies(filter, filter));
    shortest
}

/// One filter as code.
pub(crate) struct Compiled<'f> {
    filter: &'f Filter,
    code: Runnable,
    edge: Edge,
}

impl<'f> Compiled<'f> {
    /// The code keeps within the frame.
    pub(crate) fn new(filter: &'f Filter) -> Self {
        let predicate = compile(filter);
        assert!(!predicate.bytes().is_empty(), "it fits");
        check_predicate(predicate.bytes());
        Self { filter, code: Runnable::new(&predicate), edge: Edge::new() }
    }

    /// The code means what the filter does, wherever in a page the frame is.
    pub(crate) fn agrees_on(&mut self, frame: &[u8]) {
        let expected = self.filter.matches(frame);
        assert_eq!(self.code.matches(self.edge.place(frame)), expected, "{frame:?}");
        assert_eq!(self.code.matches(self.edge.place_first(frame)), expected, "{frame:?}");
    }
}
