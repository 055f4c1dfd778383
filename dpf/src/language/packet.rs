//! The filters that ordinary UDP/IP applications want.
//!
//! Plain functions over the language: an application uses them to say what it
//! wants, and could as well write the atoms itself.
//! All field positions are those of an
//! untagged Ethernet II frame (RFC 894) and an IPv4 header without options.

use super::Atom;
use crate::filter::Filter;
use crate::mirror::field;

/// UDP (RFC 768), TCP (RFC 9293) and others, if the IPv4 header has no options.
const DESTINATION_PORT: u16 = 36;

pub(crate) const ETHERTYPE_IPV4: Atom = Atom::exact(field::ETHERTYPE, 2, 0x0800);
pub(crate) const ETHERTYPE_ARP: Atom = Atom::exact(field::ETHERTYPE, 2, 0x0806);
/// Version 4, five words of header: no options, so that what follows has a fixed
/// place. Not a fragment: offset zero and none to come; "don't fragment" is left open.
pub(crate) const IPV4_PLAIN: [Atom; 2] =
    [Atom::exact(field::VERSION_IHL, 1, 0x45), Atom::masked(field::FRAGMENT, 2, 0x3fff, 0)];
/// Hardware type 1, protocol type 0x0800, address lengths 6 and 4.
pub(crate) const ARP_ETHERNET_IPV4: [Atom; 2] =
    [Atom::exact(field::ARP_FORMAT, 4, 0x0001_0800), Atom::exact(field::ARP_FORMAT + 4, 2, 0x0604)];

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Unfragmented UDP over IPv4 without options, to this address and port.
pub fn udp_to(address: [u8; 4], port: u16) -> Filter {
    to_port(address, UDP, port)
}

/// Unfragmented TCP over IPv4 without options, to this address and port.
pub fn tcp_to(address: [u8; 4], port: u16) -> Filter {
    to_port(address, TCP, port)
}

fn to_port(address: [u8; 4], protocol: u8, port: u16) -> Filter {
    let port = Atom::exact(DESTINATION_PORT, 2, port.into());
    let [a, b, c, d, e] = ipv4_to(address, protocol);
    verified(&[a, b, c, d, e, port])
}

/// Unfragmented ICMP over IPv4 without options, to this address.
pub fn icmp_to(address: [u8; 4]) -> Filter {
    verified(&ipv4_to(address, ICMP))
}

/// All of IPv4 to this address, with options and fragments too. To narrow a
/// network capability with, rather than to install: it has no mirror.
pub fn ipv4_all(address: [u8; 4]) -> Filter {
    verified(&[ETHERTYPE_IPV4, address_at(field::IPV4_DESTINATION, address)])
}

/// ARP for IPv4 over Ethernet, any operation, that has this address as its target.
pub fn arp_for(address: [u8; 4]) -> Filter {
    let [format, lengths] = ARP_ETHERNET_IPV4;
    verified(&[ETHERTYPE_ARP, format, lengths, address_at(field::ARP_TARGET_PROTOCOL, address)])
}

fn ipv4_to(address: [u8; 4], protocol: u8) -> [Atom; 5] {
    let [version, fragment] = IPV4_PLAIN;
    let protocol = Atom::exact(field::PROTOCOL, 1, protocol.into());
    let address = address_at(field::IPV4_DESTINATION, address);
    [ETHERTYPE_IPV4, version, fragment, protocol, address]
}

fn address_at(offset: u16, address: [u8; 4]) -> Atom {
    Atom::exact(offset, 4, u32::from_be_bytes(address).into())
}

/// The atoms above differ only in the value of whole, disjoint fields, so whether
/// they verify depends on no argument; the tests show that they do.
fn verified(atoms: &[Atom]) -> Filter {
    Filter::new(atoms).expect("constant shape")
}
