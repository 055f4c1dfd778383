//! Ethernet below a stack of IP packets: which station has which address (RFC 826).
//!
//! Place on the packet path: below step 4, for [`SmolUdp`](super::smol::SmolUdp). The
//! stack itself knows no Ethernet, so no packet of it waits for an address inside.
//!
//! A peer that is answered has just said where it is: every packet that comes in teaches its
//! sender's station, and the answer goes there, as with [`FastUdp`](super::udp::FastUdp).
//! Only what is sent unasked may have to wait for an answer to an ARP request. It waits
//! here, alone: one packet for each address asked for, the newest; when too many
//! addresses are asked for, the one asked for first is given up. Nothing that waits takes
//! room from what need not.
//!
//! **Trust** any bytes of any frame. A sender's station is believed, as all of them
//! are in ARP.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
};

use super::udp::arp;
use super::udp::ipv4::Own;
use super::{NetConfig, TxBuffer};

/// Stations remembered: more than frames a ring can hold, so that an answer to any of them
/// still finds its way.
const KNOWN: usize = 512;
/// Addresses asked for at the same time.
const WAITING: usize = 8;
/// An address is asked for no more often (RFC 1122, 2.3.2.1).
const ASK_MICROS: u64 = 1_000_000;
/// What has waited longer is not sent any more.
const STALE_MICROS: u64 = 3 * ASK_MICROS;

/// Bytes of an Ethernet header.
pub(super) const HEADER: usize = 14;
const ARP_FRAME: usize = HEADER + 28;

type Address = [u8; 4];

/// One interface's own addresses, and its neighbours'.
pub(super) struct Link {
    own: Own,
    prefix_len: u8,
    gateway: Address,
    known: BTreeMap<Address, Station>,
    /// Addresses known, by when each was heard of.
    heard: BTreeMap<u64, Address>,
    /// Counts what was heard.
    time: u64,
    waiting: VecDeque<Waiting>,
}

struct Station {
    mac: EthernetAddress,
    heard: u64,
}

/// A packet for an address that is asked for.
struct Waiting {
    next_hop: Address,
    asked: u64,
    packet: Vec<u8>,
}

/// What a frame was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Incoming {
    /// An IP packet: what follows the frame's header.
    Packet,
    /// A question, whose answer of so many bytes is in the buffer.
    Answered(usize),
    /// Nothing to pass on.
    Done,
}

