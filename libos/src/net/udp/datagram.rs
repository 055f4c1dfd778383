//! UDP: a request to the service, its answer to the peer (RFC 768).

use smoltcp::wire::{EthernetAddress, IpProtocol, UdpPacket};

use super::ipv4::{Packet, To};
use super::{Dropped, FastUdp, HEADERS};
use crate::net::answerers::is_answerer;
use crate::net::checksum::Sum;
use crate::net::{Endpoint, Service, TxBuffer};

const HEADER: usize = 8;

impl FastUdp {
    #[inline(always)]
    pub(super) fn datagram<S: Service>(
        &self,
        mac: EthernetAddress,
        packet: Packet<'_>,
        buffer: &mut TxBuffer,
        service: &mut S,
    ) -> Result<usize, Dropped> {
        let header = packet.payload.first_chunk::<HEADER>().ok_or(Dropped::BadUdp)?;
        let udp = UdpPacket::new_unchecked(&header[..]);
        let length = usize::from(udp.len());
        let datagram = packet.payload.get(..length).ok_or(Dropped::BadUdp)?;
        let request = datagram.get(HEADER..).ok_or(Dropped::BadUdp)?;
        if udp.dst_port() != self.port {
            return Err(Dropped::OtherPort);
        }
        // Port zero means "no answer wanted"; nothing else is of use here.
        if udp.src_port() == 0 {
            return Err(Dropped::BadUdp);
        }
        if is_answerer(udp.src_port(), self.port) {
            return Err(Dropped::Answerer);
        }
        // A checksum of zero says that the sender made none.
        if udp.checksum() != 0 {
            let sum = self.pseudo_header(packet.source, length).and(Sum::of(datagram));
            if !sum.is_intact() {
                return Err(Dropped::UdpChecksum);
            }
        }
        let from = Endpoint { address: packet.source, port: udp.src_port() };
        let reply = &mut buffer[HEADERS..];
        match service.answer(request, from, reply) {
            None => Ok(0),
            Some(length) => Ok(self.finish(buffer, length, mac, from)),
        }
    }

    /// Puts headers before the first `length` bytes of payload in `buffer`.
    /// Returns the length of the frame. A length beyond the buffer is cut.
    #[inline(always)]
    fn finish(
        &self,
        buffer: &mut TxBuffer,
        length: usize,
        mac: EthernetAddress,
        peer: Endpoint,
    ) -> usize {
        let length = length.min(buffer.len() - HEADERS);
        let udp_length = HEADER + length;
        let to = To { mac, address: peer.address, protocol: IpProtocol::Udp };
        let frame = self.own.write_headers(buffer, udp_length, &to);

        let Some((_, datagram)) = buffer.split_first_chunk_mut::<{ HEADERS - HEADER }>() else {
            return 0;
        };
        let Some((header, payload)) = datagram.split_first_chunk_mut::<HEADER>() else { return 0 };
        let payload = payload.get(..length).unwrap_or_default();
        let sum = self
            .pseudo_header(peer.address, udp_length)
            .and(Sum::field(self.port))
            .and(Sum::field(peer.port))
            .and(Sum::field(udp_length as u16))
            .and(Sum::of(payload));
        // Zero would say that there is no checksum; all ones means the same sum.
        let checksum = match u16::from_be_bytes(sum.checksum()) {
            0 => 0xffff,
            sum => sum,
        };
        let mut udp = UdpPacket::new_unchecked(&mut header[..]);
        udp.set_src_port(self.port);
        udp.set_dst_port(peer.port);
        udp.set_len(udp_length as u16);
        udp.set_checksum(checksum);
        frame
    }

    /// The sum over the pseudo header; it is the same in both directions.
    #[inline(always)]
    fn pseudo_header(&self, peer: [u8; 4], length: usize) -> Sum {
        Sum::address(self.own.address)
            .and(Sum::address(peer))
            .and(Sum::field(u8::from(IpProtocol::Udp).into()))
            .and(Sum::field(length as u16))
    }
}
