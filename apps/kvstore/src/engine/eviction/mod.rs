//! Which item of a bucket is given up: policies, behind one trait.
//!
//! | file | policy | what it keeps of an item beyond its header |
//! |---|---|---|
//! | [`sampled`] | the least recently and least often used of a random sample | nothing |
//! | [`clock`] | CLOCK: items as they lie, a second chance for those that were read | nothing |
//! | [`segmented`] | segmented LRU: a list of items stored, and one of items read again | two links |
//! | [`s3fifo`] | S3-FIFO: a short queue for new items, a long one for those read there, and a table of what left the short one | two links |
//! | [`sieve`] | SIEVE: one queue, and a hand in it that takes what was not read | two links |
//! | [`lists`] | the lists of the last three | |
//!
//! A policy is asked within one bucket; which *bucket* has to give memory up is decided by the age
//! of what the policies offer, whatever the policy ([`super::rebalance`]).
//!
//! **Cost.** None for a read of an item that was read in the same epoch and second already, which
//! is what popular items are: the item's stamp tells that, and the policy is told of other reads
//! only. So a policy counts the epochs in which an item was read, not the reads. Links lie before
//! an item's header, so that without lists an item has no byte for them and readers need not know.
//!
//! Place on the packet path: step 5; told of stores, removals and first reads.

mod clock;
pub(super) mod lists;
mod s3fifo;
mod sampled;
mod segmented;
mod sieve;

use super::classes::ClassId;
use super::item::{Header, Heap, ItemRef};
use super::slabs::Slabs;
use super::state::{Epoch, State};
use clock::Clock;
use lists::{LINKS, Lists};
use s3fifo::{Ghosts, S3Fifo};
use sampled::Sampled;
use segmented::Segmented;
use sieve::Sieve;

/// After so many items that it spares a policy takes the next one as it is.
pub(super) const STEPS: u32 = 256;

/// Which items of a size are given up first when the memory is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// Of a random sample the one least recently and least often used.
    #[default]
    Sampled,
    /// Those that a clock hand finds not read since it last passed.
    Clock,
    /// Those least recently used, among what was read once at most, as long as that is a fifth.
    SegmentedLru,
    /// Those that leave a short queue unread, then those unread in a long one.
    S3Fifo,
    /// Those not read since a hand last passed, which meets new ones soon.
    Sieve,
}

impl Eviction {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::Sampled, Self::Clock, Self::SegmentedLru, Self::S3Fifo, Self::Sieve];

    /// Its name in options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sampled => "sampled",
            Self::Clock => "clock",
            Self::SegmentedLru => "segmented-lru",
            Self::S3Fifo => "s3-fifo",
            Self::Sieve => "sieve",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }

    /// Bytes before each header.
    pub(super) fn links(self) -> usize {
        if matches!(self, Self::Sampled | Self::Clock) { 0 } else { LINKS }
    }

    /// Bytes for the lists of all buckets.
    pub(super) fn lists(self) -> usize {
        match self {
            Self::Sampled | Self::Clock => 0,
            Self::SegmentedLru | Self::S3Fifo => Lists::bytes(2),
            Self::Sieve => Lists::bytes(1),
        }
    }

    /// Bytes of the table of what was given up, if the index has so many heads.
    pub(super) fn ghosts(self, heads: usize) -> usize {
        if self == Self::S3Fifo { heads.next_power_of_two() * 2 } else { 0 }
    }
}

