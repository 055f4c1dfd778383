//! A filter as text.
//!
//! Fields have their names where the filter pins what makes them those fields, so what
//! [`parse`](crate::parse) made reads much as it was written, and can be parsed again;
//! and so can every filter without shifts that has ranges only over fields of 1, 2, 4 or 8
//! bytes. Tags are shown as bytes. Another shift than that of the IPv4 header is shown as
//! what it does to the base, which the language of expressions cannot say.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::fmt;
use core::net::Ipv4Addr;

use dpf::{Atom, Filter, MIN_FRAME, Shift, Step};

/// Shows `filter` as text: the terms, joined by `and`.
pub fn explain(filter: &Filter) -> Explained {
    let steps: Vec<Step> = filter.steps().collect();
    let mut parts = vec![Part::default()];
    let mut shifts = Vec::new();
    for step in steps {
        match step {
            Step::Atom(atom) => parts.last_mut().into_iter().for_each(|part| part.add(&atom)),
            Step::Shift(shift) => {
                shifts.push(shift);
                parts.push(Part::default());
            }
        }
    }
    let mut parts = parts.into_iter();
    let mut first = parts.next().unwrap_or_default();
    let transport = match shifts[..] {
        [Shift { offset: 14, mask: 0x0f, scale: 2 }] => first.take_transport(),
        _ => None,
    };
    let mut terms = first.terms(None);
    for (shift, mut part) in shifts.into_iter().zip(parts) {
        if transport.is_none() {
            let Shift { offset, mask, scale } = shift;
            let field = format!("(base[{offset}] & {mask:#04x}) >> {}", mask.trailing_zeros());
            terms.push(format!("base += ({field}) << {scale}"));
        }
        terms.append(&mut part.terms(Some(transport.unwrap_or("base"))));
    }
    Explained(terms.join(" and "))
}

/// Text made by [`explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained(String);

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a filter says relative to one base.
#[derive(Default)]
struct Part {
    /// The pinned bits of each byte: mask and value.
    pins: BTreeMap<u16, (u8, u8)>,
    /// Ranges: first byte, bytes, mask, bounds.
    ranges: Vec<Atom>,
    /// Length of the shortest frame.
    reach: u16,
    /// One past the last byte that is pinned or in a range.
    covered: u16,
    /// The protocol behind the IPv4 header, if fields there can be named.
    transport: Option<&'static str>,
}

impl Part {
    fn add(&mut self, atom: &Atom) {
        let end = atom.offset + u16::from(atom.width);
        if atom.lo != atom.hi {
            let range = fitting(atom);
            self.covered = self.covered.max(range.offset + u16::from(range.width));
            self.ranges.push(range);
        } else {
            for byte in 0..u16::from(atom.width) {
                let pick = |bits: u64| (bits >> (8 * (u16::from(atom.width) - 1 - byte))) as u8;
                if pick(atom.mask) != 0 {
                    self.pins.insert(atom.offset + byte, (pick(atom.mask), pick(atom.lo)));
                    self.covered = self.covered.max(atom.offset + byte + 1);
                }
            }
        }
        self.reach = self.reach.max(end);
    }

    /// What the pinned bits of these bytes say, if all of their bits are.
    fn whole(&self, at: u16, bytes: u16) -> Option<u64> {
        (at..at + bytes).try_fold(0, |value, at| match self.pins.get(&at) {
            Some((0xff, byte)) => Some(value << 8 | u64::from(*byte)),
            _ => None,
        })
    }

    fn remove(&mut self, at: u16, bytes: u16) {
        self.pins.retain(|byte, _| !(at..at + bytes).contains(byte));
    }

