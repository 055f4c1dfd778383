//! Each application gets its own frames and no others.

use exo_cmd::machine::{GUEST_MAC, Machine};
use exo_cmd::manifest::App;
use machine_tests::frame::{HOST_MAC, ICMP, Ipv4, UDP, Wire, arp, ethernet, ping, udp};
use machine_tests::{ECHO, GATEWAY, THIRD, boot_with_frames, expect, manifest, net_app};

const NARROW: u16 = 4001;
const ASKED: u16 = 4002;

/// A machine with two meters.
fn two_meters() -> Machine {
    let meter = |name: &str, address| {
        let mut app: App = net_app("selftest", address);
        app.name = name.to_owned();
        app.args = vec!["as=meter".to_owned()];
        app
    };
    let machine = boot_with_frames(manifest(vec![meter("one", ECHO), meter("two", THIRD)]));
    expect(&machine, "one: listening");
    expect(&machine, "two: listening");
    machine
}

/// `frame` with `tag` as its last four bytes.
fn tagged(mut frame: Vec<u8>, tag: u32) -> Vec<u8> {
    frame.extend(tag.to_be_bytes());
    frame
}

/// A datagram from the router, its payload ending in `tag`.
fn datagram(to: [u8; 4], port: u16, tag: u32) -> Vec<u8> {
    Ipv4::to(to, UDP, udp(GATEWAY, to, (5000, port), &tag.to_be_bytes())).frame()
}