/// What decides within a bucket. One that keeps nothing of an item need not be told of any.
pub(super) trait Policy {
    /// An item was stored in a chunk that held none. Its header is written; its key has this
    /// `hash`.
    fn stored(&mut self, _heap: &mut Heap<'_>, _class: ClassId, _item: ItemRef, _hash: u32) {}
    /// An item was stored in place of the one with its key, in the same chunk.
    fn replaced(&mut self, _heap: &mut Heap<'_>, _class: ClassId, _item: ItemRef) {}
    /// An item is read for the first time in this epoch and second. Its header still tells when
    /// it was used before.
    fn used(&mut self, _heap: &mut Heap<'_>, _class: ClassId, _item: ItemRef) {}
    /// An item is now in another chunk of the bucket, header and all.
    fn moved(&mut self, _heap: &mut Heap<'_>, _class: ClassId, _from: ItemRef, _to: ItemRef) {}
    /// An item goes: to make room, if `evicted`, or since a client or time says so.
    fn removed(
        &mut self,
        _heap: &mut Heap<'_>,
        _class: ClassId,
        _item: ItemRef,
        _hash: u32,
        _evicted: bool,
    ) {
    }
    /// The item that goes next. `None` if the bucket holds none that can go.
    fn victim(&mut self, view: &mut View<'_, '_>, class: ClassId) -> Option<ItemRef>;
    /// Checks what links tell of each other, and counts the items that they lead to.
    #[cfg(test)]
    fn audit(&self, _heap: &Heap<'_>, _class: ClassId) -> Option<u64> {
        None
    }
}

/// What a policy sees of the store when it chooses.
pub(super) struct View<'v, 'm> {
    pub(super) heap: &'v mut Heap<'m>,
    pub(super) slabs: &'v mut Slabs<'m>,
    pub(super) now: Now,
    pub(super) epoch: Epoch,
}

/// What tells whether an item is gone for clients, though its memory is not reclaimed.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) second: u32,
    pub(super) flushed_below: u64,
}

impl Now {
    #[inline(always)]
    pub(super) fn is_dead(self, header: &Header) -> bool {
        header.expiry.is_past(self.second) || header.cas < self.flushed_below
    }
}

/// What a chunk is to a policy that looks for a victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    /// It cannot go: no item, or one that is held.
    Stays,
    /// Gone for clients already.
    Dead,
    /// An item that clients may read.
    Live(State),
}

impl View<'_, '_> {
    fn candidate(&self, item: ItemRef) -> Candidate {
        let header = self.heap.header(item);
        if header.state == State::FREE || self.slabs.is_held(item, &header) {
            Candidate::Stays
        } else if self.now.is_dead(&header) {
            Candidate::Dead
        } else {
            Candidate::Live(header.state)
        }
    }

    /// The next item of a bucket that its hand finds, of those that can go.
    fn next_that_can_go(&mut self, class: ClassId) -> Option<ItemRef> {
        for _ in 0..=STEPS {
            let item = self.slabs.next_at_hand(class)?;
            if self.candidate(item) != Candidate::Stays {
                return Some(item);
            }
        }
        None
    }
}

/// The policy of a store.
pub(super) enum Chosen<'m> {
    Sampled(Sampled),
    Clock(Clock),
    Segmented(Segmented<'m>),
    S3Fifo(S3Fifo<'m>),
    Sieve(Sieve<'m>),
}

impl<'m> Chosen<'m> {
    /// The policy that `eviction` names, in so much memory as it says it needs.
    pub(super) fn new(eviction: Eviction, lists: &'m mut [u8], ghosts: &'m mut [u8]) -> Self {
        match eviction {
            Eviction::Sampled => Self::Sampled(Sampled::new()),
            Eviction::Clock => Self::Clock(Clock),
            Eviction::SegmentedLru => Self::Segmented(Segmented::new(Lists::new(lists, 2))),
            Eviction::S3Fifo => {
                let ghosts = Ghosts::new(ghosts.as_chunks_mut().0);
                Self::S3Fifo(S3Fifo::new(Lists::new(lists, 2), ghosts))
            }
            Eviction::Sieve => Self::Sieve(Sieve::new(Lists::new(lists, 1))),
        }
    }

    /// Whether it wants to know of items; the first two find them where they lie.
    #[inline(always)]
    pub(super) fn keeps_lists(&self) -> bool {
        !matches!(self, Self::Sampled(_) | Self::Clock(_))
    }

    /// Whether it wants to know of reads.
    #[inline(always)]
    pub(super) fn follows_reads(&self) -> bool {
        matches!(self, Self::Segmented(_) | Self::S3Fifo(_))
    }

    /// The policy.
    pub(super) fn policy(&mut self) -> &mut dyn Policy {
        match self {
            Self::Sampled(policy) => policy,
            Self::Clock(policy) => policy,
            Self::Segmented(policy) => policy,
            Self::S3Fifo(policy) => policy,
            Self::Sieve(policy) => policy,
        }
    }

    #[cfg(test)]
    pub(super) fn audit(&self, heap: &Heap<'_>, class: ClassId) -> Option<u64> {
        match self {
            Self::Sampled(policy) => policy.audit(heap, class),
            Self::Clock(policy) => policy.audit(heap, class),
            Self::Segmented(policy) => policy.audit(heap, class),
            Self::S3Fifo(policy) => policy.audit(heap, class),
            Self::Sieve(policy) => policy.audit(heap, class),
        }
    }
}
