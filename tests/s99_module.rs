//! The store as a module of Linux's kernel: the same answers as the library gives, loaded
//! and unloaded under traffic, fed with what no client sends.
//!
//! Everything the guest is made of comes from Debian's archive; where apt cannot give it,
//! these tests say so and show nothing. The guest is booted so that a warning of its kernel
//! ends it, as an oops does: a test that still gets answers has had neither.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use exo_cmd::linux::{Guest, Kernel, READY};
use exo_cmd::machine::{GUEST_MAC, Machine, Network, STORE_PORT};
use exo_cmd::module::{self, NAME, Parameters, Workers};
use kvstore::{Config, MAX_DATAGRAM, Service, Time};
use machine_tests::frame::{
    HOST_MAC, Heard, Ipv4, UDP, Wire, checksum, datagram, ethernet, ping, udp,
};
use machine_tests::model::Random;
use machine_tests::placement::assert_passes_in_one_datagram;
use machine_tests::{GATEWAY, LONG, STORE, expect, needed, stat};

/// Port of the test.
const PORT: u16 = 4000;
/// The seed that the module is given where its evictions are to repeat.
const SEED: u64 = 7;

/// A guest with the module as `/exo_kvstore.ko`, unless there are no packages to make it of.
fn guest(test: &str) -> Option<Guest> {
    let packages = Kernel::of_distribution().and_then(|k| k.headers().map(|_| k));
    let kernel = needed(test, packages)?;
    let module = module::build(&kernel).expect("the module can be built");
    let mut guest = Guest::new(kernel);
    let strict = ["panic_on_warn=1", "oops=panic", "loglevel=5", "ipv6.disable=1"];
    guest.parameters.extend(strict.map(ToOwned::to_owned));
    guest.networked();
    guest.file(&format!("{NAME}.ko"), &module);
    Some(guest)
}

/// Boots it with the test at the other end of its wire.
fn boot(guest: &Guest, cpus: u32) -> Machine {
    let mut config = guest.config();
    config.network = Network::Frames;
    config.cpus = cpus;
    guest.boot(&config).expect("the machine starts")
}

/// A command that inserts the module.
fn insmod(parameters: &str) -> String {
    format!("insmod /{NAME}.ko {parameters}")
}

/// A command that waits until the module's counts contain `text`: how the test tells the
/// guest to go on.
fn wait_for_count(text: &str) -> String {
    let counts = format!("/sys/module/{NAME}/parameters/counts");
    format!("until grep -q '{text}' {counts}; do sleep 0.1; done")
}

/// A datagram of the test to the store.
fn request(payload: &[u8]) -> Vec<u8> {
    datagram(PORT, STORE, STORE_PORT, payload)
}

/// A datagram with a wrong checksum: the module counts it as malformed.
fn broken_request() -> Vec<u8> {
    let mut payload = udp(GATEWAY, STORE, (PORT, STORE_PORT), b"\0\x01\0\0\0\x01\0\0version\r\n");
    payload[6] ^= 0x55;
    Ipv4::to(STORE, UDP, payload).frame()
}

/// The next payload from the store, whatever else the guest says in between.
#[track_caller]
fn reply(wire: &Wire<'_>) -> Vec<u8> {
    let deadline = Instant::now() + LONG;
    loop {
        let heard = wire.next(deadline.saturating_duration_since(Instant::now()));
        match heard.expect("an answer") {
            Heard::Udp((STORE, STORE_PORT), (GATEWAY, PORT), payload) => return payload,
            Heard::Udp(from, to, _) => panic!("a datagram from {from:?} to {to:?}"),
            _ => {}
        }
    }
}

/// A request that every placement answers, and that carries `id`.
fn fence(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    request(&[&[high, low, 0, 0, 0, 1, 0, 0], &b"version\r\n"[..]].concat())
}

