//! Terms to steps: which protocol is meant, and where its fields are.
//!
//! An address is one of IPv4 or ARP, and a port one of TCP or UDP, if another term of
//! the conjunction says which; in pcap that makes no difference, because there they
//! are alternatives of which the other term leaves one. `tcp`, `udp` and `icmp` are
//! over IPv4; fields of `icmp6` are behind the fixed IPv6 header.
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
use crate::term::{Direction, Kind, Layer, Term};

/// Bytes of the Ethernet header, and of a tag.
const ETHERNET: u16 = 14;
const TAG: u16 = 4;
/// Bytes of the fixed IPv6 header.
const IPV6: u16 = 40;

/// The filter of these terms. Where it costs nothing that matters, one that no packet matches
/// is found even if that depends on a header's length.
fn made(terms: &[Term]) -> Result<Filter, FilterError> {
    let filter = Filter::of_steps(&steps(terms))?;
    #[cfg(not(exo_guest))]
    dpf::exact::sound(&filter)?;
    Ok(filter)
}

/// The filter of all terms. `end` is the length of the text.
pub(crate) fn filter(terms: &[Term], end: usize) -> Result<Filter, Problem> {
    let terms = resolved(terms)?;
    let error = match made(&terms) {
        Ok(filter) => return Ok(filter),
        Err(error) => error,
    };
    // The first term with which it is the same error is the one to show.
    let same = |count: &usize| {
        let part = terms.get(..*count).unwrap_or(&terms);
        made(part) == Err(error)
    };
    let culprit = (1..=terms.len()).find(same).and_then(|count| terms.get(count - 1));
    let at = culprit.map_or(0..end, |term| term.at.clone());
    Err(match error {
        FilterError::Contradiction => {
            let problem = Problem::new(&at, "no packet is like this and what precedes it");
            match terms.iter().any(|term| implies(&term.kind, Layer::Ip6)) {
                true => {
                    problem.instead("tcp, udp, icmp and addresses are understood over IPv4 only")
                }
                false => problem,
            }
        }
        FilterError::NoAtoms => Problem::new(&at, "this takes every packet, and a filter may not"),
        FilterError::TooManyAtoms => {
            Problem::new(&at, "with this the filter has more than 12 tests, which is the most")
        }
        FilterError::BeyondFrame => {
            let message = "this is beyond the end of the longest packet, 1514 bytes";
            let behind = terms
                .iter()
                .any(|term| matches!(term.kind, Kind::Compare { layer: Layer::Transport(_), .. }));
            match behind {
                true => {
                    Problem::new(&at, format!("{message}, if the IPv4 header before it is long"))
                }
                false => Problem::new(&at, message),
            }
        }
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
    let direction = direction.words();
    Problem::new(at, format!("{message}, which is two filters"))
        .instead(format!("write `{one} {direction} {what}` or `{other} {direction} {what}`"))
}

/// Whether what the term says is said of frames of the layer.
fn implies(kind: &Kind, asked: Layer) -> bool {
    let layer = match *kind {
        Kind::Is(layer) | Kind::Compare { layer, .. } => Some(layer),
        Kind::EtherType(0x0800) => Some(Layer::Ip),
        Kind::EtherType(0x0806) => Some(Layer::Arp),
        Kind::EtherType(0x86dd) => Some(Layer::Ip6),
        Kind::IpProtocol(number) => Some(Layer::Transport(number)),
        Kind::Address { layer, .. } | Kind::Ports { layer, .. } => layer,
        _ => None,
    };
    match layer {
        Some(Layer::Transport(_)) if asked == Layer::Ip => true,
        Some(Layer::Icmp6) if asked == Layer::Ip6 => true,
        layer => layer == Some(asked),
    }
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
            Layer::Ip6 | Layer::Icmp6 => 0x86dd,
        };
        self.push(Atom::exact(12 + by, 2, ethertype));
        if layer == Layer::Icmp6 {
            self.push(Atom::exact(ETHERNET + 6 + by, 1, 58));
        }
        if let Layer::Transport(protocol) = layer {
            self.push(Atom::exact(ETHERNET + 9 + by, 1, protocol.into()));
        }
    }

    /// A field of this layer.
    fn field(&mut self, layer: Layer, atom: Atom, by: u16) {
        self.is(layer, by);
        match layer {
            Layer::Ethernet => self.push(atom),
            Layer::Ip | Layer::Arp | Layer::Ip6 => {
                self.push(Atom { offset: atom.offset + ETHERNET + by, ..atom });
            }
            Layer::Icmp6 => {
                self.push(Atom { offset: atom.offset + ETHERNET + IPV6 + by, ..atom });
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
        match *kind {
            Kind::Is(layer) => self.is(layer, by),
            Kind::EtherType(number) => self.push(Atom::exact(12 + by, 2, number.into())),
            Kind::IpProtocol(number) => self.is(Layer::Transport(number), by),
            Kind::Address { layer, direction, address, mask } => {
                let layer = layer.unwrap_or(Layer::Ip);
                let offsets = if layer == Layer::Arp { [14, 24] } else { [12, 16] };
                for offset in direction.of(offsets) {
                    self.field(layer, Atom::masked(offset, 4, mask.into(), address.into()), by);
                }
            }
            Kind::Ports { layer, direction, lo, hi } => {
                let layer = layer.unwrap_or(Layer::Transport(17));
                for offset in direction.of([0, 2]) {
                    self.field(layer, Atom::range(offset, 2, lo.into(), hi.into()), by);
                }
            }
            Kind::Station { direction, address } => {
                for offset in direction.of([6, 0]) {
                    self.push(Atom::exact(offset, 4, address >> 16));
                    self.push(Atom::exact(offset + 4, 2, address & 0xffff));
                }
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
