//! Ring 0 is not interrupted, so how long a call keeps it bounds how late everything else is:
//! the time of another environment, the answer of a store, the other processor that waits for
//! the lock. Counted in instructions, which are the clock here.

use std::collections::BTreeMap;

use exo_abi::SYSCALLS;
use exo_cmd::machine::{Config, Machine};
use machine_tests::{app, expect, manifest};

/// No entry takes more.
const MOST: u64 = 100_000;

/// Calls that do not come back, and those of the network, which have lines of their own.
fn has_a_line(name: &str) -> bool {
    !["exit", "machine_exit", "batch"].contains(&name)
        && !name.starts_with("net_")
        && !name.starts_with("filter_")
}

/// Calls that a batch does not make.
fn leaves(name: &str) -> bool {
    name.starts_with("transfer_") || name.starts_with("wait") || name.starts_with("slice_")
}

#[test]
fn no_call_keeps_ring_0_long() {
    let mut program = app("selftest");
    program.args = vec!["as=longest".into()];
    program.frames = 8192;
    let mut config = Config::new(manifest(vec![program]));
    config.icount = true;
    let machine = Machine::boot(&config).expect("the machine starts");
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
    for (name, count) in found {
        assert!(count <= MOST, "{name}: {count} instructions");
    }
}