/// Waits until the module answers. It is asked again and again, since it may not be there.
#[track_caller]
fn wait_for_module(wire: &Wire<'_>) {
    wire.ask(&fence(0xffff), |heard| match heard {
        Heard::Udp((STORE, STORE_PORT), _, answer) if answer[..2] == [0xff, 0xff] => Some(()),
        _ => None,
    });
    // Late answers to earlier questions.
    while wire.next(Duration::from_millis(500)).is_some() {}
}

/// Random requests, sensible ones and others.
struct Requests {
    random: Random,
    /// Whether requests that change something and get no answer are among them.
    noreply: bool,
}

impl Requests {
    fn payload(&mut self) -> Vec<u8> {
        let id = (self.random.word() as u16).to_be_bytes();
        let mut payload = [&id[..], &[0, 0, 0, 1, 0, 0]].concat();
        let count = if self.random.below(8) == 0 { 1 + self.random.below(4) } else { 1 };
        for _ in 0..count {
            payload.extend(self.text());
        }
        if self.random.below(40) == 0 {
            self.spoil(&mut payload);
        }
        payload.truncate(MAX_DATAGRAM);
        payload
    }

    fn text(&mut self) -> Vec<u8> {
        let key = format!("key-{}", self.random.below(1500));
        let other = self.random.below(1500);
        let noreply = if self.noreply && self.random.below(6) == 0 { " noreply" } else { "" };
        let number = self.random.below(1 << 20);
        match self.random.below(20) {
            0..=6 => format!("get {key}\r\n").into_bytes(),
            7 => format!("get {key} key-{other} none\r\n").into_bytes(),
            8 => format!("gets {key}\r\n").into_bytes(),
            9 => format!("delete {key}{noreply}\r\n").into_bytes(),
            10 => format!("incr {key} {number}{noreply}\r\n").into_bytes(),
            11 => format!("touch {key} 1000000{noreply}\r\n").into_bytes(),
            12 => format!("gat 1000000 {key}\r\n").into_bytes(),
            13 => match self.random.below(6) {
                0 if self.random.below(20) == 0 => b"flush_all\r\n".to_vec(),
                0 => b"verbosity 1\r\n".to_vec(),
                1 => b"no such command\r\n".to_vec(),
                2 => format!("get {}\r\n", "k".repeat(251)).into_bytes(),
                3 => format!("set {key} 0 0 99999\r\nshort\r\n").into_bytes(),
                4 => b"get \x01\r\n".to_vec(),
                _ => b"version\r\n".to_vec(),
            },
            14 => format!("set {key} 0 0 {}{noreply}\r\n{number}\r\n", number.to_string().len())
                .into_bytes(),
            kind => {
                let command = ["set", "set", "add", "replace", "append"][kind as usize - 15];
                let len = self.random.below(1300) as usize;
                let value: String =
                    (0..len).map(|_| (b' ' + self.random.below(95) as u8) as char).collect();
                let flags = self.random.below(1 << 32);
                let expiry = [0, 0, 1_000_000, -1][self.random.below(4) as usize];
                format!("{command} {key} {flags} {expiry} {len}{noreply}\r\n{value}\r\n")
                    .into_bytes()
            }
        }
    }

    /// Changes some bytes, or cuts the end. With answers wanted to all that has an effect,
    /// nothing is changed that could ask for none.
    fn spoil(&mut self, payload: &mut Vec<u8>) {
        if self.noreply {
            for _ in 0..=self.random.below(4) {
                let at = self.random.below(payload.len() as u64) as usize;
                payload[at] = self.random.word() as u8;
            }
        } else {
            payload.truncate(self.random.below(payload.len() as u64) as usize);
        }
    }
}

