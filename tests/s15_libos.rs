//! What the library OS makes of upcalls and frames: preemptive threads, pagers, chosen
//! frames, under real timer ticks and page faults.

use std::time::{Duration, Instant};

use exo_cmd::machine::{Config, Machine, Network};
use exo_cmd::manifest::App;
use machine_tests::frame::{Wire, datagram};
use machine_tests::{
    LONG, THIRD, app, assert_no_leak, boot, boot_with_frames, expect, manifest, net_app,
};

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

/// An application makes children of an image of the bundle, and their frames and slots come back.
#[test]
fn children_from_an_image() {
    let mut maker = app("libostest");
    maker.images = vec!["libostest".into()];
    maker.args = vec!["as=maker".into()];
    let machine = boot(manifest(vec![maker]));
    expect(&machine, "a child: the sum is 500500");
    expect(&machine, "libostest: children: done");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 1);
}

/// With a single slot, one slice follows another without another environment in between.
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

/// A stack that is used up is called that, a thread's by the library OS, and the one that
/// every application begins on by root.
#[test]
fn a_stack_overflow_is_called_so() {
    let mut thread = named("thread", 8);
    thread.args = vec!["as=overflow".into()];
    let mut first = named("first", 8);
    first.args = vec!["as=overflow-first".into()];
    let machine = boot(manifest(vec![thread, first]));
    expect(&machine, "thread: stack overflow: thread 1 has used its ");
    expect(&machine, "root: thread ended: page fault writing ");
    expect(&machine, "root: first ended: stack overflow at ");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 2);
}

/// A panic in a thread tells how it came there, from the thread's own stack.
#[test]
fn a_thread_that_panics_says_where() {
    let mut panics = named("panics", 8);
    panics.args = vec!["as=panic".into()];
    let machine = boot(manifest(vec![panics]));
    expect(&machine, "panics: panic: as asked (");
    let backtrace = expect(&machine, "panics: backtrace: panics 0x");
    assert!(backtrace.matches(" 0x").count() >= 3, "{backtrace}");
    expect(&machine, "root: panics ended: exit code 101");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 1);
}

/// One thread serves while another of the same application computes and never gives way:
/// all requests are answered, and meanwhile the computation goes on.
#[track_caller]
fn serves_and_computes(policy: &str) {
    let mut app = net_app("libostest", THIRD);
    app.name = "server".into();
    app.args = vec!["as=server".into(), format!("policy={policy}")];
    let machine = boot_with_frames(manifest(vec![app]));
    expect(&machine, "server: serving 10.0.2.17:4003");
    let wire = Wire::of(&machine);
    let ask = |request: &[u8]| {
        let answer = wire.exchange(5000, THIRD, 4003, request);
        let [progress, halts] = answer.as_chunks().0 else { panic!("{answer:?}") };
        (u64::from_le_bytes(*progress), u64::from_le_bytes(*halts))
    };
    let (first, halts) = ask(b"how far");
    let progress = |request: &[u8], last: u64| {
        let (progress, halts_now) = ask(request);
        assert!(progress >= last, "{progress} after {last}");
        // There is always something to compute, whichever thread parks.
        assert_eq!(halts_now, halts, "the machine slept");
        progress
    };
    let mut last = (0..50).fold(first, |last, _| progress(b"how far", last));
    if policy == "round-robin" {
        for _ in 0..10 {
            let before = last;
            last = progress(b"busy", before);
            assert!(last > before);
        }
    }
    // With deadlines, the thread that serves goes first for as long as there are requests, and on a
    // busy host there may always have been one. So leave it alone until the other has run.
    let asked = Instant::now();
    while last == first {
        assert!(asked.elapsed() < LONG, "what computes stands still");
        std::thread::sleep(Duration::from_millis(1));
        last = progress(b"how far", last);
    }
    wire.send(&datagram(5000, THIRD, 4003, b"end"));
    expect(&machine, "root: server ended: exit code 0");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 1);
}

#[test]
fn threads_that_serve_and_compute_take_turns() {
    serves_and_computes("round-robin");
}

#[test]
fn a_thread_that_serves_goes_before_one_that_computes() {
    serves_and_computes("deadline");
}
