//! How processor slots are spread over environments.
//!
//! The slice vector is taken by position, so where slots lie decides how long
//! their owner waits between two of them. Shares are interleaved as evenly as
//! they go (smooth weighted round robin: the one owed most comes next), so
//! that none waits for a neighbour's whole share.

use alloc::vec;
use alloc::vec::Vec;

/// For each of `slots` slots, the index of the share it goes to. Each share
/// gets its number of slots to within one, if they add up to `slots`, and in
/// proportion if they do not. Empty if there is no share above zero.
pub fn spread(shares: &[u32], slots: usize) -> Vec<usize> {
    let total: i64 = shares.iter().map(|share| i64::from(*share)).sum();
    if total == 0 {
        return Vec::new();
    }
    let mut owed = vec![0_i64; shares.len()];
    let next = |_| {
        for (debt, share) in owed.iter_mut().zip(shares) {
            *debt += i64::from(*share);
        }
        let most = (0..owed.len()).max_by_key(|index| (owed[*index], core::cmp::Reverse(*index)));
        let index = most.unwrap_or(0);
        owed[index] -= total;
        index
    };
    (0..slots).map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn shares_are_kept_and_interleaved() {
        let slots = spread(&[24, 8, 32], 64);
        for (index, share) in [24, 8, 32].into_iter().enumerate() {
            let places: Vec<_> = (0..64).filter(|slot| slots[*slot] == index).collect();
            assert_eq!(places.len(), share);
            let widest = places.windows(2).map(|pair| pair[1] - pair[0]).max();
            assert!(widest <= Some(64 / share + 1), "{index}: {places:?}");
        }
    }

    #[test]
    fn nobody_gets_nothing() {
        assert!(spread(&[], 64).is_empty());
        assert!(spread(&[0, 0], 64).is_empty());
        assert!(spread(&[0, 1], 64).iter().all(|owner| *owner == 1));
    }
}