/// Asks the module and the library the same, `count` times.
fn compare(wire: &Wire<'_>, service: &mut Service<'_>, requests: &mut Requests, count: u32) {
    let now = Time { unix: 1_700_000_000, uptime: 1 };
    let mut expected = vec![0; MAX_DATAGRAM];
    let mut silent = 0;
    for number in 0..count {
        let payload = requests.payload();
        wire.send(&request(&payload));
        match service.answer(&payload, now, &mut expected) {
            Some(len) => {
                let got = reply(wire);
                assert!(
                    got == expected[..len],
                    "request {number}: {:?}\nlibrary: {:?}\nmodule: {:?}",
                    String::from_utf8_lossy(&payload),
                    String::from_utf8_lossy(&expected[..len]),
                    String::from_utf8_lossy(&got)
                );
            }
            None => silent += 1,
        }
    }
    assert!(silent > 0 && silent < count / 4, "{silent} of {count} got no answer");
    // Nothing more comes: what got no answer from the library got none from the module.
    wire.send(&fence(0xfffe));
    assert_eq!(reply(wire)[..2], [0xff, 0xfe]);
    assert!(wire.next(Duration::from_millis(200)).is_none());
}

/// What `stats` says, without what depends on the clock.
fn stats(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter(|line| !line.contains("time ") && !line.contains("bytes_"));
    lines.map(ToOwned::to_owned).collect()
}

/// In the hook, and with threads by both ways to share requests out.
#[test]
fn the_module_answers_as_the_library_does() {
    let Some(mut guest) = guest("the_module_answers_as_the_library_does") else { return };
    let phases = [Workers::None, Workers::ByKey(2), Workers::RoundRobin(3)];
    let phases = phases.map(|workers| Parameters { memory_mib: 1, seed: Some(SEED), workers });
    for phase in phases {
        guest.command(&phase.command());
        guest.command(&format!("echo 'loaded: {phase}'"));
        guest.command(&wait_for_count("malformed 1 "));
        guest.command(&format!("rmmod {NAME}"));
    }
    let machine = boot(&guest, 2);
    let wire = Wire::of(&machine);
    for (number, phase) in phases.into_iter().enumerate() {
        expect(&machine, &format!("loaded: {phase}"));
        wait_for_module(&wire);
        // As much memory as the module's store has: it lies in what it is given.
        let mut memory = vec![0; (1 << 20) - size_of::<kvstore_module::Store>()];
        let config = Config { seed: [SEED, 0], ..Config::default() };
        let mut service = Service::new(&mut memory, &config).expect("enough memory");
        let random = Random::new(number as u64);
        // Two threads may carry out in either order what the test does not wait for.
        let mut requests = Requests { random, noreply: number == 0 };
        compare(&wire, &mut service, &mut requests, 3000);

        let ask = b"\0\x05\0\0\0\x01\0\0stats\r\n";
        let mut expected = vec![0; MAX_DATAGRAM];
        let now = Time { unix: 0, uptime: 1 };
        let len = service.answer(ask, now, &mut expected).expect("an answer");
        wire.send(&request(ask));
        let (got, expected) = (stats(&reply(&wire)[8..]), stats(&expected[8..len]));
        assert_eq!(got, expected, "{phase}");
        let evicted =
            got.iter().any(|line| line.starts_with("STAT evictions ") && !line.ends_with(" 0"));
        assert!(evicted, "nothing was evicted: {got:?}");
        wire.send(&broken_request());
    }
    expect(&machine, READY);
}

/// The suite of every placement, through the host's sockets. It relies on one client's
/// requests being answered in order, so more threads than one are for the test above.
#[test]
fn a_linux_module_passes_the_suite_of_every_placement() {
    for workers in [Workers::None, Workers::ByKey(1)] {
        let test = "a_linux_module_passes_the_suite_of_every_placement";
        let Some(mut guest) = guest(test) else { return };
        let parameters = Parameters { memory_mib: 32, seed: Some(7), workers };
        guest.command(&parameters.command());
        let machine = guest.boot(&guest.config()).expect("the machine starts");
        expect(&machine, READY);
        assert_passes_in_one_datagram(machine.store(LONG).expect("the store answers").server());
        assert!(machine.running());
    }
}

