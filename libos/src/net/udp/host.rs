//! A frame as a host takes it, whichever transport it serves: ARP requests and ICMP echo are
//! answered here.

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol};

use super::Dropped;
use super::ipv4::{Own, Packet};
use super::{arp, icmp};
use crate::net::TxBuffer;

/// What a frame was.
pub(in crate::net) enum Taken<'a> {
    /// A question to the host; its answer has this length.
    Answered(usize),
    /// A packet from this station, of another protocol than ICMP.
    Packet(EthernetAddress, Packet<'a>),
}

/// Takes `frame`, header by header, and writes the answer into `buffer` if it is the host's.
pub(in crate::net) fn take<'a>(
    own: &Own,
    frame: &'a [u8],
    buffer: &mut TxBuffer,
) -> Result<Taken<'a>, Dropped> {
    let ethernet = EthernetFrame::new_checked(frame).map_err(|_| Dropped::Truncated)?;
    let source = ethernet.src_addr();
    if source.is_multicast() {
        return Err(Dropped::BadMac);
    }
    let to_me = ethernet.dst_addr() == own.mac;
    match ethernet.ethertype() {
        EthernetProtocol::Ipv4 if to_me => {
            let packet = own.check(ethernet.payload())?;
            if packet.protocol == icmp::ICMP {
                return icmp::answer(own, source, packet, buffer).map(Taken::Answered);
            }
            Ok(Taken::Packet(source, packet))
        }
        EthernetProtocol::Arp if to_me || ethernet.dst_addr().is_broadcast() => {
            arp::answer(ethernet.payload(), own, buffer).map(Taken::Answered)
        }
        EthernetProtocol::Ipv4 | EthernetProtocol::Arp => Err(Dropped::OtherMac),
        EthernetProtocol::Ipv6 | EthernetProtocol::Unknown(_) => Err(Dropped::EtherType),
    }
}
