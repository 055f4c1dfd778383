//! What every [`UdpStack`] must do for its peers: run it on any new one.
//!
//! [`check`] plays the rest of the network over a [`Wire`], with frames made by hand. Its
//! peers never ask for a station and never answer when asked for theirs: a server finds all
//! it needs in the frame it answers. Nothing here depends on the guest.

use alloc::vec::Vec;
use core::cell::Cell;

use exo_abi::{Error, SyncCounts};

use super::answerers::ANSWERING_PORTS;
use super::checksum::Sum;
use super::wire::Wire;
use super::{Endpoint, NetConfig, NetDevice, Service, Slots, UdpStack};

/// The stack's own addresses.
pub(super) const CONFIG: NetConfig = NetConfig {
    mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
    address: [10, 0, 2, 15],
    prefix_len: 24,
    gateway: [10, 0, 2, 2],
};
pub(super) const PORT: u16 = 9999;
/// Frames that either end of the wire holds.
pub(super) const SLOTS: usize = 64;
/// Peers in a crowd: more than any table of neighbours holds.
const CROWD: u32 = 2000;

/// Puts stacks that `fresh` makes for an address, a port and a device through the contract.
///
/// # Panics
/// If a stack breaks it.
pub fn check<T: UdpStack>(mut fresh: impl FnMut(&NetConfig, u16, &mut Wire) -> T) {
    let mut network = || {
        let (far, mut near) = Wire::pair(SLOTS);
        Network { stack: fresh(&CONFIG, PORT, &mut near), near, far, now: 0 }
    };
    the_first_ping_of_every_peer_is_answered(&mut network());
    every_peer_is_answered_at_its_station(&mut network());
    a_whole_burst_is_answered(&mut network());
    a_peer_may_move(&mut network());
    silent_peers_delay_nobody(&mut network());
    answers_are_not_answered(&mut network());
    an_answer_may_be_several_datagrams(&mut network());
}

fn the_first_ping_of_every_peer_is_answered<T: UdpStack>(network: &mut Network<T>) {
    for peer in crowd() {
        let answers = network.say(&[peer.ping()]);
        assert!(
            matches!(&answers[..], [answer] if peer.is_answered_by(answer, ICMP)),
            "the first ping of {peer:?} got {answers:02x?}"
        );
    }
}

fn every_peer_is_answered_at_its_station<T: UdpStack>(network: &mut Network<T>) {
    for peer in crowd() {
        let answers = network.say(&[peer.datagram(40_000, b"question")]);
        assert!(
            matches!(&answers[..], [answer] if peer.is_answered_by(answer, UDP)),
            "the first datagram of {peer:?} got {answers:02x?}"
        );
    }
}

/// As many as the device takes, each from another peer.
fn a_whole_burst_is_answered<T: UdpStack>(network: &mut Network<T>) {
    for round in 0..20 {
        let peers: Vec<_> = crowd().skip(round * SLOTS).take(SLOTS).collect();
        let burst: Vec<_> = peers.iter().map(|peer| peer.datagram(40_000, b"question")).collect();
        let answers = network.say(&burst);
        for peer in &peers {
            let count = answers.iter().filter(|answer| peer.is_answered_by(answer, UDP)).count();
            assert_eq!(count, 1, "answers to {peer:?} in a burst");
        }
    }
}

fn a_peer_may_move<T: UdpStack>(network: &mut Network<T>) {
    let peer = Peer::new(7);
    for last in 0..20 {
        let peer = Peer { mac: [2, 0, 0, 0, 0xff, last], ..peer };
        let answers = network.say(&[peer.datagram(40_000, b"question")]);
        assert!(matches!(&answers[..], [answer] if peer.is_answered_by(answer, UDP)));
    }
}

/// Peers of which nothing more is heard, in between and at the same time as others.
fn silent_peers_delay_nobody<T: UdpStack>(network: &mut Network<T>) {
    let good = Peer::new(1);
    for silent in crowd().skip(10).take(300) {
        let answers = network.say(&[
            silent.ping(),
            silent.datagram(40_000, b"gone"),
            good.datagram(40_001, b"question"),
            good.ping(),
        ]);
        for protocol in [UDP, ICMP] {
            let to_good = |answer: &&Vec<u8>| good.is_answered_by(answer, protocol);
            assert_eq!(answers.iter().filter(to_good).count(), 1, "beside {silent:?}");
        }
    }
}

fn answers_are_not_answered<T: UdpStack>(network: &mut Network<T>) {
    let peer = Peer::new(3);
    for port in ANSWERING_PORTS.map(|(port, _)| port).into_iter().chain([PORT]) {
        let answers = network.say(&[peer.datagram(port, b"answer")]);
        assert!(answers.is_empty(), "a datagram from port {port} is answered");
        let answers = network.say(&[peer.datagram(40_000, b"question")]);
        assert_eq!(answers.len(), 1, "after one from port {port}");
    }
}

/// More of them than the device takes at once, to one peer, with others asking meanwhile.
fn an_answer_may_be_several_datagrams<T: UdpStack>(network: &mut Network<T>) {
    let (long, other) = (Peer::new(1), Peer::new(2));
    for count in [0, 1, 2, 3 * SLOTS as u8 + 1] {
        let heard = network
            .say(&[long.datagram(40_000, &[SEVERAL, count]), other.datagram(40_001, b"question")]);
        let payload = |frame: &Vec<u8>| frame.get(42..44).map(<[u8]>::to_vec);
        let parts: Vec<_> =
            heard.iter().filter(|f| long.is_answered_by(f, UDP)).filter_map(payload).collect();
        let expected: Vec<_> = (0..count).rev().map(|left| [SEVERAL, left].to_vec()).collect();
        assert_eq!(parts, expected, "in order, and whole");
        let others = heard.iter().filter(|frame| other.is_answered_by(frame, UDP)).count();
        assert_eq!(others, 1, "beside {count}");
    }
}

