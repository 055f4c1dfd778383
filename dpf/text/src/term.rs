//! A term of a conjunction, as it was written.

use core::ops::Range;

use dpf::Atom;

/// Which header an offset or a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Ethernet,
    Ip,
    Arp,
    Ip6,
    /// Behind the IPv4 header, by protocol number.
    Transport(u8),
    /// Right behind the fixed IPv6 header.
    Icmp6,
}

impl Layer {
    /// The layer of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ether" => Self::Ethernet,
            "ip" => Self::Ip,
            "arp" => Self::Arp,
            "ip6" => Self::Ip6,
            "icmp" => Self::Transport(1),
            "tcp" => Self::Transport(6),
            "udp" => Self::Transport(17),
            "icmp6" => Self::Icmp6,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Source,
    Destination,
    /// Source and destination alike.
    Both,
}

impl Direction {
    /// As it is written.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Source => "src",
            Self::Destination => "dst",
            Self::Both => "src and dst",
        }
    }

    /// Of the offsets of source and destination those that are meant.
    pub(crate) fn of(self, [source, destination]: [u16; 2]) -> impl Iterator<Item = u16> {
        let source = (self != Self::Destination).then_some(source);
        source.into_iter().chain((self != Self::Source).then_some(destination))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The frame is of this layer, and that is all.
    Is(Layer),
    EtherType(u16),
    IpProtocol(u8),
    /// The address ANDed with the mask. No layer: IPv4 or ARP, as the rest says.
    Address {
        layer: Option<Layer>,
        direction: Direction,
        address: u32,
        mask: u32,
    },
    /// No layer: of the transport protocol that the rest says.
    Ports {
        layer: Option<Layer>,
        direction: Direction,
        lo: u16,
        hi: u16,
    },
    Station {
        direction: Direction,
        address: u64,
    },
    Multicast,
    Vlan(Option<u16>),
    /// The atom's offset counts from the start of the layer.
    Compare {
        layer: Layer,
        atom: Atom,
    },
    Longer(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) kind: Kind,
    pub(crate) at: Range<usize>,
}
