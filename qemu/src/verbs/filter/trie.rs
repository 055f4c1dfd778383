//! Merged filters as a graph.
//!
//! The shape follows from the filters alone: those that begin with the same canonical
//! steps share the nodes for them, and what leads on from a node and differs in a pinned
//! value only is one group, which costs a packet one test.

use std::collections::BTreeMap;
use std::fmt::Write;

use dpf::{Atom, Filter, Shift, Step};

/// One step as text, offsets from the base so far.
pub(super) fn step(step: &Step) -> String {
    let (field, value) = parts(step);
    if value.is_empty() { field } else { format!("{field} {value}") }
}

/// What a step looks at, and what it wants to see there.
fn parts(step: &Step) -> (String, String) {
    match *step {
        Step::Atom(atom) => {
            let Atom { offset, width, mask, lo, hi } = fitted(atom);
            let digits = 2 + 2 * usize::from(width);
            let field = format!("[{offset}:{width}] & {mask:#0digits$x}");
            let value = match lo == hi {
                true => format!("= {lo:#0digits$x}"),
                false => format!("in {lo:#x}..={hi:#x}"),
            };
            (field, value)
        }
        Step::Shift(Shift { offset, mask, scale }) => {
            let low = mask.trailing_zeros();
            let field = format!("base += (([{offset}] & {mask:#04x}) >> {low}) << {scale}");
            (field, String::new())
        }
    }
}

/// The atom without the bytes at either end that do not count, if any does: the canonical
/// form looks at eight always.
fn fitted(atom: Atom) -> Atom {
    let Atom { offset, width, mask, lo, hi } = atom;
    if mask == 0 {
        return atom;
    }
    let before = (mask.leading_zeros() / 8) as u8 - (8 - width);
    let after = (mask.trailing_zeros() / 8) as u8;
    let [mask, lo, hi] = [mask, lo, hi].map(|bits| bits >> (8 * after));
    Atom { offset: offset + u16::from(before), width: width - before - after, mask, lo, hi }
}

/// Whether a step is a range of the field that the next one shifts by.
fn bounds(step: &Step, next: &Step) -> bool {
    match (step, next) {
        (Step::Atom(atom), Step::Shift(shift)) => {
            let Atom { offset, width, mask, lo, hi } = fitted(*atom);
            lo < hi && (offset, width, mask) == (shift.offset, 1, shift.mask.into())
        }
        _ => false,
    }
}

/// A position after some steps.
#[derive(Default)]
struct Node {
    /// By what is looked at, in the order of the filters; then by what is seen.
    groups: Vec<(String, BTreeMap<String, Node>)>,
    filter: Option<usize>,
}

impl Node {
    fn add(&mut self, mut steps: &[Step], number: usize) {
        let Some(step) = steps.split_off_first() else {
            self.filter = Some(number);
            return;
        };
        let (mut field, value) = parts(step);
        let one_value = matches!(step, Step::Atom(Atom { lo, hi, .. }) if lo == hi);
        let value = match one_value {
            true => value,
            // A group of its own.
            false => {
                write!(field, " {value}").unwrap_or_default();
                String::new()
            }
        };
        // The bounds of a shift are part of it.
        if let Some(shift) = steps.first().filter(|shift| bounds(step, shift)) {
            write!(field, "; {}", parts(shift).0).unwrap_or_default();
            steps = steps.get(1..).unwrap_or_default();
        }
        let at = self.groups.iter().position(|(other, _)| *other == field);
        let at = at.unwrap_or_else(|| {
            self.groups.push((field, BTreeMap::new()));
            self.groups.len() - 1
        });
        if let Some((_, nodes)) = self.groups.get_mut(at) {
            nodes.entry(value).or_default().add(steps, number);
        }
    }

    /// Writes what is behind this node, whose name is given; names count up from `next`.
    fn draw(&self, out: &mut String, from: &str, edge: &str, next: &mut usize) {
        let mut name = || {
            *next += 1;
            format!("n{next}")
        };
        if let Some(number) = self.filter {
            let accept = name();
            _ = writeln!(out, "  {accept} [shape=doublecircle, label=\"{number}\"];");
            _ = writeln!(out, "  {from} -> {accept}{edge};");
        }
        let groups: Vec<_> = self.groups.iter().map(|group| (name(), group)).collect();
        for (name, (field, nodes)) in groups {
            _ = writeln!(out, "  {name} [label=\"{}\"];", field.trim_end());
            _ = writeln!(out, "  {from} -> {name}{edge};");
            for (value, node) in nodes {
                let edge = match value.as_str() {
                    "" => String::new(),
                    value => format!(" [label=\"{value}\"]"),
                };
                node.draw(out, &name, &edge, next);
            }
        }
    }
}

/// The graph in the language of Graphviz: a box for each group of tests, on its edges the
/// values, a circle for each filter.
pub(super) fn dot(filters: &[Filter]) -> String {
    let mut root = Node::default();
    for (number, filter) in (1..).zip(filters) {
        root.add(&filter.steps().collect::<Vec<_>>(), number);
    }
    let mut out = String::from("digraph filters {\n  node [shape=box];\n  frame [shape=plain];\n");
    root.draw(&mut out, "frame", "", &mut 0);
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpf_text::parse;

    #[test]
    fn merges_what_filters_have_in_common() {
        let filters =
            ["ether proto 0x800 and len >= 60", "ether proto 0x806", "ether proto 0x86dd"]
                .map(|text| parse(text).unwrap());
        let dot = dot(&filters);
        assert_eq!(dot, include_str!("merged.dot"),);
    }

    #[test]
    fn bounds_of_a_shift_are_part_of_it() {
        let dot = dot(&[parse("udp dst port 53").unwrap()]);
        let label = "[14:1] & 0x0f in 0x5..=0xf; base += (([14] & 0x0f) >> 0) << 2";
        assert!(dot.contains(label), "{dot}");
    }
}
