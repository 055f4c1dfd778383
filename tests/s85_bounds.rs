//! Ring 0 is not interrupted, so how long a call keeps it bounds how late everything else is:
//! the time of another environment, the answer of a store, the other processor that waits for
//! the lock. Counted in instructions, which are the clock here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use exo_abi::SYSCALLS;
use exo_cmd::disk::Place;
use exo_cmd::machine::{Config, Machine, Network};
use exo_cmd::manifest::{DiskShare, Elevate};
use machine_tests::frame::{Wire, datagram};
use machine_tests::{LONG, STORE, expect, manifest, net_app};

/// No entry takes more.
const MOST: u64 = 100_000;

/// All but those that do not come back.
fn has_a_line(name: &str) -> bool {
    !["exit", "machine_exit", "batch"].contains(&name)
}

/// Calls that a batch does not make.
fn leaves(name: &str) -> bool {
    let begins = ["transfer_", "wait", "net_wait", "slice_", "elevate", "lower"];
    begins.iter().any(|begin| name.starts_with(begin))
}

/// Sends the longest packets there are to the two bindings by turns, in runs, since what comes
/// one by one is handled one by one.
fn send_until_done(machine: &Machine) {
    let wire = Wire::of(machine);
    let done = || machine.console().lines().iter().any(|line| line.contains("longest receive "));
    let started = Instant::now();
    while !done() {
        assert!(machine.running() && started.elapsed() < LONG, "not all packets were received");
        for number in 0..200 {
            let port = if number % 8 == 7 { 4002 } else { 4001 };
            // It ends when it has had enough, be it in the middle of a run.
            if !wire.offer(&datagram(5000, STORE, port, &[0; 1472])) {
                return;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn no_call_keeps_ring_0_long() {
    let mut program = net_app("selftest", STORE);
    program.args = vec!["as=longest".into()];
    program.frames = 8192;
    program.elevate = Elevate::Serve;
    program.disk = Some(DiskShare { name: "longest".into(), sectors: 1024 });
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Place { path: directory.path().join("disk"), sectors: Some(2048) };
    let mut config = Config::new(manifest(vec![program]));
    config.icount = true;
    config.disk = Some(disk);
    config.network = Network::Frames;
    let machine = Machine::boot(&config).expect("the machine starts");
    expect(&machine, "longest: listening");
    send_until_done(&machine);
    expect(&machine, "root: selftest ended: exit code 0");
    let lines = machine.console().lines();
    let found: BTreeMap<&str, u64> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("selftest: longest ")?.rsplit_once(' '))
        .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
        .collect();
    for (name, count) in &found {
        println!("{count:7} {name}");
    }
    for name in SYSCALLS.iter().map(|entry| entry.name).filter(|name| has_a_line(name)) {
        assert!(found.contains_key(name), "{name} was not measured");
        let batch = format!("batch of {name}");
        assert!(leaves(name) || found.contains_key(batch.as_str()), "no {batch} was measured");
    }
    // A packet that tries all ways is thousands.
    assert!(found.get("receive").is_some_and(|&count| count > 3_000), "no such packet came");
    for (name, count) in found {
        assert!(count <= MOST, "{name}: {count} instructions");
    }
}
