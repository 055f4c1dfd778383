//! Doubly linked lists of items, for policies that keep an order.
//!
//! ```text
//! | newer, second | older, often | header ...
//! -8              -4             0
//! ```
//!
//! The links are item references of 31 bits; the highest bit of each word is the policy's: in
//! which of two lists the item is, and whether it was read often. Where a bucket's lists begin and
//! end stands in the store's memory, beside the index.

use super::super::classes::{ClassId, MAX_CLASSES};
use super::super::item::{Heap, ItemRef};

/// Bytes before an item's header.
pub(in super::super) const LINKS: usize = 8;

/// The highest item reference that links can hold.
const MOST: u32 = 0x7fff_ffff;

/// What stands before an item's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    pub(super) newer: Option<ItemRef>,
    pub(super) older: Option<ItemRef>,
    /// In the second of its bucket's lists.
    pub(super) second: bool,
    /// Read in more than one epoch.
    pub(super) often: bool,
}

impl Links {
    pub(super) fn of(heap: &Heap<'_>, item: ItemRef) -> Self {
        let [newer, older] = heap.before(item);
        Self {
            newer: ItemRef::from_raw(newer & MOST),
            older: ItemRef::from_raw(older & MOST),
            second: newer > MOST,
            often: older > MOST,
        }
    }

    pub(super) fn write(self, heap: &mut Heap<'_>, item: ItemRef) {
        let word = |link, mark| ItemRef::raw(link) | if mark { MOST + 1 } else { 0 };
        heap.set_before(item, [word(self.newer, self.second), word(self.older, self.often)]);
    }
}

/// One of a bucket's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListId {
    pub(super) class: ClassId,
    pub(super) second: bool,
}

impl ListId {
    pub(super) fn first_of(class: ClassId) -> Self {
        Self { class, second: false }
    }

    pub(super) fn second_of(class: ClassId) -> Self {
        Self { class, second: true }
    }
}

/// Where a list begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ends {
    newest: Option<ItemRef>,
    oldest: Option<ItemRef>,
    len: u32,
    /// An item that a policy stands at.
    hand: Option<ItemRef>,
}

/// The lists of all buckets.
pub(super) struct Lists<'m> {
    ends: &'m mut [[u8; ENDS]],
    per_class: usize,
}

/// Bytes of [`Ends`].
const ENDS: usize = 16;

impl<'m> Lists<'m> {
    /// Bytes that so many lists for each bucket take.
    pub(super) fn bytes(per_class: usize) -> usize {
        per_class * MAX_CLASSES * ENDS
    }

    /// Empty lists in memory of [`Lists::bytes`].
    pub(super) fn new(memory: &'m mut [u8], per_class: usize) -> Self {
        let ends = memory.as_chunks_mut().0;
        ends.fill([0; ENDS]);
        Self { ends, per_class }
    }

    pub(super) fn len(&self, list: ListId) -> u32 {
        self.ends(list).len
    }

    pub(super) fn oldest(&self, list: ListId) -> Option<ItemRef> {
        self.ends(list).oldest
    }

    pub(super) fn hand(&self, list: ListId) -> Option<ItemRef> {
        self.ends(list).hand
    }

    pub(super) fn set_hand(&mut self, list: ListId, hand: Option<ItemRef>) {
        let ends = Ends { hand, ..self.ends(list) };
        self.set_ends(list, ends);
    }

    /// Puts an item that is in no list at the front of this one, not read often.
    pub(super) fn push(&mut self, heap: &mut Heap<'_>, list: ListId, item: ItemRef) {
        let mut ends = self.ends(list);
        let links = Links { newer: None, older: ends.newest, second: list.second, often: false };
        links.write(heap, item);
        match ends.newest {
            Some(next) => Links { newer: Some(item), ..Links::of(heap, next) }.write(heap, next),
            None => ends.oldest = Some(item),
        }
        self.set_ends(list, Ends { newest: Some(item), len: ends.len + 1, ..ends });
    }

    /// Takes an item out of the list of its bucket that it is in. A hand that stands at it goes to
    /// the next newer one. Returns what stood before it.
    pub(super) fn remove(&mut self, heap: &mut Heap<'_>, class: ClassId, item: ItemRef) -> Links {
        let links = Links::of(heap, item);
        let list = ListId { class, second: links.second };
        let mut ends = self.ends(list);
        match links.newer {
            Some(newer) => {
                Links { older: links.older, ..Links::of(heap, newer) }.write(heap, newer);
            }
            None => ends.newest = links.older,
        }
        match links.older {
            Some(older) => {
                Links { newer: links.newer, ..Links::of(heap, older) }.write(heap, older);
            }
            None => ends.oldest = links.newer,
        }
        if ends.hand == Some(item) {
            ends.hand = links.newer;
        }
        self.set_ends(list, Ends { len: ends.len - 1, ..ends });
        links
    }

