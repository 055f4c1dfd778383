//! Ethernet frames as other hosts on the guest's network would send and read them.
//!
//! Deliberately not the code that the library OS uses: what both sides share could
//! be wrong on both.

use std::time::{Duration, Instant};

use exo_cmd::machine::{FrameSocket, GUEST_MAC, Machine};

use crate::GATEWAY;

/// Ethernet address of the test.
pub const HOST_MAC: [u8; 6] = [0x52, 0x55, 10, 0, 2, 2];
const BROADCAST: [u8; 6] = [0xff; 6];

/// Protocol numbers of IPv4.
pub const ICMP: u8 = 1;
/// See [`ICMP`].
pub const UDP: u8 = 17;

/// An Ethernet header and what follows it.
#[must_use]
pub fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ethertype.to_be_bytes(), payload].concat()
}

/// The Internet checksum of `bytes` (RFC 1071).
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet on its way to be changed.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// Sender.
    pub from: [u8; 4],
    /// Receiver.
    pub to: [u8; 4],
    /// Protocol number.
    pub protocol: u8,
    /// Flags and offset.
    pub fragment: u16,
    /// Options, whole words.
    pub options: Vec<u8>,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Ipv4 {
    /// A packet from the router to `to`.
    #[must_use]
    pub fn to(to: [u8; 4], protocol: u8, payload: Vec<u8>) -> Self {
        Self { from: GATEWAY, to, protocol, fragment: 0, options: Vec::new(), payload }
    }

    /// The packet with a good header checksum.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let total = (header + self.payload.len()) as u16;
        let mut bytes = vec![0x40 | (header / 4) as u8, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([64, self.protocol, 0, 0]);
        bytes.extend(self.from);
        bytes.extend(self.to);
        bytes.extend(&self.options);
        let sum = checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The frame that brings it to the guest.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        ethernet(GUEST_MAC, HOST_MAC, 0x0800, &self.bytes())
    }
}

/// A UDP datagram with a good checksum (RFC 768).
#[must_use]
pub fn udp(from: [u8; 4], to: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut bytes = Vec::new();
    for field in [ports.0, ports.1, length, 0] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.extend(payload);
    let pseudo = [&from[..], &to, &[0, UDP], &length.to_be_bytes(), &bytes].concat();
    let sum = match checksum(&pseudo) {
        0 => 0xffff,
        sum => sum,
    };
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The frame of a datagram from the router's port `from` to the guest.
#[must_use]
pub fn datagram(from: u16, to: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
    Ipv4::to(to, UDP, udp(GATEWAY, to, (from, port), payload)).frame()
}

/// An echo request (RFC 792).
#[must_use]
pub fn ping(to: [u8; 4], sequence: u16, payload: &[u8]) -> Ipv4 {
    let mut bytes = vec![8, 0, 0, 0, 0x12, 0x34];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(payload);
    let sum = checksum(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    Ipv4::to(to, ICMP, bytes)
}

/// An ARP packet (RFC 826) as a frame.
#[must_use]
pub fn arp(operation: u16, sender: ([u8; 6], [u8; 4]), target: ([u8; 6], [u8; 4])) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    for (hardware, protocol) in [sender, target] {
        bytes.extend(hardware);
        bytes.extend(protocol);
    }
    let to = if operation == 1 { BROADCAST } else { target.0 };
    ethernet(to, sender.0, 0x0806, &bytes)
}

/// The ARP request for `address`.
#[must_use]
pub fn who_has(address: [u8; 4]) -> Vec<u8> {
    arp(1, (HOST_MAC, GATEWAY), ([0; 6], address))
}

/// What the guest said, as far as tests ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An ARP packet: operation, sender and target.
    Arp(u16, ([u8; 6], [u8; 4]), ([u8; 6], [u8; 4])),
    /// An ICMP message: sender and contents.
    Icmp([u8; 4], Vec<u8>),
    /// A datagram: sender with port, receiver with port, payload.
    Udp(([u8; 4], u16), ([u8; 4], u16), Vec<u8>),
    /// Something else.
    Other(Vec<u8>),
}

/// Reads a frame from the guest, and checks everything in it that has a checksum or a
/// length.
///
/// # Panics
/// If the frame is not as the standards want it.
#[must_use]
pub fn hear(frame: &[u8]) -> Heard {
    assert!(frame.len() >= 14, "a frame without a header: {frame:02x?}");
    assert_eq!(frame[6..12], GUEST_MAC, "source station of {frame:02x?}");
    let body = &frame[14..];
    match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0806 if body.len() >= 28 && body[..6] == [0, 1, 8, 0, 6, 4] => {
            let side = |at: usize| {
                let mut hardware = [0; 6];
                hardware.copy_from_slice(&body[at..at + 6]);
                (hardware, address(&body[at + 6..]))
            };
            Heard::Arp(u16::from_be_bytes([body[6], body[7]]), side(8), side(18))
        }
        0x0800 => hear_ipv4(body).unwrap_or_else(|| Heard::Other(frame.to_vec())),
        _ => Heard::Other(frame.to_vec()),
    }
}

