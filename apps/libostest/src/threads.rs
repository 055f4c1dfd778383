//! Preemptive threads under real timer ticks.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use exo_abi::{EventCount, Handle, Word};
use libos::runtime::Local;
use libos::sched::policy::{EarliestDeadlineFirst, Policy, RoundRobin, ThreadId};
use libos::sched::threads::{self, end_of_it};
use libos::sched::{Park, Ticks, Until, conformance, uninterrupted};
use libos::time::timestamp;
use libos::{sys, upcall};
use selftest::check::{Failure, Outcome, holds, same};

use crate::bench::{Bench, Check};
use crate::own_policy::Lottery;
use crate::registers::Image;

pub(crate) const CHECKS: &[Check] = &[
    ("policies conform in the guest", policies_conform),
    ("threads end, and what they own is dropped", owned),
    ("round robin: threads that never give way have equal turns", equal_turns),
    ("a lottery lets all threads that never give way progress", lottery),
    ("earliest deadline first: ends in the order of deadlines", deadlines),
    ("earliest deadline first: a sleeper preempts", sleeper_preempts),
    ("registers, flags and red zone survive switches", registers),
    ("giving way takes turns", give_way),
    ("a blocked thread does not run", blocked),
    ("a wake before the block is not lost", early_wake),
    ("when all sleep, the application sleeps", all_sleep),
    ("an event wakes the thread that waits for it", event),
    ("the heap is shared", heap),
    ("uninterrupted sections are", sections),
    ("what is shared is lent to one at a time", shared),
    ("a thread that parks is woken by another", parked),
    ("a thread that parks beside a sleeper keeps its own deadline", parks_alone),
];

/// Turns that make up a good number of preemptions.
const TURNS: u64 = 12;
/// Turns after which something that should have happened has not.
const PATIENCE: u64 = 20_000;

fn policies_conform(_: &mut Bench) -> Outcome {
    conformance::check(RoundRobin::new, |_| ());
    conformance::check(EarliestDeadlineFirst::new, |index| Ticks(index as u64 % 5));
    conformance::check(|| Lottery::new(3), |index| index as u32);
    Ok(())
}

fn owned(bench: &mut Bench) -> Outcome {
    let sum = AtomicU64::new(0);
    let bodies = (0..10_u64).map(|number| {
        let owned: Vec<u64> = (0..number).collect();
        let sum = &sum;
        ((), move || {
            sum.fetch_add(owned.iter().sum::<u64>(), Relaxed);
        })
    });
    let ids = bench.run(RoundRobin::new(), end_of_it, bodies)?;
    same("threads", ids.len(), 10)?;
    same("what they added up", sum.load(Relaxed), 120)
}

/// Threads that compute without ever giving way, until one has had [`TURNS`] turns
/// and all have begun. Returns their turns and what they computed.
fn compute<P: Policy>(
    bench: &mut Bench,
    policy: P,
    terms: &[P::Terms],
) -> Result<Vec<(u64, u64)>, Failure> {
    let done = AtomicBool::new(false);
    let begun = AtomicUsize::new(0);
    let results: Vec<_> = terms.iter().map(|_| (AtomicU64::new(0), AtomicU64::new(0))).collect();
    let bodies = terms.iter().zip(&results).map(|(terms, (turns, rounds))| {
        let (done, begun, all) = (&done, &begun, results.len());
        (*terms, move || {
            begun.fetch_add(1, Relaxed);
            while !done.load(Relaxed) {
                for _ in 0..1000 {
                    rounds.store(rounds.load(Relaxed) + 1, Relaxed);
                }
                let mine = threads::turns();
                let all_begun = begun.load(Relaxed) == all;
                if mine >= TURNS && all_begun || mine >= PATIENCE {
                    done.store(true, Relaxed);
                }
            }
            turns.store(threads::turns(), Relaxed);
        })
    });
    bench.run(policy, end_of_it, bodies)?;
    Ok(results.iter().map(|(turns, rounds)| (turns.load(Relaxed), rounds.load(Relaxed))).collect())
}

fn equal_turns(bench: &mut Bench) -> Outcome {
    for count in [2, 3, 7] {
        let results = compute(bench, RoundRobin::new(), &[(); 7][..count])?;
        let turns = results.iter().map(|(turns, _)| *turns);
        let (least, most) = (turns.clone().min(), turns.max());
        let (Some(least), Some(most)) = (least, most) else { return holds("threads", false) };
        holds("turns are equal", most - least <= 1)?;
        same("turns", most, TURNS)?;
        holds("all progress", results.iter().all(|(_, rounds)| *rounds > 0))?;
    }
    Ok(())
}

