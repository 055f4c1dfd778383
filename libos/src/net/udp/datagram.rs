//! UDP, looked at field by field (RFC 768): what is unusual of it, and why it is dropped.
//!
//! What is as usual never comes here ([`super::head`]).

use smoltcp::wire::{IpProtocol, UdpPacket};

use super::head::Head;
use super::ipv4::Packet;
use super::{Dropped, FastUdp, HEADERS};
use crate::net::answerers::is_answerer;
use crate::net::checksum::Sum;
use crate::net::{Endpoint, STOP, Service, TxBuffer};

const HEADER: usize = 8;

impl FastUdp {
    pub(super) fn datagram<S: Service>(
        &self,
        frame: &[u8],
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
        // No options, so that all headers lie at the front of the frame.
        let head: &Head = frame.first_chunk().ok_or(Dropped::BadUdp)?;
        let from = Endpoint { address: packet.source, port: udp.src_port() };
        let answer = service.answer_with_sum(request, from, &mut buffer[HEADERS..]);
        match answer {
            Some(answer) => Ok(self.template.answer(head, buffer, answer)),
            None if service.has_more() => Ok(STOP),
            None => Ok(0),
        }
    }

    /// The sum over the pseudo header.
    fn pseudo_header(&self, peer: [u8; 4], length: usize) -> Sum {
        Sum::address(self.own.address)
            .and(Sum::address(peer))
            .and(Sum::field(u8::from(IpProtocol::Udp).into()))
            .and(Sum::field(length as u16))
    }
}
