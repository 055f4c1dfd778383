//! ICMP echo: are you there? (RFC 792)

use smoltcp::wire::{EthernetAddress, Icmpv4Message, Icmpv4Packet, IpProtocol};

use super::Dropped;
use super::ipv4::{Own, Packet, To};
use crate::net::TxBuffer;
use crate::net::checksum::Sum;

/// ICMP's protocol number (RFC 790).
pub(in crate::net) const ICMP: u8 = 1;
const HEADERS: usize = 14 + 20;

/// Answers an echo request with the same bytes.
#[cold]
pub(in crate::net) fn answer(
    own: &Own,
    mac: EthernetAddress,
    packet: Packet<'_>,
    buffer: &mut TxBuffer,
) -> Result<usize, Dropped> {
    let message = Icmpv4Packet::new_checked(packet.payload).map_err(|_| Dropped::BadIcmp)?;
    if !Sum::of(packet.payload).is_intact() {
        return Err(Dropped::IcmpChecksum);
    }
    if message.msg_type() != Icmpv4Message::EchoRequest || message.msg_code() != 0 {
        return Err(Dropped::OtherIcmp);
    }
    let length = packet.payload.len();
    let reply = buffer.get_mut(HEADERS..HEADERS + length).ok_or(Dropped::NoRoom)?;
    reply.copy_from_slice(packet.payload);
    let mut reply = Icmpv4Packet::new_unchecked(reply);
    reply.set_msg_type(Icmpv4Message::EchoReply);
    reply.set_checksum(0);
    let checksum = Sum::of(reply.into_inner()).checksum();
    if let Some(field) = buffer.get_mut(HEADERS + 2..HEADERS + 4) {
        field.copy_from_slice(&checksum);
    }
    let to = To { mac, address: packet.source, protocol: IpProtocol::Icmp };
    Ok(own.write_headers(buffer, length, &to))
}
