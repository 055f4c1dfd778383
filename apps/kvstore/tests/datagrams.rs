//! Requests and answers of several datagrams, and how much a source gets that may be forged.

mod common;

use common::{Chance, START, ask, config};
use kvstore::datagrams::{
    Datagrams, LEAST_MEMORY, MOST_PARTS, MOST_REQUESTS, REQUEST_MEMORY, Source,
};
use kvstore::{MAX_DATAGRAM, Service, Time};

const PART: usize = MAX_DATAGRAM - 8;
const CLIENT: Source = Source { address: [10, 0, 2, 2], port: 40_000 };
/// More than any test gets.
const PLENTY: u32 = u32::MAX;

/// A store, and what is kept between datagrams.
struct Server<'m> {
    service: Service<'m>,
    datagrams: Datagrams<'m>,
    now: Time,
}

fn with_server<T>(budget: u32, test: impl FnOnce(&mut Server<'_>) -> T) -> T {
    let mut memory = vec![0xa5; 8 << 20];
    let mut other = vec![0xa5; LEAST_MEMORY + MOST_REQUESTS * REQUEST_MEMORY];
    let service = Service::new(&mut memory, &config()).unwrap();
    let datagrams = Datagrams::new(&mut other, budget).unwrap();
    test(&mut Server { service, datagrams, now: START })
}

impl Server<'_> {
    /// All datagrams that answer one.
    fn send(&mut self, datagram: &[u8], from: Source) -> Vec<Vec<u8>> {
        let Self { service, datagrams, now } = self;
        let mut reply = [0xee; MAX_DATAGRAM + 16];
        let (room, behind) = reply.split_at_mut(MAX_DATAGRAM);
        if let Some((len, _)) = datagrams.answer(service, datagram, from, *now, room) {
            assert!(!datagrams.has_more());
            return vec![room[..len].to_vec()];
        }
        let mut answers = Vec::new();
        while datagrams.has_more() {
            let (len, _) = datagrams.next(service, room).expect("there is more");
            answers.push(room[..len].to_vec());
        }
        assert_eq!(datagrams.next(service, room), None);
        assert!(behind.iter().all(|&byte| byte == 0xee));
        answers
    }

    /// The text that answers `text`, which is sent in as many datagrams as it needs.
    fn ask(&mut self, text: &[u8]) -> Vec<u8> {
        let total = text.len().div_ceil(PART).max(1) as u16;
        let mut answers = Vec::new();
        for (number, part) in text.chunks(PART).enumerate() {
            assert!(answers.is_empty(), "before the last datagram");
            answers = self.send(&datagram(number as u16, total, part), CLIENT);
        }
        for (number, answer) in answers.iter().enumerate() {
            let head = datagram(number as u16, answers.len() as u16, b"");
            assert_eq!(answer[..8], head);
            let is_last = number + 1 == answers.len();
            assert!(answer.len() > 8 && (is_last || answer.len() == MAX_DATAGRAM));
        }
        answers.iter().flat_map(|answer| &answer[8..]).copied().collect()
    }
}

fn datagram(number: u16, total: u16, text: &[u8]) -> Vec<u8> {
    let ([n0, n1], [t0, t1]) = (number.to_be_bytes(), total.to_be_bytes());
    [&[0xab, 0xcd, n0, n1, t0, t1, 0, 0], text].concat()
}