/// Requests come all the time, and each time the module is loaded it answers some.
#[test]
fn loads_and_unloads_a_hundred_times_under_traffic() {
    let Some(mut guest) = guest("loads_and_unloads_a_hundred_times_under_traffic") else { return };
    let free = "grep -e MemAvailable -e VmallocUsed /proc/meminfo | tr -d '\\n'; echo";
    let counts = format!("/sys/module/{NAME}/parameters/counts");
    // In turn: the hook, one thread, two threads that share by key.
    guest.text(
        "reload",
        &format!(
            "i=0; while [ $i -lt $1 ]; do\n\
             {load} || exit 1\n\
             n=0; while [ $n = 0 ]; do read -r _ n _ < {counts}; done\n\
             rmmod {NAME} || exit 1\n\
             i=$((i + 1)); [ $((i % 10)) = 0 ] && echo \"reloaded: $i\"\n\
             done; true\n",
            load = insmod("memory_mib=4 workers=$((i % 3)) distribution=key"),
        ),
    );
    guest.command("echo 'the wire is up'");
    guest.command("sh /reload 3");
    guest.command(&format!("echo \"before: $({free})\""));
    guest.command("sh /reload 100");
    guest.command(&format!("echo \"after: $({free})\""));
    guest.command(&insmod("memory_mib=4"));
    let machine = boot(&guest, 2);
    let wire = Wire::of(&machine);
    // Until a driver listens QEMU takes no frames.
    expect(&machine, "the wire is up");
    let (done, answers) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut requests = Requests { random: Random::new(100), noreply: true };
            while !done.load(Ordering::Relaxed) {
                // Some at a time, so that several are under way while it is unloaded.
                for _ in 0..8 {
                    wire.send(&request(&requests.payload()));
                }
                while let Some(heard) = wire.next(Duration::from_millis(2)) {
                    let answer = matches!(heard, Heard::Udp((STORE, STORE_PORT), ..));
                    answers.fetch_add(u32::from(answer), Ordering::Relaxed);
                }
            }
        });
        let lines = (1..=10).map(|tens| format!("reloaded: {tens}0"));
        let mut lines = lines.chain([READY.to_owned()]);
        let reloaded = lines.try_for_each(|line| machine.wait_for_line(&line, LONG).map(|_| ()));
        done.store(true, Ordering::Relaxed);
        reloaded.expect("it loads and unloads");
    });
    assert!(answers.load(Ordering::Relaxed) >= 103, "{answers:?} answers");
    wait_for_module(&wire);
    // In KiB: available to programs, taken by large regions such as the store's.
    let free = |which: &str| -> Vec<i64> {
        let line = expect(&machine, which);
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let (before, after) = (free("before: "), free("after: "));
    assert_eq!((before.len(), after.len()), (2, 2), "{before:?} {after:?}");
    assert!(before[0] - after[0] < 8 << 10, "memory was lost: {before:?} {after:?}");
    assert!(after[1] - before[1] < 1 << 10, "regions were lost: {before:?} {after:?}");
}