impl Link {
    /// An interface that knows no neighbour.
    pub(super) fn new(config: &NetConfig) -> Self {
        Self {
            own: Own::new(config),
            prefix_len: config.prefix_len,
            gateway: config.gateway,
            known: BTreeMap::new(),
            heard: BTreeMap::new(),
            time: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Takes what `frame` says about its sender, and answers into `buffer` if it asks where
    /// we are.
    pub(super) fn receive(&mut self, frame: &[u8], buffer: &mut TxBuffer) -> Incoming {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else { return Incoming::Done };
        let (source, to) = (ethernet.src_addr(), ethernet.dst_addr());
        let to_me = to == self.own.mac;
        if source.is_multicast() || !(to_me || to.is_broadcast()) {
            return Incoming::Done;
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => self.receive_arp(ethernet.payload(), buffer),
            EthernetProtocol::Ipv4 if to_me => match self.own.check(ethernet.payload()) {
                Ok(packet) => {
                    self.learn(packet.source, source);
                    Incoming::Packet
                }
                Err(_) => Incoming::Done,
            },
            _ => Incoming::Done,
        }
    }

    fn receive_arp(&mut self, bytes: &[u8], buffer: &mut TxBuffer) -> Incoming {
        let packet = ArpPacket::new_checked(bytes);
        if let Ok(ArpRepr::EthernetIpv4 {
            source_hardware_addr: mac,
            source_protocol_addr: address,
            target_protocol_addr: target,
            ..
        }) = packet.and_then(|packet| ArpRepr::parse(&packet))
            && target.octets() == self.own.address
            && self.own.is_other_host(address.octets())
            && mac.is_unicast()
        {
            self.learn(address.octets(), mac);
        }
        match arp::answer(bytes, &self.own, buffer) {
            Ok(length) => Incoming::Answered(length),
            Err(_) => Incoming::Done,
        }
    }

    /// Notes that `address` is at `mac`; what was heard of longest ago is forgotten for it.
    fn learn(&mut self, address: Address, mac: EthernetAddress) {
        self.time += 1;
        let station = Station { mac, heard: self.time };
        match self.known.insert(address, station) {
            Some(before) => {
                self.heard.remove(&before.heard);
            }
            None if self.known.len() > KNOWN => {
                if let Some((_, oldest)) = self.heard.pop_first() {
                    self.known.remove(&oldest);
                }
            }
            None => {}
        }
        self.heard.insert(self.time, address);
    }

    /// Puts an Ethernet header before the IP packet of `length` bytes behind it in `buffer`.
    /// Returns how much of `buffer` to send now: that; or, if the packet has to wait, a
    /// question; or nothing, if it was asked a moment ago. `now` is in microseconds.
    pub(super) fn send(&mut self, buffer: &mut TxBuffer, length: usize, now: u64) -> usize {
        let end = (HEADER + length).min(buffer.len());
        let Some(&to) = buffer.get(HEADER + 16..).and_then(|bytes| bytes.first_chunk()) else {
            return 0;
        };
        let next_hop = match self.station(to) {
            Ok(mac) => {
                self.put_header(buffer, mac, EthernetProtocol::Ipv4);
                return end;
            }
            Err(next_hop) => next_hop,
        };
        let packet = buffer.get(HEADER..end).unwrap_or_default().to_vec();
        let asked_for = self.waiting.iter_mut().find(|waiting| waiting.next_hop == next_hop);
        if let Some(waiting) = asked_for {
            waiting.packet = packet;
            if now.saturating_sub(waiting.asked) < ASK_MICROS {
                return 0;
            }
            waiting.asked = now;
        } else {
            if self.waiting.len() == WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back(Waiting { next_hop, asked: now, packet });
        }
        self.ask(buffer, next_hop)
    }

    /// Writes the frame of a packet that need not wait any longer into `buffer`. Returns its
    /// length.
    pub(super) fn release(&mut self, buffer: &mut TxBuffer, now: u64) -> Option<usize> {
        self.waiting.retain(|waiting| now.saturating_sub(waiting.asked) <= STALE_MICROS);
        let known = |waiting: &Waiting| self.known.contains_key(&waiting.next_hop);
        let place = self.waiting.iter().position(known)?;
        let Waiting { next_hop, packet, .. } = self.waiting.remove(place)?;
        let mac = self.known.get(&next_hop)?.mac;
        let end = HEADER + packet.len();
        buffer.get_mut(HEADER..end)?.copy_from_slice(&packet);
        self.put_header(buffer, mac, EthernetProtocol::Ipv4);
        Some(end)
    }

    /// The station that packets to `address` go to, or the address whose station that is.
    fn station(&self, address: Address) -> Result<EthernetAddress, Address> {
        if let Some(station) = self.known.get(&address) {
            return Ok(station.mac);
        }
        if let [224..240, b, c, d] = address {
            // RFC 1112, section 6.4.
            return Ok(EthernetAddress([0x01, 0, 0x5e, b & 0x7f, c, d]));
        }
        if self.own.is_broadcast(address) {
            return Ok(EthernetAddress::BROADCAST);
        }
        let differ = u32::from_be_bytes(address) ^ u32::from_be_bytes(self.own.address);
        let hosts = u32::MAX.checked_shr(self.prefix_len.into()).unwrap_or(0);
        let next_hop = if differ & !hosts == 0 { address } else { self.gateway };
        self.known.get(&next_hop).map(|station| station.mac).ok_or(next_hop)
    }

    fn put_header(&self, buffer: &mut TxBuffer, to: EthernetAddress, kind: EthernetProtocol) {
        let mut frame = EthernetFrame::new_unchecked(&mut buffer[..]);
        frame.set_dst_addr(to);
        frame.set_src_addr(self.own.mac);
        frame.set_ethertype(kind);
    }

    /// Writes the question which station has `address`. Returns the length of the frame.
    fn ask(&self, buffer: &mut TxBuffer, address: Address) -> usize {
        self.put_header(buffer, EthernetAddress::BROADCAST, EthernetProtocol::Arp);
        let Some(bytes) = buffer.get_mut(HEADER..ARP_FRAME) else { return 0 };
        ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: self.own.mac,
            source_protocol_addr: self.own.address.into(),
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: address.into(),
        }
        .emit(&mut ArpPacket::new_unchecked(bytes));
        ARP_FRAME
    }
}

#[cfg(test)]
mod tests {
    use super::{ASK_MICROS, HEADER, Incoming, KNOWN, Link, STALE_MICROS, WAITING};
    use crate::net::TxBuffer;
    use crate::net::tests::SERVER;
    use crate::net::tests::frames::{arp_reply, from, udp};

    const EMPTY: TxBuffer = [0; 1514];

