//! An application brings its own scheduler: earliest deadline first.
//!
//! `libos` asks of a scheduler that it runs work and parks when there is none.
//! This one runs periodic jobs, always the one whose deadline comes next (Liu
//! and Layland, 1973), and sleeps until the next release. On the host it runs
//! against a clock that jumps; in the guest `Environment` has the real ones.
//!
//! ```sh
//! cargo run -p libos --example own_scheduler
//! ```

use std::cell::Cell;

use exo_abi::EventCount;
use libos::sched::{Park, Scheduler, Ticks};

/// Work that is due once in each period.
struct Job<'a> {
    name: &'static str,
    period: u64,
    /// Start of the current period; the work is due at its end.
    release: u64,
    work: Box<dyn FnMut() + 'a>,
}

/// Runs jobs until `end`, the most urgent first.
struct EarliestDeadlineFirst<'a> {
    jobs: Vec<Job<'a>>,
    clock: &'a Cell<u64>,
    end: u64,
}

impl Scheduler for EarliestDeadlineFirst<'_> {
    /// Returns the number of deadlines missed.
    fn run(&mut self, park: &mut impl Park) -> u64 {
        let mut missed = 0;
        loop {
            let seen = park.seen();
            let now = self.clock.get();
            if now >= self.end {
                return missed;
            }
            let released = self.jobs.iter_mut().filter(|job| job.release <= now);
            if let Some(job) = released.min_by_key(|job| job.release + job.period) {
                println!("{now:>4} {}", job.name);
                (job.work)();
                job.release += job.period;
                missed += u64::from(self.clock.get() > job.release);
            } else {
                let next = self.jobs.iter().map(|job| job.release).min();
                park.park(seen, next.map(Ticks));
            }
        }
    }
}

/// Sleeps by letting time pass.
struct Jump<'a>(&'a Cell<u64>);

impl Park for Jump<'_> {
    fn seen(&mut self) -> EventCount {
        EventCount(0)
    }

    fn park(&mut self, _: EventCount, deadline: Option<Ticks>) {
        if let Some(Ticks(time)) = deadline {
            self.0.set(time.max(self.0.get()));
        }
    }
}

fn main() {
    let clock = Cell::new(0);
    let job = |name, period, cost| {
        let clock = &clock;
        let work = Box::new(move || clock.set(clock.get() + cost));
        Job { name, period, release: 0, work }
    };
    // Together 59 % of the processor. Jobs are not interrupted, so the longest
    // must leave the most frequent time to start: 5 and 2 are less than 10.
    let jobs = vec![job("sensor", 10, 2), job("control", 15, 4), job("log", 40, 5)];
    let mut scheduler = EarliestDeadlineFirst { jobs, clock: &clock, end: 240 };
    let missed = scheduler.run(&mut Jump(&clock));
    println!("deadlines missed: {missed}");
    assert_eq!(missed, 0);
}
