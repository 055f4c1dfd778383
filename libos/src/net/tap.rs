//! A device in front of another that records what passes.

use exo_abi::{Error, SyncCounts};

use super::{NetDevice, Slots};
use crate::trace::Record;

/// What a [`Tap`] records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetEvent {
    /// A frame of this many bytes was consumed.
    Received(u16),
    /// A frame of this many bytes was committed.
    Sent(u16),
    /// The rings were synchronised; this many frames were taken, this many of
    /// them refused.
    Synced(u32, u32),
    /// Synchronising was refused.
    Failed(Error),
}

/// A device whose traffic is recorded.
#[derive(Debug)]
pub struct Tap<D, R> {
    device: D,
    record: R,
}

impl<D: NetDevice, R: Record<NetEvent>> Tap<D, R> {
    /// Records in `record` what passes `device`.
    pub const fn new(device: D, record: R) -> Self {
        Self { device, record }
    }

    /// The recorder.
    pub fn record(&self) -> &R {
        &self.record
    }
}

impl<D: NetDevice, R: Record<NetEvent>> NetDevice for Tap<D, R> {
    fn slots(&mut self) -> Slots<'_> {
        self.device.slots()
    }

    fn consume(&mut self) {
        if let Some(frame) = self.device.slots().received {
            self.record.record(NetEvent::Received(frame.len() as u16));
        }
        self.device.consume();
    }

    fn commit(&mut self, length: usize) {
        self.record.record(NetEvent::Sent(length as u16));
        self.device.commit(length);
    }

    fn sync(&mut self) -> Result<SyncCounts, Error> {
        let result = self.device.sync();
        self.record.record(match result {
            Ok(counts) => NetEvent::Synced(counts.taken, counts.refused),
            Err(error) => NetEvent::Failed(error),
        });
        result
    }
}