    /// A packet to `address`, sent. Returns the frame that goes out, if any.
    fn send(link: &mut Link, address: [u8; 4], now: u64) -> Vec<u8> {
        let mut buffer = EMPTY;
        buffer[HEADER + 16..HEADER + 20].copy_from_slice(&address);
        let length = link.send(&mut buffer, 40, now);
        buffer[..length].to_vec()
    }

    fn is_question_for(frame: &[u8], address: [u8; 4]) -> bool {
        frame.len() == 42 && frame[12..14] == [8, 6] && frame[38..42] == address
    }

    #[test]
    fn whoever_said_something_is_answered_where_it_is() {
        let mut link = Link::new(&SERVER);
        for last in 1..=200 {
            let (address, mac) = ([192, 168, 7, last], [2, 0, 0, 0, 7, last]);
            let heard = link.receive(&from(mac, address, &udp(b"x")), &mut EMPTY.clone());
            assert_eq!(heard, Incoming::Packet);
            assert_eq!(send(&mut link, address, 0)[..6], mac);
        }
        // It moves.
        link.receive(&from([2, 9, 9, 9, 9, 9], [192, 168, 7, 1], &udp(b"x")), &mut EMPTY.clone());
        assert_eq!(send(&mut link, [192, 168, 7, 1], 0)[..6], [2, 9, 9, 9, 9, 9]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes() {
        let mut link = Link::new(&SERVER);
        let address = |n: usize| [172, 16, (n >> 8) as u8, n as u8];
        let say = |link: &mut Link, n| {
            link.receive(&from([2; 6], address(n), &udp(b"x")), &mut EMPTY.clone());
        };
        for n in 0..3 * KNOWN {
            say(&mut link, n);
            // It is heard of all the time.
            say(&mut link, 7);
            assert!(link.known.len() <= KNOWN && link.heard.len() == link.known.len());
        }
        assert!(link.known.contains_key(&address(7)));
        assert!(link.known.contains_key(&address(3 * KNOWN - 1)));
        assert!(!link.known.contains_key(&address(KNOWN)));
    }

    #[test]
    fn only_what_was_not_asked_for_waits_and_the_first_is_given_up() {
        let mut link = Link::new(&SERVER);
        let silent = |n: usize| [10, 0, 2, 100 + n as u8];
        for n in 0..3 * WAITING {
            assert!(is_question_for(&send(&mut link, silent(n), 0), silent(n)));
            assert!(link.waiting.len() <= WAITING);
        }
        // One more for the last: it replaces the packet, and is not asked for again.
        assert!(send(&mut link, silent(3 * WAITING - 1), ASK_MICROS - 1).is_empty());
        assert_eq!(link.waiting.len(), WAITING);
        let again = send(&mut link, silent(3 * WAITING - 1), ASK_MICROS);
        assert!(is_question_for(&again, silent(3 * WAITING - 1)));

        let mut buffer = EMPTY;
        assert_eq!(link.release(&mut buffer, ASK_MICROS), None, "no answer has come");
        let found = silent(3 * WAITING - 1);
        link.receive(&arp_reply([2, 0, 0, 0, 0, 5], found), &mut EMPTY.clone());
        assert_eq!(link.release(&mut buffer, ASK_MICROS), Some(HEADER + 40));
        assert_eq!(buffer[..6], [2, 0, 0, 0, 0, 5]);
        assert_eq!(buffer[30..34], found);
        assert_eq!(link.release(&mut buffer, ASK_MICROS), None, "it is sent once");
        // The others are too old some day.
        let late = silent(2 * WAITING + 1);
        link.receive(&arp_reply([2; 6], late), &mut EMPTY.clone());
        assert_eq!(link.release(&mut buffer, ASK_MICROS + STALE_MICROS + 1), None);
        assert!(link.waiting.is_empty());
    }

    #[test]
    fn far_addresses_are_reached_through_the_gateway() {
        let mut link = Link::new(&SERVER);
        assert!(is_question_for(&send(&mut link, [192, 0, 2, 1], 0), SERVER.gateway));
        link.receive(&arp_reply([2, 0, 0, 0, 0, 1], SERVER.gateway), &mut EMPTY.clone());
        assert_eq!(send(&mut link, [192, 0, 2, 2], 0)[..6], [2, 0, 0, 0, 0, 1]);
        assert_eq!(send(&mut link, [10, 0, 2, 255], 0)[..6], [0xff; 6]);
        assert_eq!(send(&mut link, [255; 4], 0)[..6], [0xff; 6]);
        assert_eq!(send(&mut link, [239, 129, 2, 3], 0)[..6], [1, 0, 0x5e, 1, 2, 3]);
    }
}
