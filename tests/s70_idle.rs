//! An idle machine sleeps: shown by what it does not do while no client asks it anything,
//! however long that is.

use std::fs;
use std::time::Duration;

use exo_cmd::machine::{Config, Machine, Network};
use machine_tests::frame::{Wire, datagram};
use machine_tests::{THIRD, expect, net_app, wait_until};

const ASKED: u16 = 4002;

/// Asks the meter for the kernel's counters; `length` marks the question.
fn counters(machine: &Machine, wire: &Wire<'_>, length: usize) -> String {
    wire.send(&datagram(5000, THIRD, ASKED, &vec![0; length]));
    let asked = format!("meter: wide got {} bytes", 42 + length);
    expect(machine, &asked);
    wait_until("no counters", || {
        let lines = machine.console().lines();
        let after = lines.iter().position(|line| line.starts_with(&asked)).expect("it was there");
        lines[after..].iter().find(|line| line.contains(": counters ")).cloned()
    })
}

fn counter(line: &str, name: &str) -> u64 {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// Clock ticks of processor time that a process has used (proc(5), fields 14 and 15).
fn processor_time(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

#[test]
fn an_idle_machine_sleeps() {
    let mut meter = net_app("selftest", THIRD);
    meter.name = "meter".into();
    meter.args = vec!["as=meter".into()];
    let mut config = Config::named("default").expect("boot/manifests/default.toml");
    config.manifest.apps.push(meter);
    config.network = Network::Frames;
    let file = std::env::temp_dir().join(format!("exo-idle-{}", std::process::id()));
    config.extra = vec!["-pidfile".into(), file.to_str().expect("a path").into()];
    let machine = Machine::boot(&config).expect("the machine starts");
    let wire = Wire::of(&machine);
    for line in ["kvstore: serving", "echo: serving", "meter: listening"] {
        expect(&machine, line);
    }
    let pid = fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
    // Nothing more to do with it.
    let _ = fs::remove_file(&file);

    let first = counters(&machine, &wire, 18);
    let before = processor_time(&pid);
    assert!(before > 0, "process {pid} is not QEMU");
    std::thread::sleep(Duration::from_secs(3));
    let used = processor_time(&pid) - before;
    let second = counters(&machine, &wire, 19);
    println!("QEMU used {used} ticks of processor time in 3 seconds of an idle machine");

    let difference = |name| counter(&second, name) - counter(&first, name);
    assert!(difference("halts") >= 1, "it never slept\n{first}\n{second}");
    // Polling would have made thousands. A timer tick or two at the ends, and
    // what the meter needs to answer and print, is all.
    for (name, most) in [("calls", 40), ("traps", 40), ("switches", 40), ("halts", 40)] {
        assert!(difference(name) <= most, "{} {name}\n{first}\n{second}", difference(name));
    }
    assert_eq!(difference("received"), 1, "{first}\n{second}");
}
