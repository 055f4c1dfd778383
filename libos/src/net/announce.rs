//! Saying unasked where one is (RFC 5227, section 2.3).
//!
//! A neighbour that asked before a stack was there to answer may wait a second
//! before it asks again. An announcement when the binding is made spares it that.

use exo_abi::Error;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Ipv4Address,
};

use super::{NetConfig, NetDevice};

const FRAME: usize = 14 + 28;

/// Broadcasts that the address in `config` is at its station. Does nothing if
/// the device has no free buffer.
///
/// # Errors
/// Those of [`NetDevice::sync`].
pub fn announce(device: &mut impl NetDevice, config: &NetConfig) -> Result<(), Error> {
    let slots = device.slots();
    let Some(buffer) = slots.free.and_then(|buffer| buffer.get_mut(..FRAME)) else {
        return Ok(());
    };
    let (mac, address) = (EthernetAddress(config.mac), Ipv4Address::from(config.address));
    let mut frame = EthernetFrame::new_unchecked(buffer);
    frame.set_dst_addr(EthernetAddress::BROADCAST);
    frame.set_src_addr(mac);
    frame.set_ethertype(EthernetProtocol::Arp);
    ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: mac,
        source_protocol_addr: address,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: address,
    }
    .emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    device.commit(FRAME);
    device.sync().map(drop)
}

#[cfg(test)]
mod tests {
    use super::announce;
    use crate::net::NetDevice;
    use crate::net::tests::SERVER;
    use crate::net::wire::Wire;

    #[test]
    fn announces_own_address_to_everybody() {
        let (mut here, mut there) = Wire::pair(4);
        announce(&mut here, &SERVER).expect("a cable never refuses");
        there.sync().expect("a cable never refuses");
        let sent = there.slots().received.expect("one frame").to_vec();
        assert_eq!(sent.len(), 42);
        assert_eq!(sent[..6], [0xff; 6]);
        assert_eq!(sent[6..12], SERVER.mac);
        assert_eq!(sent[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(sent[22..28], SERVER.mac);
        assert_eq!(sent[28..32], SERVER.address);
        assert_eq!(sent[32..38], [0; 6]);
        assert_eq!(sent[38..42], SERVER.address);
    }
}
