//! The page table: which bucket holds each page, and how far it is used.
//!
//! A *slab* is the run of contiguous pages that was given to a bucket at once: one
//! page, or as many as one chunk larger than a page needs. Its first page carries
//! its entry; the others point to the first. The slabs of one bucket form a ring,
//! which is what the clock hand goes round.

use super::classes::ClassId;
use super::config::PAGE_ENTRY;

/// The number of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageId(pub(super) u32);

/// What a page is to the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Free,
    /// The first page of a slab.
    Slab(Slab),
    /// A further page of the slab that starts at this one.
    Rest(PageId),
}

/// The entry of a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slab {
    pub(super) class: ClassId,
    /// Chunks that were handed out at least once: those below this number have a
    /// header, those above are raw memory.
    pub(super) carved: u16,
    /// Chunks that hold an item.
    pub(super) live: u16,
    /// Of these, how many must stay where they are ([`super::hold`]).
    pub(super) held: u16,
    pub(super) next: PageId,
    pub(super) prev: PageId,
}

const FREE: u8 = 0;
const SLAB: u8 = 1;
const REST: u8 = 2;

/// The table, in memory of the store's bound.
pub(super) struct PageTable<'m> {
    entries: &'m mut [[u8; PAGE_ENTRY]],
    free: u32,
}

impl<'m> PageTable<'m> {
    /// A table of free pages.
    pub(super) fn new(entries: &'m mut [[u8; PAGE_ENTRY]]) -> Self {
        entries.fill([0; PAGE_ENTRY]);
        let free = entries.len() as u32;
        Self { entries, free }
    }

    pub(super) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(super) fn free(&self) -> u32 {
        self.free
    }

    #[inline]
    pub(super) fn get(&self, page: PageId) -> Page {
        let e = &self.entries[page.0 as usize];
        let half = |at: usize| u16::from_le_bytes([e[at], e[at + 1]]);
        let id = |at: usize| PageId(u32::from_le_bytes([e[at], e[at + 1], e[at + 2], e[at + 3]]));
        match e[0] {
            FREE => Page::Free,
            SLAB => Page::Slab(Slab {
                class: ClassId(e[1]),
                carved: half(2),
                live: half(4),
                held: half(6),
                next: id(8),
                prev: id(12),
            }),
            _ => Page::Rest(id(8)),
        }
    }

    /// The slab that `page` belongs to, by its first page. `None` if it is free.
    #[inline]
    pub(super) fn slab_of(&self, page: PageId) -> Option<(PageId, Slab)> {
        let first = if let Page::Rest(first) = self.get(page) { first } else { page };
        match self.get(first) {
            Page::Slab(slab) => Some((first, slab)),
            _ => None,
        }
    }

    pub(super) fn set_slab(&mut self, page: PageId, slab: Slab) {
        let e = &mut self.entries[page.0 as usize];
        e[0] = SLAB;
        e[1] = slab.class.0;
        e[2..4].copy_from_slice(&slab.carved.to_le_bytes());
        e[4..6].copy_from_slice(&slab.live.to_le_bytes());
        e[6..8].copy_from_slice(&slab.held.to_le_bytes());
        e[8..12].copy_from_slice(&slab.next.0.to_le_bytes());
        e[12..16].copy_from_slice(&slab.prev.0.to_le_bytes());
    }

    /// Takes `span` contiguous free pages, the first there are, for a slab that is
    /// alone in its ring.
    pub(super) fn take_run(&mut self, span: u32, class: ClassId) -> Option<PageId> {
        if self.free < span {
            return None;
        }
        let mut run = 0;
        let last = (0..self.len()).find(|&page| {
            run = if self.get(PageId(page)) == Page::Free { run + 1 } else { 0 };
            run == span
        })?;
        let first = PageId(last + 1 - span);
        self.set_slab(first, Slab { class, carved: 0, live: 0, held: 0, next: first, prev: first });
        for rest in first.0 + 1..=last {
            let e = &mut self.entries[rest as usize];
            e[0] = REST;
            e[8..12].copy_from_slice(&first.0.to_le_bytes());
        }
        self.free -= span;
        Some(first)
    }

    /// Frees the `span` pages of a slab that is alone in its ring.
    pub(super) fn free_run(&mut self, first: PageId, span: u32) {
        for page in first.0..first.0 + span {
            self.entries[page as usize] = [0; PAGE_ENTRY];
        }
        self.free += span;
    }

    /// Puts a slab that is alone in its ring into the ring of `neighbour`, before it.
    pub(super) fn join_ring(&mut self, page: PageId, neighbour: PageId) {
        let Some((_, at)) = self.slab_of(neighbour) else { return };
        self.update(page, |slab| (slab.next, slab.prev) = (neighbour, at.prev));
        self.update(at.prev, |slab| slab.next = page);
        self.update(neighbour, |slab| slab.prev = page);
    }

    /// Takes a slab out of its ring. Returns the next one, `None` if it was alone.
    pub(super) fn leave_ring(&mut self, page: PageId) -> Option<PageId> {
        let (_, slab) = self.slab_of(page)?;
        self.update(slab.prev, |before| before.next = slab.next);
        self.update(slab.next, |after| after.prev = slab.prev);
        self.update(page, |slab| (slab.next, slab.prev) = (page, page));
        (slab.next != page).then_some(slab.next)
    }

    /// Changes the entry of the slab that starts at `page`.
    #[inline]
    pub(super) fn update(&mut self, page: PageId, change: impl FnOnce(&mut Slab)) {
        if let Page::Slab(mut slab) = self.get(page) {
            change(&mut slab);
            self.set_slab(page, slab);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_contiguous_and_rings_close() {
        let mut entries = [[0xff; PAGE_ENTRY]; 8];
        let mut table = PageTable::new(&mut entries);
        let class = ClassId(3);
        let a = table.take_run(1, class).unwrap();
        let b = table.take_run(3, class).unwrap();
        let c = table.take_run(1, class).unwrap();
        assert_eq!((a, b, c, table.free()), (PageId(0), PageId(1), PageId(4), 3));
        assert_eq!(table.slab_of(PageId(3)).unwrap().0, b);
        assert!(table.take_run(4, class).is_none());

        table.join_ring(b, a);
        table.join_ring(c, a);
        let next = |table: &PageTable<'_>, page| table.slab_of(page).unwrap().1.next;
        assert_eq!((next(&table, a), next(&table, b), next(&table, c)), (b, c, a));
        assert_eq!(table.leave_ring(b), Some(c));
        assert_eq!((next(&table, a), next(&table, c), next(&table, b)), (c, a, b));
        table.free_run(b, 3);
        assert_eq!(table.get(PageId(2)), Page::Free);
        assert_eq!(table.leave_ring(a), Some(c));
        assert_eq!(table.leave_ring(c), None);
        assert_eq!(table.take_run(3, class), Some(PageId(1)));
    }
}
