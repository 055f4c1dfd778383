//! Speak as you listen: what the holder of a key may send.
//!
//! Place on the packet path: the check of step 6, transmit. What may lie: the packet; the
//! kernel looks at a copy of its head that the sender cannot change.
//!
//! Which environment a packet claims to come from is written in its source fields; for which
//! one it is, in the destination fields that a key pins. The mirror of a key takes the packets
//! that leave from the station's own Ethernet address and that the key would take with the
//! two roles swapped:
//!
//! | packet | swapped |
//! |---|---|
//! | all | Ethernet destination and source |
//! | IPv4 | destination and source address |
//! | IPv4 with ports | destination and source port |
//! | ARP | target and sender, hardware and protocol address |
//!
//! All other bits stay as the key pins them. Hence keys that share no packet have mirrors that
//! share none: no holder can send what could have come from the holder of another.
//!
//! That is so only if the receiver of a packet looks for the identity where the key did. So
//! there is no mirror, and the holder can only listen, unless the key pins
//!
//! * the ethertype, to IPv4 or ARP: another ethertype (a VLAN tag, IPv6) moves or changes the
//!   source fields;
//! * for IPv4, bits of the destination address; and if it pins anything behind the header,
//!   such as a port, then version and header length (options move the ports), the fragment
//!   bits to "not a fragment" (later fragments carry no ports, and overlapping ones can
//!   replace those that were checked), and the protocol;
//! * for ARP, hardware and protocol type and both address lengths (others move the sender
//!   fields), and the whole target protocol address.
//!
//! The address must be one that can be a source at all (RFC 1122, 3.2.1.3), so a key for a
//! multicast group or loopback has no mirror. In ARP the sender's hardware address must be
//! the station's too: no holder binds an address to a foreign station. The key that pins
//! nothing is its own mirror: its holder has the whole network.

use crate::key::Key;

/// Why the holder of a key can only listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMirror {
    /// The key does not pin the ethertype to IPv4 or ARP.
    Ethertype,
    /// It pins ports but admits IPv4 options or fragments, or ARP other than IPv4 over Ethernet.
    Format,
    /// It pins what is behind the IPv4 header, but not the protocol.
    Protocol,
    /// It does not pin the local protocol address.
    Address,
    /// The local address is this-network, loopback, multicast or reserved.
    NotASource,
    /// It listens for another Ethernet address than the station's.
    Station,
}

/// The bytes from the first offset in a received packet are at the second in its mirror, so
/// many.
type Moves = &'static [(usize, usize, usize)];

/// Ethernet header but for the addresses.
const ETHERNET: Moves = &[(6, 0, 6), (12, 12, 2)];
const ARP: Moves = &[(14, 14, 8), (22, 32, 10), (32, 22, 10), (42, 42, 22)];
const IPV4: Moves = &[(14, 14, 12), (26, 30, 4), (30, 26, 4)];
const PORTS: Moves = &[(34, 36, 2), (36, 34, 2), (38, 38, 26)];
const NO_PORTS: Moves = &[(34, 34, 30)];

impl Key {
    /// The key that outgoing packets of the holder of this one must have; `station` is the
    /// Ethernet address they leave from. Errors: see [`NoMirror`].
    pub fn mirror(&self, station: [u8; 6]) -> Result<Self, NoMirror> {
        if *self == Self::ALL {
            return Ok(*self);
        }
        let moves = match self.whole(field::ETHERTYPE) {
            Some(0x0806) => self.arp()?,
            Some(0x0800) => self.ipv4()?,
            _ => return Err(NoMirror::Ethertype),
        };
        let mut mirror = Self::ALL;
        for &(from, to, count) in [ETHERNET].into_iter().chain(moves).flatten() {
            for byte in 0..count {
                let (mask, value) = self.byte(from + byte);
                mirror.set_byte(to + byte, mask, value);
            }
        }
        for (at, own) in station.into_iter().enumerate() {
            let (mask, value) = self.byte(at);
            if own & mask != value {
                return Err(NoMirror::Station);
            }
            mirror.set_byte(usize::from(field::ETHERNET_SOURCE) + at, u8::MAX, own);
            if self.whole(field::ETHERTYPE) == Some(0x0806) {
                let at = usize::from(field::ARP_SENDER) + at;
                let (mask, value) = mirror.byte(at);
                if own & mask != value {
                    return Err(NoMirror::Station);
                }
                mirror.set_byte(at, u8::MAX, own);
            }
        }
        Ok(mirror)
    }

    fn arp(&self) -> Result<[Moves; 2], NoMirror> {
        let format = [(0, 0x0001), (2, 0x0800), (4, 0x0604)];
        let is_plain = |(at, value)| self.whole(field::ARP_FORMAT + at) == Some(value);
        if !format.into_iter().all(is_plain) {
            return Err(NoMirror::Format);
        }
        let target = field::ARP_TARGET_PROTOCOL;
        if self.whole(target + 2).is_none() || self.whole(target).is_none() {
            return Err(NoMirror::Address);
        }
        self.is_source(target)?;
        Ok([ARP, &[]])
    }

    fn ipv4(&self) -> Result<[Moves; 2], NoMirror> {
        self.is_source(field::IPV4_DESTINATION)?;
        let behind = usize::from(field::IPV4_DESTINATION) + 4;
        if (behind..crate::KEY_BYTES).all(|at| self.byte(at).0 == 0) {
            return Ok([IPV4, &[]]);
        }
        let [high, low] = [0, 1].map(|at| self.byte(usize::from(field::FRAGMENT) + at));
        let whole = high.0 & 0x3f == 0x3f && high.1 & 0x3f == 0 && low == (u8::MAX, 0);
        if !whole || self.byte(field::VERSION_IHL.into()) != (u8::MAX, 0x45) {
            return Err(NoMirror::Format);
        }
        match self.byte(field::PROTOCOL.into()) {
            // TCP, UDP, DCCP, SCTP and UDP-Lite all begin with source and destination port.
            (u8::MAX, 6 | 17 | 33 | 132 | 136) => Ok([IPV4, PORTS]),
            (u8::MAX, _) => Ok([IPV4, NO_PORTS]),
            _ => Err(NoMirror::Protocol),
        }
    }

    /// Whether the first byte of the address at `at` is one of addresses that can be sources.
    fn is_source(&self, at: u16) -> Result<(), NoMirror> {
        match self.byte(at.into()) {
            (u8::MAX, 0 | 127 | 224..) => Err(NoMirror::NotASource),
            (u8::MAX, _) => Ok(()),
            _ => Err(NoMirror::Address),
        }
    }

    /// The two bytes at `at`, if all of their bits are pinned.
    fn whole(&self, at: u16) -> Option<u16> {
        match [self.byte(at.into()), self.byte(usize::from(at) + 1)] {
            [(u8::MAX, high), (u8::MAX, low)] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }
}

/// Frame offsets, in bytes, of the fields that filters and mirrors speak of.
pub(crate) mod field {
    pub(crate) const ETHERNET_SOURCE: u16 = 6;
    pub(crate) const ETHERTYPE: u16 = 12;
    /// IPv4 (RFC 791).
    pub(crate) const VERSION_IHL: u16 = 14;
    pub(crate) const FRAGMENT: u16 = 20;
    pub(crate) const PROTOCOL: u16 = 23;
    pub(crate) const IPV4_DESTINATION: u16 = 30;
    /// ARP (RFC 826) for IPv4 over Ethernet.
    pub(crate) const ARP_FORMAT: u16 = 14;
    pub(crate) const ARP_SENDER: u16 = 22;
    pub(crate) const ARP_TARGET_PROTOCOL: u16 = 38;
}