    /// Takes an item to the front of one of its bucket's lists, not read often.
    pub(super) fn take_to(&mut self, heap: &mut Heap<'_>, list: ListId, item: ItemRef) {
        self.remove(heap, list.class, item);
        self.push(heap, list, item);
    }

    /// The item `from` is now in the chunk `to`; what stands before it is not.
    pub(super) fn moved(
        &mut self,
        heap: &mut Heap<'_>,
        class: ClassId,
        from: ItemRef,
        to: ItemRef,
    ) {
        let links = Links::of(heap, from);
        links.write(heap, to);
        let list = ListId { class, second: links.second };
        let mut ends = self.ends(list);
        match links.newer {
            Some(newer) => Links { older: Some(to), ..Links::of(heap, newer) }.write(heap, newer),
            None => ends.newest = Some(to),
        }
        match links.older {
            Some(older) => Links { newer: Some(to), ..Links::of(heap, older) }.write(heap, older),
            None => ends.oldest = Some(to),
        }
        if ends.hand == Some(from) {
            ends.hand = Some(to);
        }
        self.set_ends(list, ends);
    }

    /// Walks the lists of a bucket. Panics if a link does not lead back; returns how many items
    /// there are.
    #[cfg(test)]
    pub(super) fn audit(&self, heap: &Heap<'_>, class: ClassId) -> u64 {
        let mut all = 0;
        for list in [ListId::first_of(class), ListId::second_of(class)] {
            if list.second && self.per_class == 1 {
                continue;
            }
            let (mut at, mut newer, mut len) = (self.ends(list).newest, None, 0);
            while let Some(item) = at {
                let links = Links::of(heap, item);
                assert_eq!((links.newer, links.second), (newer, list.second));
                (newer, at, len) = (at, links.older, len + 1);
            }
            assert_eq!((newer, len), (self.ends(list).oldest, self.len(list)));
            all += u64::from(len);
        }
        all
    }

    fn place(&self, list: ListId) -> usize {
        usize::from(list.class.0) * self.per_class + usize::from(list.second)
    }

    fn ends(&self, list: ListId) -> Ends {
        let b = &self.ends[self.place(list)];
        let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let link = |at| ItemRef::from_raw(word(at));
        Ends { newest: link(0), oldest: link(4), len: word(8), hand: link(12) }
    }

    fn set_ends(&mut self, list: ListId, ends: Ends) {
        let place = self.place(list);
        let b = &mut self.ends[place];
        b[..4].copy_from_slice(&ItemRef::raw(ends.newest).to_le_bytes());
        b[4..8].copy_from_slice(&ItemRef::raw(ends.oldest).to_le_bytes());
        b[8..12].copy_from_slice(&ends.len.to_le_bytes());
        b[12..].copy_from_slice(&ItemRef::raw(ends.hand).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order_through_moves_and_removals() {
        let (mut memory, mut ends) = ([0xa5; 1024], [0xa5; 2 * MAX_CLASSES * ENDS]);
        let mut heap = Heap::new(&mut memory);
        let mut lists = Lists::new(&mut ends, 2);
        let class = ClassId(5);
        let (first, second) = (ListId::first_of(class), ListId::second_of(class));
        let item = |n: usize| ItemRef::from_offset(8 + n * 64).unwrap();
        (0..4).for_each(|n| lists.push(&mut heap, first, item(n)));
        lists.take_to(&mut heap, second, item(1));
        assert_eq!((lists.len(first), lists.len(second)), (3, 1));
        assert_eq!(lists.audit(&heap, class), 4);
        lists.set_hand(first, Some(item(0)));
        lists.moved(&mut heap, class, item(0), item(7));
        assert_eq!((lists.oldest(first), lists.hand(first)), (Some(item(7)), Some(item(7))));
        lists.remove(&mut heap, class, item(7));
        assert_eq!((lists.oldest(first), lists.hand(first)), (Some(item(2)), Some(item(2))));
        assert!(lists.remove(&mut heap, class, item(1)).second);
        lists.remove(&mut heap, class, item(3));
        lists.remove(&mut heap, class, item(2));
        assert_eq!((lists.audit(&heap, class), lists.hand(first)), (0, None));
    }
}
