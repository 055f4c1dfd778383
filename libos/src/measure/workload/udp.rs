//! What a UDP stack is asked for: an answer to a datagram, step 4 of a packet's journey.

use alloc::vec::Vec;

use exo_abi::{Error, FRAME_MAX, SyncCounts};

use crate::measure::repeat;
use crate::net::checksum::Sum;
use crate::net::{Endpoint, NetConfig, NetDevice, Service, Slots, TxBuffer, UdpStack};

const CONFIG: NetConfig = NetConfig {
    mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
    address: [10, 0, 2, 15],
    prefix_len: 24,
    gateway: [10, 0, 2, 2],
};
const PORT: u16 = 9999;

/// A device that has received one frame, again and again, and sends nowhere.
#[derive(Debug)]
pub struct Repeater {
    frame: Vec<u8>,
    waiting: bool,
    buffer: TxBuffer,
    sent: u64,
}

impl NetDevice for Repeater {
    fn slots(&mut self) -> Slots<'_> {
        Slots { received: self.waiting.then_some(&self.frame), free: Some(&mut self.buffer) }
    }

    fn consume(&mut self) {
        self.waiting = false;
    }

    fn commit(&mut self, _: usize) {
        self.sent += 1;
    }

    fn sync(&mut self) -> Result<SyncCounts, Error> {
        Ok(SyncCounts { taken: 1, refused: 0 })
    }
}

/// Answers with as many bytes as it was asked, without looking at them.
struct Same;

impl Service for Same {
    fn answer(&mut self, request: &[u8], _: Endpoint, _: &mut [u8]) -> Option<usize> {
        Some(request.len())
    }
}

/// Has stacks that `fresh` makes for an address, a port and a device answer datagrams of 16,
/// 100 and 1000 bytes. Returns how many answers there were.
pub fn udp<T: UdpStack>(mut fresh: impl FnMut(&NetConfig, u16, &mut Repeater) -> T) -> u64 {
    let mut answers = 0;
    for (length, name) in [
        (16, "udp: answer 16 bytes"),
        (100, "udp: answer 100 bytes"),
        (1000, "udp: answer 1000 bytes"),
    ] {
        let frame = request(length);
        let mut device = Repeater { frame, waiting: false, buffer: [0; FRAME_MAX], sent: 0 };
        let mut stack = fresh(&CONFIG, PORT, &mut device);
        device.sent = 0;
        repeat(name, || {
            device.waiting = true;
            stack.poll(&mut device, &mut Same, 0, 1)
        });
        answers += device.sent;
    }
    answers
}

/// A request of `length` bytes from the gateway, checksums included.
fn request(length: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_MAX);
    frame.extend(CONFIG.mac);
    frame.extend([2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0]);
    frame.extend((28 + length).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(CONFIG.gateway);
    frame.extend(CONFIG.address);
    let sum = Sum::of(&frame[14..]).checksum();
    frame[24..26].copy_from_slice(&sum);
    let from: u16 = 40_000;
    for field in [from, PORT, 8 + length, 0] {
        frame.extend(field.to_be_bytes());
    }
    frame.extend((0..length).map(|byte| byte as u8));
    let pseudo = Sum::of(&frame[26..34]).and(Sum::field(17)).and(Sum::field(8 + length));
    let sum = pseudo.and(Sum::of(&frame[34..])).checksum();
    frame[40..42].copy_from_slice(&sum);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::smol::SmolUdp;
    use crate::net::udp::FastUdp;

    #[test]
    fn every_datagram_is_answered() {
        let fast = udp(|config, port, _| FastUdp::new(config, port));
        let smol = udp(|config, port, device| SmolUdp::new(config, port, device, 0).unwrap());
        assert_eq!((fast, smol), (3, 3));
    }
}