/// A counter in the last line of counters that a meter printed.
fn counter(line: &str, name: &str) -> u64 {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// Asks the meter `name` for the kernel's counters.
fn counters(machine: &Machine, wire: &Wire<'_>, name: &str, to: [u8; 4], tag: u32) -> String {
    wire.send(&datagram(to, ASKED, tag));
    let question = format!("{name}: wide got 46 bytes, {tag:08x}");
    expect(machine, &question);
    // The answer is the next line of that meter.
    let pattern = format!("{name}: counters ");
    loop {
        let lines = machine.console().lines();
        let after = lines.iter().position(|line| *line == question).expect("it was there");
        if let Some(line) = lines[after..].iter().find(|line| line.starts_with(&pattern)) {
            return line.clone();
        }
        assert!(machine.running(), "the machine ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// What the meter `name` got, as (binding, tag), in order.
fn got(machine: &Machine, name: &str) -> Vec<(String, u32)> {
    let prefix = format!("{name}: ");
    let lines = machine.console().lines();
    let parse = |line: &String| {
        let (binding, rest) = line.strip_prefix(&prefix)?.split_once(" got ")?;
        let tag = u32::from_str_radix(rest.split_once(", ")?.1, 16).ok()?;
        Some((binding.to_owned(), tag))
    };
    lines.iter().filter_map(parse).collect()
}

#[test]
fn each_gets_its_own_and_no_others() {
    let machine = two_meters();
    let wire = Wire::of(&machine);
    let before = counters(&machine, &wire, "one", ECHO, 0xa0);

    let nobody = [10, 0, 2, 99];
    let mut tag = 0x1000;
    let mut next = || {
        tag += 1;
        tag
    };
    let (mut one, mut two) = (vec![("wide", 0xa0)], Vec::new());
    let mut unclaimed = 0;
    for round in 0..40_u16 {
        for (to, wanted) in [(ECHO, Some(&mut one)), (THIRD, Some(&mut two)), (nobody, None)] {
            let mut frames = Vec::new();
            for (port, binding) in [(4000 + round * 7, "wide"), (NARROW, "narrow")] {
                // The counters are asked for elsewhere, and so is the end.
                let port = if matches!(port, 4001..=4003) && binding == "wide" { 99 } else { port };
                let tag = next();
                frames.push((datagram(to, port, tag), binding, tag));
            }
            let tag = next();
            frames.push((ping(to, round, &tag.to_be_bytes()).frame(), "wide", tag));
            let tag = next();
            let asked = arp(1, (HOST_MAC, GATEWAY), ([0; 6], to));
            frames.push((tagged(asked, tag), "wide", tag));
            let tag = next();
            let tcp = Ipv4::to(to, 6, [&[0; 28][..], &tag.to_be_bytes()].concat());
            frames.push((tcp.frame(), "wide", tag));
            // The narrow binding's port, but of another protocol.
            let tag = next();
            let like_udp = udp(GATEWAY, to, (5000, NARROW), &tag.to_be_bytes());
            frames.push((Ipv4::to(to, 136, like_udp).frame(), "wide", tag));
            for (frame, _, _) in &frames {
                wire.send(frame);
            }
            match wanted {
                Some(wanted) => {
                    wanted.extend(frames.iter().map(|(_, binding, tag)| (*binding, *tag)));
                }
                None => unclaimed += frames.len() as u64,
            }
        }
        // Things that no filter speaks of.
        let tag = next();
        for (ethertype, to) in [(0x86dd, GUEST_MAC), (0x88b5, GUEST_MAC), (0x8100, [0xff; 6])] {
            wire.send(&tagged(ethernet(to, HOST_MAC, ethertype, &[round as u8; 46]), tag));
            unclaimed += 1;
        }
        // A fence every round, so that no ring runs over.
        for (name, to, wanted) in [("one", ECHO, &mut one), ("two", THIRD, &mut two)] {
            let tag = next();
            counters(&machine, &wire, name, to, tag);
            wanted.push(("wide", tag));
        }
    }
    let after = counters(&machine, &wire, "one", ECHO, 0xa1);
    one.push(("wide", 0xa1));

    // Between two bindings of one environment the order is its own affair.
    for (name, wanted) in [("one", one), ("two", two)] {
        for binding in ["wide", "narrow"] {
            let of = |frames: Vec<(String, u32)>| -> Vec<u32> {
                frames.into_iter().filter(|frame| frame.0 == binding).map(|frame| frame.1).collect()
            };
            let wanted =
                wanted.iter().map(|(binding, tag)| ((*binding).to_owned(), *tag)).collect();
            assert_eq!(of(got(&machine, name)), of(wanted), "{binding} of {name}");
        }
    }
    let difference = |name| counter(&after, name) - counter(&before, name);
    assert_eq!(difference("unclaimed"), unclaimed, "{before}\n{after}");
    assert_eq!(difference("overflowed"), 0, "{before}\n{after}");
}

/// Fragments and options: the narrow filter, which is for ports, must not see them;
/// who wants everything to an address gets them.
#[test]
fn what_hides_ports_is_not_matched_by_port() {
    let machine = two_meters();
    let wire = Wire::of(&machine);
    let packet =
        |tag: u32| Ipv4::to(THIRD, UDP, udp(GATEWAY, THIRD, (5000, NARROW), &tag.to_be_bytes()));
    let first = Ipv4 { fragment: 0x2000, ..packet(1) };
    let later = Ipv4 { fragment: 0x0001, ..packet(2) };
    let whole = Ipv4 { fragment: 0x4000, ..packet(3) };
    let options = Ipv4 { options: vec![1; 4], ..packet(4) };
    // The options push the ports to where others would look for the payload.
    let inside =
        Ipv4 { options: vec![1, 1, NARROW.to_be_bytes()[0], NARROW.to_be_bytes()[1]], ..packet(5) };
    let icmp = Ipv4 { protocol: ICMP, ..packet(6) };
    for packet in [first, later, whole, options, inside, icmp] {
        wire.send(&packet.frame());
    }
    counters(&machine, &wire, "two", THIRD, 7);
    let mut seen = got(&machine, "two");
    seen.sort_by_key(|frame| frame.1);
    let wanted = ["wide", "wide", "narrow", "wide", "wide", "wide", "wide"];
    let wanted: Vec<_> =
        wanted.iter().zip(1..).map(|(binding, tag)| ((*binding).to_owned(), tag)).collect();
    assert_eq!(seen, wanted);
    assert_eq!(got(&machine, "one"), []);
}

/// Frames shorter than headers and longer than allowed, and every beginning of a frame.
#[test]
fn strange_lengths_harm_nobody() {
    let machine = two_meters();
    let wire = Wire::of(&machine);
    let whole = datagram(THIRD, 4000, 0xdead_beef);
    for length in 1..whole.len() {
        wire.send(&whole[..length]);
    }
    for length in [1500_usize, 1514, 1515, 1516, 1600, 2036, 2037, 2048, 4096, 9000, 65000] {
        let mut frame = datagram(THIRD, 4000, 0);
        frame.resize(length, 0x5a);
        wire.send(&frame);
    }
    counters(&machine, &wire, "two", THIRD, 9);
    counters(&machine, &wire, "one", ECHO, 9);
    for line in machine.console().lines() {
        let length = line.split_once(" got ").and_then(|(_, rest)| rest.split_once(' '));
        let length = length.and_then(|(length, _)| length.parse::<usize>().ok());
        assert!(length.is_none_or(|length| length <= 1514), "{line}");
    }
    assert_eq!(got(&machine, "one").len(), 1);
}
