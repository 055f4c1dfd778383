//! What is kept for each bucket, in the store's own memory.
//!
//! There are many buckets, and the engine itself has to stay small: Linux's kernel, where it is
//! made too, has a stack of 16 KiB.

use core::marker::PhantomData;

use super::classes::{ClassId, MAX_CLASSES};

/// What is kept for a bucket, and how it lies in `N` bytes.
pub(super) trait Record<const N: usize>: Copy {
    fn decode(bytes: &[u8; N]) -> Self;
    fn encode(self) -> [u8; N];
}

/// One for each bucket.
pub(super) struct Table<'m, R, const N: usize> {
    records: &'m mut [[u8; N]],
    kind: PhantomData<R>,
}

impl<'m, R: Record<N>, const N: usize> Table<'m, R, N> {
    /// Bytes of a table.
    pub(super) const BYTES: usize = MAX_CLASSES * N;

    /// A table in [`Table::BYTES`] of memory, and what is left of that.
    pub(super) fn new(memory: &'m mut [u8], first: R) -> (Self, &'m mut [u8]) {
        let (mine, rest) = memory.split_at_mut(Self::BYTES);
        let records = mine.as_chunks_mut().0;
        records.fill(first.encode());
        (Self { records, kind: PhantomData }, rest)
    }

    #[inline]
    pub(super) fn get(&self, class: ClassId) -> R {
        R::decode(&self.records[usize::from(class.0)])
    }

    #[inline]
    pub(super) fn set(&mut self, class: ClassId, record: R) {
        self.records[usize::from(class.0)] = record.encode();
    }

    #[inline]
    pub(super) fn update(&mut self, class: ClassId, change: impl FnOnce(&mut R)) {
        let mut record = self.get(class);
        change(&mut record);
        self.set(class, record);
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = R> + '_ {
        self.records.iter().map(R::decode)
    }
}
