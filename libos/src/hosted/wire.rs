//! Datagrams of a socket as the Ethernet frames that carry them in the machine, and back.

use exo_abi::FRAME_MAX;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use crate::net::{Endpoint, NetConfig};

/// The Ethernet address of whatever sends to the application.
const PEER: EthernetAddress = EthernetAddress([0x52, 0x55, 0x0a, 0, 2, 2]);
/// Bytes of all headers.
const HEADERS: usize = 14 + 20 + 8;
/// Most bytes of a datagram that fits one frame.
pub(super) const MOST: usize = FRAME_MAX - HEADERS;

/// Writes the frame that carries `payload` from `from` to the application's port `port`. Returns
/// its length; none if it is too long for `frame` or the network.
pub(super) fn frame_of(
    config: &NetConfig,
    port: u16,
    from: Endpoint,
    payload: &[u8],
    frame: &mut [u8],
) -> Option<usize> {
    let length = HEADERS + payload.len();
    let frame = frame.get_mut(..length).filter(|_| payload.len() <= MOST)?;
    let (source, own) = (Ipv4Address::from(from.address), Ipv4Address::from(config.address));
    let sums = ChecksumCapabilities::default();
    let ethernet = EthernetRepr {
        src_addr: PEER,
        dst_addr: EthernetAddress(config.mac),
        ethertype: EthernetProtocol::Ipv4,
    };
    let mut frame = EthernetFrame::new_unchecked(frame);
    ethernet.emit(&mut frame);
    let udp = UdpRepr { src_port: from.port, dst_port: port };
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: own,
        next_header: IpProtocol::Udp,
        payload_len: 8 + payload.len(),
        hop_limit: 64,
    };
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &sums);
    let mut datagram = UdpPacket::new_unchecked(packet.payload_mut());
    let write = |to: &mut [u8]| to.copy_from_slice(payload);
    udp.emit(&mut datagram, &source.into(), &own.into(), payload.len(), write, &sums);
    Some(length)
}

/// The datagram that a frame of the application carries, and where to. None if it carries none,
/// such as ARP.
pub(super) fn datagram_of(frame: &[u8]) -> Option<(Endpoint, &[u8])> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    if packet.next_header() != IpProtocol::Udp {
        return None;
    }
    let to = packet.dst_addr().octets();
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    Some((Endpoint { address: to, port: datagram.dst_port() }, datagram.payload()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::udp::FastUdp;
    use crate::net::wire::Wire;
    use crate::net::{NetDevice, Service, UdpStack};

    const CONFIG: NetConfig =
        NetConfig { mac: [2; 6], address: [10, 0, 2, 15], prefix_len: 24, gateway: [10, 0, 2, 2] };
    const CLIENT: Endpoint = Endpoint { address: [10, 0, 2, 2], port: 40_000 };

    struct Reversed;

    impl Service for Reversed {
        fn answer(&mut self, request: &[u8], from: Endpoint, reply: &mut [u8]) -> Option<usize> {
            assert_eq!(from, CLIENT);
            let reply = reply.get_mut(..request.len())?;
            reply.copy_from_slice(request);
            reply.reverse();
            Some(reply.len())
        }
    }

    /// The library's stack takes such a frame, checks its sums, and what it answers leads back.
    #[test]
    fn a_datagram_comes_in_and_its_answer_goes_out() {
        let (mut here, mut there) = Wire::pair(8);
        for payload in [&b"hello"[..], &[7; MOST]] {
            let mut buffer = [0; FRAME_MAX];
            let length = frame_of(&CONFIG, 9999, CLIENT, payload, &mut buffer).unwrap();
            there.slots().free.unwrap()[..length].copy_from_slice(&buffer[..length]);
            there.commit(length);
            there.sync().unwrap();
            let mut stack = FastUdp::new(&CONFIG, 9999);
            assert_eq!(stack.poll(&mut here, &mut Reversed, 0, 8), Ok(1));
            here.sync().unwrap();
            let (to, answer) = datagram_of(there.slots().received.unwrap()).unwrap();
            let reversed: Vec<_> = payload.iter().rev().copied().collect();
            assert_eq!((to, answer), (CLIENT, &reversed[..]));
            there.consume();
        }
        let mut buffer = [0; FRAME_MAX];
        assert_eq!(frame_of(&CONFIG, 9999, CLIENT, &[0; MOST + 1], &mut buffer), None);
        assert_eq!(datagram_of(&[0; 60]), None);
        assert_eq!(datagram_of(b""), None);
    }
}
