//! What the library OS makes of upcalls and frames: preemptive threads, pagers, chosen
//! frames, under real timer ticks and page faults.

use exo_cmd::machine::{Config, Machine, Network};
use exo_cmd::manifest::App;
use machine_tests::{app, assert_no_leak, boot, expect, manifest};

/// Waits until `name` has made its checks and ended well.
#[track_caller]
fn passed(machine: &Machine, name: &str) {
    let done = expect(machine, &format!("{name}: done, "));
    assert!(done.ends_with(" checks, 0 failed"), "{done}");
    expect(machine, &format!("root: {name} ended: exit code 0"));
}

#[track_caller]
fn all_ran(machine: &Machine, name: &str) {
    let lines = machine.console().lines();
    let ok = lines.iter().filter(|line| line.contains(name) && line.ends_with(": ok")).count();
    assert!(ok > 20, "only {ok} checks of {name} ran");
}

fn named(name: &str, slots: u8) -> App {
    let mut app = app("libostest");
    app.name = name.to_owned();
    app.slots = slots;
    app
}

#[test]
fn threads_pagers_and_frames() {
    let machine = boot(manifest(vec![app("libostest")]));
    passed(&machine, "libostest");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 1);
    all_ran(&machine, "libostest");
}

/// With a single slot, one slice follows another without anybody in between.
#[test]
fn with_a_single_slot() {
    let machine = boot(manifest(vec![named("one", 1)]));
    passed(&machine, "one");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 1);
    all_ran(&machine, "one");
}

/// Two applications that preempt their threads are preempted for each other, while a
/// third tries out everything else.
#[test]
fn beside_others() {
    let mut apps = vec![named("first", 8), named("second", 4)];
    for app in &mut apps {
        app.args = vec!["beside=others".into()];
    }
    apps.push(app("selftest"));
    let machine = boot(manifest(apps));
    for name in ["first", "second", "selftest"] {
        passed(&machine, name);
    }
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 3);
}

/// Where the clock counts instructions, the timer strikes elsewhere.
#[test]
fn when_instructions_are_the_clock() {
    let mut config = Config::new(manifest(vec![app("libostest")]));
    config.icount = true;
    config.network = Network::Frames;
    let machine = Machine::boot(&config).expect("the machine starts");
    passed(&machine, "libostest");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 1);
}

/// An exception that no handler serves ends the application, and the report is about
/// the thread that caused it.
#[test]
fn what_nobody_serves_ends_the_application() {
    let mut crash = named("crash", 8);
    crash.args = vec!["as=crash".into()];
    let machine = boot(manifest(vec![crash]));
    expect(&machine, "root: crash ended: invalid opcode at ");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 1);
}
