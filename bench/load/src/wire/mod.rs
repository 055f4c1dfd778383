//! What carries datagrams to the server and back.
//!
//! | back end | carried by |
//! |---|---|
//! | [`sockets`] | the host's own UDP, many datagrams a system call |
//! | [`vhost`] | the queues of a virtual machine's NIC, which this process plays |
//!
//! [`ethernet`] makes and reads the frames that the second one needs.

pub mod ethernet;
pub mod sockets;
pub mod vhost;

use std::time::Duration;

use anyhow::Result;

/// Datagrams in order, end to end in one buffer.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Datagrams at the front that are gone already.
    gone: usize,
}

impl Batch {
    /// Adds a datagram that `write` appends to the buffer it is given.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// The datagrams that are left.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (self.gone..self.ends.len()).map(|index| {
            let start = if index == 0 { 0 } else { self.ends[index - 1] };
            &self.bytes[start..self.ends[index]]
        })
    }

    /// Number of datagrams that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len() - self.gone
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes `count` datagrams at the front.
    pub fn remove(&mut self, count: usize) {
        self.gone = (self.gone + count).min(self.ends.len());
        if self.is_empty() {
            self.clear();
        }
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.gone = 0;
        self.bytes.clear();
        self.ends.clear();
    }
}

/// A way to one server and back.
///
/// **Trust.** What `receive` hands over is whatever came; nothing about it holds but that
/// it came from the server's address.
pub trait Wire {
    /// What this is, in a few words, for reports.
    fn describe(&self) -> String;

    /// Bytes of the longest datagram that can be sent.
    fn payload_max(&self) -> usize;

    /// Sends datagrams from the front of `batch`; how many went. Fewer than there are,
    /// or none, if there is no room now.
    ///
    /// **Blocking**: never.
    fn send(&mut self, batch: &Batch) -> Result<usize>;

    /// Hands datagrams that have come to `visit`, and returns how many.
    ///
    /// **Blocking**: never. **Cost**: returns after some hundred, so that sending goes on.
    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<usize>;

    /// **Blocking** until something may have come, at most for `timeout`. May return at
    /// any time.
    fn wait(&mut self, timeout: Duration) -> Result<()>;

    /// How often the server's side was reported as not listening ("connection refused").
    fn refused(&self) -> u64 {
        0
    }

    /// Figures of the back end worth reporting, as (name, count).
    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_used_up_from_the_front() {
        let mut batch = Batch::default();
        for text in ["one", "", "three"] {
            batch.push(|out| out.extend(text.as_bytes()));
        }
        assert_eq!(batch.iter().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        batch.remove(2);
        assert_eq!(batch.iter().collect::<Vec<_>>(), [b"three"]);
        batch.push(|out| out.push(b'4'));
        assert_eq!(batch.iter().collect::<Vec<_>>(), [&b"three"[..], b"4"]);
        batch.remove(2);
        assert!(batch.is_empty());
        batch.push(|out| out.push(b'5'));
        assert_eq!(batch.iter().collect::<Vec<_>>(), [b"5"]);
    }
}