fn set(key: &str, value: &[u8]) -> Vec<u8> {
    [format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn value(seed: u64, len: usize) -> Vec<u8> {
    Chance(seed).bytes(len)
}

/// As much as is found of an item in a `get`.
fn shown(key: &str, value: &[u8]) -> Vec<u8> {
    [format!("VALUE {key} 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

#[test]
fn values_of_all_lengths_come_and_go_in_as_many_datagrams_as_they_need() {
    with_server(PLENTY, |server| {
        let edges = [1440, 1441, 1442, 1443, PART, 2 * PART - 50, 2 * PART, 65_000, 69_000];
        for len in (0..40).map(|n| n * 331).chain(edges) {
            let value = value(len as u64, len);
            assert_eq!(server.ask(&set("k", &value)), b"STORED\r\n", "{len}");
            let end = b"END\r\n";
            assert!(server.ask(b"get k\r\n") == [&shown("k", &value)[..], end].concat(), "{len}");
            let meta = [format!("VA {len}\r\n").as_bytes(), &value, b"\r\n"].concat();
            assert!(server.ask(b"mg k v\r\n") == meta, "{len}");
        }
    });
}

#[test]
fn many_keys_are_answered_with_a_long_item_among_them() {
    with_server(PLENTY, |server| {
        let mut expected = Vec::new();
        let mut line = b"get".to_vec();
        for number in 0..60 {
            let (key, value) = (format!("key-{number}"), value(number, 900));
            assert_eq!(server.ask(&set(&key, &value)), b"STORED\r\n");
            line.extend(format!(" {key}").bytes());
            expected.extend(shown(&key, &value));
            if number == 30 {
                // The largest that there is: it does not come in datagrams.
                let long = self::value(99, 900_000);
                assert_eq!(ask(&mut server.service, &set("long", &long), START), b"STORED\r\n");
                line.extend(b" long");
                expected.extend(shown("long", &long));
            }
        }
        assert!(server.ask(&[&line[..], b"\r\n"].concat()) == [&expected[..], b"END\r\n"].concat());
        // Two of them are more than is taken together.
        let too_large = b"SERVER_ERROR reply too large\r\n";
        assert_eq!(server.ask(b"get long long\r\n"), too_large);
        // An answer that is taken back gives the item back, and other answers stay.
        let bad = format!("get long {}\r\nget none\r\nmg long v\r\nmn\r\n", "k".repeat(251));
        let bad = server.ask(bad.as_bytes());
        assert!(bad.starts_with(b"CLIENT_ERROR bad command line format\r\nEND\r\nVA 900000\r\n"));
        assert!(bad.ends_with(b"\r\nMN\r\n"));
        for _ in 0..100 {
            assert_eq!(server.ask(b"get long long\r\n"), too_large);
        }
        // All that was held is given back: there is memory for others.
        for number in 0..5 {
            let other = set(&format!("other-{number}"), &value(number, 900_000));
            assert_eq!(ask(&mut server.service, &other, START), b"STORED\r\n");
        }
    });
}

#[test]
fn an_item_does_not_change_while_it_is_sent() {
    with_server(PLENTY, |server| {
        let old = value(1, 300_000);
        assert_eq!(ask(&mut server.service, &set("k", &old), START), b"STORED\r\n");
        let Server { service, datagrams, now } = server;
        let mut reply = [0; MAX_DATAGRAM];
        let request = datagram(0, 1, b"get k\r\n");
        assert!(datagrams.answer(service, &request, CLIENT, *now, &mut reply).is_none());
        let mut text: Vec<u8> = Vec::new();
        while let Some((len, _)) = datagrams.next(service, &mut reply) {
            text.extend(&reply[8..len]);
            // Connections go on meanwhile.
            assert_eq!(ask(service, &set("k", &value(2, 300_000)), START), b"STORED\r\n");
        }
        assert!(text == [&shown("k", &old)[..], b"END\r\n"].concat());
        // One that is not fetched to its end is dropped with the next request.
        assert!(datagrams.answer(service, &request, CLIENT, *now, &mut reply).is_none());
        assert!(datagrams.has_more());
        let request = datagram(0, 1, b"version\r\n");
        assert!(datagrams.answer(service, &request, CLIENT, *now, &mut reply).is_some());
        assert!(!datagrams.has_more());
    });
}

/// What the library answers into a buffer of any size, and what comes in datagrams.
#[test]
fn answers_are_those_of_one_large_datagram() {
    with_server(PLENTY, |server| {
        let mut memory = vec![0xa5; 8 << 20];
        let mut twin = Service::new(&mut memory, &config()).unwrap();
        let mut chance = Chance(12);
        for _ in 0..3000 {
            let mut text: Vec<u8> = Vec::new();
            for _ in 0..=chance.below(3) {
                let key = format!("key-{}", chance.below(12));
                let len = [chance.below(100), chance.below(4000), chance.below(20_000)];
                let len = len[chance.below(3)];
                match chance.below(8) {
                    0..3 => text.extend(set(&key, &chance.bytes(len))),
                    3 => text.extend(format!("get {key} key-1 key-2 key-3\r\n").bytes()),
                    4 => text.extend(format!("gets {key}\r\n").bytes()),
                    5 => text.extend(format!("mg {key} v k f s\r\n").bytes()),
                    6 => text.extend(b"stats\r\nstats slabs\r\n"),
                    _ => text.extend(format!("delete {key}\r\n").bytes()),
                }
            }
            let got = server.ask(&text);
            let expected = ask(&mut twin, &text, START);
            // Of two counters, the one counts datagrams and the other does not know of them.
            let without = |text: &[u8]| -> Vec<u8> {
                let lines = text.split_inclusive(|&byte| byte == b'\n');
                lines.filter(|line| !line.starts_with(b"STAT bytes_")).flatten().copied().collect()
            };
            assert!(
                without(&got) == without(&expected),
                "to {}",
                text.escape_ascii().to_string().chars().take(300).collect::<String>()
            );
        }
    });
}

#[test]
fn the_binary_protocol_takes_and_gives_several() {
    let packet = |opcode: u8, extras: &[u8], key: &[u8], value: &[u8]| {
        let mut bytes = vec![0x80, opcode, 0, key.len() as u8, extras.len() as u8, 0, 0, 0];
        bytes.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
        bytes.extend([0; 12]);
        [&bytes[..], extras, key, value].concat()
    };
    with_server(PLENTY, |server| {
        let value = value(3, 50_000);
        let answer = server.ask(&packet(1, &[0; 8], b"k", &value));
        assert_eq!((answer[0], &answer[6..8]), (0x81, &[0, 0][..]));
        let gets = [packet(0, b"", b"k", b""), packet(0x0a, b"", b"", b"")].concat();
        let answer = server.ask(&gets);
        assert_eq!(answer.len(), 24 + 4 + value.len() + 24);
        assert!(answer[28..][..value.len()] == value);
    });
}

#[test]
fn a_request_that_is_too_long_is_told_so() {
    with_server(PLENTY, |server| {
        let total = MOST_PARTS as u16 + 1;
        let first = server.send(&datagram(0, total, &[b'x'; PART]), CLIENT);
        assert_eq!(first.concat()[8..], *b"SERVER_ERROR request too large\r\n");
        assert!(server.send(&datagram(1, total, &[b'x'; PART]), CLIENT).is_empty());
    });
}

/// CVE-2018-1000115: a few bytes with a forged source, and much for the victim.
#[test]
fn a_forged_source_gets_its_budget_and_no_more() {
    const BUDGET: u32 = 1 << 20;
    with_server(BUDGET, |server| {
        let long = value(1, 900_000);
        assert_eq!(ask(&mut server.service, &set("long", &long), START), b"STORED\r\n");
        assert_eq!(ask(&mut server.service, &set("k", &value(2, 1300)), START), b"STORED\r\n");
        let victim = |number: u8| Source { address: [192, 168, 1, number], port: 53_000 };
        let requests = ["get k\r\n", "get long\r\n", "get k k k k\r\n", "stats\r\n", "x\r\n"];
        let requests = requests.map(|text| datagram(0, 1, text.as_bytes()));
        let mut received = [0; 4];
        for _ in 0..3 {
            for round in 0..20_000 {
                let request = &requests[round % requests.len()];
                for (number, bytes) in received.iter_mut().enumerate() {
                    let answers = server.send(request, victim(number as u8));
                    assert!(answers.iter().all(|answer| answer.len() <= 1472));
                    if answers.len() > 1 {
                        *bytes += answers.iter().map(Vec::len).sum::<usize>();
                    }
                }
            }
            server.now.uptime += 1;
        }
        for bytes in received {
            assert!(bytes <= 3 * BUDGET as usize, "{bytes} bytes in three seconds");
            assert!(bytes > 2 * BUDGET as usize, "the budget is used: {bytes}");
        }
        // What fits a datagram is answered all the same.
        server.now.uptime -= 1;
        assert!(server.send(&datagram(0, 1, b"get k k k k\r\n"), victim(0)).is_empty());
        assert_eq!(server.send(&datagram(0, 1, b"get k\r\n"), victim(0)).len(), 1);
        // Other sources are answered.
        assert_eq!(server.send(&datagram(0, 1, b"get k k k k\r\n"), victim(100)).len(), 4);
        let stats = ask(&mut server.service, b"stats\r\n", server.now);
        let stats = String::from_utf8(stats).unwrap();
        assert!(!stats.contains("datagrams_over_budget 0"), "{stats}");
    });
}

#[test]
fn a_client_that_is_connected_needs_no_budget() {
    with_server(100, |server| {
        assert_eq!(ask(&mut server.service, &set("k", &value(2, 1300)), START), b"STORED\r\n");
        let get = datagram(0, 1, b"get k k\r\n");
        assert!(server.send(&get, CLIENT).is_empty());
        server.datagrams.connected(CLIENT.address);
        for _ in 0..100 {
            assert_eq!(server.send(&get, CLIENT).len(), 2);
        }
        server.datagrams.disconnected(CLIENT.address);
        assert!(server.send(&get, CLIENT).is_empty());
    });
}

/// Datagrams of any number out of any total, of a few sources, with and without sense.
#[test]
fn datagrams_at_random_do_no_harm() {
    with_server(10_000, |server| {
        let mut chance = Chance(77);
        for _ in 0..30_000 {
            let from = Source {
                address: [10, 0, 0, chance.below(6) as u8],
                port: 4000 + chance.below(2) as u16,
            };
            let text = match chance.below(4) {
                0 => {
                    let len = chance.below(PART + 20);
                    chance.bytes(len)
                }
                1 => b"get k k k k k k\r\n".to_vec(),
                2 => {
                    let len = chance.below(1400);
                    set("k", &chance.bytes(len))
                }
                _ => b"k k k k k k k k k k\r\nset k 0 0 3000\r\n".to_vec(),
            };
            let total = [1, 2, 3, 48, 49, chance.next() as u16][chance.below(6)];
            let number = [0, 1, 2, chance.next() as u16][chance.below(4)];
            let mut datagram = datagram(number, total, &text);
            datagram[1] = chance.below(3) as u8;
            if chance.one_in(50) {
                datagram.truncate(chance.below(12));
            }
            server.send(&datagram, from);
            server.now.uptime += u32::from(chance.one_in(100));
        }
        server.now.uptime += 1;
        assert_eq!(
            server.ask(b"set k 0 0 1\r\nx\r\nget k\r\n"),
            b"STORED\r\nVALUE k 0 1\r\nx\r\nEND\r\n"
        );
    });
}
