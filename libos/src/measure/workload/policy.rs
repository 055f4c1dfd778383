//! What a policy that orders threads is asked for: a decision.

use crate::measure::{mark, operation, runs};
use crate::sched::Ticks;
use crate::sched::policy::{MAX_THREADS, Policy, ThreadId};

/// Lets `policy` decide among 3 threads, and then among as many as there can be; each is
/// admitted with `terms`, and blocks now and then.
pub fn policy<P: Policy>(policy: &mut P, terms: P::Terms) {
    let all = || (0..MAX_THREADS).filter_map(ThreadId::new);
    for (count, decision) in
        [(3, "policy: decide among 3"), (MAX_THREADS, "policy: decide among 32")]
    {
        for thread in all().take(count) {
            policy.admit(thread, terms);
            policy.ready(thread, Ticks(0));
        }
        for now in 0..4 * runs() as u64 {
            let chosen = operation(decision, || {
                let chosen = policy.choose(Ticks(now));
                mark("choose");
                chosen.inspect(|&chosen| policy.charge(chosen, Ticks(1)))
            });
            // One in four blocks, and is ready again later.
            if let Some(chosen) = chosen.filter(|_| now % 4 == 0) {
                operation("policy: block and wake", || {
                    policy.blocked(chosen);
                    mark("block");
                    policy.ready(chosen, Ticks(now));
                });
            }
        }
        for thread in all().take(count) {
            policy.blocked(thread);
            policy.forget(thread);
        }
    }
}
