//! Where frames come from and go to.

use exo_abi::{Error, FRAME_MAX, SyncCounts};

/// Room for one frame to send.
pub type TxBuffer = [u8; FRAME_MAX];

/// The two ends of a device at one moment. Both can be used at once, so that an
/// answer is written where it is sent from while the request is still read
/// where it arrived.
#[derive(Debug)]
pub struct Slots<'a> {
    /// The oldest frame that was received and not consumed.
    pub received: Option<&'a [u8]>,
    /// Where the next frame to send is to be written. What is in it is
    /// unspecified.
    pub free: Option<&'a mut TxBuffer>,
}

/// Sends and receives Ethernet frames, without their checksum.
///
/// Frames move only in [`NetDevice::sync`]; the other methods work on what has
/// arrived and on what will leave. **Trust** a frame may hold anything, and have
/// any length from zero on.
pub trait NetDevice {
    /// Looks at both ends. Changes nothing.
    fn slots(&mut self) -> Slots<'_>;

    /// Gives the oldest received frame back. Nothing happens if there is none.
    fn consume(&mut self);

    /// Queues the first `length` bytes of the free buffer for sending. Nothing
    /// happens if there is no free buffer; a frame longer than that is not sent.
    fn commit(&mut self, length: usize);

    /// Hands over what was committed, and brings in what has arrived.
    ///
    /// **Cost** one crossing.
    ///
    /// # Errors
    /// The binding is gone, or not ours any more.
    fn sync(&mut self) -> Result<SyncCounts, Error>;
}

impl<D: NetDevice> NetDevice for &mut D {
    fn slots(&mut self) -> Slots<'_> {
        (**self).slots()
    }

    fn consume(&mut self) {
        (**self).consume();
    }

    fn commit(&mut self, length: usize) {
        (**self).commit(length);
    }

    fn sync(&mut self) -> Result<SyncCounts, Error> {
        (**self).sync()
    }
}
