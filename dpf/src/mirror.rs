//! Speak as you listen: what the owner of a receive filter may send.
//!
//! Place on the packet path: the check of step 6, transmit. What may lie: the
//! frame; the caller checks a copy of its first [`reach`](Filter::reach) bytes
//! that the sender cannot change.
//!
//! Whom a frame claims to come from is written in its source fields; whom a
//! filter listens for, in the destination fields it pins. The mirror of a filter
//! takes exactly the frames that leave from the station's own Ethernet address
//! and that the filter would take with the two roles swapped:
//!
//! | frame | swapped |
//! |---|---|
//! | all | Ethernet destination and source |
//! | IPv4 | destination and source address |
//! | IPv4 with ports | destination and source port |
//! | ARP | target and sender, hardware and protocol address |
//!
//! All other bits (ethertype, protocol, payload) stay as the filter pins them.
//! Hence filters that share no frame have mirrors that share none, and as long
//! as the kernel keeps receive filters of different owners apart, none can send
//! what could have come from another. Bits, not atoms, are swapped, so how the
//! filter was cut into atoms does not matter.
//!
//! That holds only if the filter pins an identity, and if whoever receives the
//! frame looks for the identity where the filter did. So there is no mirror, and
//! its owner can only listen, unless the filter pins
//!
//! * the ethertype, to IPv4 or ARP: another ethertype (a VLAN tag, IPv6) moves or
//!   changes the source fields;
//! * for IPv4, version and header length (options move the ports), the fragment
//!   bits to "not a fragment" (later fragments carry no ports, and overlapping
//!   ones can replace those that were checked), the protocol, the whole
//!   destination address, and for a protocol with ports the whole destination port;
//! * for ARP, hardware and protocol type and both address lengths (others move
//!   the sender fields), and the whole target protocol address.
//!
//! A range moves with its field, if it lies within one of the fields above; a filter
//! with a range over parts of two has no mirror, and neither has one with a shift:
//! where the header length is pinned nothing has to be shifted for the ports.
//!
//! The address must be one that can be a source at all (RFC 1122, 3.2.1.3), so a
//! filter for a multicast group or loopback has no mirror. In ARP the sender's
//! hardware address must be the station's too: nobody binds an address to a
//! foreign station.
//!
//! Not decided here: *which* addresses an environment may listen for. A filter
//! for a router's address has a mirror as any other; compare it with a grant, see
//! [`implies`](crate::implies()), before it is installed. Nor is anything inside
//! the payload an identity: tunnels carry what they like.

use crate::error::errors;
use crate::language::{Atom, Filter, Step};
use crate::packet::{self, field};
use crate::test::{Bits, Range};
use crate::verify::FilterError;

errors! {
    /// Why the owner of a filter can only listen. The numbers are part of the binary
    /// interface.
    pub enum NoMirror {
        Ethertype = 1: "filter does not pin the ethertype to IPv4 or ARP",
        Format = 2: "filter admits IPv4 options or fragments, or ARP other than IPv4 over Ethernet",
        Protocol = 3: "filter does not pin the IPv4 protocol",
        Address = 4: "filter does not pin the whole local protocol address",
        NotASource = 5: "local address is this-network, loopback, multicast or reserved",
        Port = 6: "filter does not pin the whole local port",
        Station = 7: "filter listens for another Ethernet address than the station's",
        TooManyAtoms = 8: "mirror would need more than 12 atoms",
        Shift = 9: "filter has a shift",
        Range = 10: "filter has a range over parts of two header fields",
    }
}

/// What is at the first offset in a received frame is at the second in its mirror;
/// the third number is the width. All three are bytes, widths those of atoms.
type Moves = &'static [(u16, u16, u8)];

const ETHERNET: Moves = &[(0, 6, 4), (4, 10, 2), (6, 0, 4), (10, 4, 2)];
/// Sender and target change places, ten bytes each.
const ARP: Moves = &[(12, 12, 8), (20, 20, 2), (22, 32, 8), (30, 40, 2), (32, 22, 8), (40, 30, 2)];
/// Source and destination address change places.
const IPV4: Moves = &[(12, 12, 8), (20, 20, 4), (24, 24, 2), (26, 30, 4), (30, 26, 4)];
const PORTS: Moves = &[(34, 36, 2), (36, 34, 2), (38, 38, 4)];
const NO_PORTS: Moves = &[(34, 34, 8)];

