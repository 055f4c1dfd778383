//! A check of everything the engine's structures promise each other, for tests.

use std::collections::HashSet;

use super::Engine;
use super::item::{HEADER, ItemRef};
use super::key::Key;
use super::pages::{Page, PageId};
use super::state::State;

impl Engine<'_> {
    /// Panics if a chunk is neither free nor an item, or both, or is lost; if a link,
    /// a ring or a count is wrong.
    pub(super) fn audit(&self) {
        let slabs = &self.slabs;
        let (mut items, mut bytes, mut free_pages) = (0, 0, 0);
        let mut free_chunks = HashSet::new();
        let mut carved_free = 0;
        let mut held = [0u32; 256];
        let mut in_class = [0u64; 256];
        let mut held_pages = 0;
        let mut page = 0;
        while page < slabs.pages().len() {
            let slab = match slabs.pages().get(PageId(page)) {
                Page::Free => {
                    free_pages += 1;
                    page += 1;
                    continue;
                }
                Page::Rest(first) => panic!("page {page} belongs to {first:?}, which ended"),
                Page::Slab(slab) => slab,
            };
            let shape = slabs.classes().get(slab.class);
            held[usize::from(slab.class.0)] += 1;
            assert!(u32::from(slab.carved) <= shape.per_slab);
            let mut live = 0;
            for chunk in slabs.chunks(PageId(page), slab) {
                assert_eq!(slabs.class_of(chunk), Some(slab.class));
                let (header, wire) = self.heap.open(chunk);
                if header.state == State::FREE {
                    carved_free += 1;
                    continue;
                }
                live += 1;
                if header.state == State::UNLINKED {
                    assert!(slab.held > 0, "an item without a holder is left");
                    continue;
                }
                items += 1;
                in_class[usize::from(slab.class.0)] += 1;
                bytes += header.size() as u64;
                assert!(header.size() <= slabs.room(slab.class));
                assert!(HEADER + header.head_len() + 2 <= header.size());
                let key = Key::any(&wire[..usize::from(header.key_len)]).unwrap();
                let hash = self.hash_key.hash(key);
                assert_eq!(self.index.find(&self.heap, hash, key), Some(chunk));
                assert!(header.cas <= self.last_cas);
            }
            assert_eq!(live, slab.live, "items in the slab at page {page}");
            held_pages += if slab.held > 0 { shape.span } else { 0 };
            for rest in 1..shape.span {
                assert_eq!(slabs.pages().get(PageId(page + rest)), Page::Rest(PageId(page)));
            }
            page += shape.span;
        }
        assert_eq!((items, bytes), (self.usage.items, self.usage.bytes));
        assert_eq!(free_pages, slabs.pages().free());
        assert_eq!(held_pages, self.held_pages);

        for class in slabs.classes().ids() {
            let i = usize::from(class.0);
            let held = &held[i];
            assert_eq!(slabs.slabs(class), *held);
            let listed = self.policy.audit(&self.heap, class);
            assert!(listed.is_none_or(|listed| listed == in_class[i]));
            if let Some((start, first)) = slabs.slab_at_hand(class) {
                let (mut around, mut at) = (1, first.next);
                while at != start {
                    let (_, slab) = slabs.pages().slab_of(at).unwrap();
                    assert_eq!(slab.class, class);
                    at = slab.next;
                    around += 1;
                }
                assert_eq!(around, *held);
            } else {
                assert_eq!(*held, 0);
            }
            let mut before: Option<ItemRef> = None;
            let mut at = slabs.first_free(class);
            while let Some(chunk) = at {
                assert!(free_chunks.insert(chunk.offset()), "a free chunk is linked twice");
                assert_eq!(slabs.class_of(chunk), Some(class));
                assert_eq!(self.heap.prev(chunk), before);
                assert_eq!(self.heap.header(chunk).state, State::FREE);
                before = at;
                at = self.heap.header(chunk).next;
            }
        }
        assert_eq!(free_chunks.len(), carved_free);
        assert_eq!(self.index.count(&self.heap), items);
    }
}
