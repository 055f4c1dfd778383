//! A simulated network that loses, repeats, reorders, delays and damages packets, by a seed.
//!
//! Time is simulated, too: it goes on to when something happens next. Damage spares the Ethernet
//! header and ARP, which a frame's own checksum guards on their only link; IP packets
//! can be damaged between two links.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use exo_abi::{Error, FRAME_MAX, SyncCounts};

use crate::net::{NetDevice, Slots, TxBuffer};

/// How bad the network is, each out of 1,000 packets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weather {
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) damaged: u64,
    /// Most microseconds that a packet takes more than the least.
    pub(super) jitter: u64,
    /// The least.
    pub(super) delay: u64,
}

/// What both ends share.
struct Ether {
    weather: Weather,
    random: u64,
    now: u64,
    /// By time of arrival, and the order of sending.
    flying: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    sent: u64,
}

/// One end.
pub(super) struct End {
    ether: Rc<RefCell<Ether>>,
    side: usize,
    received: Option<Vec<u8>>,
    buffer: Box<TxBuffer>,
}

impl End {
    pub(super) fn pair(weather: Weather, seed: u64) -> (Self, Self) {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let flying = BTreeMap::new();
        let ether = Rc::new(RefCell::new(Ether { weather, random, now: 0, flying, sent: 0 }));
        let end = |side| Self {
            ether: ether.clone(),
            side,
            received: None,
            buffer: Box::new([0; FRAME_MAX]),
        };
        (end(0), end(1))
    }

    /// Lets time pass for both ends.
    pub(super) fn set_time(&self, now: u64) {
        self.ether.borrow_mut().now = now;
    }

    /// When the next packet arrives at either end.
    pub(super) fn next_arrival(&self) -> Option<u64> {
        self.ether.borrow().flying.keys().next().map(|key| key.0)
    }
}

impl Ether {
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 8) % below.max(1)
    }

    fn send(&mut self, to: usize, frame: &[u8]) {
        let Weather { lost, repeated, damaged, jitter, delay } = self.weather;
        if self.draw(1000) < lost {
            return;
        }
        let copies = 1 + u64::from(self.draw(1000) < repeated);
        for _ in 0..copies {
            let mut frame = frame.to_vec();
            if frame.len() > 15 && frame[12..14] == [8, 0] && self.draw(1000) < damaged {
                let at = 14 + self.draw(frame.len() as u64 - 14) as usize;
                frame[at] ^= 1 << self.draw(8);
            }
            self.sent += 1;
            let at = self.now + delay + self.draw(jitter);
            self.flying.insert((at, self.sent), (to, frame));
        }
    }
}

impl NetDevice for End {
    fn slots(&mut self) -> Slots<'_> {
        if self.received.is_none() {
            let mut ether = self.ether.borrow_mut();
            let now = ether.now;
            let due = ether.flying.iter().find(|(key, (to, _))| key.0 <= now && *to == self.side);
            if let Some(key) = due.map(|(key, _)| *key) {
                self.received = ether.flying.remove(&key).map(|(_, frame)| frame);
            }
        }
        Slots { received: self.received.as_deref(), free: Some(&mut self.buffer) }
    }

    fn consume(&mut self) {
        self.received = None;
    }

    fn commit(&mut self, length: usize) {
        self.ether.borrow_mut().send(1 - self.side, &self.buffer[..length]);
    }

    fn sync(&mut self) -> Result<SyncCounts, Error> {
        Ok(SyncCounts { taken: 0, refused: 0 })
    }
}