/// What the module must not answer, what it must, and what must not hurt it.
#[test]
fn no_packet_hurts_the_module_and_it_takes_only_its_own() {
    let Some(mut guest) = guest("no_packet_hurts_the_module_and_it_takes_only_its_own") else {
        return;
    };
    for (parameters, complaint) in [
        ("port=0", "port=0: give a UDP port from 1 to 65535"),
        ("memory_mib=0", "memory_mib=0: give 1 to"),
        ("memory_mib=4194303", "memory_mib=4194303: give 1 to"),
        ("workers=65", "workers=65: give 0 to 64"),
        ("distribution=fair", "distribution=fair: give round-robin or key"),
    ] {
        guest.command(&format!("! {} 2>/dev/null", insmod(parameters)));
        guest.command(&format!("dmesg | grep -q '{NAME}: {complaint}'"));
    }
    let free = "sed -n 's/MemAvailable: *//p' /proc/meminfo";
    guest.command(&insmod("memory_mib=2 port=11211"));
    guest.command(&format!("echo \"before: $({free})\""));
    guest.command(&wait_for_count("malformed 1 "));
    guest.command(&format!("echo \"filled: $({free})\""));
    let machine = boot(&guest, 1);
    let wire = Wire::of(&machine);
    expect(&machine, "before: ");
    wait_for_module(&wire);

    memory_is_bounded(&wire);
    wire.send(&broken_request());
    let free = |which: &str| -> i64 {
        let line = expect(&machine, which);
        line.split_whitespace().find_map(|word| word.parse().ok()).expect("a number")
    };
    let (before, filled) = (free("before: "), free("filled: "));
    assert!(before - filled < 4 << 10, "2 MiB have become {} KiB", before - filled);
    expect(&machine, READY);

    takes_only_its_own(&wire);
    survives_anything(&wire);
    // Linux itself is as it was.
    let echo = ping(STORE, 7, b"still there");
    wire.ask(&echo.frame(), |heard| match heard {
        Heard::Icmp(STORE, bytes) => {
            (bytes[0] == 0 && bytes.ends_with(b"still there")).then_some(())
        }
        _ => None,
    });
    assert!(machine.running());
}

/// Stores many times as much as the store's memory holds.
fn memory_is_bounded(wire: &Wire<'_>) {
    let value = "v".repeat(1300);
    for key in 0..12_000 {
        let text = format!("\0\x01\0\0\0\x01\0\0set key-{key} 0 0 1300\r\n{value}\r\n");
        wire.send(&request(text.as_bytes()));
        assert_eq!(&reply(wire)[8..], b"STORED\r\n");
    }
    wire.send(&request(b"\0\x05\0\0\0\x01\0\0stats\r\n"));
    let stats = String::from_utf8(reply(wire)[8..].to_vec()).expect("text");
    let number = |name| stat(&stats, name);
    assert!(number("limit_maxbytes") <= 2 << 20, "{stats}");
    assert!(number("bytes") <= number("limit_maxbytes"), "{stats}");
    assert!(number("evictions") > 10_000, "{stats}");
}

