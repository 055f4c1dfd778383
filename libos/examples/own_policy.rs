//! An application brings its own order of threads: a lottery.
//!
//! Each ready thread holds tickets; one is drawn, and its holder runs (Waldspurger and
//! Weihl, OSDI '94). Over time each gets its share, none starves, and a thread's share
//! is one number. Put through the suite that every policy must pass, and then asked for
//! what is special about it.
//!
//! ```sh
//! cargo run -p libos --example own_policy
//! ```

use libos::sched::Ticks;
use libos::sched::policy::{MAX_THREADS, Policy, ThreadId};

/// Chooses by drawing tickets.
pub(crate) struct Lottery {
    tickets: [u32; MAX_THREADS],
    ready: [bool; MAX_THREADS],
    random: u64,
}

impl Lottery {
    /// Drawings follow from `seed`.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { tickets: [0; MAX_THREADS], ready: [false; MAX_THREADS], random: seed | 1 }
    }

    fn tickets(&self, index: usize) -> u64 {
        if self.ready[index] { u64::from(self.tickets[index]) } else { 0 }
    }

    /// A number below `bound`: the upper half of a linear congruential generator (Knuth).
    fn draw(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1);
        ((self.random >> 32) * bound) >> 32
    }
}

impl Policy for Lottery {
    /// Tickets; none counts as one.
    type Terms = u32;

    fn admit(&mut self, thread: ThreadId, tickets: u32) {
        self.tickets[thread.index()] = tickets.clamp(1, 1 << 20);
    }

    fn ready(&mut self, thread: ThreadId, _: Ticks) {
        self.ready[thread.index()] = true;
    }

    fn blocked(&mut self, thread: ThreadId) {
        self.ready[thread.index()] = false;
    }

    fn forget(&mut self, _: ThreadId) {}

    fn choose(&mut self, _: Ticks) -> Option<ThreadId> {
        let all = (0..MAX_THREADS).map(|index| self.tickets(index)).sum();
        let mut winner = if all == 0 { return None } else { self.draw(all) };
        for index in 0..MAX_THREADS {
            match winner.checked_sub(self.tickets(index)) {
                Some(further) => winner = further,
                None => return ThreadId::new(index),
            }
        }
        None
    }
}

#[cfg(not(exo_guest))]
#[cfg_attr(test, test)]
fn main() {
    use libos::sched::conformance::{self, Load, simulate};

    conformance::check(|| Lottery::new(7), |index| index as u32 % 9);
    let tickets = [1, 2, 3, 4];
    let history = simulate(&mut Lottery::new(1), &tickets.map(Load::endless), 100_000);
    for (tickets, turns) in tickets.into_iter().zip(history.turns) {
        println!("{tickets} of 10 tickets: {turns} of 100000 turns");
        // Six standard deviations of a binomial distribution are less than 1000.
        assert!(turns.abs_diff(u64::from(tickets) * 10_000) < 1000);
    }
}
