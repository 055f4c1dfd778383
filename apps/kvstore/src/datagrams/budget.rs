//! How many bytes of answers of several datagrams each source may still be sent in this second.
//!
//! One look at a table, at the place that the address says. Addresses
//! that agree in their lowest ten bits share a place and so a budget. Sharing makes no budget
//! larger, so a sender that forges many sources wins nothing by it; and by forging a client's own
//! address it could always use up that client's budget. What cannot be forged is a TCP connection:
//! a client that has one needs no budget.

/// Budgets. A power of two.
const BUDGETS: usize = 1024;

/// Addresses with connections that are known, at most.
const PEERS: usize = 1024;

/// Bytes of memory.
pub(super) const BYTES: usize = 4 * BUDGETS + 8 * PEERS;

/// Budgets, and addresses that need none.
pub(super) struct Budget<'m> {
    /// Bytes left, for each place.
    left: &'m mut [[u8; 4]; BUDGETS],
    /// Addresses, and how many connections each has. The address is good only if that is not zero.
    peers: &'m mut [[u8; 8]; PEERS],
    /// Bytes a second.
    bytes: u32,
}

impl<'m> Budget<'m> {
    /// `None` if `memory` is not of [`BYTES`] bytes.
    pub(super) fn new(memory: &'m mut [u8], bytes: u32) -> Option<Self> {
        let (left, peers) = memory.split_at_mut_checked(4 * BUDGETS)?;
        let left = left.as_chunks_mut().0.first_chunk_mut()?;
        let peers = peers.as_chunks_mut().0.first_chunk_mut()?;
        peers.fill([0; 8]);
        let mut budget = Self { left, peers, bytes };
        budget.refill();
        Some(budget)
    }

    /// A second has passed.
    #[cold]
    #[inline(never)]
    pub(super) fn refill(&mut self) {
        self.left.fill(self.bytes.to_le_bytes());
    }

    /// Takes `bytes` from a source's budget. `false` if there are not as many left: then none
    /// are taken.
    #[inline(always)]
    pub(super) fn spend(&mut self, address: [u8; 4], bytes: usize) -> bool {
        let left = &mut self.left[u32::from_be_bytes(address) as usize % BUDGETS];
        let rest = u32::from_le_bytes(*left).checked_sub(bytes as u32);
        if let Some(rest) = rest {
            *left = rest.to_le_bytes();
        }
        rest.is_some()
    }

    pub(super) fn connected(&mut self, address: [u8; 4]) {
        self.set_connections(address, |connections| connections.saturating_add(1));
    }

    pub(super) fn disconnected(&mut self, address: [u8; 4]) {
        if self.is_connected(address) {
            self.set_connections(address, |connections| connections - 1);
        }
    }

    pub(super) fn is_connected(&self, address: [u8; 4]) -> bool {
        let (known, connections) = split(self.peers[place(address)]);
        connections > 0 && known == address
    }

    /// Of two addresses with one place, the one that is there keeps it: the other has a budget.
    fn set_connections(&mut self, address: [u8; 4], change: impl FnOnce(u32) -> u32) {
        let peer = &mut self.peers[place(address)];
        let (known, connections) = split(*peer);
        if connections == 0 || known == address {
            let [a, b, c, d] = address;
            let [e, f, g, h] = change(connections).to_le_bytes();
            *peer = [a, b, c, d, e, f, g, h];
        }
    }
}

/// An address, and how many connections it has.
fn split([a, b, c, d, connections @ ..]: [u8; 8]) -> ([u8; 4], u32) {
    ([a, b, c, d], u32::from_le_bytes(connections))
}

fn place(address: [u8; 4]) -> usize {
    u32::from_be_bytes(address) as usize % PEERS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_and_comes_back_with_the_second() {
        let mut memory = [0xa5; BYTES];
        let mut budget = Budget::new(&mut memory, 100).unwrap();
        let (one, other, sharing) = ([10, 0, 2, 2], [10, 0, 2, 3], [172, 16, 6, 2]);
        assert!(budget.spend(one, 60) && !budget.spend(one, 41) && budget.spend(one, 40));
        assert!(!budget.spend(one, 1) && budget.spend(one, 0));
        assert!(budget.spend(other, 100), "each source has its own");
        assert!(!budget.spend(sharing, 1), "but for those that agree in ten bits");
        budget.refill();
        assert!(budget.spend(one, 100) && !budget.spend(one, 1));
    }

    #[test]
    fn a_peer_is_known_as_long_as_it_has_a_connection() {
        let mut memory = [0xa5; BYTES];
        let mut budget = Budget::new(&mut memory, 0).unwrap();
        let (one, sharing) = ([10, 0, 2, 2], [172, 16, 6, 2]);
        assert!(!budget.is_connected(one));
        budget.connected(one);
        budget.connected(one);
        // Its place is taken.
        budget.connected(sharing);
        assert!(budget.is_connected(one) && !budget.is_connected(sharing));
        budget.disconnected(sharing);
        budget.disconnected(one);
        assert!(budget.is_connected(one));
        budget.disconnected(one);
        assert!(!budget.is_connected(one) && !budget.is_connected([0; 4]));
        budget.disconnected(one);
        budget.connected(sharing);
        assert!(budget.is_connected(sharing));
    }
}
