//! Each application gets its own frames and no others.

use std::collections::BTreeMap;

use dpf::packet::udp_to;
use dpf::{Atom, Filter, Step};
use exo_cmd::machine::{Config, GUEST_MAC, Machine, Network};
use exo_cmd::manifest::App;
use machine_tests::frame::{self, HOST_MAC, Heard, ICMP, Ipv4, UDP, Wire};
use machine_tests::frame::{arp, ethernet, hear, ping, udp};
use machine_tests::model::Random;
use machine_tests::{ECHO, GATEWAY, LONG, STORE, THIRD};
use machine_tests::{assert_no_leak, boot_with_frames, expect, manifest, net_app};

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

    // The order between two bindings of one environment is up to that environment.
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
/// one that wants everything to an address gets them.
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

const STORE_PORT: u16 = 11211;
const CLIENT: u16 = 5000;
/// Where the stormer listens, and what its siblings claim now and then.
const STORMER: u16 = 4242;
const SIBLINGS: std::ops::Range<u16> = 20_000..20_096;
/// Requests under way at once: far fewer than any ring or queue on their way has room for.
const WINDOW: usize = 24;
/// At least so many requests; and changes of filters between the first and the last, each
/// with frames before the next.
const REQUESTS: usize = 4096;
const CHANGES: u64 = 600;
/// Requests from one look at the storm to the next.
const STRETCH: usize = 128;
/// Bytes of a frame that the kernel copies if it sends it whole, and of a longer one.
const COPIED: (usize, usize) = (500, 128);

/// What one machine was sent between two looks at its counters.
#[derive(Default)]
struct Sent {
    frames: u64,
    requests: u64,
    /// For no filter, and for ports that the stormer claims at some times only.
    unclaimed: u64,
    perhaps: u64,
    /// Questions to the stormer.
    questions: u64,
    /// Bytes that the kernel had to copy for all of them, but for `perhaps`.
    copied: u64,
}

/// A store and a stormer, and the test as the only other host.
struct Storm {
    machine: Machine,
    random: Random,
    sent: Sent,
}

impl Storm {
    /// Boots, and waits for the store to announce itself: no environment says anything
    /// unasked after that.
    fn new(configure: impl FnOnce(&mut Config)) -> Self {
        let mut stormer = net_app("attacker", THIRD);
        stormer.name = "storm".into();
        stormer.args = vec!["as=stormer".into(), "patience=5000".into()];
        let mut store = net_app("kvstore", STORE);
        store.frames = 4096;
        let mut config = Config::new(manifest(vec![store, stormer]));
        config.network = Network::Frames;
        configure(&mut config);
        let machine = Machine::boot(&config).expect("the machine starts");
        expect(&machine, "kvstore: serving ");
        expect(&machine, "storm: storming");
        let storm = Self { machine, random: Random::new(11), sent: Sent::default() };
        assert_eq!(storm.next(), arp(1, (GUEST_MAC, STORE), ([0; 6], STORE)));
        storm
    }

    fn send(&mut self, frame: &[u8]) {
        self.machine.frames().expect("frames").send(frame).expect("QEMU takes the frame");
        self.sent.frames += 1;
    }

    fn next(&self) -> Vec<u8> {
        let frame = self.machine.frames().expect("frames").receive(LONG).expect("QEMU is there");
        frame.expect("nothing was lost")
    }

    /// Asks the stormer what has happened. What was sent before has been received then.
    fn ask(&mut self) -> String {
        self.sent.questions += 1;
        let tag = self.sent.questions as u32;
        let frame = datagram(THIRD, STORMER, tag);
        self.sent.copied += frame.len() as u64;
        self.send(&frame);
        expect(&self.machine, &format!("storm: asked {tag:08x} "))
    }

    /// Sends what the store must not get, and the stormer at times: all of it as long.
    fn send_strangers(&mut self) {
        let sibling = |random: &mut Random| SIBLINGS.start + random.below(96) as u16;
        for _ in 0..4 {
            let port = sibling(&mut self.random);
            self.send(&datagram(THIRD, port, 0));
            self.sent.perhaps += 1;
            let port = sibling(&mut self.random);
            for (to, port) in [(STORE, port), (ECHO, STORE_PORT), (THIRD, STORE_PORT)] {
                self.send(&datagram(to, port, 0));
                self.sent.unclaimed += 1;
            }
        }
    }

