//! Applications that run their own code in ring 0: what the capability says is kept to, and
//! what goes wrong there does not stop the machine.

use std::time::Duration;

use exo_cmd::machine::{Config, Machine, Network};
use exo_cmd::manifest::{App, Elevate};
use machine_tests::model::Worker;
use machine_tests::{LONG, STORE, app, assert_no_leak, expect, manifest, net_app};

/// The application that does everything that goes wrong.
fn elevated(name: &str) -> App {
    let mut app = app("elevated");
    app.name = name.to_owned();
    app.elevate = Elevate::Deep;
    app
}

/// Waits until `name` has made its checks and ended well.
#[track_caller]
fn passed(machine: &Machine, name: &str) {
    let done = expect(machine, &format!("{name}: done, "));
    assert!(done.ends_with(" checks, 0 failed"), "{done}");
    expect(machine, &format!("root: {name} ended: exit code 0"));
}

/// Boots a machine that counts instructions for time, so that a host that is busy ends no stretch.
fn boot(apps: Vec<App>, cpus: u32) -> Machine {
    let mut config = Config::new(manifest(apps));
    (config.icount, config.cpus, config.network) = (true, cpus, Network::Frames);
    Machine::boot(&config).expect("the machine starts")
}

#[test]
fn ring_0_is_given_and_taken() {
    let machine = boot(vec![elevated("elevated")], 1);
    passed(&machine, "elevated");
    expect(&machine, "elevated: survived 1000 of 1000 random faults");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 1);
}

/// The code in the book is the code that ran.
#[test]
fn the_worked_example_is_the_one_that_runs() {
    let code = include_str!("../apps/elevated/src/example.rs");
    let book = include_str!("../docs/elevation.md");
    assert!(book.contains(code), "docs/elevation.md is not apps/elevated/src/example.rs");
    assert!(code.lines().count() < 60);
}

/// Two of them take turns with an application in ring 3 that checks its registers.
#[test]
fn beside_others() {
    let machine = boot(vec![elevated("first"), elevated("second"), app("selftest")], 1);
    for name in ["first", "second", "selftest"] {
        passed(&machine, name);
    }
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 3);
}

/// The same on two processors, one application on each.
#[test]
fn on_two_processors() {
    let mut apps = vec![elevated("first"), elevated("second")];
    for (core, app) in (0..).zip(&mut apps) {
        app.core = Some(core);
    }
    let machine = boot(apps, 2);
    expect(&machine, "exo: 2 processors");
    for name in ["first", "second"] {
        passed(&machine, name);
    }
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 2);
}

/// Without the grant there is nothing to begin with.
#[test]
fn ring_0_is_not_given_unasked() {
    let machine = boot(vec![app("elevated")], 1);
    expect(&machine, "elevated: cannot set up: bad handle");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 1);
}

/// The store answers from ring 0 as it does from ring 3, through ends of stretches while it sleeps.
#[test]
fn the_store_serves_from_ring_0() {
    let mut store = net_app("kvstore", STORE);
    (store.frames, store.elevate) = (8192, Elevate::Deep);
    let machine = Machine::boot(&Config::new(manifest(vec![store]))).expect("the machine starts");
    machine.store(LONG).expect("the store answers");
    let mut worker = Worker::new(machine.store_client().expect("a client"), "w", 300, 7);
    for _ in 0..5 {
        for _ in 0..300 {
            worker.step().expect("the store answers");
        }
        std::thread::sleep(Duration::from_millis(400));
    }
    worker.check_all().expect("the store answers");
    assert!(machine.running());
}
