//! Blocks, buckets and code in pages, as a kernel's linear map has them.

use dpf::{
    Block, BlockId, Buckets, CodeSlot, Filter, Group, GroupId, Inspect, MAX_ATOMS, Node, NodeId,
    SLOT, SLOTS, Salt, Store, UNIT,
};

use crate::block_at;
use crate::memory::{Code, PAGE, Pages};

/// Bytes behind the base of no node, so that no name is none.
const BASE: usize = 64;

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
    /// First nothing, then the heads of the table, then the blocks; or the heads last.
    data: Pages,
    /// Bytes before the heads, and before the blocks.
    heads: usize,
    first: usize,
    bits: u32,
    code: Code,
    /// The length of the code in each slot of each block.
    lengths: Vec<[u8; SLOTS]>,
    filters: Vec<Option<Filter>>,
    free: Vec<u32>,
    serial: u64,
}

impl Blocks {
    /// The code of one filter is `stride` bytes from that of the next. If that is more than a
    /// page, the heads are as far from the base.
    pub(crate) fn new(capacity: usize, bits: u32, stride: usize) -> Self {
        assert!((2..=32).contains(&bits), "2 to 32 bits");
        let last = u32::try_from(capacity).expect("few filters");
        let (blocks, table) = (capacity * size_of::<Block>(), size_of::<NodeId>() << bits);
        let (heads, first) = match stride > PAGE {
            true => ((BASE + blocks).next_multiple_of(stride), BASE),
            false => (BASE, (BASE + table).next_multiple_of(BASE)),
        };
        Self {
            data: Pages::new((heads + table).max(first + blocks)),
            heads,
            first,
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
        let block = self.block(index);
        let data = self.data.range(block.index() as usize * UNIT, size_of::<Block>());
        // SAFETY: in bounds, aligned to units, and nothing refers to it.
        unsafe { data.cast::<Block>().write(Block::VACANT) };
        (index, block)
    }

    /// Takes block `index` back and spoils it, so that what still refers to it shows.
    pub(crate) fn give(&mut self, index: u32) {
        self.filters[index as usize] = None;
        self.free.push(index);
        let start = self.block(index).index() as usize * UNIT;
        let data = self.data.range(start, size_of::<Block>());
        // SAFETY: in bounds, and the trie does not refer to it any more.
        unsafe { data.write_bytes(0xa5, size_of::<Block>()) };
        // int3
        self.code.write(index as usize, 0, &[0xcc; SLOTS * SLOT]);
        self.lengths[index as usize] = [0; SLOTS];
    }

    pub(crate) fn get(&self, index: u32) -> Option<(Filter, BlockId)> {
        let filter = self.filters.get(index as usize)?.as_ref()?;
        Some((*filter, self.block(index)))
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

    fn block(&self, index: u32) -> BlockId {
        block_at((self.first + index as usize * size_of::<Block>()) / UNIT)
    }

    fn index(&self, block: BlockId) -> usize {
        (block.index() as usize * UNIT - self.first) / size_of::<Block>()
    }

    /// Head `number` of the table.
    fn head(&self, number: u32) -> *mut NodeId {
        let at = self.heads + number as usize * size_of::<NodeId>();
        self.data.range(at, size_of::<NodeId>()).cast()
    }

    /// Salt and entry of what is in the places for nodes, read as generated code does.
    pub(crate) fn nodes(&self) -> Vec<(u64, u64)> {
        let installed = (0..).zip(&self.filters).filter(|(_, filter)| filter.is_some());
        let places = installed.flat_map(|(index, _)| {
            let node =
                move |depth| self.block(index).index() + (depth * size_of::<Node>() / UNIT) as u32;
            (0..MAX_ATOMS).map(node)
        });
        let read = |place: u32| {
            let place = self.place(place).cast::<u64>();
            // SAFETY: in the block of an installed filter, of which all bytes are written,
            // and aligned.
            unsafe { (place.add(1).read(), place.add(2).read()) }
        };
        places.map(read).collect()
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

    #[inline]
    fn buckets(&self) -> Buckets {
        Buckets { distance: self.heads as u64, bits: self.bits }
    }

    #[inline]
    fn bucket(&self, number: u32) -> NodeId {
        // SAFETY: in bounds and aligned, and zero is a name.
        unsafe { self.head(number).read() }
    }

    fn set_bucket(&mut self, number: u32, head: NodeId) {
        // SAFETY: as in `bucket`, and the borrow is exclusive.
        unsafe { self.head(number).write(head) };
    }

    fn salt(&mut self) -> Salt {
        self.serial += 1;
        Salt::new(0x243f_6a88_85a3_08d3, self.serial)
    }

    fn code_address(&self, slot: CodeSlot) -> u64 {
        assert!(slot.index < SLOTS, "a slot of the block");
        self.code.place(self.index(slot.block), slot.index * SLOT, SLOT) as u64
    }

    fn write_code(&mut self, slot: CodeSlot, code: &[u8]) {
        assert!(!code.is_empty() && code.len() <= SLOT, "fits the slot");
        assert!(slot.index < SLOTS, "a slot of the block");
        let block = self.index(slot.block);
        self.code.write(block, slot.index * SLOT, code);
        self.lengths[block][slot.index] = code.len() as u8;
    }
}

impl Inspect for Blocks {
    fn filter(&self, block: BlockId) -> Filter {
        self.filters[self.index(block)].expect("installed")
    }
}