fn hear_ipv4(packet: &[u8]) -> Option<Heard> {
    let header = packet.get(..20)?;
    assert_eq!(header[0], 0x45, "version and length of {packet:02x?}");
    assert_eq!(checksum(header), 0, "header checksum of {packet:02x?}");
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let payload = packet.get(20..total).unwrap_or_else(|| panic!("length of {packet:02x?}"));
    let (from, to) = (address(&header[12..]), address(&header[16..]));
    match header[9] {
        ICMP => {
            assert_eq!(checksum(payload), 0, "ICMP checksum of {packet:02x?}");
            Some(Heard::Icmp(from, payload.to_vec()))
        }
        UDP => {
            let field = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
            assert!(payload.len() >= 8, "a datagram without a header: {packet:02x?}");
            assert_eq!(usize::from(field(4)), payload.len(), "UDP length of {packet:02x?}");
            if field(6) != 0 {
                let length = field(4).to_be_bytes();
                let pseudo = [&from[..], &to, &[0, UDP], &length, payload].concat();
                assert_eq!(checksum(&pseudo), 0, "UDP checksum of {packet:02x?}");
            }
            Some(Heard::Udp((from, field(0)), (to, field(2)), payload[8..].to_vec()))
        }
        _ => None,
    }
}

fn address(bytes: &[u8]) -> [u8; 4] {
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

/// The test as a host at the other end of the guest's wire.
pub struct Wire<'a> {
    socket: &'a FrameSocket,
}

impl<'a> Wire<'a> {
    /// The wire of a machine booted with frames.
    ///
    /// # Panics
    /// If it was booted otherwise.
    #[must_use]
    pub fn of(machine: &'a Machine) -> Self {
        Self { socket: machine.frames().expect("a machine with frames") }
    }

    /// Sends a frame to the guest.
    ///
    /// # Panics
    /// If QEMU is gone.
    pub fn send(&self, frame: &[u8]) {
        self.socket.send(frame).expect("QEMU takes the frame");
    }

    /// Sends a frame to the guest, which may end meanwhile. Whether QEMU was there to take it.
    #[must_use]
    pub fn offer(&self, frame: &[u8]) -> bool {
        self.socket.send(frame).is_ok()
    }

    /// The next frame from the guest; questions for the router's station are answered
    /// on the way, announcements passed over.
    ///
    /// # Panics
    /// If QEMU is gone, or the frame breaks a standard.
    #[must_use]
    pub fn next(&self, patience: Duration) -> Option<Heard> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let heard = hear(&self.socket.receive(left).expect("QEMU is there")?);
            match heard {
                Heard::Arp(1, asker, (_, GATEWAY)) => {
                    self.send(&arp(2, (HOST_MAC, GATEWAY), asker));
                }
                // An application that has just bound announces its address.
                Heard::Arp(1, (_, sender), (_, target)) if sender == target => {}
                heard => return Some(heard),
            }
        }
    }

    /// Sends `question` and waits for the first frame that `accept` finds something
    /// in. Repeats the question, since the guest may not have been listening yet.
    ///
    /// # Panics
    /// If no answer comes for a long time.
    #[track_caller]
    pub fn ask<T>(&self, question: &[u8], mut accept: impl FnMut(&Heard) -> Option<T>) -> T {
        for _ in 0..240 {
            self.send(question);
            let deadline = Instant::now() + Duration::from_millis(500);
            while let Some(heard) = self.next(deadline.saturating_duration_since(Instant::now())) {
                if let Some(found) = accept(&heard) {
                    return found;
                }
            }
        }
        panic!("the guest did not answer");
    }

    /// The station that has `address`, asked by ARP.
    #[track_caller]
    pub fn station_of(&self, wanted: [u8; 4]) -> [u8; 6] {
        self.ask(&who_has(wanted), |heard| match heard {
            Heard::Arp(2, (station, address), _) if *address == wanted => Some(*station),
            _ => None,
        })
    }

    /// The payload that `address` answers from `port` to a datagram from the router's
    /// port `from`.
    #[track_caller]
    pub fn exchange(&self, from: u16, to: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
        self.ask(&datagram(from, to, port, payload), |heard| match heard {
            Heard::Udp(source, (GATEWAY, target), answer)
                if *source == (to, port) && *target == from =>
            {
                Some(answer.clone())
            }
            _ => None,
        })
    }

    /// Sends all of `frames` and then `fence`, and returns what the guest said until
    /// the answer to the fence, which `is_answer` knows: whatever was to be said to the
    /// frames has been said by then, since a service answers in order.
    #[track_caller]
    pub fn say_and_fence(
        &self,
        frames: &[Vec<u8>],
        fence: &[u8],
        is_answer: impl Fn(&Heard) -> bool,
    ) -> Vec<Heard> {
        // Few at a time: a full ring drops, and then nothing would be shown.
        let mut others = Vec::new();
        for chunk in frames.chunks(16).chain(frames.is_empty().then_some(&[][..])) {
            for frame in chunk {
                self.send(frame);
            }
            self.ask(fence, |heard| {
                if is_answer(heard) {
                    return Some(());
                }
                others.push(heard.clone());
                None
            });
        }
        others
    }
}

#[cfg(test)]
mod tests {
    use super::{GUEST_MAC, Heard, Ipv4, UDP, checksum, datagram, hear, udp};

    #[test]
    fn the_checksum_is_the_standards() {
        // RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[]), 0xffff);
    }

    #[test]
    fn hears_what_it_says() {
        let (from, to) = ([10, 0, 2, 15], [10, 0, 2, 2]);
        let packet = Ipv4 { from, ..Ipv4::to(to, UDP, udp(from, to, (11211, 5), b"odd")) };
        let frame = [&[2; 6][..], &GUEST_MAC, &[8, 0], &packet.bytes()].concat();
        assert_eq!(hear(&frame), Heard::Udp((from, 11211), (to, 5), b"odd".to_vec()));
        assert_eq!(datagram(1, to, 2, b"").len(), 14 + 20 + 8);
    }
}
