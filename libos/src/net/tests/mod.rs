//! Stacks against packets written by hand, against each other, and against
//! garbage.

mod conversation;
pub(super) mod frames;
mod scripted;

use exo_abi::{Error, SyncCounts};

use super::{Endpoint, NetConfig, NetDevice, Service, Slots, TxBuffer};

pub(super) const SERVER: NetConfig = NetConfig {
    mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
    address: [10, 0, 2, 15],
    prefix_len: 24,
    gateway: [10, 0, 2, 2],
};

pub(super) const CLIENT: NetConfig = NetConfig {
    mac: [0x52, 0x55, 10, 0, 2, 2],
    address: [10, 0, 2, 2],
    prefix_len: 24,
    gateway: [10, 0, 2, 2],
};

pub(super) const PORT: u16 = 11211;

/// Answers with the request reversed; nothing to an empty one.
#[derive(Default)]
pub(super) struct Reverse {
    pub(super) requests: Vec<(Vec<u8>, Endpoint)>,
}

impl Service for Reverse {
    fn answer(&mut self, request: &[u8], from: Endpoint, reply: &mut [u8]) -> Option<usize> {
        self.requests.push((request.to_vec(), from));
        for (to, from) in reply.iter_mut().zip(request.iter().rev()) {
            *to = *from;
        }
        (!request.is_empty()).then_some(request.len())
    }
}

/// One frame in, any number out, with memory that shows what was not written.
pub(super) struct Single {
    pub(super) received: Option<Vec<u8>>,
    pub(super) sent: Vec<Vec<u8>>,
    buffer: TxBuffer,
}

impl Single {
    pub(super) fn new(frame: &[u8]) -> Self {
        Self { received: Some(frame.to_vec()), sent: Vec::new(), buffer: [0xee; 1514] }
    }
}

impl NetDevice for Single {
    fn slots(&mut self) -> Slots<'_> {
        Slots { received: self.received.as_deref(), free: Some(&mut self.buffer) }
    }

    fn consume(&mut self) {
        self.received = None;
    }

    fn commit(&mut self, length: usize) {
        self.sent.push(self.buffer[..length].to_vec());
    }

    fn sync(&mut self) -> Result<SyncCounts, Error> {
        Ok(SyncCounts { taken: 0, refused: 0 })
    }
}
