//! Why frames were dropped, and how many.

/// Why a frame was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Dropped {
    /// Shorter than an Ethernet header.
    Truncated,
    /// To another Ethernet address, or to a group where that is not allowed.
    OtherMac,
    /// From a group address (IEEE 802.3, 3.2.3), which no station has.
    BadMac,
    /// Neither IPv4 nor ARP.
    EtherType,
    /// ARP that is malformed or not for IPv4 over Ethernet.
    BadArp,
    /// ARP that is no request for the own address.
    OtherArp,
    /// IPv4 with a wrong version, with options, or with lengths that disagree.
    BadIpv4,
    /// IPv4 whose header checksum is wrong.
    Ipv4Checksum,
    /// A fragment. They are not put together.
    Fragment,
    /// To another IPv4 address.
    OtherAddress,
    /// From an address that no host has, or from the own (RFC 1122, 3.2.1.3).
    BadSource,
    /// Neither UDP nor ICMP.
    Protocol,
    /// UDP whose length disagrees with the packet, or from port zero.
    BadUdp,
    /// UDP whose checksum is wrong.
    UdpChecksum,
    /// UDP to another port.
    OtherPort,
    /// ICMP that is too short.
    BadIcmp,
    /// ICMP whose checksum is wrong.
    IcmpChecksum,
    /// ICMP that is no echo request.
    OtherIcmp,
    /// There was no room to send the answer.
    NoRoom,
    /// UDP from a port whose service would answer the answer
    /// ([`answerers`](crate::net::answerers)).
    Answerer,
}

impl Dropped {
    /// Every reason, in numeric order.
    pub const ALL: [Self; 20] = [
        Self::Truncated,
        Self::OtherMac,
        Self::BadMac,
        Self::EtherType,
        Self::BadArp,
        Self::OtherArp,
        Self::BadIpv4,
        Self::Ipv4Checksum,
        Self::Fragment,
        Self::OtherAddress,
        Self::BadSource,
        Self::Protocol,
        Self::BadUdp,
        Self::UdpChecksum,
        Self::OtherPort,
        Self::BadIcmp,
        Self::IcmpChecksum,
        Self::OtherIcmp,
        Self::NoRoom,
        Self::Answerer,
    ];
}

/// Frames dropped, by reason.
#[derive(Clone, Debug, Default)]
pub struct Drops([u64; Dropped::ALL.len()]);

impl Drops {
    /// How many were dropped for `reason`.
    pub fn count(&self, reason: Dropped) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// How many were dropped.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) fn add(&mut self, reason: Dropped) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dropped, Drops};

    #[test]
    fn every_reason_has_its_own_counter() {
        let mut drops = Drops::default();
        for (index, reason) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            for _ in 0..=index {
                drops.add(reason);
            }
        }
        assert!(Dropped::ALL.into_iter().all(|reason| drops.count(reason) == reason as u64 + 1));
        assert_eq!(drops.total(), (1..=20).sum());
    }
}
