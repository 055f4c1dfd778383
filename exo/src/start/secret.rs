//! A number that ring 3 cannot know: it keys the hash table of the filters, so that no environment
//! makes filters that meet in one place (`net::storage`).
//!
//! Sources may fail (RDRAND without entropy leaves zero and says so: SDM vol. 2) or be
//! poor, so there are several, each is asked again a few times, and all are mixed: the
//! outcome is as good as the best of them.

/// How often a source that has failed is asked, as Intel recommends for RDRAND ("Digital
/// Random Number Generator, Software Implementation Guide", 5.2.1).
const TRIES: usize = 10;

/// What `source` says, if it says anything in a few tries.
pub fn ask(source: impl FnMut() -> Option<u64>) -> Option<u64> {
    core::iter::repeat_with(source).take(TRIES).find_map(|said| said)
}

/// All `words`, mixed; never zero.
pub fn mix(words: impl IntoIterator<Item = u64>) -> u64 {
    // The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
    // generators", OOPSLA'14): a bijection, so nothing of a word is lost.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = words.into_iter().fold(STEP, |state, word| {
        let mut mixed = (state ^ word).wrapping_add(STEP);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    });
    if mixed == 0 { STEP } else { mixed }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{TRIES, ask, mix};

    #[test]
    fn a_source_that_fails_is_asked_again_and_not_for_ever() {
        let failing = |times: usize| {
            let mut asked = 0;
            let said = ask(|| {
                asked += 1;
                (asked > times).then_some(42)
            });
            (said, asked)
        };
        assert_eq!(failing(0), (Some(42), 1));
        assert_eq!(failing(TRIES - 1), (Some(42), TRIES));
        assert_eq!(failing(usize::MAX), (None, TRIES));
    }

    #[test]
    fn it_is_never_zero_and_depends_on_every_source() {
        // All that hardware does when it fails is zero.
        let mut seen = HashSet::new();
        for time in 0..10_000 {
            assert!(seen.insert(mix([0, 0, time])), "{time}");
        }
        assert!(!seen.contains(&0));
        for place in 0..3 {
            let mut words = [7, 8, 9];
            words[place] += 1;
            assert_ne!(mix(words), mix([7, 8, 9]), "source {place}");
        }
        assert_ne!(mix([]), 0);
        assert_ne!(mix([0]), 0);
    }
}
