//! A cable between two stacks in one process: no kernel, no hardware.
//!
//! For tests, examples and profiling. Frames cross when their sender calls
//! `sync`, and are there at once, as the kernel delivers to all environments whenever
//! one crosses.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use exo_abi::{Error, FRAME_MAX, SyncCounts};

use super::{NetDevice, Slots, TxBuffer};

type Direction = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end of a cable.
#[derive(Debug)]
pub struct Wire {
    from_peer: Direction,
    to_peer: Direction,
    received: VecDeque<Vec<u8>>,
    committed: Vec<Vec<u8>>,
    buffer: Box<TxBuffer>,
    slots: usize,
}

impl Wire {
    /// A cable; each end takes `slots` frames before it wants a `sync`.
    pub fn pair(slots: usize) -> (Self, Self) {
        let (there, back) = (Direction::default(), Direction::default());
        (Self::end(there.clone(), back.clone(), slots), Self::end(back, there, slots))
    }

    fn end(from_peer: Direction, to_peer: Direction, slots: usize) -> Self {
        Self {
            from_peer,
            to_peer,
            received: VecDeque::new(),
            committed: Vec::new(),
            buffer: Box::new([0; FRAME_MAX]),
            slots,
        }
    }
}

impl NetDevice for Wire {
    fn slots(&mut self) -> Slots<'_> {
        self.received.append(&mut self.from_peer.borrow_mut());
        let free = (self.committed.len() < self.slots).then_some(&mut *self.buffer);
        Slots { received: self.received.front().map(Vec::as_slice), free }
    }

    fn consume(&mut self) {
        self.received.pop_front();
    }

    fn commit(&mut self, length: usize) {
        if self.committed.len() < self.slots {
            let frame = self.buffer.get(..length);
            self.committed.extend(frame.map(<[u8]>::to_vec));
        }
    }

    fn sync(&mut self) -> Result<SyncCounts, Error> {
        let counts = SyncCounts { taken: self.committed.len() as u32, refused: 0 };
        self.to_peer.borrow_mut().extend(self.committed.drain(..));
        Ok(counts)
    }
}
