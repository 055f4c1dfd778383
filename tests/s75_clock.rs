//! The guest's clock beside the host's: what the store tells in `stats`, by which it also
//! ends what has expired.
//!
//! The host's clock is read before each question and after its answer, so a loaded host
//! makes these tests less sharp, but not wrong.

use std::time::{Duration, Instant};

use exo_cmd::client::Client;
use exo_cmd::machine::{Config, Machine, Network};
use machine_tests::frame::{Wire, datagram};
use machine_tests::{LONG, THIRD, boot, expect, net_app};

fn default_machine() -> Config {
    Config::named("default").expect("boot/manifests/default.toml")
}

/// What `stats` says of time: `uptime` and `time`, in seconds.
fn seconds(store: &mut Client) -> (u64, u64) {
    let stats = store.stats().expect("an answer");
    let number = |wanted: &str| {
        let found = stats.iter().find(|(name, _)| name == wanted);
        found.and_then(|(_, value)| value.parse().ok()).unwrap_or_else(|| panic!("no {wanted}"))
    };
    (number("uptime"), number("time"))
}

/// Waits for the next second of the store's uptime. Returns it, and the host's time not
/// later and not earlier than when it began.
fn next_second(store: &mut Client) -> (u64, Instant, Instant) {
    let (start, _) = seconds(store);
    let mut asked = Instant::now();
    loop {
        let asking = Instant::now();
        let (now, _) = seconds(store);
        if now > start {
            return (now, asked, Instant::now());
        }
        asked = asking;
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_stores_seconds_are_the_hosts() {
    let machine = boot(default_machine().manifest);
    let mut store = machine.store(LONG).expect("the store answers");
    let offset = |store: &mut Client| {
        let (uptime, time) = seconds(store);
        time - uptime
    };
    let before = offset(&mut store);
    let (first, begun_after, begun_before) = next_second(&mut store);
    std::thread::sleep(Duration::from_secs(10));
    let (last, ended_after, ended_before) = next_second(&mut store);
    let passed = (last - first) as f64;
    let (least, most) =
        ((ended_after - begun_before).as_secs_f64(), (ended_before - begun_after).as_secs_f64());
    println!("{passed} s of the store were {least:.4} to {most:.4} s of the host");
    assert!(
        least * 0.999 <= passed && passed <= most * 1.001,
        "{passed} s of the store in {least:.4} to {most:.4} s of the host"
    );
    assert_eq!(offset(&mut store), before, "`time` and `uptime` go at different rates");
}

/// Asks the meter how fast the counter runs; `length` marks the question.
fn rate(machine: &Machine, wire: &Wire<'_>, length: usize) -> u64 {
    const ASKED: u16 = 4002;
    wire.send(&datagram(5000, THIRD, ASKED, &vec![0; length]));
    let asked = format!("meter: wide got {} bytes", 42 + length);
    expect(machine, &asked);
    loop {
        let lines = machine.console().lines();
        let after = lines.iter().position(|line| line.starts_with(&asked)).expect("it was there");
        let words = lines[after..].iter().flat_map(|line| line.split_whitespace());
        let mut rates = words.filter_map(|word| word.strip_prefix("tsc_hz=")?.parse().ok());
        if let Some(rate) = rates.next() {
            return rate;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where instructions are time, nothing is lost between the two readings.
#[test]
fn where_instructions_are_time_the_rate_is_exact() {
    let mut meter = net_app("selftest", THIRD);
    meter.name = "meter".into();
    meter.args = vec!["as=meter".into()];
    let mut config = default_machine();
    config.manifest.apps.push(meter);
    config.network = Network::Frames;
    config.icount = true;
    let machine = Machine::boot(&config).expect("the machine starts");
    let wire = Wire::of(&machine);
    expect(&machine, "meter: listening");
    for length in [18, 19, 20] {
        assert_eq!(rate(&machine, &wire, length), 1_000_000_000);
        // It sleeps, and measures again meanwhile.
        std::thread::sleep(Duration::from_millis(300));
    }
}
