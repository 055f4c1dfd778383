//! A device in front of another that loses, repeats and damages frames.
//!
//! What happens follows from a seed, so that a failure can be repeated. Frames
//! fare badly in both directions alike.

use exo_abi::{BUFFER_BYTES, Error, FRAME_MAX, SyncCounts};

use super::{NetDevice, Slots, TxBuffer};

/// How often each fault happens, out of 256 frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// The frame vanishes.
    pub drop: u8,
    /// One bit of the frame is flipped.
    pub corrupt: u8,
    /// The frame loses its end.
    pub truncate: u8,
    /// The frame comes twice.
    pub duplicate: u8,
}

/// A device with faults.
pub struct FaultInjector<D> {
    device: D,
    faults: Faults,
    random: u64,
    received: [u8; BUFFER_BYTES],
    /// Length of the frame in `received`, and how often it is still to come.
    length: usize,
    copies: u32,
    sending: TxBuffer,
}

impl<D: NetDevice> FaultInjector<D> {
    /// Puts `faults`, determined by `seed`, in front of `device`.
    pub const fn new(device: D, faults: Faults, seed: u64) -> Self {
        Self {
            device,
            faults,
            // Zero is the one state that xorshift does not leave.
            random: seed | 1,
            received: [0; BUFFER_BYTES],
            length: 0,
            copies: 0,
            sending: [0; FRAME_MAX],
        }
    }

    /// The device behind.
    pub fn inner(&mut self) -> &mut D {
        &mut self.device
    }
}

/// Marsaglia's xorshift64.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 8
}

fn happens(random: &mut u64, rate: u8) -> bool {
    next(random) % 256 < u64::from(rate)
}

/// Damages the frame in the first `length` bytes of `buffer`. Returns its new
/// length and how often it arrives.
fn suffer(random: &mut u64, faults: Faults, buffer: &mut [u8], length: usize) -> (usize, u32) {
    if length > buffer.len() {
        return (length, 1);
    }
    let mut length = length;
    if happens(random, faults.drop) {
        return (0, 0);
    }
    if length > 0 && happens(random, faults.corrupt) {
        let bit = next(random) as usize % (length * 8);
        if let Some(byte) = buffer.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
    }
    if length > 0 && happens(random, faults.truncate) {
        length = next(random) as usize % length;
    }
    (length, if happens(random, faults.duplicate) { 2 } else { 1 })
}

impl<D: NetDevice> NetDevice for FaultInjector<D> {
    fn slots(&mut self) -> Slots<'_> {
        while self.copies == 0 {
            let Some(frame) = self.device.slots().received else { break };
            let length = frame.len().min(BUFFER_BYTES);
            for (to, from) in self.received.iter_mut().zip(frame) {
                *to = *from;
            }
            self.device.consume();
            (self.length, self.copies) =
                suffer(&mut self.random, self.faults, &mut self.received, length);
        }
        let received = self.received.get(..self.length).filter(|_| self.copies > 0);
        let free = self.device.slots().free.is_some().then_some(&mut self.sending);
        Slots { received, free }
    }

    fn consume(&mut self) {
        self.copies = self.copies.saturating_sub(1);
    }

    fn commit(&mut self, length: usize) {
        let (length, copies) = suffer(&mut self.random, self.faults, &mut self.sending, length);
        for _ in 0..copies {
            if let Some(buffer) = self.device.slots().free {
                *buffer = self.sending;
                self.device.commit(length);
            }
        }
    }

    fn sync(&mut self) -> Result<SyncCounts, Error> {
        self.device.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::{FaultInjector, Faults};
    use crate::net::NetDevice;
    use crate::net::wire::Wire;

    /// Sends 1000 frames through faults; what arrives.
    fn through(faults: Faults, seed: u64) -> Vec<Vec<u8>> {
        let (mut a, b) = Wire::pair(1000);
        let mut b = FaultInjector::new(b, faults, seed);
        for i in 0..1000_u16 {
            let buffer = a.slots().free.unwrap();
            buffer[..60].fill(0);
            buffer[..2].copy_from_slice(&i.to_le_bytes());
            a.commit(60);
        }
        a.sync().unwrap();
        b.sync().unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = b.slots().received {
            frames.push(frame.to_vec());
            b.consume();
        }
        frames
    }

    #[test]
    fn without_faults_everything_arrives() {
        let frames = through(Faults::default(), 1);
        assert_eq!(frames.len(), 1000);
        assert!(frames.iter().zip(0..).all(|(frame, i): (_, u16)| frame[..2] == i.to_le_bytes()));
    }

    #[test]
    fn each_fault_shows_and_can_be_repeated() {
        let lossy = through(Faults { drop: 64, ..Faults::default() }, 7);
        assert!((600..900).contains(&lossy.len()), "{}", lossy.len());
        assert_eq!(lossy, through(Faults { drop: 64, ..Faults::default() }, 7));
        assert_ne!(lossy, through(Faults { drop: 64, ..Faults::default() }, 8));
        let twice = through(Faults { duplicate: 64, ..Faults::default() }, 7);
        assert!((1100..1400).contains(&twice.len()), "{}", twice.len());
        let damaged = through(Faults { corrupt: 64, ..Faults::default() }, 7);
        let intact = damaged.iter().zip(0_u16..).filter(|(frame, i)| {
            frame[..2] == i.to_le_bytes() && frame[2..].iter().all(|&byte| byte == 0)
        });
        assert!((600..900).contains(&intact.count()));
        let short = through(Faults { truncate: 64, ..Faults::default() }, 7);
        assert!(short.iter().filter(|frame| frame.len() < 60).count() > 100);
    }
}
