//! IPv4 without fragments and without options (RFC 791).
//!
//! Hosts must accept options (RFC 1122, 3.2.1.8), but the kernel's filters let
//! none through: they look at the ports at a fixed offset. So every header here
//! is 20 bytes long, all offsets are constants, and no bounds are checked twice.

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet};

use super::Dropped;
use crate::net::checksum::Sum;
use crate::net::{NetConfig, TxBuffer};

const ETHERNET: usize = 14;
const HEADER: usize = 20;
const HEADERS: usize = ETHERNET + HEADER;
pub(in crate::net) const TIME_TO_LIVE: u8 = 64;

/// Own addresses, and what follows from them.
#[derive(Debug)]
pub(in crate::net) struct Own {
    pub(in crate::net) mac: EthernetAddress,
    pub(in crate::net) address: [u8; 4],
    /// The directed broadcast of the own network, or the limited one if the
    /// network is too small to have one (RFC 3021).
    broadcast: [u8; 4],
    /// Headers of a packet without destination, length and checksum.
    template: [u8; HEADERS],
    /// Sum of the IPv4 header of the template.
    template_sum: Sum,
}

/// A packet that is intact and for us.
#[derive(Clone, Copy)]
pub(in crate::net) struct Packet<'a> {
    pub(in crate::net) source: [u8; 4],
    pub(in crate::net) protocol: u8,
    pub(in crate::net) payload: &'a [u8],
}

/// Where a packet goes.
#[derive(Clone, Copy)]
pub(in crate::net) struct To {
    pub(in crate::net) mac: EthernetAddress,
    pub(in crate::net) address: [u8; 4],
    pub(in crate::net) protocol: IpProtocol,
}

impl Own {
    pub(in crate::net) fn new(config: &NetConfig) -> Self {
        let hosts = u32::MAX.checked_shr(config.prefix_len.into()).unwrap_or(0);
        let hosts = if hosts > 1 { hosts } else { u32::MAX };
        let mut template = [0; HEADERS];
        let mut ethernet = EthernetFrame::new_unchecked(&mut template[..]);
        ethernet.set_src_addr(EthernetAddress(config.mac));
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        packet.set_version(4);
        packet.set_header_len(HEADER as u8);
        // Identification stays zero, as RFC 6864 allows with "don't fragment".
        packet.set_dont_frag(true);
        packet.set_hop_limit(TIME_TO_LIVE);
        packet.set_src_addr(config.address.into());
        let template_sum = Sum::of(packet.into_inner());
        Self {
            mac: EthernetAddress(config.mac),
            address: config.address,
            broadcast: (u32::from_be_bytes(config.address) | hosts).to_be_bytes(),
            template,
            template_sum,
        }
    }

    /// Checks the packet in `bytes`, which may be followed by Ethernet padding.
    #[inline(always)]
    pub(in crate::net) fn check<'a>(&self, bytes: &'a [u8]) -> Result<Packet<'a>, Dropped> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(Dropped::BadIpv4)?;
        let packet = Ipv4Packet::new_unchecked(&header[..]);
        if packet.version() != 4 || usize::from(packet.header_len()) != HEADER {
            return Err(Dropped::BadIpv4);
        }
        if packet.dst_addr().octets() != self.address {
            return Err(Dropped::OtherAddress);
        }
        let payload = usize::from(packet.total_len())
            .checked_sub(HEADER)
            .and_then(|length| rest.get(..length))
            .ok_or(Dropped::BadIpv4)?;
        if !Sum::of_all(header).is_intact() {
            return Err(Dropped::Ipv4Checksum);
        }
        if packet.more_frags() || packet.frag_offset() != 0 {
            return Err(Dropped::Fragment);
        }
        let source = packet.src_addr().octets();
        if !self.is_other_host(source) {
            return Err(Dropped::BadSource);
        }
        Ok(Packet { source, protocol: header[9], payload })
    }

    /// Whether another host can have this address. An answer to any other would
    /// go to many, to ourselves, or nowhere.
    #[inline(always)]
    pub(in crate::net) fn is_other_host(&self, address: [u8; 4]) -> bool {
        // 0/8 "this network", 127/8 loopback, 224/4 and above: groups, reserved,
        // and the limited broadcast (RFC 1122, 3.2.1.3; RFC 1112).
        !matches!(address[0], 0 | 127 | 224..)
            && address != self.address
            && address != self.broadcast
    }

    /// Whether all hosts of the own network have this address.
    pub(in crate::net) fn is_broadcast(&self, address: [u8; 4]) -> bool {
        address == self.broadcast || address == [255; 4]
    }

    /// Writes Ethernet and IPv4 headers for a packet with `length` bytes behind
    /// the IPv4 header. Returns the length of the frame.
    #[inline(always)]
    pub(in crate::net) fn write_headers(
        &self,
        buffer: &mut TxBuffer,
        length: usize,
        to: &To,
    ) -> usize {
        let total = HEADER + length;
        let protocol = u8::from(to.protocol);
        let checksum = self
            .template_sum
            .and(Sum::field(total as u16))
            .and(Sum::field(protocol.into()))
            .and(Sum::address(to.address))
            .checksum();
        let Some((headers, _)) = buffer.split_first_chunk_mut::<HEADERS>() else { return 0 };
        *headers = self.template;
        let mut ethernet = EthernetFrame::new_unchecked(&mut headers[..]);
        ethernet.set_dst_addr(to.mac);
        let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        packet.set_total_len(total as u16);
        packet.set_next_header(to.protocol);
        packet.set_checksum(u16::from_be_bytes(checksum));
        packet.set_dst_addr(to.address.into());
        ETHERNET + total
    }
}

#[cfg(test)]
mod tests {
    use super::Own;
    use crate::net::NetConfig;

    #[test]
    fn only_hosts_are_answered() {
        let own = |prefix_len| {
            let (mac, address) = ([2; 6], [10, 0, 2, 15]);
            Own::new(&NetConfig { mac, address, prefix_len, gateway: [10, 0, 2, 2] })
        };
        for prefix_len in [0, 1, 8, 24, 31, 32, 255] {
            let own = own(prefix_len);
            assert!(own.is_other_host([192, 168, 1, 1]), "{prefix_len}");
            for address in
                [[0; 4], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4], [240, 0, 0, 1], [10, 0, 2, 15]]
            {
                assert!(!own.is_other_host(address), "{address:?} {prefix_len}");
            }
        }
        assert!(!own(24).is_other_host([10, 0, 2, 255]));
        assert!(own(24).is_other_host([10, 0, 3, 255]));
        assert!(own(16).is_other_host([10, 0, 2, 255]));
        assert!(!own(16).is_other_host([10, 0, 255, 255]));
        assert!(own(31).is_other_host([10, 0, 2, 14]));
    }
}
