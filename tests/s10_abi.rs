//! Every system call does what its description says, seen from ring 3.

use exo_cmd::machine::{Config, Machine, Network};
use machine_tests::{THIRD, app, assert_no_leak, boot, expect, manifest, net_app};

/// The end of a run, and how many checks there were.
#[track_caller]
fn passed(machine: &Machine) -> usize {
    let done = expect(machine, "selftest: done, ");
    expect(machine, "root: selftest ended: exit code 0");
    expect(machine, "root: leak check");
    assert_no_leak(machine, 1);
    assert!(done.ends_with(" checks, 0 failed"), "{done}");
    let lines = machine.console().lines();
    let ok = lines.iter().filter(|line| line.ends_with(": ok")).count();
    assert!(done.contains(&format!("done, {ok} checks")), "{done}, but {ok} are ok");
    ok
}

#[test]
fn the_contract_holds() {
    let machine = boot(manifest(vec![app("selftest")]));
    assert!(passed(&machine) > 50, "some checks did not run");
}

#[test]
fn the_contract_holds_with_a_network() {
    let machine = boot(manifest(vec![net_app("selftest", THIRD)]));
    assert!(passed(&machine) > 50, "some checks did not run");
}

/// Two at once: each is another environment to the other.
#[test]
fn the_contract_holds_for_two_at_once() {
    let mut second = net_app("selftest", machine_tests::ECHO);
    second.name = "second".into();
    let machine = boot(manifest(vec![net_app("selftest", THIRD), second]));
    for name in ["selftest", "second"] {
        let done = expect(&machine, &format!("{name}: done, "));
        assert!(done.ends_with(" checks, 0 failed"), "{done}");
        expect(&machine, &format!("root: {name} ended: exit code 0"));
    }
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 2);
}

/// Where the clock counts instructions, the timer strikes elsewhere.
#[test]
fn the_contract_holds_when_instructions_are_the_clock() {
    let mut config = Config::new(manifest(vec![net_app("selftest", THIRD)]));
    config.icount = true;
    config.network = Network::Frames;
    let machine = Machine::boot(&config).expect("the machine starts");
    passed(&machine);
}
