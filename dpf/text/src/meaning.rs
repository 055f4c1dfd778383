//! Terms to steps: which protocol is meant, and where its fields are.
//!
//! An address is one of IPv4 or ARP, and a port one of TCP or UDP, if another term of
//! the conjunction says which; in pcap that makes no difference, because there they
//! are alternatives of which the other term leaves one. `tcp`, `udp` and `icmp` are
//! over IPv4.
//!
//! `vlan` pins the tag's type and moves what comes after it by the tag's four bytes: a
//! constant, so this needs no shift. Fields behind the IPv4 header are found with one
//! shift by its length. With it come two atoms: the fragment is the first, because
//! others have no such header, and the header length is at least 5.

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use dpf::{Atom, Filter, FilterError, Shift, Step};

use crate::error::Problem;
use crate::parser::{Direction, Kind, Layer, Term};

/// Bytes of the Ethernet header, and of a tag.
const ETHERNET: u16 = 14;
const TAG: u16 = 4;

/// The filter of all terms. `end` is the length of the text.
pub(crate) fn filter(terms: &[Term], end: usize) -> Result<Filter, Problem> {
    let terms = resolved(terms)?;
    let error = match Filter::of_steps(&steps(&terms)) {
        Ok(filter) => return Ok(filter),
        Err(error) => error,
    };
    // The first term with which it is the same error is the one to show.
    let same = |count: &usize| {
        let part = terms.get(..*count).unwrap_or(&terms);
        Filter::of_steps(&steps(part)) == Err(error)
    };
    let culprit = (1..=terms.len()).find(same).and_then(|count| terms.get(count - 1));
    let at = culprit.map_or(0..end, |term| term.at.clone());
    Err(match error {
        FilterError::Contradiction => {
            let problem = Problem::new(&at, "no frame is like this and what precedes it");
            match terms.iter().any(|term| term.kind == Kind::EtherType(0x86dd)) {
                true => {
                    problem.instead("tcp, udp, icmp and addresses are understood over IPv4 only")
                }
                false => problem,
            }
        }
        FilterError::NoAtoms => Problem::new(&at, "this takes every frame, and a filter may not"),
        error => Problem::new(&at, format!("{error}")),
    })
}

/// The terms with their layers filled in, tag by tag.
fn resolved(terms: &[Term]) -> Result<Vec<Term>, Problem> {
    let mut resolved = Vec::new();
    let tagged = |term: &Term| matches!(term.kind, Kind::Vlan(_));
    for part in terms.split_inclusive(tagged) {
        for term in part {
            resolved.push(Term { kind: resolve(term, part)?, at: term.at.clone() });
        }
    }
    Ok(resolved)
}

/// One term, among those between the same tags.
fn resolve(term: &Term, part: &[Term]) -> Result<Kind, Problem> {
    let mut kind = term.kind.clone();
    let has = |asked: Layer| part.iter().any(|other| implies(&other.kind, asked));
    match &mut kind {
        Kind::Address { layer: layer @ None, direction, .. } => {
            *layer = Some(match (has(Layer::Ip), has(Layer::Arp)) {
                (false, true) => Layer::Arp,
                (true, _) => Layer::Ip,
                _ => {
                    return Err(ambiguous(
                        &term.at,
                        "an address may be of IPv4 or of ARP",
                        "ip",
                        "arp",
                        *direction,
                        "host",
                    ));
                }
            });
        }
        Kind::Ports { layer: layer @ None, direction, .. } => {
            let (tcp, udp) = (Layer::Transport(6), Layer::Transport(17));
            *layer = Some(match (has(tcp), has(udp)) {
                (true, _) => tcp,
                (_, true) => udp,
                _ => {
                    return Err(ambiguous(
                        &term.at,
                        "a port may be of TCP or of UDP",
                        "tcp",
                        "udp",
                        *direction,
                        "port",
                    ));
                }
            });
        }
        _ => {}
    }
    Ok(kind)
}

fn ambiguous(
    at: &Range<usize>,
    message: &str,
    one: &str,
    other: &str,
    direction: Direction,
    what: &str,
) -> Problem {
    let direction = if direction == Direction::Source { "src" } else { "dst" };
    Problem::new(at, format!("{message}, which is two filters"))
        .instead(format!("write `{one} {direction} {what}` or `{other} {direction} {what}`"))
}

/// Whether what the term says is said of frames of the layer.
fn implies(kind: &Kind, asked: Layer) -> bool {
    let layer = match *kind {
        Kind::Is(layer) | Kind::Compare { layer, .. } => Some(layer),
        Kind::EtherType(0x0800) => Some(Layer::Ip),
        Kind::EtherType(0x0806) => Some(Layer::Arp),
        Kind::IpProtocol(number) => Some(Layer::Transport(number)),
        Kind::Address { layer, .. } | Kind::Ports { layer, .. } => layer,
        _ => None,
    };
    layer == Some(asked) || asked == Layer::Ip && matches!(layer, Some(Layer::Transport(_)))
}