/// A stack, its device and the other end of the wire.
struct Network<T> {
    stack: T,
    near: Wire,
    far: Wire,
    /// In microseconds.
    now: u64,
}

impl<T: UdpStack> Network<T> {
    /// Says `frames` and returns what the stack says to them, as soon as it has nothing
    /// more to do. Little time passes: whatever waits for more is late.
    fn say(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        frames.iter().for_each(|frame| put(&mut self.far, frame));
        let mut heard = Vec::new();
        self.far.sync().expect("a wire");
        let unsettled = Cell::new(false);
        let mut service = Repeat { left: 0, unsettled: &unsettled };
        for _ in 0..SLOTS {
            self.now += 1;
            let mut near = Watched { wire: &mut self.near, unsettled: &unsettled };
            let polled = self.stack.poll(&mut near, &mut service, self.now, SLOTS as u32);
            near.sync().expect("a wire");
            while let Some(frame) = self.far.slots().received {
                heard.push(frame.to_vec());
                self.far.consume();
            }
            if polled.expect("a wire") == 0 {
                return heard;
            }
        }
        panic!("the stack is busy for ever");
    }
}

/// Puts `frame` on the wire.
pub(super) fn put(wire: &mut Wire, frame: &[u8]) {
    if let Some(buffer) = wire.slots().free {
        buffer[..frame.len()].copy_from_slice(frame);
    }
    wire.commit(frame.len());
}

/// A wire over which no answer leaves that is not settled.
pub(super) struct Watched<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) unsettled: &'a Cell<bool>,
}

impl NetDevice for Watched<'_> {
    fn slots(&mut self) -> Slots<'_> {
        self.wire.slots()
    }

    fn consume(&mut self) {
        self.wire.consume();
    }

    fn commit(&mut self, length: usize) {
        self.wire.commit(length);
    }

    fn sync(&mut self) -> Result<SyncCounts, Error> {
        assert!(!self.unsettled.get(), "an answer leaves that is not settled");
        self.wire.sync()
    }
}

/// First byte of a request for as many datagrams as the second says.
const SEVERAL: u8 = 0;

/// Answers with the request, or with as many datagrams as are wanted.
struct Repeat<'a> {
    left: u8,
    unsettled: &'a Cell<bool>,
}

impl Service for Repeat<'_> {
    fn settle(&mut self) -> Result<(), Error> {
        self.unsettled.set(false);
        Ok(())
    }

    fn has_more(&self) -> bool {
        self.left > 0
    }

    fn more(&mut self, reply: &mut [u8]) -> Option<(usize, Sum)> {
        self.left = self.left.checked_sub(1)?;
        let part = [SEVERAL, self.left];
        *reply.first_chunk_mut()? = part;
        Some((part.len(), Sum::of(&part)))
    }

    fn answer(&mut self, request: &[u8], _: Endpoint, reply: &mut [u8]) -> Option<usize> {
        self.unsettled.set(true);
        if let [SEVERAL, count] = request {
            assert_eq!(self.left, 0, "the last answer was not fetched");
            self.left = *count;
            return None;
        }
        reply.get_mut(..request.len())?.copy_from_slice(request);
        Some(request.len())
    }
}

const ICMP: u8 = 1;
const UDP: u8 = 17;

/// A host of the network, or one beyond a router.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) mac: [u8; 6],
    pub(super) address: [u8; 4],
}

fn crowd() -> impl Iterator<Item = Peer> {
    (1..CROWD).map(Peer::new)
}

impl Peer {
    /// Number `number`; every third is a neighbour, as long as there are addresses.
    fn new(number: u32) -> Self {
        let [_, _, high, low] = number.to_be_bytes();
        let near = number.is_multiple_of(3) && number < 700;
        let address =
            if near { [10, 0, 2, 251 - (number / 3) as u8] } else { [172, 16, high, low] };
        Self { mac: [2, 0, 0, 0, high, low], address }
    }

    fn ping(&self) -> Vec<u8> {
        let mut message = [8, 0, 0, 0, 0x12, 0x34, 0, 1, b'?', b'!'];
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum);
        self.packet(ICMP, &message)
    }

    fn datagram(&self, from: u16, payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::new();
        // No checksum, as the sender may choose.
        for field in [from, PORT, 8 + payload.len() as u16, 0] {
            datagram.extend(field.to_be_bytes());
        }
        datagram.extend(payload);
        self.packet(UDP, &datagram)
    }

    /// The frame of an IPv4 packet to the stack.
    pub(super) fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let [high, low] = (20 + payload.len() as u16).to_be_bytes();
        let mut header =
            [0x45, 0, high, low, 0, 1, 0, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        header[12..16].copy_from_slice(&self.address);
        header[16..20].copy_from_slice(&CONFIG.address);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        [&CONFIG.mac[..], &self.mac, &[8, 0], &header, payload].concat()
    }

    /// Whether `frame` is an answer to this peer, at its station.
    fn is_answered_by(&self, frame: &[u8], protocol: u8) -> bool {
        frame.len() >= 42
            && frame[..6] == self.mac
            && frame[12..14] == [8, 0]
            && frame[23] == protocol
            && frame[30..34] == self.address
    }
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 =
        bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    (!(sum + (sum >> 16)) as u16).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::net::smol::SmolUdp;
    use crate::net::udp::FastUdp;

    #[test]
    fn the_fast_path_conforms() {
        check(|config, port, _| FastUdp::new(config, port));
    }

    #[test]
    fn smoltcp_conforms() {
        check(|config, port, device| SmolUdp::new(config, port, device, 0).expect("a port"));
    }
}
