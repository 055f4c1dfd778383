//! ARP, ICMP and UDP as other hosts expect them, from two library OSes: the store's
//! fast path and the echo service's smoltcp.

use std::net::UdpSocket;
use std::time::Duration;

use exo_cmd::machine::{Config, ECHO_PORT, GUEST_MAC, Machine, STORE_PORT};
use machine_tests::frame::{
    HOST_MAC, Heard, ICMP, Ipv4, UDP, Wire, arp, checksum, datagram, ethernet, ping, udp, who_has,
};
use machine_tests::model::Random;
use machine_tests::{ECHO, GATEWAY, LONG, STORE, THIRD, boot, boot_with_frames, expect};

fn default_manifest() -> exo_cmd::manifest::Manifest {
    Config::named("default").expect("boot/manifests/default.toml").manifest
}

/// Store and echo service, with the test as the rest of the network.
fn network() -> Machine {
    let machine = boot_with_frames(default_manifest());
    expect(&machine, "kvstore: serving 10.0.2.15:11211");
    expect(&machine, "echo: serving 10.0.2.16:7");
    machine
}

/// A service as a fence: a question and how to know its answer.
#[derive(Clone, Copy)]
struct Service {
    address: [u8; 4],
    port: u16,
}

const SERVICES: [Service; 2] =
    [Service { address: STORE, port: STORE_PORT }, Service { address: ECHO, port: ECHO_PORT }];

impl Service {
    /// A request that the service answers with something that holds `id`.
    fn request(self, id: u16) -> Vec<u8> {
        let id = id.to_be_bytes();
        match self.port {
            STORE_PORT => [&id[..], &[0, 0, 0, 1, 0, 0], b"version\r\n"].concat(),
            _ => [&id[..], b" fence"].concat(),
        }
    }

    /// Says all of `frames` and returns what was answered to them.
    #[track_caller]
    fn answers(self, wire: &Wire<'_>, frames: &[Vec<u8>], id: u16) -> Vec<Heard> {
        let fence = datagram(3999, self.address, self.port, &self.request(id));
        wire.say_and_fence(frames, &fence, |heard| match heard {
            Heard::Udp((from, _), (_, 3999), answer) => {
                *from == self.address && answer.starts_with(&id.to_be_bytes())
            }
            _ => false,
        })
    }

    /// Asserts that nothing is answered to any of `frames`.
    #[track_caller]
    fn ignores(self, wire: &Wire<'_>, frames: &[Vec<u8>], id: u16) {
        let answers = self.answers(wire, frames, id);
        // An answer to a fence that was repeated is no answer to the frames.
        let late = |heard: &Heard| matches!(heard, Heard::Udp(_, (_, 3999), _));
        let others: Vec<_> = answers.iter().filter(|heard| !late(heard)).collect();
        assert!(others.is_empty(), "{:?} answered {others:?}", self.address);
    }
}

#[test]
fn arp_is_answered_for_the_own_address_only() {
    let machine = network();
    let wire = Wire::of(&machine);
    for service in SERVICES {
        assert_eq!(wire.station_of(service.address), GUEST_MAC);
        // Asked by unicast, as hosts do that know the answer.
        let unicast = {
            let mut frame = who_has(service.address);
            frame[..6].copy_from_slice(&GUEST_MAC);
            frame
        };
        wire.ask(&unicast, |heard| match heard {
            Heard::Arp(2, (GUEST_MAC, sender), (HOST_MAC, GATEWAY)) => {
                (*sender == service.address).then_some(())
            }
            _ => None,
        });
    }
    let asked = |change: fn(&mut Vec<u8>)| {
        let mut frame = who_has(STORE);
        change(&mut frame);
        frame
    };
    let strange = [
        who_has([10, 0, 2, 99]),
        who_has([10, 0, 2, 255]),
        who_has([0; 4]),
        // Hardware type, protocol type, address lengths, operation.
        asked(|frame| frame[15] = 6),
        asked(|frame| frame[17] = 6),
        asked(|frame| frame[18] = 8),
        asked(|frame| frame[19] = 16),
        asked(|frame| frame[21] = 9),
        asked(|frame| frame.truncate(41)),
        // An answer that was not asked for.
        arp(2, (HOST_MAC, GATEWAY), (GUEST_MAC, STORE)),
        // A host that claims to be the store, and one that claims to be every host.
        arp(2, (HOST_MAC, STORE), (GUEST_MAC, STORE)),
    ];
    for service in SERVICES {
        service.ignores(&wire, &strange, 100);
        // And is not led astray by it.
        assert_eq!(wire.station_of(service.address), GUEST_MAC);
    }
}