fn lottery(bench: &mut Bench) -> Outcome {
    let results = compute(bench, Lottery::new(5), &[1, 2, 4])?;
    holds("all progress", results.iter().all(|(_, rounds)| *rounds > 0))?;
    holds("turns", results.iter().any(|(turns, _)| (TURNS..PATIENCE).contains(turns)))
}

/// The turns that the running thread has had, after it has computed for a while, never twice
/// as long. Upcalls are masked while a thread asks for its turns. Where the clock counts
/// instructions, a loop that asks at regular intervals would see each slice end at the same
/// place of a round, and a thread that is always found asking never ends its turn.
pub(crate) fn compute_and_count() -> u64 {
    static ROUNDS: AtomicU64 = AtomicU64::new(1);
    let rounds = ROUNDS.load(Relaxed);
    ROUNDS.store((rounds * 5 + 3) % 4096, Relaxed);
    for round in 0..rounds {
        core::hint::black_box(round);
    }
    threads::turns()
}

/// Computes for some slices without giving way.
fn work() {
    let until = threads::turns() + 4;
    while compute_and_count() < until {}
}

fn deadlines(bench: &mut Bench) -> Outcome {
    let second = bench.environment.system.tsc_hz.load(Relaxed);
    let next = AtomicUsize::new(0);
    let order = [const { AtomicUsize::new(usize::MAX) }; 4];
    let dues = [40, 10, 30, 20];
    let bodies = dues.iter().zip(&order).map(|(due, place)| {
        let next = &next;
        (Ticks(due * second), move || {
            work();
            place.store(next.fetch_add(1, Relaxed), Relaxed);
        })
    });
    bench.run(EarliestDeadlineFirst::new(), end_of_it, bodies)?;
    same("order", order.map(AtomicUsize::into_inner), [3, 0, 2, 1])
}

fn sleeper_preempts(bench: &mut Bench) -> Outcome {
    let second = bench.environment.system.tsc_hz.load(Relaxed);
    let periods = AtomicU64::new(0);
    let (seen, slept) = (AtomicU64::new(0), AtomicU64::new(0));
    let urgent = || {
        for _ in 0..5 {
            let before = threads::turns();
            threads::sleep_until(Ticks(timestamp() + second / 500));
            slept.fetch_add(threads::turns() - before, Relaxed);
            periods.fetch_add(1, Relaxed);
        }
    };
    // Never gives way: only the other's deadline takes the processor from it.
    let lazy = || {
        while periods.load(Relaxed) < 5 && compute_and_count() < PATIENCE {}
        seen.store(periods.load(Relaxed), Relaxed);
    };
    let bodies: [(Ticks, &(dyn Fn() + Sync)); 2] =
        [(Ticks(100 * second), &lazy), (Ticks(second / 1000), &urgent)];
    bench.run(EarliestDeadlineFirst::new(), end_of_it, bodies)?;
    same("periods the other saw", seen.into_inner(), 5)?;
    holds("turns of the sleeper", slept.into_inner() >= 5)
}

fn registers(bench: &mut Bench) -> Outcome {
    let failed = [const { AtomicU64::new(0) }; 4];
    let rounds_held = AtomicU64::new(0);
    let bodies = failed.iter().zip(1..).map(|(failed, seed)| {
        let rounds_held = &rounds_held;
        ((), move || {
            let mut word = 0;
            while compute_and_count() < TURNS {
                word = 0;
                let start = Image::pattern(seed, 50_000, &raw mut word);
                let mut image = start;
                image.hold();
                rounds_held.fetch_add(1, Relaxed);
                if image != start.expected() {
                    failed.fetch_add(1, Relaxed);
                }
                if word != start.written() {
                    failed.fetch_add(1 << 32, Relaxed);
                }
            }
            core::hint::black_box(word);
        })
    });
    bench.run(RoundRobin::new(), end_of_it, bodies)?;
    holds("rounds", rounds_held.into_inner() >= 4)?;
    same("rounds in which something was lost", failed.map(AtomicU64::into_inner), [0; 4])
}

