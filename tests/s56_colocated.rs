//! Clients on the same machine call the store, while the network is served, and whatever becomes
//! of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use exo_cmd::machine::{Config, Machine, Network};
use exo_cmd::manifest::{App, Manifest, Share};
use machine_tests::model::Worker;
use machine_tests::{LONG, STORE, app, assert_no_leak, expect, expect_times, manifest, net_app};

/// The tree's own manifest, with so few operations that it is a test.
fn load(operations: u32) -> Manifest {
    let mut manifest = Config::named("colocated").expect("a manifest").manifest;
    for app in manifest.apps.iter_mut().filter(|app| app.image == "ycsb") {
        app.args.push(format!("operations={operations}"));
        app.args.push("records=500".into());
    }
    manifest
}

/// A store, and one other application that shares a window with it.
fn store_and(other: App) -> Manifest {
    let mut store = net_app("kvstore", STORE);
    (store.frames, store.slots) = (8192, 8);
    let pair = vec![store.name.clone(), other.name.clone()];
    let mut manifest = manifest(vec![store, other]);
    manifest.shares = vec![Share { name: "window".into(), pages: 4, apps: pair }];
    manifest
}

fn value_of(line: &str, what: &str) -> u64 {
    let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| *word == what).expect(what);
    words[at - 1].parse().expect(what)
}

/// Works with the store over the network, checking every answer, until a line begins with `line`.
/// Returns how many requests that were.
fn work_until(machine: &Machine, line: &str) -> u64 {
    machine.store(LONG).expect("the store answers");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut worker = Worker::new(machine.store_client().expect("a client"), "w", 300, 7);
            while !over.load(Ordering::Relaxed) {
                worker.step().expect("the store answers");
            }
            worker.check_all().expect("the store answers");
            worker.requests
        });
        let done = machine.wait_for_line(line, LONG);
        over.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|_| panic!("no line \"{line}\""));
        worker.join().expect("a worker")
    })
}

/// One, two and four clients in all mixes, and a client of the network at the same time: every
/// value is checked, on either way.
#[test]
fn clients_load_the_store_while_the_network_does() {
    let machine = Machine::boot(&Config::new(load(600))).expect("the machine starts");
    let requests = work_until(&machine, "ycsb: done");
    println!("{requests} requests over the network meanwhile");
    assert!(requests > 100, "{requests}");
    let lines = machine.console().lines();
    let lines: Vec<_> = lines.iter().filter(|line| line.starts_with("ycsb: mix ")).collect();
    assert_eq!(lines.len(), 18, "six mixes, three crowds");
    for line in lines {
        assert_eq!(value_of(line, "wrong"), 0, "{line}");
        assert_eq!(value_of(line, "missing"), 0, "{line}");
        assert!(value_of(line, "done") > 0, "{line}");
    }
    for client in ["ycsb", "ycsb-1", "ycsb-2", "ycsb-3"] {
        expect(&machine, &format!("root: {client} ended: exit code 0"));
    }
    expect_times(&machine, "root: leak check", 4);
    assert_no_leak(&machine, 4);
    assert!(machine.running());
}

/// The same on two processors, clients and store on different ones.
#[test]
fn clients_call_from_another_processor() {
    let mut manifest = load(300);
    for app in &mut manifest.apps {
        app.core = Some(u8::from(app.image == "ycsb"));
    }
    let mut config = Config::new(manifest);
    config.cpus = 2;
    let machine = Machine::boot(&config).expect("the machine starts");
    work_until(&machine, "ycsb: done");
    let lines = machine.console().lines();
    let wrong = lines
        .iter()
        .filter(|line| line.starts_with("ycsb: mix "))
        .map(|line| value_of(line, "wrong") + value_of(line, "missing"));
    assert_eq!(wrong.sum::<u64>(), 0);
}

