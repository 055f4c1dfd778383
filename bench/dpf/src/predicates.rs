//! What is looked for, said once and handed to every contender.
//!
//! A [`Predicate`] is one filter in terms of header fields. From it come the text, which
//! this system's parser and libpcap's compiler read, the eBPF program, the key of the
//! hash map, and a frame that matches. No two predicates of a set share a frame, so
//! a contender that finds a match may stop.

use std::fmt;
use std::net::Ipv4Addr;

use anyhow::{Result, anyhow};
use dpf::Filter;

/// UDP or TCP, over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// RFC 768.
    Udp,
    /// RFC 9293.
    Tcp,
}

/// Which packets, above Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// ARP with this target protocol address.
    Arp(Ipv4Addr),
    /// ICMP to this address.
    Icmp(Ipv4Addr),
    /// Unfragmented datagrams and first fragments.
    Ports {
        /// The protocol.
        over: Transport,
        /// Destination address.
        to: Ipv4Addr,
        /// Destination port: the least, the most.
        ports: (u16, u16),
        /// Source address and port, if they matter.
        from: Option<(Ipv4Addr, u16)>,
    },
}

/// One filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predicate {
    /// The tag that the frame must have; untagged if none.
    pub vlan: Option<u16>,
    /// Bits that must be zero of the first four bytes of the source station.
    pub zeros: Option<u32>,
    /// What must follow.
    pub what: What,
}

/// A family of filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// UDP ports of one address.
    Ports,
    /// Addresses, ports, protocols, tags, ranges of ports, connections.
    Mixed,
    /// UDP ports of one address, each filter with a mask of its own over a field before
    /// them. Filters merge where they look at the same bits; these never do, and a frame
    /// with zeros there gets past the first test of every one of them.
    Adversarial,
}

impl Set {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ports, Self::Mixed, Self::Adversarial];

    /// What it is called in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Mixed => "mixed",
            Self::Adversarial => "adversarial",
        }
    }

    /// Its predicate number `index`, below [`MOST`].
    #[must_use]
    pub fn predicate(self, index: u32) -> Predicate {
        let plain = |what| Predicate { vlan: None, zeros: None, what };
        match self {
            Self::Ports => plain(udp(STATION, scattered(index))),
            Self::Adversarial => {
                Predicate { zeros: Some(index + 1), ..plain(udp(STATION, scattered(index))) }
            }
            Self::Mixed => mixed(index),
        }
    }
}

/// The most predicates of a set.
pub const MOST: u32 = 12_000;
/// The address that the filters of most sets are for.
pub const STATION: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// Different for all numbers below 60,000; neither dense nor in order.
fn scattered(index: u32) -> u16 {
    1024 + (index * 7919 % 60_000) as u16
}

fn udp(to: Ipv4Addr, port: u16) -> What {
    What::Ports { over: Transport::Udp, to, ports: (port, port), from: None }
}

/// Eight kinds in turn, for fifty addresses; the ports of one address are its kinds' own.
fn mixed(index: u32) -> Predicate {
    let (kind, turn) = (index % 8, index / 8);
    let own = |net: u8| Ipv4Addr::new(10, net, (turn >> 8) as u8, turn as u8);
    let shared = Ipv4Addr::new(10, 1, 0, 1 + (turn % 50) as u8);
    let slot = (turn / 50) as u16;
    let mut vlan = None;
    let what = match kind {
        0 => udp(shared, 1000 + 3 * slot),
        1 => match udp(shared, 1000 + 3 * slot) {
            What::Ports { to, ports, from, .. } => {
                What::Ports { over: Transport::Tcp, to, ports, from }
            }
            other => other,
        },
        2 => {
            vlan = Some(1 + (turn % 100) as u16);
            udp(shared, 5000 + slot)
        }
        3 => {
            let first = 20_000 + 100 * slot;
            let ports = (first, first + 66);
            What::Ports { over: Transport::Udp, to: shared, ports, from: None }
        }
        4 => What::Arp(own(2)),
        5 => What::Icmp(own(3)),
        6 => What::Ports {
            over: Transport::Tcp,
            to: shared,
            ports: (80, 80),
            from: Some((own(4), 30_000 + turn as u16)),
        },
        _ => udp(shared, 3000 + 7 * slot),
    };
    Predicate { vlan, zeros: None, what }
}

impl Predicate {
    /// The filter.
    pub fn filter(&self) -> Result<Filter> {
        dpf_text::parse(&self.to_string()).map_err(|error| anyhow!("{error}"))
    }
}

impl fmt::Display for Predicate {
    /// As an expression that both this system and libpcap read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(zeros) = self.zeros {
            write!(f, "ether[6:4] & {zeros:#x} = 0 and ")?;
        }
        if let Some(vlan) = self.vlan {
            write!(f, "vlan {vlan} and ")?;
        }
        match self.what {
            What::Arp(target) => write!(f, "arp dst host {target}"),
            What::Icmp(to) => write!(f, "icmp and ip dst host {to}"),
            What::Ports { over, to, ports: (first, last), from } => {
                let over = match over {
                    Transport::Udp => "udp",
                    Transport::Tcp => "tcp",
                };
                write!(f, "ip and ip dst host {to} and ")?;
                if let Some((source, port)) = from {
                    write!(f, "ip src host {source} and {over} src port {port} and ")?;
                }
                if first == last {
                    write!(f, "{over} dst port {first}")
                } else {
                    write!(f, "{over} dst portrange {first}-{last}")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_filters_and_no_two_share_a_frame() {
        for set in Set::ALL {
            let filter = |index| (index, set.predicate(index).filter().unwrap());
            // Neighbours of one kind and address are eight, or four hundred, apart.
            for start in [0, 9_000] {
                let near = (start..start + 24).chain((start..MOST).step_by(400));
                let filters: Vec<_> = near.map(filter).collect();
                for (index, filter) in &filters {
                    for (other, against) in &filters {
                        let same = index == other;
                        assert_eq!(dpf::overlap(filter, against), same, "{set:?} {index} {other}");
                    }
                }
            }
        }
    }
}