    /// Request `number` and the answer to it: what is got has just been set.
    fn request(&mut self, number: usize) -> (Vec<u8>, Vec<u8>) {
        let mut random = Random::new(number as u64 / 2);
        let length = if random.below(8) == 0 { 1300 } else { random.below(200) };
        let value: Vec<u8> = (0..length).map(|_| random.word() as u8).collect();
        let (key, flags) = (random.below(500), random.below(1 << 32));
        let stored = format!("key-{key} {flags} 0 {length}\r\n");
        let found = format!("VALUE key-{key} {flags} {length}\r\n");
        if number.is_multiple_of(2) {
            let text = [b"set ", stored.as_bytes(), &value, b"\r\n"].concat();
            (text, b"STORED\r\n".to_vec())
        } else {
            let answer = [found.as_bytes(), &value, b"\r\nEND\r\n"].concat();
            (format!("get key-{key}\r\n").into_bytes(), answer)
        }
    }

    /// Requests and a storm at once; what there was of both is what there should be.
    fn rage(mut self) {
        let before = self.ask();
        self.sent = Sent { questions: 1, ..Sent::default() };
        let mut under_way = BTreeMap::new();
        let (mut first, mut last) = (None, before.clone());
        loop {
            let met = |line: &String| counter(&last, "met") - counter(line, "met");
            let enough = self.sent.requests as usize >= REQUESTS
                && first.as_ref().is_some_and(|first| met(first) >= CHANGES);
            if enough && under_way.is_empty() {
                break;
            }
            while !enough && under_way.len() < WINDOW {
                let number = self.sent.requests as usize;
                // After the first request and before the last one.
                if number % STRETCH == STRETCH / 2 {
                    self.send_strangers();
                    last = self.ask();
                    first = first.or_else(|| Some(last.clone()));
                }
                let (request, answer) = self.request(number);
                let header = [(number as u16).to_be_bytes(), [0, 0], [0, 1], [0, 0]].concat();
                let frame =
                    frame::datagram(CLIENT, STORE, STORE_PORT, &[&header[..], &request].concat());
                self.send(&frame);
                self.sent.copied += frame.len() as u64;
                self.sent.requests += 1;
                under_way.insert(header.clone(), [header, answer].concat());
            }
            let frame = self.next();
            let whole = frame.len() <= COPIED.0;
            self.sent.copied += if whole { frame.len() } else { COPIED.1 } as u64;
            let Heard::Udp((STORE, STORE_PORT), (GATEWAY, CLIENT), answer) = hear(&frame) else {
                panic!("the store said {frame:02x?}");
            };
            let wanted = under_way.remove(&answer[..8]);
            assert_eq!(Some(answer), wanted, "an answer that is wrong, or to nothing");
        }
        let after = self.ask();
        let Sent { frames, requests, unclaimed, perhaps, questions, copied } = self.sent;
        let since = |name| counter(&after, name) - counter(&before, name);
        let first = first.expect("it was looked at");
        let during = |name| counter(&last, name) - counter(&first, name);
        println!(
            "{requests} requests answered once, {frames} frames in all, while {} filters came or \
             went, {} of them between frames, {} times over the length at which code changes",
            during("changes"),
            during("met"),
            during("crossings")
        );
        assert!(during("met") >= CHANGES && during("crossings") >= CHANGES / 50);
        // The first question was before.
        let taken = since("got") - (questions - 1);
        let each = datagram(THIRD, 0, 0).len() as u64;
        let wanted = [
            ("received", frames),
            ("unclaimed", unclaimed + perhaps - taken),
            ("overflowed", 0),
            ("transmitted", requests),
            ("refused", 0),
            ("strays", 0),
            ("copied", copied + taken * each),
        ];
        for (name, wanted) in wanted {
            assert_eq!(since(name), wanted, "{name}\n{before}\n{after}");
        }
        assert!(taken <= perhaps && self.machine.running());
    }
}

/// Filters come and go on the way of every request to the store, which loses none.
#[test]
fn a_storm_of_filters_loses_nothing() {
    Storm::new(|_| {}).rage();
}

/// The store's processor demultiplexes packets while the other one changes filters.
#[test]
fn a_storm_of_filters_on_another_processor_loses_nothing() {
    let storm = Storm::new(|config| {
        config.cpus = 2;
        let cores = config.manifest.apps.iter_mut().zip(0..);
        cores.for_each(|(app, core)| app.core = Some(core));
    });
    expect(&storm.machine, "exo: 2 processors");
    storm.rage();
}

