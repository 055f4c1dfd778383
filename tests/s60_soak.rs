//! Many mixed requests, every answer checked against a model.

use std::thread;

use exo_cmd::machine::{Config, Machine};
use machine_tests::model::Worker;
use machine_tests::{
    ECHO, LONG, STORE, THIRD, app, assert_no_leak, boot, expect, expect_times, manifest, net_app,
};

/// Requests of each of the workers.
const REQUESTS: u64 = 12_000;

/// Three clients at once; some keys are few and hot, some many and cold.
fn soak(machine: &Machine) {
    machine.store(LONG).expect("the store answers");
    thread::scope(|scope| {
        for (worker, keys) in [20, 1000, 6000].into_iter().enumerate() {
            scope.spawn(move || {
                let client = machine.store_client().expect("a client");
                let mut worker = Worker::new(client, &format!("w{worker}-"), keys, worker as u64);
                for _ in 0..REQUESTS {
                    worker.step().expect("the store answers");
                }
                worker.check_all().expect("the store answers");
                println!("{} requests, {} unanswered", worker.requests, worker.unanswered);
            });
        }
    });
}

#[test]
fn every_answer_is_right_for_long() {
    let machine = boot(Config::named("default").expect("boot/manifests/default.toml").manifest);
    soak(&machine);
    assert!(machine.running());
}

/// The same beside neighbours that come and go and work the kernel hard; every frame
/// they had comes back.
#[test]
fn every_answer_is_right_beside_busy_neighbours() {
    let mut store = net_app("kvstore", STORE);
    store.frames = 8192;
    let mut attacker = net_app("attacker", THIRD);
    attacker.name = "attack".into();
    let mut second = net_app("selftest", ECHO);
    second.name = "second".into();
    let machine = boot(manifest(vec![store, attacker, app("selftest"), second]));
    soak(&machine);
    for name in ["attack", "selftest", "second"] {
        expect(&machine, &format!("root: {name} ended: exit code 0"));
    }
    // Root's last words on the three come after its report.
    expect_times(&machine, "root: leak check", 3);
    assert_no_leak(&machine, 3);
    assert!(machine.running());
}
