//! Where frames come from and go to.

use exo_abi::{Error, FRAME_MAX, SyncCounts};

/// Room for one frame to send.
pub type TxBuffer = [u8; FRAME_MAX];

/// What an answer to a frame returns instead of a length to be given no other frame
/// ([`NetDevice::exchange`]).
pub const STOP: usize = usize::MAX;

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

    /// Whether no buffer to send from is free.
    fn is_full(&mut self) -> bool {
        self.slots().free.is_none()
    }

    /// Has `answer` read received frames, the oldest first, and write its answers where
    /// they are sent from: at most `most` times, and as long as there is both a frame and
    /// a free buffer. It returns the length of the answer, zero for none, or [`STOP`] for none
    /// and to be given no other frame. What it has read is consumed, what it has written
    /// committed. Returns how many frames it has read.
    ///
    /// The same as a loop over the methods above, which is what it is unless a device can
    /// do better.
    #[inline]
    fn exchange(
        &mut self,
        most: u32,
        mut answer: impl FnMut(&[u8], &mut TxBuffer) -> usize,
    ) -> u32 {
        for handled in 0..most {
            let Slots { received: Some(frame), free: Some(buffer) } = self.slots() else {
                return handled;
            };
            let length = answer(frame, buffer);
            self.consume();
            match length {
                0 => {}
                STOP => return handled + 1,
                length => self.commit(length),
            }
        }
        most
    }

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

    fn is_full(&mut self) -> bool {
        (**self).is_full()
    }

    fn exchange(&mut self, most: u32, answer: impl FnMut(&[u8], &mut TxBuffer) -> usize) -> u32 {
        (**self).exchange(most, answer)
    }

    fn sync(&mut self) -> Result<SyncCounts, Error> {
        (**self).sync()
    }
}
