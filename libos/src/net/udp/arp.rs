//! ARP: which station has our address? We do (RFC 826).

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetFrame, EthernetProtocol};

use super::Dropped;
use super::ipv4::Own;
use crate::net::TxBuffer;

const FRAME: usize = 14 + 28;

/// Answers the request in `bytes`. Returns the length of the frame to send.
///
/// The sender's account of itself is believed, as it is everywhere in ARP; but nothing
/// is remembered of it.
#[cold]
pub(in crate::net) fn answer(
    bytes: &[u8],
    own: &Own,
    buffer: &mut TxBuffer,
) -> Result<usize, Dropped> {
    let packet = ArpPacket::new_checked(bytes).map_err(|_| Dropped::BadArp)?;
    // The only form there is, so the pattern is complete as long as `ArpRepr` is.
    let Ok(ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: asker,
        source_protocol_addr: asker_address,
        target_protocol_addr: target,
        ..
    }) = ArpRepr::parse(&packet)
    else {
        return Err(Dropped::BadArp);
    };
    if operation != ArpOperation::Request || target.octets() != own.address {
        return Err(Dropped::OtherArp);
    }
    if !asker.is_unicast() {
        return Err(Dropped::BadArp);
    }
    let Some(buffer) = buffer.get_mut(..FRAME) else { return Err(Dropped::NoRoom) };
    let mut frame = EthernetFrame::new_unchecked(buffer);
    frame.set_dst_addr(asker);
    frame.set_src_addr(own.mac);
    frame.set_ethertype(EthernetProtocol::Arp);
    ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: own.mac,
        source_protocol_addr: target,
        target_hardware_addr: asker,
        target_protocol_addr: asker_address,
    }
    .emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    Ok(FRAME)
}
