//! Datagrams that were made to do harm: attacks known from memcached, random bytes,
//! and valid requests with something changed.
//!
//! After each the service has to answer honest requests, and correctly.

mod common;

use common::{Chance, START, ask, config, datagram};
use kvstore::stream::{Conversation, MIN_OUTPUT};
use kvstore::{MAX_DATAGRAM, Service};
use proptest::prelude::*;

fn with_service<T>(test: impl FnOnce(&mut Service<'_>) -> T) -> T {
    let mut memory = vec![0xa5; 1 << 20];
    let mut service = Service::new(&mut memory, &config()).unwrap();
    assert_eq!(ask(&mut service, b"set canary 7 0 4\r\nbird\r\n", START), b"STORED\r\n");
    test(&mut service)
}

/// Sends one datagram, as it is. Checks what must hold for every answer.
fn send(service: &mut Service<'_>, datagram: &[u8]) -> Vec<u8> {
    let mut reply = [0xee; MAX_DATAGRAM + 16];
    let len = service.answer(datagram, START, &mut reply[..MAX_DATAGRAM]).unwrap_or(0);
    assert!(len <= MAX_DATAGRAM && reply[MAX_DATAGRAM..] == [0xee; 16]);
    if len == 0 {
        return Vec::new();
    }
    // Frame of the request, one datagram, and whole lines or packets.
    assert_eq!(reply[..2], datagram[..2]);
    assert_eq!(reply[2..8], [0, 0, 0, 1, 0, 0]);
    assert!(len > 8 && (reply[..len].ends_with(b"\r\n") || are_packets(&reply[8..len])));
    reply[8..len].to_vec()
}

/// Whether these are whole answers of the binary protocol.
fn are_packets(mut bytes: &[u8]) -> bool {
    while let Some((head, rest)) = bytes.split_first_chunk::<24>() {
        let body = u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize;
        if head[0] != 0x81 || body > rest.len() {
            return false;
        }
        bytes = &rest[body..];
    }
    bytes.is_empty()
}

fn alive(service: &mut Service<'_>) {
    let answer = send(service, &datagram(b"get canary\r\n"));
    assert_eq!(answer, b"VALUE canary 7 4\r\nbird\r\nEND\r\n");
}

#[test]
fn binary_requests_whose_lengths_disagree_are_refused() {
    // CVE-2011-4971: body length -1 sends the parser into a loop. CVE-2016-8704:
    // append with a key longer than the body. CVE-2016-8705: the same for set.
    // CVE-2016-8706: SASL with a key longer than the body. CVE-2020-10931: extras
    // longer than their place, over UDP too.
    let request = |opcode: u8, key: u16, extras: u8, body: u32, rest: usize| {
        let mut bytes = vec![0x80, opcode];
        bytes.extend(key.to_be_bytes());
        bytes.extend([extras, 0, 0, 0]);
        bytes.extend(body.to_be_bytes());
        bytes.extend([0; 12]);
        bytes.extend(vec![b'A'; rest]);
        bytes
    };
    with_service(|s| {
        for (opcode, key, extras, body) in [
            (0x11u8, 0xf2u16, 8u8, 0xffff_ffffu32),
            (0x19, 0xfa, 0, 0),
            (0x0e, 0xffff, 0, 1),
            (0x01, 0xfa, 8, 0),
            (0x02, 0xffff, 8, 0xffff_fff0),
            (0x20, 32, 0, 0xffff_ffff),
            (0x21, 0xffff, 0, 1),
            (0x00, 0, 0xff, 0xff),
            (0x1c, 1, 0xff, 3),
        ] {
            for rest in [0, 1, 8, 1300] {
                let bytes = request(opcode, key, extras, body, rest);
                for end in [&b""[..], b"\n"] {
                    let answer = send(s, &datagram(&[&bytes[..], end].concat()));
                    assert!(answer.is_empty() || answer[6..8] != [0, 0], "{answer:?}");
                    alive(s);
                }
                // The same over TCP: a refusal and a close, or it waits for the rest.
                let mut conversation = Conversation::new();
                let mut output = [0; MIN_OUTPUT];
                let progress = conversation.serve(s, START, &bytes, &mut output);
                assert!(progress.produced == 0 || output[6..8] != [0, 0]);
                conversation.end(s);
                alive(s);
            }
        }
    });
}

#[test]
fn a_small_datagram_cannot_ask_for_a_large_reply() {
    // CVE-2018-1000115: a few bytes with a forged source, a megabyte to the victim.
    with_service(|s| {
        ask(s, &[b"set big 0 0 100000\r\n" as &[u8], &[b'x'; 100_000], b"\r\n"].concat(), START);
        let many = format!("get{}\r\n", " big".repeat(300));
        for request in ["get big\r\n", "gets big\r\n", &many, &"get big\r\n".repeat(150)] {
            let answer = send(s, &datagram(request.as_bytes()));
            assert!(answer.starts_with(b"SERVER_ERROR reply too large\r\n"));
        }
        assert!(send(s, &datagram("stats\r\n".repeat(200).as_bytes())).len() <= MAX_DATAGRAM - 8);
        alive(s);
    });
}

#[test]
fn a_negative_length_is_no_length() {
    // CVE-2011-4971 as it would look in text: signs, and sizes that wrap.
    with_service(|s| {
        for bytes in [
            "-1",
            "-2",
            "-2147483648",
            "2147483646",
            "2147483647",
            "18446744073709551615",
            "-18446744073709551615",
            "9223372036854775807",
        ] {
            for command in ["set", "add", "replace", "append", "prepend"] {
                let answer = send(s, &datagram(format!("{command} k 0 0 {bytes}\r\n").as_bytes()));
                assert_eq!(
                    answer, b"CLIENT_ERROR bad command line format\r\n",
                    "{command} {bytes}"
                );
            }
        }
        alive(s);
    });
}

#[test]
fn commands_without_their_arguments() {
    // CVE-2019-11596: "lru mode" and "lru temp_ttl" alone read through a null pointer.
    with_service(|s| {
        for line in ["lru mode", "lru temp_ttl", "lru tune", "lru"] {
            assert_eq!(send(s, &datagram(format!("{line}\r\n").as_bytes())), b"ERROR\r\n");
        }
        for command in [
            "get",
            "gets",
            "gat",
            "gats",
            "set",
            "add",
            "replace",
            "append",
            "prepend",
            "cas",
            "incr",
            "decr",
            "delete",
            "touch",
            "verbosity",
        ] {
            for blanks in ["", " ", "    "] {
                let answer = send(s, &datagram(format!("{command}{blanks}\r\n").as_bytes()));
                assert_eq!(answer, b"CLIENT_ERROR bad command line format\r\n", "{command}");
            }
        }
        alive(s);
    });
}

#[test]
fn a_length_that_disagrees_with_the_datagram() {
    with_service(|s| {
        for len in [5usize, 6, 100, 1400, 65_535, 1_000_000, 2_147_483_645] {
            for tail in ["", "x", "bird", "bird\r\n", "bird\r\nget canary\r\n"] {
                for command in ["set", "add", "append"] {
                    let request = format!("{command} canary 0 0 {len}\r\n{tail}");
                    let answer = send(s, &datagram(request.as_bytes()));
                    if tail.ends_with("canary\r\n") && len <= 16 {
                        assert!(answer.starts_with(b"CLIENT_ERROR bad data chunk\r\n"));
                    } else if len < 1 << 19 {
                        assert_eq!(answer, b"CLIENT_ERROR bad data chunk\r\n", "{request}");
                    } else {
                        assert_eq!(
                            answer, b"SERVER_ERROR object too large for cache\r\n",
                            "{request}"
                        );
                        ask(s, b"set canary 7 0 4\r\nbird\r\n", START);
                    }
                    alive(s);
                }
            }
        }
        // Shorter than what is there: what is left over is the next line.
        let answer = send(s, &datagram(b"set other 0 0 2\r\nbird\r\n"));
        assert_eq!(answer, b"CLIENT_ERROR bad data chunk\r\nERROR\r\n");
        assert_eq!(send(s, &datagram(b"get other\r\n")), b"END\r\n");
    });
}

#[test]
fn the_shortest_datagrams() {
    // memcached issue 724: nine bytes over UDP were enough.
    with_service(|s| {
        for len in 0..12 {
            for byte in 0..=255 {
                send(s, &vec![byte; len]);
                send(s, &datagram(&vec![byte; len]));
            }
        }
        alive(s);
    });
}

#[test]
fn a_key_cannot_forge_a_reply() {
    with_service(|s| {
        for byte in (0..0x20).filter(|byte| *byte != b'\n') {
            for place in 0..20 {
                let mut key = [b'k'; 20];
                key[place] = byte;
                let ask = |s: &mut Service<'_>, before: &str, after: &str| {
                    let line = [before.as_bytes(), &key, after.as_bytes(), b"\r\n"].concat();
                    send(s, &datagram(&line))
                };
                // It is one key, wherever it stands, and comes back as it was sent.
                assert_eq!(ask(s, "set ", " 0 0 1\r\n5"), b"STORED\r\n", "{byte} at {place}");
                let value = [b"VALUE ", &key[..], b" 0 1\r\n5\r\nEND\r\n"].concat();
                assert_eq!(ask(s, "get ", ""), value, "{byte} at {place}");
                assert_eq!(ask(s, "get a ", " b"), value, "{byte} at {place}");
                assert_eq!(ask(s, "touch ", " 0"), b"TOUCHED\r\n", "{byte} at {place}");
                assert_eq!(ask(s, "incr ", " 1"), b"6\r\n", "{byte} at {place}");
                assert_eq!(ask(s, "delete ", ""), b"DELETED\r\n", "{byte} at {place}");
                assert_eq!(ask(s, "get ", ""), b"END\r\n", "{byte} at {place}");
            }
        }
        for len in [251, 252, 1000] {
            let line = format!("get {}\r\n", "k".repeat(len));
            assert_eq!(
                send(s, &datagram(line.as_bytes())),
                b"CLIENT_ERROR bad command line format\r\n"
            );
        }
        alive(s);
    });
}