/// Packets that are answered, and packets that are like them and are not.
fn takes_only_its_own(wire: &Wire<'_>) {
    let payload = b"\x12\x34\0\0\0\x01\0\0version\r\n";
    let good = udp(GATEWAY, STORE, (PORT, STORE_PORT), payload);
    let answered = |frame: &[u8], what: &str| {
        wire.send(frame);
        assert_eq!(reply(wire)[..2], [0x12, 0x34], "{what}");
    };
    answered(&Ipv4::to(STORE, UDP, good.clone()).frame(), "a request");
    let mut unchecked = good.clone();
    unchecked[6..8].fill(0);
    answered(&Ipv4::to(STORE, UDP, unchecked).frame(), "without a checksum");
    // The payload of IP is longer than UDP says.
    let longer = [&good[..], b"behind the datagram"].concat();
    answered(&Ipv4::to(STORE, UDP, longer).frame(), "with something behind it");
    let padded = [&Ipv4::to(STORE, UDP, good.clone()).frame()[..], &[0; 20]].concat();
    answered(&padded, "with padding of the frame");

    let ip = || Ipv4::to(STORE, UDP, good.clone());
    let to = |address: [u8; 4]| {
        Ipv4::to(address, UDP, udp(GATEWAY, address, (PORT, STORE_PORT), payload))
    };
    let from = |address: [u8; 4]| Ipv4 {
        from: address,
        ..Ipv4::to(STORE, UDP, udp(address, STORE, (PORT, STORE_PORT), payload))
    };
    let field = |at: usize, value: u16| {
        let mut bytes = good.clone();
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        // Without a checksum, so that nothing else is wrong.
        bytes[6..8].fill(0);
        Ipv4::to(STORE, UDP, bytes).frame()
    };
    let body = ip().bytes();
    let mut bad_header = ip().bytes();
    bad_header[10] ^= 1;
    let ignored = [
        ("a wrong checksum", broken_request()),
        ("a length beyond the packet", field(4, good.len() as u16 + 1)),
        ("a length below the header", field(4, 7)),
        ("another port", datagram(PORT, STORE, STORE_PORT + 1, payload)),
        ("no source port", datagram(0, STORE, STORE_PORT, payload)),
        ("another address", to([10, 0, 2, 16]).frame()),
        ("a broadcast address", to([10, 0, 2, 255]).frame()),
        ("a multicast address", to([224, 0, 0, 1]).frame()),
        ("a source that is broadcast", from([255; 4]).frame()),
        ("a source that is multicast", from([224, 0, 0, 5]).frame()),
        ("a source that is nowhere", from([0; 4]).frame()),
        ("a source that is the guest", from(STORE).frame()),
        ("a source that is loopback", from([127, 0, 0, 1]).frame()),
        ("the first fragment", Ipv4 { fragment: 0x2000, ..ip() }.frame()),
        ("a later fragment", Ipv4 { fragment: 1, ..ip() }.frame()),
        ("IP options", Ipv4 { options: vec![1, 1, 1, 0], ..ip() }.frame()),
        ("a bad IP header", ethernet(GUEST_MAC, HOST_MAC, 0x0800, &bad_header)),
        ("a frame for all stations", ethernet([0xff; 6], HOST_MAC, 0x0800, &body)),
        ("a frame for another station", ethernet([2, 0, 0, 0, 0, 9], HOST_MAC, 0x0800, &body)),
        ("a frame from all stations", ethernet(GUEST_MAC, [0xff; 6], 0x0800, &body)),
        ("a VLAN", ethernet(GUEST_MAC, HOST_MAC, 0x8100, &[&[0, 5, 8, 0], &body[..]].concat())),
        ("a request in several", request(b"\x12\x34\0\0\0\x02\0\0version\r\n")),
        ("no text", request(b"\x12\x34\0\0\0\x01\0\0")),
        ("no payload", request(b"")),
    ];
    for (number, (what, frame)) in ignored.into_iter().enumerate() {
        wire.send(&frame);
        wire.send(&fence(number as u16));
        let answer = reply(wire);
        assert_eq!(answer[..2], (number as u16).to_be_bytes(), "{what} was answered");
    }
}

/// Random payloads, and packets with random damage in any header.
fn survives_anything(wire: &Wire<'_>) {
    let mut requests = Requests { random: Random::new(3), noreply: true };
    for round in 0..60_u16 {
        for _ in 0..32 {
            let random = &mut requests.random;
            let mut frame = match random.below(4) {
                0 => {
                    let len = random.below(1473);
                    let noise: Vec<u8> = (0..len).map(|_| random.word() as u8).collect();
                    request(&noise)
                }
                _ => request(&requests.payload()),
            };
            let random = &mut requests.random;
            match random.below(4) {
                // In the headers, without the station's address: it is to be received.
                0 => {
                    let at = 12 + random.below(30) as usize;
                    frame[at] = random.word() as u8;
                    let sum = checksum(&[&frame[14..24], &[0, 0], &frame[26..34]].concat());
                    frame[24..26].copy_from_slice(&sum.to_be_bytes());
                }
                // Anything, with the checksum left as it was, or taken away.
                1 => {
                    let at = 42 + random.below(frame.len() as u64 - 41) as usize;
                    if let Some(byte) = frame.get_mut(at) {
                        *byte = random.word() as u8;
                    }
                    if random.below(2) == 0 {
                        frame[40..42].fill(0);
                    }
                }
                2 => frame.truncate(14 + random.below(frame.len() as u64 - 13) as usize),
                _ => {}
            }
            wire.send(&frame);
        }
        // Whatever has been answered, the next answer to this is the module's.
        wire.ask(&fence(0x8000 | round), |heard| match heard {
            Heard::Udp((STORE, STORE_PORT), _, answer) => {
                (answer[..2] == (0x8000 | round).to_be_bytes()).then_some(())
            }
            _ => None,
        });
    }
}