fn give_way(bench: &mut Bench) -> Outcome {
    // Threads that do nothing but give way meet strict alternation, unless a slice ends
    // in between; then one has two turns in a row at most.
    let log = [const { AtomicUsize::new(0) }; 300];
    let next = AtomicUsize::new(0);
    let bodies = (1..=3).map(|name| {
        let (log, next) = (&log, &next);
        ((), move || {
            for _ in 0..100 {
                let place = next.fetch_add(1, Relaxed);
                if let Some(place) = log.get(place) {
                    place.store(name, Relaxed);
                }
                threads::give_way();
            }
        })
    });
    bench.run(RoundRobin::new(), end_of_it, bodies)?;
    let log = log.map(AtomicUsize::into_inner);
    for name in 1..=3 {
        same("entries", log.iter().filter(|entry| **entry == name).count(), 100)?;
    }
    let repeated = log.windows(2).filter(|pair| pair[0] == pair[1]).count();
    holds("they take turns", repeated < 50)
}

fn blocked(bench: &mut Bench) -> Outcome {
    let sleeper_id = AtomicUsize::new(usize::MAX);
    let (sleeping, ran, ran_early) =
        (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
    let sleeper = || {
        let id = threads::current().map_or(usize::MAX, ThreadId::index);
        sleeper_id.store(id, Relaxed);
        sleeping.store(true, Relaxed);
        threads::block(Until::default());
        ran.store(true, Relaxed);
    };
    let waker = || {
        while !sleeping.load(Relaxed) {
            threads::give_way();
        }
        work();
        ran_early.store(ran.load(Relaxed), Relaxed);
        if let Some(id) = ThreadId::new(sleeper_id.load(Relaxed)) {
            threads::wake(id);
        }
    };
    let bodies: [((), &(dyn Fn() + Sync)); 2] = [((), &sleeper), ((), &waker)];
    let ids = bench.run(RoundRobin::new(), end_of_it, bodies)?;
    same("id of the first", Some(sleeper_id.into_inner()), ids.first().map(|id| id.index()))?;
    holds("it ran while blocked", !ran_early.into_inner())?;
    holds("it ran when woken", ran.into_inner())
}

fn early_wake(bench: &mut Bench) -> Outcome {
    let woken = AtomicBool::new(false);
    let first = || {
        while !woken.load(Relaxed) {
            threads::give_way();
        }
        // Would sleep for ever.
        threads::block(Until::default());
    };
    let second = || {
        if let Some(first) = ThreadId::new(0) {
            threads::wake(first);
        }
        woken.store(true, Relaxed);
    };
    let bodies: [((), &(dyn Fn() + Sync)); 2] = [((), &first), ((), &second)];
    bench.run(RoundRobin::new(), end_of_it, bodies)?;
    holds("both ended", woken.into_inner())
}

fn all_sleep(bench: &mut Bench) -> Outcome {
    let system = bench.environment.system;
    // Far apart: a host that stands still for longer would wake them all at once, and then
    // the policy decides which goes first.
    let ticks = system.tsc_hz.load(Relaxed) / 10;
    let halts = system.halts.load(Relaxed);
    let early = AtomicU64::new(0);
    let order = AtomicU64::new(0);
    let bodies = [3, 1, 2].map(|times| {
        let (early, order) = (&early, &order);
        ((), move || {
            let until = timestamp() + times * ticks;
            threads::sleep_until(Ticks(until));
            early.fetch_add(u64::from(timestamp() < until), Relaxed);
            let _ = order.fetch_update(Relaxed, Relaxed, |order| Some(order * 10 + times));
        })
    });
    bench.run(RoundRobin::new(), end_of_it, bodies)?;
    same("woken too early", early.into_inner(), 0)?;
    same("order", order.into_inner(), 123)?;
    // Beside others it does not: they run meanwhile.
    let beside_others = bench.environment.argument("beside") == Some("others");
    holds("the processor halted", beside_others || system.halts.load(Relaxed) > halts)
}

fn event(bench: &mut Bench) -> Outcome {
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    let events = || EventCount(upcall::u_area().events.load(Relaxed));
    let waiting = AtomicBool::new(false);
    let (rings, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let rings_seen = AtomicU64::new(0);
    let waiter = || {
        let seen = events();
        waiting.store(true, Relaxed);
        while events() == seen {
            threads::block(Until { time: None, event: Some(seen) });
        }
        rings_seen.store(rings.load(Relaxed), Relaxed);
    };
    let ringer = || {
        while !waiting.load(Relaxed) {
            threads::give_way();
        }
        // Before: the tick may come between the call and the next instruction.
        rings.store(1, Relaxed);
        refused.store(u64::from(sys::doorbell_ring(bell).is_err()), Relaxed);
    };
    let bodies: [((), &(dyn Fn() + Sync)); 2] = [((), &waiter), ((), &ringer)];
    bench.run(RoundRobin::new(), end_of_it, bodies)?;
    sys::cap_drop(bell)?;
    same("refusals", refused.into_inner(), 0)?;
    same("rings before it ran", rings_seen.into_inner(), 1)
}

fn heap(bench: &mut Bench) -> Outcome {
    let wrong = AtomicU64::new(0);
    let bodies = (1..=4_u64).map(|seed| {
        let wrong = &wrong;
        ((), move || {
            let mut kept: Vec<Vec<u64>> = Vec::new();
            let mut random = seed;
            while compute_and_count() < TURNS {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
                let place = (random >> 33) as usize % 24;
                let fresh = alloc::vec![random; 1 + (random >> 40) as usize % 300];
                if place < kept.len() {
                    let old = core::mem::replace(&mut kept[place], fresh);
                    let same = old.iter().all(|word| *word == old[0]);
                    wrong.fetch_add(u64::from(!same), Relaxed);
                } else {
                    kept.push(fresh);
                }
            }
        })
    });
    bench.run(RoundRobin::new(), end_of_it, bodies)?;
    same("damaged blocks", wrong.into_inner(), 0)
}

fn sections(bench: &mut Bench) -> Outcome {
    // A number that is written in two steps, and only whole outside of sections.
    let (low, high) = (AtomicU64::new(0), AtomicU64::new(0));
    let torn = AtomicU64::new(0);
    let bodies = (0..3).map(|_| {
        let (low, high, torn) = (&low, &high, &torn);
        ((), move || {
            while compute_and_count() < TURNS {
                uninterrupted(|| {
                    let next = low.load(Relaxed) + 1;
                    low.store(next, Relaxed);
                    for _ in 0..500 {
                        core::hint::black_box(next);
                    }
                    torn.fetch_add(u64::from(high.load(Relaxed) + 1 != next), Relaxed);
                    high.store(next, Relaxed);
                });
            }
        })
    });
    bench.run(RoundRobin::new(), end_of_it, bodies)?;
    holds("sections", low.into_inner() > TURNS)?;
    same("sections that others saw", torn.into_inner(), 0)
}

/// Two numbers, which are the same whenever they are not lent.
static PAIR: Local<(u64, u64)> = Local::new((0, 0));

fn shared(bench: &mut Bench) -> Outcome {
    let torn = AtomicU64::new(0);
    let bodies = (0..3).map(|_| {
        let torn = &torn;
        ((), move || {
            while compute_and_count() < TURNS {
                let same = PAIR.with(|pair| {
                    let before = *pair;
                    pair.0 += 1;
                    for _ in 0..500 {
                        core::hint::black_box(&mut *pair);
                    }
                    pair.1 += 1;
                    before.0 == before.1
                });
                torn.fetch_add(u64::from(!same), Relaxed);
            }
        })
    });
    bench.run(RoundRobin::new(), end_of_it, bodies)?;
    let lent = PAIR.with(|pair| PAIR.try_with(|_| ()).is_none().then_some(pair.0));
    holds("lent twice", lent.is_some_and(|times| times > TURNS))?;
    holds("lent again", PAIR.try_with(|_| ()).is_some())?;
    same("others that saw it half changed", torn.into_inner(), 0)
}

/// One parks without a deadline until it is woken. The other wakes it after it computed,
/// when slices end anywhere, and after it slept, when the first is alone for a time.
fn parked(bench: &mut Bench) -> Outcome {
    const ROUNDS: u64 = 200;
    let park = bench.environment.park;
    let nap = bench.environment.system.tsc_hz.load(Relaxed) / 10_000;
    let (woken, parkings) = (AtomicU64::new(0), AtomicU64::new(0));
    let parks = || {
        let mut park = park;
        for round in 1..=ROUNDS {
            loop {
                let seen = park.seen();
                if woken.load(Relaxed) >= round {
                    break;
                }
                park.park(seen, None);
                parkings.fetch_add(1, Relaxed);
            }
        }
    };
    let wakes = || {
        for round in 1..=ROUNDS {
            match round % 3 {
                0 => threads::sleep_until(Ticks(timestamp() + nap)),
                1 => {
                    for step in 0..round * 997 % 5000 {
                        core::hint::black_box(step);
                    }
                }
                _ => threads::give_way(),
            }
            woken.store(round, Relaxed);
            if let Some(parks) = ThreadId::new(0) {
                threads::wake(parks);
            }
        }
    };
    let bodies: [((), &(dyn Fn() + Sync)); 2] = [((), &parks), ((), &wakes)];
    bench.run(RoundRobin::new(), end_of_it, bodies)?;
    // A nap is over before it begins if others run meanwhile, so not every round counts.
    holds("it parked", parkings.into_inner() > ROUNDS / 20)
}

fn parks_alone(bench: &mut Bench) -> Outcome {
    let park = bench.environment.park;
    let second = bench.environment.system.tsc_hz.load(Relaxed);
    let (sleeping, early, turned) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let long = timestamp() + 100 * second;
    let sleeps = || {
        sleeping.store(1, Relaxed);
        threads::block(Until { time: Some(Ticks(long)), event: None });
    };
    let parks = || {
        let mut park = park;
        while sleeping.load(Relaxed) == 0 {
            threads::give_way();
        }
        for _ in 0..10 {
            let turns = threads::turns();
            let deadline = timestamp() + second / 10_000;
            while timestamp() < deadline {
                let seen = park.seen();
                park.park(seen, Some(Ticks(deadline)));
            }
            early.fetch_add(u64::from(timestamp() < long), Relaxed);
            turned.fetch_add(u64::from(threads::turns() == turns), Relaxed);
        }
        if let Some(sleeps) = ThreadId::new(0) {
            threads::wake(sleeps);
        }
    };
    let bodies: [((), &(dyn Fn() + Sync)); 2] = [((), &sleeps), ((), &parks)];
    bench.run(RoundRobin::new(), end_of_it, bodies)?;
    same("ended before the other", early.into_inner(), 10)?;
    holds("it slept without a decision", turned.into_inner() > 0)
}

/// One thread computes, the other causes an exception that has no handler.
pub(crate) fn crash(bench: &mut Bench) -> u64 {
    let computes = || while compute_and_count() < PATIENCE {};
    let crashes = || {
        work();
        // SAFETY: an invalid instruction; the application does not go on after it.
        unsafe { core::arch::asm!("ud2", options(noreturn)) }
    };
    let bodies: [((), &(dyn Fn() + Sync)); 2] = [((), &computes), ((), &crashes)];
    match bench.run(RoundRobin::new(), end_of_it, bodies) {
        Ok(_) => 1,
        Err(_) => 2,
    }
}

/// One thread computes, the other uses up its stack.
pub(crate) fn overflow(bench: &mut Bench) -> u64 {
    let computes = || while compute_and_count() < PATIENCE {};
    let overflows = || {
        work();
        descend(0);
    };
    let bodies: [((), &(dyn Fn() + Sync)); 2] = [((), &computes), ((), &overflows)];
    match bench.run(RoundRobin::new(), end_of_it, bodies) {
        Ok(_) => 1,
        Err(_) => 2,
    }
}

/// Calls itself until there is no stack left.
#[inline(never)]
pub(crate) fn descend(depth: u64) -> u64 {
    let mut room = [depth; 20];
    core::hint::black_box(&mut room);
    if depth == u64::MAX {
        return 0;
    }
    // Not the last thing it does, so it stays a call.
    descend(depth + 1).wrapping_add(room[3])
}

/// One thread computes, the other panics in a function of a function.
pub(crate) fn panic(bench: &mut Bench) -> u64 {
    let computes = || while compute_and_count() < PATIENCE {};
    let panics = || {
        work();
        panic_deeper();
    };
    let bodies: [((), &(dyn Fn() + Sync)); 2] = [((), &computes), ((), &panics)];
    match bench.run(RoundRobin::new(), end_of_it, bodies) {
        Ok(_) => 1,
        Err(_) => 2,
    }
}

#[inline(never)]
fn panic_deeper() {
    panic!("as asked");
}
