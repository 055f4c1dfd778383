//! Blocks, buckets and code in pages, as a kernel's linear map has them.

use dpf::{
    Block, BlockId, Buckets, CodeSlot, Filter, Group, GroupId, Node, NodeId, SLOT, SLOTS, Salt,
    Store, UNIT,
};

use crate::block_at;
use crate::memory::{Code, Pages};

/// Code of one slot.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Where it is executed.
    pub address: u64,
    /// The instructions.
    pub bytes: Vec<u8>,
}

/// Storage for a trie.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// One unit that is nobody's, then the blocks.
    data: Pages,
    buckets: Pages,
    bits: u32,
    code: Code,
    /// The length of the code in each slot of each block.
    lengths: Vec<[u8; SLOTS]>,
    filters: Vec<Option<Filter>>,
    free: Vec<u32>,
    serial: u64,
}

impl Blocks {
    pub(crate) fn new(capacity: usize, bits: u32, stride: usize) -> Self {
        assert!((1..=32).contains(&bits), "1 to 32 bits");
        let last = u32::try_from(capacity).expect("few filters");
        Self {
            data: Pages::new(UNIT + capacity * size_of::<Block>()),
            buckets: Pages::new(size_of::<NodeId>() << bits),
            bits,
            code: Code::new(capacity.max(1), stride),
            lengths: vec![[0; SLOTS]; capacity],
            filters: vec![None; capacity],
            free: (0..last).rev().collect(),
            serial: 0,
        }
    }

    /// Takes a free block for a filter.
    pub(crate) fn take(&mut self, filter: &Filter) -> (u32, BlockId) {
        let index = self.free.pop().expect("room for one more filter");
        self.filters[index as usize] = Some(*filter);
        let block = Self::block(index);
        let data = self.data.range(block.index() as usize * UNIT, size_of::<Block>());
        // SAFETY: in bounds, aligned to units, and nothing refers to it.
        unsafe { data.cast::<Block>().write(Block::VACANT) };
        (index, block)
    }

    /// Takes block `index` back and spoils it, so that what still refers to it shows.
    pub(crate) fn give(&mut self, index: u32) {
        self.filters[index as usize] = None;
        self.free.push(index);
        let start = Self::block(index).index() as usize * UNIT;
        let data = self.data.range(start, size_of::<Block>());
        // SAFETY: in bounds, and the trie does not refer to it any more.
        unsafe { data.write_bytes(0xa5, size_of::<Block>()) };
        // int3
        self.code.write(index as usize, 0, &[0xcc; SLOTS * SLOT]);
        self.lengths[index as usize] = [0; SLOTS];
    }

    pub(crate) fn get(&self, index: u32) -> Option<(Filter, BlockId)> {
        let filter = self.filters.get(index as usize)?.as_ref()?;
        Some((*filter, Self::block(index)))
    }

    #[inline]
    pub(crate) fn base(&self) -> *const u8 {
        self.data.start()
    }

    pub(crate) fn code(&self) -> std::ops::Range<u64> {
        self.code.places()
    }

    /// What is written in slots of installed filters.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for (block, lengths) in self.lengths.iter().enumerate() {
            for (slot, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
                let start = self.code.place(block, slot * SLOT, length.into());
                // SAFETY: in bounds, and not written while `self` is borrowed.
                let bytes = unsafe { std::slice::from_raw_parts(start, length.into()) };
                pieces.push(Piece { address: start as u64, bytes: bytes.to_vec() });
            }
        }
        pieces
    }

    fn block(index: u32) -> BlockId {
        block_at(1 + index as usize * size_of::<Block>() / UNIT)
    }

    fn index(block: BlockId) -> usize {
        (block.index() as usize - 1) * UNIT / size_of::<Block>()
    }

    #[inline]
    fn place(&self, index: u32) -> *mut u8 {
        self.data.start().wrapping_add(index as usize * UNIT)
    }
}

// A place is in bounds since the trie names only what is in blocks that `take` gave.
impl Store for Blocks {
    #[inline]
    fn node(&self, id: NodeId) -> &Node {
        // SAFETY: in bounds (above) and aligned to units; a node is numbers, valid
        // whatever they are; changed only through `node_mut`.
        unsafe { &*self.place(id.index()).cast() }
    }

    #[inline]
    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        // SAFETY: as in `node`, and the borrow is exclusive.
        unsafe { &mut *self.place(id.index()).cast() }
    }

    #[inline]
    fn group(&self, id: GroupId) -> &Group {
        // SAFETY: as in `node`; the trie writes a whole group before it asks for it, so its
        // test is one.
        unsafe { &*self.place(id.index()).cast() }
    }

    #[inline]
    fn group_mut(&mut self, id: GroupId) -> &mut Group {
        // SAFETY: as in `group`, and the borrow is exclusive.
        unsafe { &mut *self.place(id.index()).cast() }
    }

    fn filter(&self, block: BlockId) -> &Filter {
        self.filters[Self::index(block)].as_ref().expect("installed")
    }

    #[inline]
    fn buckets(&self) -> Buckets {
        Buckets { address: self.buckets.start() as u64, bits: self.bits }
    }

    #[inline]
    fn bucket(&self, number: u32) -> NodeId {
        // SAFETY: `number` is below 2^bits, by the contract of the trie; the pages are that
        // long, and zero is a name.
        unsafe { self.buckets.start().cast::<NodeId>().add(number as usize).read() }
    }

    fn set_bucket(&mut self, number: u32, head: NodeId) {
        let at = self.buckets.range(number as usize * size_of::<NodeId>(), size_of::<NodeId>());
        // SAFETY: in bounds, and aligned as the pages are.
        unsafe { at.cast::<NodeId>().write(head) };
    }

    fn salt(&mut self) -> Salt {
        self.serial += 1;
        Salt::new(0x243f_6a88_85a3_08d3, self.serial)
    }

    fn code_address(&self, slot: CodeSlot) -> Option<u64> {
        assert!(slot.index < SLOTS, "a slot of the block");
        Some(self.code.place(Self::index(slot.block), slot.index * SLOT, SLOT) as u64)
    }

    fn write_code(&mut self, slot: CodeSlot, code: &[u8]) {
        assert!(!code.is_empty() && code.len() <= SLOT, "fits the slot");
        assert!(slot.index < SLOTS, "a slot of the block");
        let block = Self::index(slot.block);
        self.code.write(block, slot.index * SLOT, code);
        self.lengths[block][slot.index] = code.len() as u8;
    }
}
