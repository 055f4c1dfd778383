//! A persistent queue: first in, first out.
//!
//! As of the [map](super::PersistentMap), operations are visible at once and durable with the
//! next commit. Both ends may be used: what was popped and committed does not come back. So it is
//! also a log of records whose head is trimmed while records are appended.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::map::{Frame, take, take_number};
use super::{
    ApplyError, Background, Block, Contents, Counts, Fault, Journal, OpenError, Sink, Stamp,
};

const TAG: [u8; 8] = *b"queue\0\0\0";

/// Stands for "the first one goes" in place of a length.
const POP: u32 = u32::MAX;
/// Stands for "all go": a snapshot begins so.
const CLEAR: u32 = u32::MAX - 1;

/// A queue of byte strings, kept on a device.
#[derive(Debug)]
pub struct PersistentQueue<'m, B> {
    journal: Journal<'m, B>,
    items: Items,
}

#[derive(Debug, Default)]
struct Items {
    queue: VecDeque<Vec<u8>>,
    frame: Frame,
}

impl<'m, B: Block> PersistentQueue<'m, B> {
    /// Opens the queue on `disk`, or makes an empty one where there is nothing. What is pushed
    /// between two commits may be as long as `scratch`, nearly.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(disk: B, scratch: &'m mut [u8]) -> Result<Self, OpenError> {
        let frame = Frame::within(scratch.len());
        let mut items = Items { frame, ..Items::default() };
        let journal = Journal::open(disk, TAG, scratch, &mut items)?;
        Ok(Self { journal, items })
    }

    /// Adds an item at the end.
    ///
    /// # Errors
    /// [`Fault::Full`] if it is too long for what was not committed yet. Nothing is changed then.
    pub fn push(&mut self, item: &[u8]) -> Result<(), Fault> {
        let len = u32::try_from(item.len()).ok().filter(|&len| len < CLEAR).ok_or(Fault::Full)?;
        self.items.frame.add(&[&len.to_le_bytes(), item])?;
        self.items.queue.push_back(item.to_vec());
        Ok(())
    }

    /// Takes the first item.
    ///
    /// # Errors
    /// As for [`PersistentQueue::push`].
    pub fn pop(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        if !self.items.queue.is_empty() {
            self.items.frame.add(&[&POP.to_le_bytes()])?;
        }
        Ok(self.items.queue.pop_front())
    }

    /// The items, from the first on.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.items.queue.iter().map(Vec::as_slice)
    }

    /// Makes what was changed durable.
    ///
    /// # Errors
    /// See [`Journal::commit`].
    pub fn commit(&mut self) -> Result<(), Fault> {
        self.journal.commit(&mut self.items)
    }

    /// What the log did so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        self.journal.counts()
    }

    /// The device. What was not committed is lost.
    pub fn into_disk(self) -> B {
        self.journal.into_disk()
    }
}

impl<B: Background> PersistentQueue<'_, B> {
    /// See [`Journal::stamp`].
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.journal.stamp()
    }

    /// See [`Journal::drive`].
    ///
    /// # Errors
    /// As there.
    pub fn drive(&mut self) -> Result<Stamp, Fault> {
        self.journal.drive(&mut self.items)
    }
}

impl Contents for Items {
    fn frame(&mut self) -> (&mut [u8], usize) {
        self.frame.show()
    }

    fn committed(&mut self) {
        self.frame.clear();
    }

    fn apply(&mut self, mut changes: &[u8]) -> Result<(), ApplyError> {
        while !changes.is_empty() {
            match take_number(&mut changes)? {
                CLEAR => self.queue.clear(),
                POP => drop(self.queue.pop_front().ok_or(ApplyError::Malformed)?),
                len => self.queue.push_back(take(&mut changes, len)?.to_vec()),
            }
        }
        Ok(())
    }

    /// All at once: order is what a queue has, and pushes between two parts would break it.
    fn snapshot(
        &mut self,
        _cursor: u64,
        _budget: usize,
        sink: &mut Sink<'_>,
    ) -> Result<Option<u64>, Fault> {
        sink(&[&CLEAR.to_le_bytes()])?;
        for item in &self.queue {
            let len = u32::try_from(item.len()).map_err(|_| Fault::Full)?;
            sink(&[&len.to_le_bytes(), item])?;
        }
        Ok(None)
    }
}