/// The filter that outgoing frames of the owner of `receive` must match; `station`
/// is the Ethernet address they leave from.
///
/// A frame that passes, of at least 42 and [`reach`](Filter::reach) bytes, matches
/// `receive` once the roles are swapped back, and the reverse holds for frames
/// from `station`. Errors: see [`NoMirror`].
/// **Trust**: the filter may be hostile. **Cost**: bounded.
pub fn mirror(receive: &Filter, station: [u8; 6]) -> Result<Filter, NoMirror> {
    let pins = |atoms: &[Atom]| atoms.iter().all(|atom| receive.pins(&Bits::of(atom)));
    let whole = |offset, width| {
        let field = receive.field(offset, width);
        (field.mask == Atom::field(width)).then_some(field.lo)
    };

    let arp = pins(&[packet::ETHERTYPE_ARP]);
    if !arp && !pins(&[packet::ETHERTYPE_IPV4]) {
        return Err(NoMirror::Ethertype);
    }
    if !pins(if arp { &packet::ARP_ETHERNET_IPV4 } else { &packet::IPV4_PLAIN }) {
        return Err(NoMirror::Format);
    }
    let local = if arp { field::ARP_TARGET_PROTOCOL } else { field::IPV4_DESTINATION };
    let address = whole(local, 4).ok_or(NoMirror::Address)?;
    if matches!(address >> 24, 0 | 127 | 224..) {
        return Err(NoMirror::NotASource);
    }
    let (moves, transport) = if arp {
        (ARP, &[][..])
    } else {
        let protocol = whole(field::PROTOCOL, 1).ok_or(NoMirror::Protocol)?;
        // TCP, UDP, DCCP, SCTP and UDP-Lite all begin with source and destination port.
        let ports = matches!(protocol, 6 | 17 | 33 | 132 | 136);
        if ports && whole(field::DESTINATION_PORT, 2).is_none() {
            return Err(NoMirror::Port);
        }
        (IPV4, if ports { PORTS } else { NO_PORTS })
    };

    if receive.shifts().next().is_some() {
        return Err(NoMirror::Shift);
    }
    let moves = || [ETHERNET, moves, transport].into_iter().flatten();
    let ranges = || receive.ranges().map(|range| moved_range(range, moves()));
    if ranges().any(|range| range.is_none()) {
        return Err(NoMirror::Range);
    }
    let moved = moves().map(|&(from, to, width)| Atom { offset: to, ..receive.field(from, width) });
    let behind = receive.unshifted().map(behind_headers);
    let pinned = moved.chain(behind).filter(|atom| atom.mask != 0);
    let senders = [field::ETHERNET_SOURCE, field::ARP_SENDER];
    let senders = senders.into_iter().take(if arp { 2 } else { 1 });
    let own = senders.flat_map(|offset| from_station(offset, station));
    let all = own.chain(pinned).chain(ranges().flatten());
    // The fields are disjoint, so only the station's can contradict one.
    Filter::verify(all.map(Step::Atom)).map_err(|error| match error {
        FilterError::Contradiction => NoMirror::Station,
        _ => NoMirror::TooManyAtoms,
    })
}

/// The station's address at `offset`.
fn from_station(offset: u16, [a, b, c, d, e, f]: [u8; 6]) -> [Atom; 2] {
    let (high, low) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
    [Atom::exact(offset, 4, high.into()), Atom::exact(offset + 4, 2, low.into())]
}

/// What a window pins behind the headers. The mask may be empty.
fn behind_headers(bits: Bits) -> Atom {
    let within = field::HEADERS_END.saturating_sub(bits.at).min(8) as u8;
    let behind = Atom::field(8 - within);
    Atom::masked(bits.at, 8, bits.mask.swap_bytes() & behind, bits.value.swap_bytes() & behind)
}

/// The range in the mirror: where its field is moved to, or behind the headers.
fn moved_range<'m>(
    mut range: Range,
    mut moves: impl Iterator<Item = &'m (u16, u16, u8)>,
) -> Option<Atom> {
    let (first, end) = (range.field.first / 8, range.field.end());
    if first < field::HEADERS_END {
        let holds = |&&(from, _, width): &&_| from <= first && end <= from + u16::from(width);
        let &(from, to, _) = moves.find(holds)?;
        range.field.first = range.field.first + 8 * to - 8 * from;
    }
    Some(range.atom())
}

impl Filter {
    /// What the filter pins of a field, as an atom. The mask may be empty.
    fn field(&self, offset: u16, width: u8) -> Atom {
        let (mask, value) = self.window_at(offset);
        let field = |window: u64| window.swap_bytes() >> (64 - 8 * width);
        Atom::masked(offset, width, field(mask), field(value))
    }

    /// Whether every frame that matches the filter has `bits`, its length aside.
    pub(crate) fn pins(&self, bits: &Bits) -> bool {
        let (mask, value) = self.window_at(bits.at);
        mask & bits.mask == bits.mask && value & bits.mask == bits.value
    }

    /// The bits of the window at `at` that are pinned before any shift: (mask, value).
    fn window_at(&self, at: u16) -> (u64, u64) {
        Bits::all_seen_at(self.unshifted(), at)
    }
}