/// Clients that call with anything, and clients that are killed at every few instructions of a
/// call, counted: the store serves on, and has no item by half.
#[test]
fn a_store_outlives_its_clients() {
    let mut attacker = app("attacker");
    attacker.name = "attack".into();
    attacker.slots = 48;
    attacker.args = vec!["only=clients".into(), "rounds=300".into()];
    let mut config = Config::new(store_and(attacker));
    (config.icount, config.network) = (true, Network::Frames);
    let machine = Machine::boot(&config).expect("the machine starts");
    let done = expect(&machine, "attack: done, ");
    assert!(done.ends_with(" 0 breaches"), "{done}");
    expect(&machine, "root: attack ended: exit code 0");
    expect(&machine, "root: leak check");
    assert_no_leak(&machine, 1);
    assert!(machine.running());
    let lines = machine.console().lines();
    let killed = lines.iter().find(|line| line.contains("died in a call")).expect("the line");
    let within = killed.split("nothing; ").nth(1).and_then(|rest| rest.split(' ').next());
    let within: u32 = within.and_then(|number| number.parse().ok()).expect("a number");
    assert!(within > 100, "hardly one was killed in a call: {killed}");
}

/// The same by the gate: clients that come in forged ways and with anything, and clients that are
/// killed, or lose their time, at every twentieth instruction of a visit.
#[test]
fn a_store_outlives_its_visitors() {
    outlive_visitors(20, 55);
}

/// At every single one: some minutes.
#[test]
#[ignore = "long"]
fn a_store_outlives_a_visitor_killed_at_any_instruction() {
    outlive_visitors(1, 1100);
}

/// With a client killed in each of `rounds`, `step` instructions later each time.
fn outlive_visitors(step: u32, rounds: u32) {
    let mut attacker = app("attacker");
    attacker.name = "attack".into();
    attacker.slots = 48;
    attacker.args = vec!["only=gates".into(), format!("rounds={rounds}"), format!("step={step}")];
    let mut manifest = store_and(attacker);
    let store = &mut manifest.apps[0];
    store.grants.keys = true;
    store.args = vec!["memory-mib=2".into()];
    let mut config = Config::new(manifest);
    (config.icount, config.network) = (true, Network::Frames);
    let machine = Machine::boot(&config).expect("the machine starts");
    let done = expect(&machine, "attack: done, ");
    let lines = machine.console().lines();
    let report = lines.join("\n");
    println!("{report}");
    assert!(done.ends_with(" 0 breaches"), "{report}");
    assert!(!report.contains("no gate") && !report.contains("all items are gone"), "{report}");
    expect(&machine, "root: attack ended: exit code 0");
    expect(&machine, "root: leak check");
    assert_no_leak(&machine, 1);
    assert!(machine.running());
    for (what, least) in [("died in a visit", rounds / 2), ("were in a visit", 10)] {
        let line = lines.iter().find(|line| line.contains(what)).expect("the line");
        let within = line.split("nothing; ").nth(1).and_then(|rest| rest.split(' ').next());
        let within: u32 = within.and_then(|number| number.parse().ok()).expect("a number");
        assert!(within >= least, "hardly one {what}: {line}");
    }
}

/// A client on another processor writes over its requests while the store reads them.
#[test]
fn a_window_changes_while_it_is_read() {
    let mut attacker = app("attacker");
    attacker.name = "attack".into();
    attacker.args = vec!["as=scribbler".into()];
    let mut manifest = store_and(attacker);
    for (core, app) in (0..).zip(&mut manifest.apps) {
        app.core = Some(core);
    }
    let mut config = Config::new(manifest);
    config.cpus = 2;
    let machine = Machine::boot(&config).expect("the machine starts");
    work_until(&machine, "root: attack ended");
    expect(&machine, "attack: 2000 requests were changed while they were carried out");
    expect(&machine, "root: attack ended: exit code 0");
}

/// The code in the book is the code that ran.
#[test]
fn the_worked_example_is_the_one_that_runs() {
    let code = include_str!("../apps/ycsb/src/example.rs");
    let book = include_str!("../docs/colocated.md");
    assert!(book.contains(code), "docs/colocated.md is not apps/ycsb/src/example.rs");
    assert!(code.lines().count() < 60);

    let mut client = app("ycsb");
    client.args = vec!["as=example".into()];
    let mut manifest = store_and(client);
    manifest.shares[0].name = "window-0".into();
    let machine = Machine::boot(&Config::new(manifest)).expect("the machine starts");
    for line in ["greeting: hello", "0: good evening", "1: 10", "2: not there"] {
        expect(&machine, &format!("ycsb: {line}"));
    }
    expect(&machine, "root: ycsb ended: exit code 0");
    let mut network = machine.store(LONG).expect("the store answers");
    let visits = network.get(b"visits").expect("an answer").expect("what the client stored");
    assert_eq!(visits.value, b"10");
}