/// A valid request for a small set of keys.
fn request(chance: &mut Chance) -> Vec<u8> {
    let key = ["a", "bb", "canarx", "key:0000000000000001"][chance.below(4)];
    let number = chance.next() >> chance.below(64);
    let value = vec![b'v'; chance.below(200)];
    let len = value.len();
    let line = match chance.below(12) {
        0 => format!("get {key}"),
        1 => format!("gets {key} canarz {key}"),
        2 => format!("incr {key} {number}"),
        3 => format!("decr {key} {number} noreply"),
        4 => format!("touch {key} {}", number as i32),
        5 => format!("delete {key}"),
        6 => format!("gat {} {key}", number as i32),
        7 => "stats".to_owned(),
        _ => {
            let command = chance.pick(&["set", "add", "replace", "append", "prepend", "cas"]);
            let cas = if command == "cas" { format!(" {number}") } else { String::new() };
            let line = format!("{command} {key} {} 0 {len}{cas}\r\n", number as u32);
            return [line.as_bytes(), &value, b"\r\n"].concat();
        }
    };
    format!("{line}\r\n").into_bytes()
}

#[test]
fn valid_requests_with_something_changed() {
    let mut chance = Chance(2024);
    with_service(|s| {
        for _ in 0..60_000 {
            let mut text = Vec::new();
            for _ in 0..=chance.below(3) {
                text.extend(request(&mut chance));
            }
            for _ in 0..chance.below(4) {
                let at = chance.below(text.len());
                match chance.below(6) {
                    0 => text[at] = chance.next() as u8,
                    1 => text[at] = b" \r\n\0-0"[chance.below(6)],
                    2 => text.insert(at, b" \r\n\0-9"[chance.below(6)]),
                    3 => drop(text.remove(at)),
                    4 => text.truncate(at + 1),
                    _ => text.extend_from_within(at..),
                }
                if text.is_empty() {
                    text.push(b'\n');
                }
            }
            // A key that was changed into the canary's would be honest business.
            if !text.windows(6).any(|w| w == b"canary") && !text.windows(5).any(|w| w == b"flush") {
                send(s, &datagram(&text));
            }
            if chance.one_in(10) {
                // It may have been evicted by now; if not, it is as it was.
                let answer = send(s, &datagram(b"get canary\r\n"));
                assert!(answer == b"VALUE canary 7 4\r\nbird\r\nEND\r\n" || answer == b"END\r\n");
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_do_no_harm(
        raw in prop::collection::vec(any::<u8>(), 0..64),
        text in "([ \r\n\0a-z0-9-]|get |set |cas |\r\n){0,80}",
    ) {
        with_service(|s| {
            send(s, &raw);
            send(s, &datagram(&raw));
            send(s, &datagram(text.as_bytes()));
            alive(s);
        });
    }

    /// The short way to read a `get` of one key comes to the same as the long one:
    /// with a second line behind it, the short one is not taken.
    #[test]
    fn both_ways_to_read_a_get_agree(key in "[ -~\r\n\0]{0,40}", end in "(\r\n|\n|\r|)") {
        with_service(|s| {
            let line = format!("get {key}{end}");
            let one = ask(s, line.as_bytes(), START);
            let two = ask(s, format!("{line}noise\r\n").as_bytes(), START);
            if line.ends_with('\n') {
                prop_assert_eq!([&one[..], b"ERROR\r\n"].concat(), two);
            }
            Ok(())
        })?;
    }
}
