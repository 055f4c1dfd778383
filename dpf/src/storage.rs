//! Where the merged filters are: nodes and groups, in storage their owners brought.
//!
//! There is no pool of nodes that an owner could exhaust. The owner of a filter brings a
//! [`Block`]: a node and a group for each of its tests, and a slot for the code of each group
//! and of its acceptance. Everything is named by 32 bits, its place in a linear map of memory
//! in units of 8 bytes, so an access costs no look-up and one instruction of the generated
//! code can do it. They reach as far as 32 GiB.
//!
//! A *node* is a position after a prefix of tests. The tests that lead on from it are
//! gathered into *groups*: pinned bits that differ only in their value are one group,
//! and any other test is one of its own. All edges of a group of pinned bits are
//! also in one hash table, which the [`Store`] provides; its chains run through the
//! nodes. It has as many heads as there can be filters, or nearly so, and no owner can fill
//! it.

use crate::filter::MAX_ATOMS;
use crate::test::{Part, Test, Width};

/// Bytes of a node and of a group.
pub(crate) const PLACE: usize = 64;
/// Bytes of the unit in which they are named: what an address of x86-64 can multiply by.
pub const UNIT: usize = 8;
/// Bytes of a code slot.
pub const SLOT: usize = 128;
/// Code slots of a block: one for each test, and the last for the acceptance.
pub const SLOTS: usize = MAX_ATOMS + 1;

/// Defines the name of something at the store's base plus [`UNIT`] times the number.
macro_rules! names {
    ($($(#[$about:meta])* $name:ident)*) => {$(
        $(#[$about])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub(crate) u32);

        impl $name {
            /// Nothing. A [`Store`] is never asked for it.
            pub const NONE: Self = Self(0);

            /// The distance from the base of the [`Store`] in units of [`UNIT`] bytes.
            #[inline]
            pub const fn index(self) -> u32 {
                self.0
            }
        }
    )*};
}

names! {
    /// Names a [`Block`].
    BlockId
    /// Names a [`Node`] of a block.
    NodeId
    /// Names a [`Group`] of a block.
    GroupId
}

impl BlockId {
    /// The block that begins `index` units behind the base, or `None` if it begins at
    /// the base, or would end where there are no names.
    pub const fn new(index: u32) -> Option<Self> {
        match index.checked_add((size_of::<Block>() / UNIT) as u32) {
            Some(_) if index > 0 => Some(Self(index)),
            _ => None,
        }
    }

    /// Its node at this depth, below [`MAX_ATOMS`].
    pub(crate) fn node(self, depth: usize) -> NodeId {
        NodeId(self.0 + (depth * PLACE / UNIT) as u32)
    }

    /// Its group at this depth, below [`MAX_ATOMS`].
    pub(crate) fn group(self, depth: usize) -> GroupId {
        GroupId(self.0 + ((MAX_ATOMS + depth) * PLACE / UNIT) as u32)
    }
}

/// Room for code that a filter's owner brought: [`SLOT`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSlot {
    /// The block that it is in.
    pub block: BlockId,
    /// Which, below [`SLOTS`].
    pub index: usize,
}

/// What the caller gets when a packet matches; this crate gives it no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u32);

/// A number that distinguishes the groups of pinned bits, in nodes that hang in one chain,
/// and the multiplier of the group's hash function. Odd.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub(crate) u64);

impl Salt {
    /// Of groups that are in no table.
    pub(crate) const NONE: Self = Self(1);

    /// Different for different `serial` below 2^63 with the same `secret`, which must not be
    /// known to the owners of filters.
    pub const fn new(secret: u64, serial: u64) -> Self {
        // Each line is a permutation of the numbers below 2^63.
        const LOW: u64 = u64::MAX >> 1;
        let mut mixed = serial & LOW;
        let mut round = 0;
        while round < 3 {
            mixed ^= secret.rotate_left(21 * round) & LOW;
            mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) & LOW;
            mixed ^= mixed >> 32;
            round += 1;
        }
        Self(mixed << 1 | 1)
    }

    /// The number of the bucket for a window's `value`, of which only `part` counts; one
    /// of 2^`bits`, 2 to 32.
    ///
    /// A group's buckets are half of all, from [`Salt::offset`] on. For two values of a group
    /// the probability of one bucket is at most 4 in 2^bits over all multipliers
    /// (Dietzfelbinger, Hagerup, Katajainen and Penttonen, "A reliable randomized algorithm
    /// for the closest-pair problem", J. Algorithms 25, 1997), of 32 bits for values of up
    /// to 32 bits.
    #[inline]
    pub(crate) fn bucket(self, part: Part, value: u64, bits: u32) -> u32 {
        let value = part.of_window(value);
        let hash = match part.width {
            Width::Quad => value.wrapping_mul(self.0) >> (65 - bits),
            _ => u64::from((value as u32).wrapping_mul(self.multiplier())) >> (33 - bits),
        };
        hash as u32 + self.offset(bits)
    }

    /// The multiplier for values of up to 32 bits. Odd.
    #[inline]
    pub(crate) fn multiplier(self) -> u32 {
        self.0 as u32
    }

    /// The first of the group's buckets: the zeros of all groups are apart.
    #[inline]
    pub(crate) fn offset(self, bits: u32) -> u32 {
        (self.0.swap_bytes() >> (65 - bits)) as u32
    }
}

/// The hash table's heads: 2^`bits` names of nodes, 2 <= `bits` <= 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Where generated code finds the first: its distance from the base of the [`Store`] in
    /// bytes. If the base is the higher address, it is negative, modulo 2^64.
    pub distance: u64,
    /// How many, as a power of two.
    pub bits: u32,
}