#[test]
fn ping_is_answered_with_the_same_bytes() {
    let machine = network();
    let wire = Wire::of(&machine);
    for service in SERVICES {
        for (sequence, length) in
            [(1, 0_usize), (2, 1), (3, 56), (4, 57), (5, 1000), (6, 1471), (7, 1472)]
        {
            let payload: Vec<u8> = (0..length).map(|i| (i * 7 + length) as u8).collect();
            let question = ping(service.address, sequence, &payload);
            let answer = wire.ask(&question.frame(), |heard| match heard {
                Heard::Icmp(from, message) if *from == service.address => Some(message.clone()),
                _ => None,
            });
            let mut wanted = question.payload.clone();
            wanted[0] = 0;
            wanted[2..4].fill(0);
            let sum = checksum(&wanted);
            wanted[2..4].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(answer, wanted, "{length} bytes to {:?}", service.address);
        }
    }
}

#[test]
fn what_is_no_ping_is_not_answered() {
    let machine = network();
    let wire = Wire::of(&machine);
    for service in SERVICES {
        let to = service.address;
        let broken = |change: fn(&mut Vec<u8>)| {
            let mut packet = ping(to, 9, b"payload");
            change(&mut packet.payload);
            packet.frame()
        };
        let other_type = |kind: u8, code: u8| {
            let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            Ipv4::to(to, ICMP, message).frame()
        };
        let mut bad_header = ping(to, 9, b"payload").frame();
        bad_header[24] ^= 1;
        let mut other_station = ping(to, 9, b"payload").frame();
        other_station[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        let strange = [
            broken(|message| message[2] ^= 1),
            broken(|message| message[9] ^= 0x80),
            broken(|message| message.truncate(4)),
            broken(Vec::clear),
            bad_header,
            other_station,
            // Echo reply, unreachable, redirect, time stamp, address mask.
            other_type(0, 0),
            other_type(3, 3),
            other_type(5, 1),
            other_type(13, 0),
            other_type(17, 0),
            Ipv4 { fragment: 0x2000, ..ping(to, 9, b"first") }.frame(),
            Ipv4 { fragment: 0x0003, ..ping(to, 9, b"later") }.frame(),
            Ipv4 { options: vec![1; 4], ..ping(to, 9, b"options") }.frame(),
            // From addresses that no answer can go to.
            Ipv4 { from: [10, 0, 2, 255], ..ping(to, 9, b"broadcast") }.frame(),
            Ipv4 { from: [224, 0, 0, 1], ..ping(to, 9, b"multicast") }.frame(),
            Ipv4 { from: [255; 4], ..ping(to, 9, b"limited") }.frame(),
            Ipv4 { from: to, ..ping(to, 9, b"itself") }.frame(),
            Ipv4 { from: [0; 4], ..ping(to, 9, b"no host") }.frame(),
            ping([10, 0, 2, 255], 9, b"broadcast").frame(),
            ping([255; 4], 9, b"limited").frame(),
        ];
        let loopback = Ipv4 { from: [127, 0, 0, 1], ..ping(to, 9, b"loopback") };
        service.ignores(&wire, &[loopback.frame()], 201);
        service.ignores(&wire, &strange, 200);
    }
}

/// A host beside the router, which says nothing but what the test lets it say.
#[derive(Clone, Copy)]
struct Peer {
    station: [u8; 6],
    address: [u8; 4],
}

impl Peer {
    fn new(number: u8) -> Self {
        Self { station: [2, 0, 0, 0, 0, number], address: [10, 0, 2, number] }
    }

    fn frame(self, packet: Ipv4) -> Vec<u8> {
        ethernet(GUEST_MAC, self.station, 0x0800, &Ipv4 { from: self.address, ..packet }.bytes())
    }

    fn datagram(self, port: u16, service: Service, payload: &[u8]) -> Vec<u8> {
        let ports = (port, service.port);
        let datagram = udp(self.address, service.address, ports, payload);
        self.frame(Ipv4::to(service.address, UDP, datagram))
    }
}

/// Peers that never answer ARP, and of which nothing was heard before: each gets what it
/// asked for at once, and is not asked where it is.
#[test]
fn no_peer_waits_for_its_own_or_anothers_address() {
    let machine = network();
    let wire = Wire::of(&machine);
    for service in SERVICES {
        for number in 50..90 {
            let peer = Peer::new(number);
            let first_ping = peer.frame(ping(service.address, 0, b"first"));
            // Of this one nothing is heard again.
            let gone = Peer::new(number + 50).datagram(6000, service, &service.request(1));
            let asked = peer.datagram(6001, service, &service.request(2));
            let heard = service.answers(&wire, &[first_ping, gone, asked], u16::from(number));
            let pings = heard.iter().filter(|heard| matches!(heard, Heard::Icmp(..))).count();
            let answers = |port| {
                let to = |heard: &&Heard| matches!(heard, Heard::Udp(_, (_, to), _) if *to == port);
                heard.iter().filter(to).count()
            };
            assert_eq!((pings, answers(6000), answers(6001)), (1, 1, 1), "{number}: {heard:?}");
            let asks = heard.iter().any(|heard| matches!(heard, Heard::Arp(1, ..)));
            assert!(!asks, "{:?} asks where its peers are: {heard:?}", service.address);
        }
    }
}

/// The attack: a datagram to one service with a source that is forged to be another. Whatever
/// the services say, the network brings it to where they say it to.
#[test]
fn services_cannot_be_set_on_each_other() {
    let mut manifest = default_manifest();
    let mut second = manifest.app("kvstore").expect("the store").clone();
    (second.name, second.address, second.frames) = ("second".into(), Some(THIRD), 4096);
    second.disk = None;
    manifest.apps.push(second);
    for app in &mut manifest.apps {
        app.slots = app.slots.min(16);
    }
    let machine = boot_with_frames(manifest);
    for line in ["kvstore: serving", "echo: serving", "second: serving"] {
        expect(&machine, line);
    }
    let wire = Wire::of(&machine);
    let second = Service { address: THIRD, port: STORE_PORT };
    let [store, echo] = SERVICES;
    let mut id = 500;
    for (forged, to) in
        [(second, store), (store, second), (echo, store), (store, echo), (echo, second)]
    {
        for payload in [
            &to.request(3)[..],
            b"\0\x07\0\0\0\x01\0\0ERROR\r\n",
            b"\0\x07\0\0\0\x01\0\0nonsense\r\n",
        ] {
            let pretended = Peer { station: GUEST_MAC, address: forged.address };
            let spark = pretended.datagram(forged.port, to, payload);
            id += 1;
            let mut said = to.answers(&wire, &[spark], id);
            let mut rounds = 0;
            while let Some(Heard::Udp((from, port), target, payload)) = said
                .iter()
                .find(|heard| matches!(heard, Heard::Udp(_, (_, port), _) if *port != 3999))
            {
                rounds += 1;
                assert!(rounds < 5, "{:?} and {:?} talk for ever", forged.address, to.address);
                let next = Service { address: target.0, port: target.1 };
                let on = Peer { station: GUEST_MAC, address: *from }.datagram(*port, next, payload);
                id += 1;
                said = next.answers(&wire, &[on], id);
            }
            assert_eq!(
                rounds, 0,
                "{:?} answers what claims to be {:?}",
                to.address, forged.address
            );
        }
    }
    // From a port without a service: a store's own answers, come back to it, end there.
    id += 1;
    let mirror = Peer::new(99);
    for service in [store, second] {
        let mut payload = service.request(id);
        for round in 0.. {
            assert!(round < 3, "answers to its own answers");
            let asked = mirror.datagram(6000, service, &payload);
            let heard = service.answers(&wire, &[asked], id + 1);
            let answer = heard.into_iter().find_map(|heard| match heard {
                Heard::Udp(_, (_, 6000), payload) => Some(payload),
                _ => None,
            });
            assert_eq!(answer.is_some(), round == 0, "round {round}");
            match answer {
                Some(answer) => payload = answer,
                None => break,
            }
        }
        id += 2;
    }
}

#[test]
fn datagrams_of_all_sizes_come_back() {
    let machine = network();
    let wire = Wire::of(&machine);
    for length in (0..80_usize).chain([255, 256, 499, 500, 501, 511, 512, 1000, 1471, 1472]) {
        let payload: Vec<u8> = (0..length).map(|i| (i * 31 + length) as u8).collect();
        let from = 5000 + length as u16;
        assert_eq!(wire.exchange(from, ECHO, ECHO_PORT, &payload), payload, "{length} bytes");
    }
    // A sum of zero means that there is none.
    let mut unsummed = udp(GATEWAY, ECHO, (4999, ECHO_PORT), b"no sum");
    unsummed[6..8].fill(0);
    wire.ask(&Ipv4::to(ECHO, UDP, unsummed).frame(), |heard| match heard {
        Heard::Udp((ECHO, ECHO_PORT), (GATEWAY, 4999), payload) => {
            (payload == b"no sum").then_some(())
        }
        _ => None,
    });
    // What follows the packet in the frame is padding.
    let mut padded = datagram(4998, ECHO, ECHO_PORT, b"short");
    padded.resize(200, 0xee);
    wire.ask(&padded, |heard| match heard {
        Heard::Udp(_, (_, 4998), payload) => (payload == b"short").then_some(()),
        _ => None,
    });
}

#[test]
fn broken_datagrams_are_dropped() {
    let machine = network();
    let wire = Wire::of(&machine);
    for service in SERVICES {
        let (to, port) = (service.address, service.port);
        let request = service.request(7);
        let good = || udp(GATEWAY, to, (4000, port), &request);
        let packet = |payload: Vec<u8>| Ipv4::to(to, UDP, payload);
        let changed = |at: usize, xor: u8| {
            let mut bytes = good();
            bytes[at] ^= xor;
            packet(bytes).frame()
        };
        let length = |length: u16| {
            // With the sum left out, so that only the length is wrong.
            let mut bytes = good();
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
            bytes[6..8].fill(0);
            packet(bytes).frame()
        };
        let total = |total: u16| {
            let mut frame = packet(good()).frame();
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            frame[24..26].fill(0);
            let sum = checksum(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            frame
        };
        let header = |at: usize, xor: u8| {
            let mut frame = packet(good()).frame();
            frame[at] ^= xor;
            frame
        };
        let strange = [
            changed(6, 0x40),
            changed(12, 1),
            changed(0, 1),
            length(0),
            length(7),
            length(good().len() as u16 + 1),
            length(0xffff),
            total(0),
            total(19),
            total(20),
            total(27),
            total(good().len() as u16 + 21),
            total(0xffff),
            // Header checksum, version, header length, destination station.
            header(24, 1),
            header(14, 0x20),
            header(14, 0x01),
            header(14, 0x04),
            header(5, 1),
            packet(Vec::new()).frame(),
            packet(good()[..7].to_vec()).frame(),
            Ipv4 { fragment: 0x2000, ..packet(good()) }.frame(),
            Ipv4 { fragment: 0x0007, ..packet(good()) }.frame(),
            Ipv4 { fragment: 0x2007, ..packet(good()) }.frame(),
            Ipv4 { options: vec![0x94, 4, 0, 0], ..packet(good()) }.frame(),
            Ipv4 { protocol: 17 ^ 0x80, ..packet(good()) }.frame(),
            datagram(4000, to, port ^ 1, &request),
            datagram(4000, [10, 0, 2, 99], port, &request),
            ethernet(GUEST_MAC, HOST_MAC, 0x86dd, &packet(good()).bytes()),
        ];
        service.ignores(&wire, &strange, 300);
    }
}

#[test]
fn oversized_and_truncated_frames_harm_nobody() {
    let machine = network();
    let wire = Wire::of(&machine);
    for service in SERVICES {
        let request = service.request(8);
        let whole = datagram(4000, service.address, service.port, &request);
        let mut strange: Vec<_> = (1..whole.len()).map(|length| whole[..length].to_vec()).collect();
        for length in [1515_usize, 1518, 2036, 2037, 2048, 4096, 9018, 60_000] {
            let payload = vec![b'x'; length - 42];
            strange.push(datagram(4000, service.address, service.port, &payload));
        }
        service.ignores(&wire, &strange, 400);
    }
}

/// Valid frames with random bytes changed: nothing that is answered may break a rule
/// (`hear` checks them all), and every service still works.
#[test]
fn mutated_frames_harm_nobody() {
    let machine = network();
    let wire = Wire::of(&machine);
    let mut random = Random::new(0x6d75_7461);
    for round in 0..60_u16 {
        let mut frames = Vec::new();
        for _ in 0..64 {
            let service = SERVICES[random.below(2) as usize];
            let mut frame = match random.below(4) {
                0 => who_has(service.address),
                1 => ping(service.address, round, &[round as u8; 40]).frame(),
                _ => datagram(4000, service.address, service.port, &service.request(round)),
            };
            for _ in 0..=random.below(4) {
                let at = random.below(frame.len() as u64) as usize;
                frame[at] ^= 1 << random.below(8);
            }
            if random.below(8) == 0 {
                frame.truncate(random.below(frame.len() as u64) as usize + 1);
            }
            frames.push(frame);
        }
        for service in SERVICES {
            service.answers(&wire, &frames, 1000 + round);
        }
    }
    assert_eq!(wire.station_of(STORE), GUEST_MAC);
    assert_eq!(wire.exchange(5000, ECHO, ECHO_PORT, b"still there"), b"still there");
}

#[test]
fn echo_answers_through_user_mode_networking() {
    let machine = boot(default_manifest());
    let port = machine.echo_port().expect("the manifest has an echo service");
    machine.store(LONG).expect("the store answers");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(("127.0.0.1", port)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time limit");
    for length in [0_usize, 1, 100, 1000, 1472] {
        let payload: Vec<u8> = (0..length).map(|i| (i + length) as u8).collect();
        let mut buffer = [0; 2048];
        let answered = (0..200).any(|_| {
            socket.send(&payload).expect("the loopback interface");
            // Nothing may listen yet; then this is an error, too.
            matches!(socket.recv(&mut buffer), Ok(got) if buffer[..got] == payload)
        });
        assert!(answered, "no echo of {length} bytes");
    }
}
