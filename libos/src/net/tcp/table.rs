//! Connections by number and by peer.
//!
//! A connection keeps its number and its place in memory as long as it lives. It is found by a
//! hash of its peer's address and port, through one bucket's chain, never by a walk over all;
//! the hash is keyed ([`Secret`](super::secret::Secret)), so that no peer can choose ports
//! that share a bucket. Before that a guess is made, by the lowest bits of the port: a peer whose
//! guess is right costs no hash, and one that spoils the guesses of others has them pay the hash
//! that they would pay without. All memory is taken when the table is made.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::net::Endpoint;

const NONE: u32 = u32::MAX;
/// How many guesses are kept.
const GUESSES: usize = 256;

/// The number of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(super) struct Id(pub(super) u32);

/// Up to a fixed number of connections.
#[derive(Debug)]
pub(super) struct Table<T> {
    buckets: Box<[u32]>,
    /// By the lowest bits of its port, the connection found last; it may be gone since.
    guesses: [u32; GUESSES],
    nodes: Vec<Node<T>>,
    /// First of the free nodes, which are linked by `next`.
    free: u32,
    used: u32,
}

#[derive(Debug)]
struct Node<T> {
    /// Next in the bucket, or of the free nodes.
    next: u32,
    bucket: u32,
    peer: Endpoint,
    entry: Option<T>,
}

impl<T> Table<T> {
    /// What an entry costs beside itself, in bytes: its node and its bucket.
    pub(super) const OVERHEAD: usize = size_of::<Node<T>>() - size_of::<T>() + 2 * size_of::<u32>();

    pub(super) fn new(capacity: u32) -> Self {
        let buckets = capacity.max(1).next_power_of_two() as usize;
        let peer = Endpoint { address: [0; 4], port: 0 };
        let node = |n: u32| Node {
            next: if n + 1 < capacity { n + 1 } else { NONE },
            bucket: 0,
            peer,
            entry: None,
        };
        Self {
            buckets: alloc::vec![NONE; buckets].into_boxed_slice(),
            guesses: [NONE; GUESSES],
            nodes: (0..capacity).map(node).collect(),
            free: if capacity == 0 { NONE } else { 0 },
            used: 0,
        }
    }

    pub(super) fn capacity(&self) -> u32 {
        self.nodes.len() as u32
    }

    pub(super) const fn len(&self) -> u32 {
        self.used
    }

    pub(super) const fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// The connection with `peer`, if a guess finds it.
    #[inline(always)]
    pub(super) fn guess(&self, peer: Endpoint) -> Option<Id> {
        let id = self.guesses[usize::from(peer.port) % GUESSES];
        let node = self.nodes.get(id as usize)?;
        (node.peer == peer && node.entry.is_some()).then_some(Id(id))
    }

    /// The connection with `peer`, whose hash is `hash`.
    pub(super) fn find(&mut self, peer: Endpoint, hash: impl FnOnce() -> u64) -> Option<Id> {
        let guessed = self.guess(peer);
        if guessed.is_some() {
            return guessed;
        }
        let found = self.find_by_hash(peer, hash())?;
        self.guesses[usize::from(peer.port) % GUESSES] = found.0;
        Some(found)
    }

    fn find_by_hash(&self, peer: Endpoint, hash: u64) -> Option<Id> {
        let mut next = *self.buckets.get(hash as usize & (self.buckets.len() - 1))?;
        while let Some(node) = self.nodes.get(next as usize) {
            if node.peer == peer {
                return Some(Id(next));
            }
            next = node.next;
        }
        None
    }

    /// Adds a connection with `peer`, which has none. Returns `None` if there is no room.
    pub(super) fn insert(&mut self, peer: Endpoint, hash: u64, entry: T) -> Option<Id> {
        let id = self.free;
        let node = self.nodes.get_mut(id as usize)?;
        let index = hash as usize & (self.buckets.len() - 1);
        let bucket = self.buckets.get_mut(index)?;
        self.free = node.next;
        *node = Node {
            next: core::mem::replace(bucket, id),
            bucket: index as u32,
            peer,
            entry: Some(entry),
        };
        self.used += 1;
        Some(Id(id))
    }

    #[inline]
    pub(super) fn get(&self, id: Id) -> Option<&T> {
        self.nodes.get(id.0 as usize)?.entry.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.nodes.get_mut(id.0 as usize)?.entry.as_mut()
    }

    /// A connection and its peer.
    #[inline]
    pub(super) fn entry_mut(&mut self, id: Id) -> Option<(Endpoint, &mut T)> {
        let node = self.nodes.get_mut(id.0 as usize)?;
        Some((node.peer, node.entry.as_mut()?))
    }

    /// The peer of a connection.
    #[inline]
    pub(super) fn peer(&self, id: Id) -> Option<Endpoint> {
        self.nodes.get(id.0 as usize).map(|node| node.peer)
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        let node = self.nodes.get_mut(id.0 as usize)?;
        let entry = node.entry.take()?;
        let (next, bucket) = (core::mem::replace(&mut node.next, self.free), node.bucket);
        let mut link = self.buckets.get_mut(bucket as usize);
        // `next` of this node already leads elsewhere, so the walk compares before it follows.
        while let Some(place) = link {
            if *place == id.0 {
                *place = next;
                break;
            }
            let at = *place as usize;
            link = self.nodes.get_mut(at).map(|node| &mut node.next);
        }
        self.free = id.0;
        self.used -= 1;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::Table;
    use crate::net::Endpoint;

    proptest! {
        /// As a map from peers, with hashes that are good, bad or all the same.
        #[test]
        fn is_a_map(
            steps in prop::collection::vec((any::<bool>(), 1_u16..20), 0..200),
            mask in prop::sample::select(vec![0_u64, 1, u64::MAX]),
        ) {
            let mut table = Table::new(10);
            let mut map = HashMap::new();
            for (n, (add, port)) in steps.into_iter().enumerate() {
                let peer = Endpoint { address: [10, 0, 0, 1], port };
                let hash = u64::from(port).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & mask;
                match (table.find(peer, || hash), add) {
                    (Some(id), true) => prop_assert_eq!(table.get(id), map.get(&port)),
                    (Some(id), false) => prop_assert_eq!(table.remove(id), map.remove(&port)),
                    (None, false) => prop_assert!(!map.contains_key(&port)),
                    (None, true) => match table.insert(peer, hash, n) {
                        Some(id) => {
                            map.insert(port, n);
                            prop_assert_eq!(table.peer(id), Some(peer));
                        }
                        None => prop_assert_eq!(map.len(), 10),
                    },
                }
                prop_assert_eq!(table.len() as usize, map.len());
                prop_assert_eq!(table.is_full(), map.len() == 10);
            }
        }
    }
}