/// A position after a prefix of tests, in a cache line of its own. Only this crate
/// reads or changes it, and the code that it makes reads it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// What the pinned bits of its group are here. Zero for other tests.
    pub(crate) value: u64,
    /// That of its group.
    pub(crate) salt: Salt,
    /// The code for frames that got here.
    pub(crate) entry: u64,
    /// The rank of the filter that ends here, or zero.
    pub(crate) rank: u64,
    pub(crate) tag: Tag,
    /// The block of the filter that ends here, which need not be the one that holds
    /// this node.
    pub(crate) owner: BlockId,
    /// The first group of tests that lead on.
    pub(crate) groups: GroupId,
    pub(crate) next: NodeId,
    pub(crate) previous: NodeId,
    pub(crate) next_in_bucket: NodeId,
    pub(crate) previous_in_bucket: NodeId,
}

/// Tests that lead on from one node and differ in a pinned value only, in a cache line
/// of its own. Only this crate reads or changes it.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// With zero for a pinned value.
    pub(crate) test: Test,
    /// What of a window counts.
    pub(crate) part: Part,
    pub(crate) salt: Salt,
    /// Which block it is in, and its code.
    pub(crate) block: BlockId,
    pub(crate) next: GroupId,
    pub(crate) previous: GroupId,
    /// The first of its nodes; they are linked through [`Node::next`].
    pub(crate) first: NodeId,
    /// How many nodes.
    pub(crate) count: u32,
    /// How long a frame its code asks for, from the base on, before all else. Zero if those
    /// that come here are known to be long enough.
    pub(crate) length: u16,
}

/// What a filter brings, at a multiple of 64 bytes from the store's base, beside its code
/// slots. Which of it is used depends on what the others brought.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Block {
    nodes: [Node; MAX_ATOMS],
    groups: [Group; MAX_ATOMS],
}

const _: () = assert!(size_of::<Node>() == PLACE && size_of::<Group>() == PLACE);

impl Node {
    pub(crate) const VACANT: Self = Self {
        value: 0,
        salt: Salt::NONE,
        entry: 0,
        rank: 0,
        tag: Tag(0),
        owner: BlockId::NONE,
        groups: GroupId::NONE,
        next: NodeId::NONE,
        previous: NodeId::NONE,
        next_in_bucket: NodeId::NONE,
        previous_in_bucket: NodeId::NONE,
    };
}

impl Group {
    pub(crate) const VACANT: Self = Self {
        test: Test::VACANT,
        part: Part::WHOLE,
        salt: Salt::NONE,
        block: BlockId::NONE,
        next: GroupId::NONE,
        previous: GroupId::NONE,
        first: NodeId::NONE,
        count: 0,
        length: 0,
    };

    /// Of this test, in this block, without nodes.
    pub(crate) fn new(test: Test, block: BlockId, next: GroupId) -> Self {
        let part = match test {
            Test::Bits { mask, .. } => Part::of(mask),
            _ => Part::WHOLE,
        };
        Self { test, part, block, next, ..Self::VACANT }
    }

    /// Whether its nodes are in the hash table.
    #[inline]
    pub(crate) fn is_hashed(&self) -> bool {
        matches!(self.test, Test::Bits { .. })
    }

    /// The bucket of its node with this value, if it is hashed.
    #[inline]
    pub(crate) fn bucket(&self, value: u64, bits: u32) -> u32 {
        self.salt.bucket(self.part, value, bits)
    }
}

impl Block {
    /// For initialising storage. What a vacant block holds does not matter.
    pub const VACANT: Self =
        Self { nodes: [Node::VACANT; MAX_ATOMS], groups: [Group::VACANT; MAX_ATOMS] };
}

/// Finds the blocks of the installed filters, and keeps what is common to all tries in it.
///
/// Its *base* is an address that never changes, such as that of a linear map. Names count
/// from there, and generated code is given it with every frame.
/// The trie asks only for what is in blocks that are installed, or are being installed
/// by the call under way, and writes only to their code slots.
/// **Trust**: the implementation; nothing else may write to blocks, buckets or code.
/// No name is [`NodeId::NONE`] if no block begins at the base.
pub trait Store {
    /// Most groups of a trie that are not the first of their node ([`crate::Trie::forks`]).
    const MOST_FORKS: u32 = u32::MAX;

    /// The node, at its place behind the base. On the packet path.
    fn node(&self, id: NodeId) -> &Node;
    /// The same, to change it.
    fn node_mut(&mut self, id: NodeId) -> &mut Node;
    /// The group, at its place behind the base.
    fn group(&self, id: GroupId) -> &Group;
    /// The same, to change it.
    fn group_mut(&mut self, id: GroupId) -> &mut Group;
    /// The hash table. Always the same.
    fn buckets(&self) -> Buckets;
    /// Head `number`, below 2^bits. [`NodeId::NONE`] at first.
    fn bucket(&self, number: u32) -> NodeId;
    /// Writes the same.
    fn set_bucket(&mut self, number: u32, head: NodeId);
    /// A [`Salt`] that this store never gave before.
    fn salt(&mut self) -> Salt;
    /// Where code in `slot` runs. Not zero.
    fn code_address(&self, slot: CodeSlot) -> u64;
    /// Puts code, at most [`SLOT`] bytes, into `slot`.
    ///
    /// When it returns, a processor that comes to the slot must see the new code, and none
    /// may still be in the old.
    fn write_code(&mut self, slot: CodeSlot, code: &[u8]);
}