    /// If fields behind the IPv4 header can be named: the protocol; what comes with
    /// the name is taken out.
    fn take_transport(&mut self) -> Option<&'static str> {
        let lengths = Atom { offset: 14, width: 1, mask: 0x0f, lo: 5, hi: 15 };
        let name = match (self.whole(12, 2)?, self.whole(23, 1)?) {
            (0x0800, 1) => "icmp",
            (0x0800, 6) => "tcp",
            (0x0800, 17) => "udp",
            _ => return None,
        };
        let fragment = (self.pins.get(&20)?, self.pins.get(&21)?);
        let at = self.ranges.iter().position(|range| *range == lengths)?;
        let (&(flags, 0), (0xff, 0)) = fragment else { return None };
        if flags & 0x1f != 0x1f || self.pins.get(&20)?.1 & 0x1f != 0 {
            return None;
        }
        self.ranges.remove(at);
        self.remove(21, 1);
        match flags & 0xe0 {
            0 => self.remove(20, 1),
            rest => self.pins.get_mut(&20)?.0 = rest,
        }
        // The other terms name the protocol.
        self.remove(12, 2);
        self.remove(23, 1);
        self.transport = Some(name);
        self.transport
    }

    /// As terms; `behind` is what the fields behind a shift are called.
    fn terms(&mut self, behind: Option<&str>) -> Vec<String> {
        let mut terms = Vec::new();
        let shortest = if behind.is_some() { 0 } else { MIN_FRAME as u16 };
        let mut layer = behind;
        if behind.is_none() {
            layer = match self.whole(12, 2) {
                _ if self.transport.is_some() => Some("ip"),
                Some(0x0800) => Some("ip"),
                Some(0x0806) => Some("arp"),
                Some(0x86dd) => Some("ip6"),
                _ => None,
            };
            self.named(layer, &mut terms);
        } else if let Some(name @ ("tcp" | "udp")) = behind {
            for (at, direction) in [(14, "src"), (16, "dst")] {
                if let Some(port) = self.whole(at, 2) {
                    terms.push(format!("{name} {direction} port {port}"));
                    self.remove(at, 2);
                }
            }
        }
        let field = |at: u16, width: u16| {
            let (name, at) = match layer {
                Some("base") | None => (layer.unwrap_or("ether"), at),
                Some(_) if at < 14 => ("ether", at),
                Some(name) => (name, at - 14),
            };
            if width == 1 { format!("{name}[{at}]") } else { format!("{name}[{at}:{width}]") }
        };
        while let Some((&at, _)) = self.pins.first_key_value() {
            let run = (at..).take_while(|at| self.pins.contains_key(at)).count();
            // Types and tags are two bytes each.
            let most = if layer.is_none() && (12..20).contains(&at) { 2 } else { 4 };
            let width = [4, 2, 1].into_iter().find(|&width| usize::from(width) <= run.min(most));
            let width = width.unwrap_or(1);
            let (mut mask, mut value) = (0_u64, 0_u64);
            for at in at..at + width {
                let (m, v) = self.pins.remove(&at).unwrap_or_default();
                (mask, value) = (mask << 8 | u64::from(m), value << 8 | u64::from(v));
            }
            let digits = 2 + 2 * usize::from(width);
            let masked = match mask {
                _ if mask == whole(width) => String::new(),
                _ => format!(" & {mask:#0digits$x}"),
            };
            terms.push(format!("{}{masked} = {value:#0digits$x}", field(at, width)));
        }
        for Atom { offset, width, mask, lo, hi } in core::mem::take(&mut self.ranges) {
            let field = field(offset, width.into());
            let masked = match mask {
                _ if mask == whole(width.into()) => String::new(),
                _ => format!(" & {mask:#x}"),
            };
            if lo != 0 {
                terms.push(format!("{field}{masked} >= {lo}"));
            }
            if hi != mask {
                terms.push(format!("{field}{masked} <= {hi}"));
            }
        }
        if self.reach > self.covered.max(shortest) {
            terms.push(match behind {
                None => format!("len >= {}", self.reach),
                Some(_) => format!("{} >= 0", field(self.reach - 1, 1)),
            });
        }
        terms
    }

    /// Fields that have a name, taken out.
    fn named(&mut self, layer: Option<&str>, terms: &mut Vec<String>) {
        for (at, name) in [(0, "dst"), (6, "src")] {
            if let Some(address) = self.whole(at, 6) {
                let [_, _, bytes @ ..] = address.to_be_bytes();
                let bytes = bytes.map(|byte| format!("{byte:02x}")).join(":");
                terms.push(format!("ether {name} {bytes}"));
                self.remove(at, 6);
            }
        }
        let Some(layer) = layer else { return };
        if self.transport.is_none() {
            let protocol = self.whole(23, 1).filter(|_| layer == "ip");
            terms.push(match protocol {
                Some(protocol) => format!("ip proto {protocol}"),
                None => String::from(layer),
            });
            self.remove(12, 2);
            if protocol.is_some() {
                self.remove(23, 1);
            }
        }
        let places = match layer {
            "ip" => [(26, "src"), (30, "dst")],
            "arp" => [(28, "src"), (38, "dst")],
            _ => return,
        };
        for (at, name) in places {
            if let Some(address) = self.whole(at, 4) {
                terms.push(format!("{layer} {name} host {}", Ipv4Addr::from_bits(address as u32)));
                self.remove(at, 4);
            }
        }
    }
}

fn whole(width: u16) -> u64 {
    u64::MAX >> (64 - 8 * width)
}

/// A range in the smallest field that has its bits, and ends where they do if it can.
fn fitting(atom: &Atom) -> Atom {
    let Atom { offset, width, mask, lo, hi } = *atom;
    let cut = (mask.trailing_zeros() / 8) as u16;
    let (mask, lo, hi) = (mask >> (8 * cut), lo >> (8 * cut), hi >> (8 * cut));
    let end = offset + u16::from(width) - cut;
    let needed = (64 - mask.leading_zeros()).div_ceil(8) as u16;
    let width = [1, 2, 4, 8].into_iter().find(|&width| width >= needed).unwrap_or(8);
    // A field that would begin before the header that it is in is not widened.
    let width = if end.saturating_sub(width) < MIN_FRAME as u16 && end > MIN_FRAME as u16 {
        needed
    } else {
        width
    };
    // One that would begin before the frame begins with it, and ends further on.
    let offset = end.saturating_sub(width);
    let behind = 8 * (offset + width - end);
    let (mask, lo, hi) = (mask << behind, lo << behind, hi << behind);
    Atom { offset, width: width as u8, mask, lo, hi }
}
