//! What every [`Policy`] must do: run it on any new one.
//!
//! [`check`] is the contract of the trait; what is special about a policy (equal turns,
//! deadlines met, shares kept) is shown with [`simulate`], which runs threads of known
//! needs against a clock that moves when they do. Nothing here depends on the guest,
//! and nothing allocates.

use super::Ticks;
use super::policy::{MAX_THREADS, Policy, ThreadId};

/// Puts policies made by `fresh` through the contract; `terms` are the terms of thread
/// number so and so.
///
/// # Panics
/// If the policy breaks it.
pub fn check<P: Policy>(fresh: impl Fn() -> P, terms: impl Fn(usize) -> P::Terms) {
    nobody_ready_is_nobody_chosen(&mut fresh(), &terms);
    everybody_ready_is_chosen_until_it_blocks(&mut fresh(), &terms);
    for seed in 1..=16 {
        random_histories(&mut fresh(), &terms, seed);
    }
}

fn all() -> impl DoubleEndedIterator<Item = ThreadId> {
    (0..MAX_THREADS).filter_map(ThreadId::new)
}

fn nobody_ready_is_nobody_chosen<P: Policy>(policy: &mut P, terms: &impl Fn(usize) -> P::Terms) {
    assert_eq!(policy.choose(Ticks(0)), None, "none has been admitted");
    for thread in all() {
        policy.admit(thread, terms(thread.index()));
        assert_eq!(policy.choose(Ticks(0)), None, "none is ready");
    }
    for thread in all() {
        policy.ready(thread, Ticks(1));
        for _ in 0..3 {
            assert_eq!(policy.choose(Ticks(2)), Some(thread), "the only one that is ready");
        }
        policy.blocked(thread);
        assert_eq!(policy.choose(Ticks(3)), None, "none is ready any more");
    }
}

/// Whatever the order: all are chosen, and none is chosen after it blocked.
fn everybody_ready_is_chosen_until_it_blocks<P: Policy>(
    policy: &mut P,
    terms: &impl Fn(usize) -> P::Terms,
) {
    for round in 0..3 {
        for thread in all().rev() {
            policy.admit(thread, terms(thread.index()));
            policy.ready(thread, Ticks(round));
        }
        let mut left = [true; MAX_THREADS];
        for turn in 0..MAX_THREADS as u64 {
            let chosen = policy.choose(Ticks(round + turn)).expect("some are ready");
            assert!(core::mem::take(&mut left[chosen.index()]), "{chosen:?} chosen when blocked");
            policy.charge(chosen, Ticks(1));
            policy.blocked(chosen);
        }
        assert_eq!(policy.choose(Ticks(99)), None, "all are blocked");
        all().for_each(|thread| policy.forget(thread));
    }
}

/// What the caller of a policy knows of a thread.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    Nothing,
    Blocked,
    Ready,
}

fn random_histories<P: Policy>(policy: &mut P, terms: &impl Fn(usize) -> P::Terms, seed: u64) {
    let mut known = [Known::Nothing; MAX_THREADS];
    let mut random = Random(seed);
    for now in 0..3000 {
        let index = random.below(MAX_THREADS as u64) as usize;
        let Some(thread) = ThreadId::new(index) else { continue };
        known[index] = match (known[index], random.below(3)) {
            (Known::Nothing, _) => {
                policy.admit(thread, terms(random.below(100) as usize));
                Known::Blocked
            }
            (Known::Blocked, 0) => {
                policy.forget(thread);
                Known::Nothing
            }
            (Known::Blocked, _) => {
                policy.ready(thread, Ticks(now));
                Known::Ready
            }
            (Known::Ready, 0) => {
                policy.blocked(thread);
                Known::Blocked
            }
            // May come from two sides; changes nothing.
            (Known::Ready, 1) => {
                policy.ready(thread, Ticks(now));
                Known::Ready
            }
            (Known::Ready, _) => Known::Ready,
        };
        match policy.choose(Ticks(now)) {
            Some(chosen) => {
                assert!(known[chosen.index()] == Known::Ready, "{chosen:?} is not ready");
                policy.charge(chosen, Ticks(1 + random.below(9)));
            }
            None => assert!(!known.contains(&Known::Ready), "one is ready"),
        }
    }
}

/// What a simulated thread needs.
#[derive(Clone, Copy, Debug)]
pub struct Load<T> {
    terms: T,
    /// Ready once in so many ticks.
    period: u64,
    /// For so many.
    cost: u64,
}

impl<T> Load<T> {
    /// Always ready.
    pub const fn endless(terms: T) -> Self {
        Self { terms, period: u64::MAX, cost: u64::MAX }
    }

    /// Ready at the start for `cost` ticks, and then never again.
    pub const fn once(terms: T, cost: u64) -> Self {
        Self { terms, period: u64::MAX, cost }
    }

    /// Ready at the beginning of each period for `cost` ticks.
    pub const fn periodic(terms: T, period: u64, cost: u64) -> Self {
        Self { terms, period, cost }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// How often each thread was chosen.
    pub turns: [u64; MAX_THREADS],
    /// When each was last done with what it needed.
    pub ended: [Option<u64>; MAX_THREADS],
    /// How often one was not done by the end of its period.
    pub missed: u64,
}

/// Lets threads with these loads, the first being thread 0, run for `ticks` slices of
/// one tick.
///
/// # Panics
/// If the policy chooses a thread that there is not.
pub fn simulate<P: Policy>(policy: &mut P, loads: &[Load<P::Terms>], ticks: u64) -> History {
    let mut history = History { turns: [0; MAX_THREADS], ended: [None; MAX_THREADS], missed: 0 };
    let mut needs = [0; MAX_THREADS];
    for (thread, load) in all().zip(loads) {
        policy.admit(thread, load.terms);
    }
    for now in 0..ticks {
        for (thread, load) in all().zip(loads) {
            if now % load.period == 0 {
                let left = core::mem::replace(&mut needs[thread.index()], load.cost);
                history.missed += u64::from(left != 0);
                if left != 0 {
                    policy.blocked(thread);
                }
                policy.ready(thread, Ticks(now));
            }
        }
        let Some(chosen) = policy.choose(Ticks(now)) else { continue };
        assert!(chosen.index() < loads.len(), "{chosen:?} does not exist");
        let need = &mut needs[chosen.index()];
        assert!(*need > 0, "{chosen:?} needs nothing");
        *need -= 1;
        policy.charge(chosen, Ticks(1));
        history.turns[chosen.index()] += 1;
        if *need == 0 {
            policy.blocked(chosen);
            history.ended[chosen.index()] = Some(now + 1);
        }
    }
    history
}

/// Numbers without a pattern that matters: xorshift (Marsaglia, 2003).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