/// Steps in the making: those before the shift and those behind it.
#[derive(Default)]
struct Steps {
    before: Vec<Atom>,
    /// How far the header in front of what is shifted is moved by tags.
    shift: Option<u16>,
    behind: Vec<Atom>,
}

/// What the terms say.
fn steps(terms: &[Term]) -> Vec<Step> {
    let mut steps = Steps::default();
    let mut tags = 0_u16;
    for term in terms {
        steps.add(&term.kind, tags.saturating_mul(TAG).min(1500));
        tags = tags.saturating_add(u16::from(matches!(term.kind, Kind::Vlan(_))));
    }
    let shift =
        steps.shift.map(|by| Step::Shift(Shift { offset: ETHERNET + by, mask: 0x0f, scale: 2 }));
    let shift = shift.filter(|_| !steps.behind.is_empty());
    let before = steps.before.into_iter().map(Step::Atom);
    before.chain(shift).chain(steps.behind.into_iter().map(Step::Atom)).collect()
}

impl Steps {
    fn push(&mut self, atom: Atom) {
        if !self.before.contains(&atom) {
            self.before.push(atom);
        }
    }

    /// The frame is of this layer; its headers are moved by tags of `by` bytes.
    fn is(&mut self, layer: Layer, by: u16) {
        let ethertype = match layer {
            Layer::Ethernet => return,
            Layer::Arp => 0x0806,
            Layer::Ip | Layer::Transport(_) => 0x0800,
        };
        self.push(Atom::exact(12 + by, 2, ethertype));
        if let Layer::Transport(protocol) = layer {
            self.push(Atom::exact(ETHERNET + 9 + by, 1, protocol.into()));
        }
    }

    /// A field of this layer.
    fn field(&mut self, layer: Layer, atom: Atom, by: u16) {
        self.is(layer, by);
        match layer {
            Layer::Ethernet => self.push(atom),
            Layer::Ip | Layer::Arp => {
                self.push(Atom { offset: atom.offset + ETHERNET + by, ..atom });
            }
            Layer::Transport(_) => {
                self.push(Atom::masked(ETHERNET + 6 + by, 2, 0x1fff, 0));
                self.push(Atom { offset: ETHERNET + by, width: 1, mask: 0x0f, lo: 5, hi: 15 });
                self.shift = Some(by);
                let atom = Atom { offset: atom.offset + ETHERNET + by, ..atom };
                if !self.behind.contains(&atom) {
                    self.behind.push(atom);
                }
            }
        }
    }

    fn add(&mut self, kind: &Kind, by: u16) {
        let source = |direction| direction == Direction::Source;
        match *kind {
            Kind::Is(layer) => self.is(layer, by),
            Kind::EtherType(number) => self.push(Atom::exact(12 + by, 2, number.into())),
            Kind::IpProtocol(number) => self.is(Layer::Transport(number), by),
            Kind::Address { layer, direction, address, mask } => {
                let layer = layer.unwrap_or(Layer::Ip);
                let offset = match (layer, source(direction)) {
                    (Layer::Arp, true) => 14,
                    (Layer::Arp, false) => 24,
                    (_, true) => 12,
                    (_, false) => 16,
                };
                self.field(layer, Atom::masked(offset, 4, mask.into(), address.into()), by);
            }
            Kind::Ports { layer, direction, lo, hi } => {
                let offset = if source(direction) { 0 } else { 2 };
                let ports = Atom::range(offset, 2, lo.into(), hi.into());
                self.field(layer.unwrap_or(Layer::Transport(17)), ports, by);
            }
            Kind::Station { direction, address } => {
                let offset = if source(direction) { 6 } else { 0 };
                self.push(Atom::exact(offset, 4, address >> 16));
                self.push(Atom::exact(offset + 4, 2, address & 0xffff));
            }
            Kind::Multicast => self.push(Atom::masked(0, 1, 1, 1)),
            Kind::Vlan(number) => {
                self.push(Atom::exact(12 + by, 2, 0x8100));
                if let Some(number) = number {
                    self.push(Atom::masked(ETHERNET + by, 2, 0x0fff, number.into()));
                }
            }
            Kind::Compare { layer, atom } => self.field(layer, atom, by),
            Kind::Longer(length) => self.push(Atom::masked(length.max(1) - 1, 1, 0, 0)),
        }
    }
}