/// The filters of the storm share the nodes that the store's packets pass: the first in the
/// very group, the others in groups beside it.
#[test]
fn the_storm_is_where_the_packets_pass() {
    let storm = Storm::new(|_| {});
    let lines = storm.machine.console().lines();
    let shapes = lines.iter().filter_map(|line| line.split_once("a shape of the storm: "));
    let shapes: Vec<_> = shapes.map(|(_, hex)| Filter::decode(&bytes(hex)).unwrap()).collect();
    let store: Vec<_> = udp_to(STORE, STORE_PORT).steps().collect();
    let common = |shape: &Filter| {
        let steps = shape.steps().zip(&store);
        steps.take_while(|(step, store)| step == *store).count()
    };
    // Type and version, then fragment and protocol, then address and port.
    assert_eq!(store.len(), 3, "{store:x?}");
    assert_eq!(shapes.iter().map(common).collect::<Vec<_>>(), [2, 2, 2, 0, 0]);
    let field = |step: Step| match step {
        Step::Atom(Atom { offset, width, mask, .. }) => (offset, width, mask),
        Step::Shift(_) => (0, 0, 0),
    };
    let same = shapes.iter().map(|shape| shape.steps().nth(2).map(field) == Some(field(store[2])));
    assert_eq!(same.collect::<Vec<_>>(), [true, false, false, false, false]);
}

/// Bytes from hexadecimal digits.
fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}

/// A refused scope comes with the one in the way.
#[test]
fn a_scope_in_the_way_is_named() {
    let plain = "ip[0] = 0x45 and ip[6:2] & 0x3fff = 0";
    let wanted = [
        format!("{plain} and udp dst port 5000 and ip dst host 10.0.2.17"),
        "ip src host 10.0.2.9 and ip dst host 10.0.2.17".to_owned(),
        "udp dst port 5000 and ip dst host 10.0.2.17".to_owned(),
        format!("{plain} and udp dst port 5001 and ip dst host 10.0.2.17"),
        "ip dst host 10.0.2.18".to_owned(),
    ];
    let mut claimant = net_app("libostest", THIRD);
    claimant.args = vec!["as=claimant".into(), format!("want={}", wanted.join("; "))];
    let machine = boot_with_frames(manifest(vec![claimant]));
    expect(&machine, "root: libostest ended: exit code 0");
    expect(&machine, "root: leak check");
    let line = expect(&machine, "libostest: the neighbour's scope is in frame ");
    let frame = line.rsplit(' ').next().expect("a frame");
    let says = |number: usize, nth: usize| {
        let start = format!("libostest: {number}: ");
        let lines = machine.console().lines();
        let line = lines.iter().filter_map(|line| line.strip_prefix(&start)).nth(nth);
        line.unwrap_or_else(|| panic!("nothing about {number}")).to_owned()
    };
    let named = format!(
        "scope refused: some of its packets are of the scope in frame {frame}, which environment "
    );
    for number in 1..3 {
        assert!(says(number, 0).starts_with(&named), "{}", says(number, 0));
    }
    // Behind a header of any length nothing is at one place.
    assert_eq!(says(3, 0), "scope refused: bad filter");
    assert_eq!(says(4, 0), "made, removed: true", "another port");
    assert_eq!(says(5, 0), "scope refused: no right", "another address");
    for number in [1, 2, 4] {
        assert_eq!(says(number, 1), "made, removed: true", "nothing is in the way");
    }
    assert_no_leak(&machine, 1);
}

/// A GET is at most 2 % dearer beside a neighbour that has as many odd filters and scopes as it
/// may have than beside one that has three filters: while nothing comes for the neighbour, and
/// when a packet comes for it before each request, which tries all of that.
#[test]
fn whatever_a_neighbour_installs_costs_a_get_at_most_2_percent() {
    let manifest = |role: &str| {
        let path = exo_cmd::workspace::manifest("crowded");
        let mut manifest = exo_cmd::manifest::read(&path).expect("a manifest of the tree");
        let neighbour = manifest.apps.iter_mut().find(|app| app.name == "attack").expect("there");
        neighbour.args = vec![format!("as={role}")];
        manifest
    };
    let cost = |role, beside| exo_cmd::get_cost(manifest(role), beside).expect("counted");
    for beside in [None, Some((THIRD, 4242))] {
        let [plain, crowded] = ["sleeper", "hoarder"].map(|role| cost(role, beside));
        for (outstanding, (plain, crowded)) in
            [1, 32].into_iter().zip(plain.into_iter().zip(crowded))
        {
            println!("{outstanding} outstanding, {beside:?}: {plain} and {crowded} instructions");
            assert!(crowded <= plain * 1.02, "{outstanding}: {crowded} instead of {plain}");
        }
    }
}
