//! A short run of random calls on the kernel that checks itself, on one processor and
//! on two. Longer ones: `cargo exo fuzz`.

use exo_cmd::fuzz::{Plan, build, run};

fn everything_holds(plan: Plan) {
    build(None).expect("a kernel with its checker");
    let outcome = run(&plan).expect("the machine runs to its end");
    assert!(outcome.failure.is_none(), "{plan}: {}", outcome.failure.unwrap_or_default());
    assert!(outcome.random >= plan.calls, "{} random calls of {}", outcome.random, plan.calls);
    assert!(outcome.checks >= outcome.calls / 2000, "{outcome:?}");
}

#[test]
fn everything_holds_on_one_processor() {
    everything_holds(Plan { seed: 1, calls: 40_000, cpus: 1, icount: false });
}

#[test]
fn everything_holds_on_two_processors() {
    everything_holds(Plan { seed: 1, calls: 40_000, cpus: 2, icount: false });
}

/// A seed replays call by call where time is counted in instructions.
#[test]
fn a_seed_replays() {
    let plan = Plan { seed: 7, calls: 20_000, cpus: 1, icount: true };
    build(None).expect("a kernel with its checker");
    let [one, two] = [run(&plan), run(&plan)].map(|run| run.expect("the machine runs"));
    assert!(one.failure.is_none(), "{}", one.failure.unwrap_or_default());
    assert_eq!((one.calls, one.random), (two.calls, two.random));
}
