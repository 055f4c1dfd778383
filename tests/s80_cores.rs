//! The same on two processors: the contract, the attacks, the store.

use std::time::Duration;

use exo_cmd::machine::{Config, Machine};
use exo_cmd::manifest::{App, Manifest};
use machine_tests::model::Worker;
use machine_tests::{
    ECHO, LONG, STORE, THIRD, app, assert_no_leak, expect, expect_times, manifest, net_app,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A machine with two processors and user-mode networking.
fn boot(manifest: Manifest) -> Machine {
    let mut config = Config::new(manifest);
    config.cpus = 2;
    let machine = Machine::boot(&config).expect("the machine starts");
    expect(&machine, "exo: 2 processors");
    machine
}

/// The application with that name on processor `core`.
fn on(core: u8, mut app: App, name: &str) -> App {
    app.name = name.to_owned();
    app.core = Some(core);
    app
}

#[test]
fn the_contract_holds_on_two_processors() {
    let apps = [(0, "one"), (1, "two")].map(|(core, name)| on(core, app("selftest"), name));
    let machine = boot(manifest(apps.into()));
    for name in ["one", "two"] {
        expect(&machine, &format!("root: {name} ended: exit code 0"));
    }
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 2);
}

/// Never more than one of the two runs: the host has a single processor for them, as on a busy
/// one. A processor that waits for the lock is then often away when it could have it, and the
/// other may not wait for that at each of the thousands of calls of a boot.
#[test]
fn two_processors_boot_on_one_of_the_host() {
    let allowed = sched_getaffinity(None).expect("the thread's processors");
    let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).expect("one is allowed");
    let mut one = CpuSet::new();
    one.set(first);
    // QEMU inherits it.
    sched_setaffinity(None, &one).expect("a processor that was allowed");
    let machine = boot(manifest(vec![net_app("kvstore", STORE), on(1, app("selftest"), "other")]));
    sched_setaffinity(None, &allowed).expect("as before");
    // It takes less than one, alone.
    machine.store(Duration::from_secs(60)).expect("the store answers");
    expect(&machine, "root: other ended: exit code 0");
}

/// An attacker on each processor at once, against each other and the store, which runs
/// on either.
#[test]
fn attacks_are_repelled_on_two_processors() {
    let mut store = net_app("kvstore", STORE);
    store.frames = 8192;
    let mut first = on(0, net_app("attacker", THIRD), "first");
    let mut second = on(1, net_app("attacker", ECHO), "second");
    // Those that have to do with memory, authority and time: the others take long.
    first.args = vec!["only=mappings+handles+environments+transfers+batches+time".into()];
    second.args = vec!["only=frames+handles+environments+upcalls+doorbells+noise".into()];
    let machine = boot(manifest(vec![store, first, second]));
    machine.store(LONG).expect("the store answers");
    let mut worker = Worker::new(machine.store_client().expect("a client"), "w", 300, 7);
    for _ in 0..6000 {
        worker.step().expect("the store answers");
    }
    worker.check_all().expect("the store answers");
    for name in ["first", "second"] {
        let done = expect(&machine, &format!("{name}: done, "));
        assert!(done.ends_with(", 0 not tried, 0 breaches"), "{done}");
        expect(&machine, &format!("root: {name} ended: exit code 0"));
    }
    expect_times(&machine, "root: leak check", 2);
    assert_no_leak(&machine, 2);
    assert!(machine.running());
}

/// One attacker with slots on both processors races its children on the other.
#[test]
fn processors_do_not_race_each_other() {
    let mut attacker = net_app("attacker", THIRD);
    attacker.args = vec!["only=predicates+repossession+large+cores+exceptions".into()];
    let machine = boot(manifest(vec![attacker]));
    let done = expect(&machine, "attacker: done, ");
    assert!(done.ends_with(", 0 not tried, 0 breaches"), "{done}");
    expect(&machine, "root: attacker ended: exit code 0");
    expect(&machine, "root: leak check");
    assert_no_leak(&machine, 1);
}

/// What is measured in rounds of one slice vector is not tried with slots of two.
#[test]
fn what_two_processors_make_meaningless_is_not_tried() {
    let mut attacker = net_app("attacker", THIRD);
    attacker.args = vec!["only=upcalls".into()];
    let machine = boot(manifest(vec![attacker]));
    let done = expect(&machine, "attacker: done, ");
    assert!(done.ends_with(", 7 not tried, 0 breaches"), "{done}");
    let pays = expect(&machine, "have a victim pay, by giving it ends of slices: ");
    assert!(pays.ends_with("not tried: its slots are on several processors"), "{pays}");
    expect(&machine, "root: attacker ended: exit code 0");
}
