//! A store with users: what comes before the first request of a connection.

mod common;

use std::io::{Read, Write};

use common::oracle::Oracle;
use common::{Chance, START, ask, config};
use kvstore::Service;
use kvstore::stream::{Conversation, MIN_OUTPUT, Next};
use kvstore::users::Users;

const USERS: &[u8] = b"ann:secret\nbob:pass:word\n";

fn with_service<T>(test: impl FnOnce(&mut Service<'_>) -> T) -> T {
    let mut memory = vec![0xa5; 4 << 20];
    let mut service = Service::new(&mut memory, &config()).unwrap();
    service.require(Users::new(USERS, b'\n').unwrap());
    test(&mut service)
}

/// A connection, its input cut as it is given; what it is answered, and whether it is closed.
fn answers(service: &mut Service<'_>, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut conversation = Conversation::new();
    let (mut input, mut answer, mut closed) = (Vec::new(), Vec::new(), false);
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut output = vec![0; MIN_OUTPUT];
        loop {
            let progress = conversation.serve(service, START, &input, &mut output);
            input.drain(..progress.consumed);
            answer.extend(&output[..progress.produced]);
            match progress.next {
                Next::Input => break,
                Next::Room => {}
                Next::Close => {
                    closed = true;
                    break;
                }
            }
        }
        if closed {
            break;
        }
    }
    conversation.end(service);
    (answer, closed)
}

fn login(text: &str) -> Vec<u8> {
    format!("set login 0 0 {}\r\n{text}\r\n", text.len()).into_bytes()
}

#[test]
fn a_user_with_the_right_password_is_served() {
    with_service(|service| {
        for text in ["ann secret", "bob pass:word", "  ann   secret  more"] {
            let all = [&login(text)[..], b"set k 0 0 1\r\nx\r\nget k\r\n"].concat();
            let expected = b"STORED\r\nSTORED\r\nVALUE k 0 1\r\nx\r\nEND\r\n".to_vec();
            assert_eq!(answers(service, &[&all]), (expected.clone(), false), "{text}");
            // However it is cut.
            let pieces: Vec<_> = all.chunks(1).collect();
            assert_eq!(answers(service, &pieces), (expected, false), "{text}");
        }
        // What is set to log in is not stored.
        let all = [&login("ann secret")[..], b"get login\r\n"].concat();
        assert_eq!(answers(service, &[&all]).0, b"STORED\r\nEND\r\n");
        let stats = answers(service, &[&login("ann x"), &login("ann secret"), b"stats\r\n"]).0;
        let stats = String::from_utf8(stats).unwrap();
        assert!(stats.contains("STAT auth_cmds 9\r\nSTAT auth_errors 1\r\n"), "{stats}");
    });
}

#[test]
fn nothing_is_served_before() {
    with_service(|service| {
        let canary = [&login("ann secret")[..], b"set canary 0 0 4\r\nbird\r\n"].concat();
        assert_eq!(answers(service, &[&canary]).0, b"STORED\r\nSTORED\r\n");
        for request in [
            "get canary\r\n",
            "version\r\n",
            "stats\r\n",
            "flush_all\r\n",
            "quit\r\n",
            "shutdown\r\n",
            "mg canary v\r\n",
            "mn\r\n",
            "\r\n",
            "add k 0 0 10\r\n",
            "set k 0 0\r\n",
            "set k 0 0 x\r\n",
            "set k 0 0 -1\r\n",
            "set k 0 0 99999999999\r\n",
        ] {
            let refused = b"CLIENT_ERROR unauthenticated\r\n".to_vec();
            assert_eq!(answers(service, &[request.as_bytes()]), (refused, false), "{request}");
        }
        // Nor behind a login that failed, in one piece.
        let text = [&login("ann wrong")[..], b"get canary\r\nset canary 0 0 1\r\nx\r\n"].concat();
        let (answer, _) = answers(service, &[&text]);
        let refused = b"CLIENT_ERROR unauthenticated\r\n\
            CLIENT_ERROR bad authentication token format\r\n";
        assert!(answer.ends_with(refused), "{}", answer.escape_ascii());
        let both = [&login("ann secret")[..], b"get canary\r\n"].concat();
        assert!(answers(service, &[&both]).0.ends_with(b"bird\r\nEND\r\n"), "it is still there");
    });
}

#[test]
fn huge_and_empty_lines_end_in_an_error_or_a_close() {
    with_service(|service| {
        let failure = b"CLIENT_ERROR authentication failure\r\n".to_vec();
        let no_token = b"CLIENT_ERROR bad authentication token format\r\n".to_vec();
        let no_end = b"CLIENT_ERROR bad command line termination\r\n".to_vec();
        for text in ["", " ", "ann", "ann ", "    "] {
            assert_eq!(answers(service, &[&login(text)]), (no_token.clone(), false), "{text:?}");
        }
        let long = "x".repeat(255);
        for text in
            ["ann wrong", "ann secret2", "x secret", "ann\0 secret", &format!("{long} {long}")]
        {
            assert_eq!(answers(service, &[&login(text)]), (failure.clone(), false), "{text:?}");
        }
        assert_eq!(answers(service, &[b"set k 0 0 10\r\nann secretXX"]), (no_end, false));
        for len in [512_u32, 65_536, 2_147_483_646, 4_294_967_295] {
            let line = format!("set k 0 0 {len}\r\n");
            assert_eq!(answers(service, &[line.as_bytes()]), (failure.clone(), true), "{len}");
        }
        // A line without an end.
        assert_eq!(answers(service, &[&[b'x'; 2048]]), (Vec::new(), false));
        assert_eq!(answers(service, &[&[b'x'; 2049]]), (Vec::new(), true));
        let get = [&b"get "[..], &b"k ".repeat(2000)].concat();
        assert_eq!(answers(service, &[&get]), (Vec::new(), true));
    });
}

/// A request of the binary protocol.
fn packet(opcode: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = (key.len() + value.len()) as u32;
    let mut packet = vec![0x80, opcode];
    packet.extend((key.len() as u16).to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(body.to_be_bytes());
    packet.extend([0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
    [&packet[..], key, value].concat()
}

/// An answer of it, without a key.
fn answer(opcode: u8, status: u16, text: &[u8]) -> Vec<u8> {
    let mut answer = packet(opcode, b"", text);
    answer[0] = 0x81;
    answer[6..8].copy_from_slice(&status.to_be_bytes());
    answer
}

/// What memcached 1.6.18 with `-S` answers; that of a login that succeeds is its source's.
#[test]
fn the_binary_protocol_has_sasl() {
    const GET: u8 = 0;
    const LIST: u8 = 0x20;
    const LOGIN: u8 = 0x21;
    let barred = |opcode| answer(opcode, 0x20, b"Auth failure.");
    let miss = answer(GET, 1, b"Not found");
    with_service(|service| {
        let mechanisms = answer(LIST, 0, b"PLAIN");
        let version = answer(0x0b, 0, b"1.6.45-exo");
        let before = [packet(LIST, b"", b""), packet(0x0b, b"", b"")].concat();
        let told = [mechanisms, version].concat();
        assert_eq!(answers(service, &[&before]), (told, false));
        // Nothing else, and the connection ends.
        for opcode in [GET, 0x01, 0x07, 0x08, 0x0a, 0x10, 0x77] {
            let all = [packet(opcode, b"k", b""), packet(LIST, b"", b"")].concat();
            assert_eq!(answers(service, &[&all]), (barred(opcode), true), "{opcode:#x}");
        }
        for message in ["\0ann\0secret", "ann\0ann\0secret", "\0bob\0pass:word"] {
            let login = packet(LOGIN, b"PLAIN", message.as_bytes());
            let all = [login, packet(GET, b"k", b"")].concat();
            let expected = [answer(LOGIN, 0, b"Authenticated"), miss.clone()].concat();
            assert_eq!(answers(service, &[&all]), (expected.clone(), false), "{message:?}");
            let pieces: Vec<_> = all.chunks(1).collect();
            assert_eq!(answers(service, &pieces), (expected, false), "{message:?}");
        }
        let long = "s".repeat(5000);
        for (mechanism, message) in [
            ("PLAIN", "\0ann\0wrong"),
            ("PLAIN", "bob\0ann\0secret"),
            ("PLAIN", "\0ann\0secret\0"),
            ("PLAIN", "\0ann"),
            ("PLAIN", "ann secret"),
            ("PLAIN", ""),
            ("PLAIN", &long),
            ("CRAM-MD5", "\0ann\0secret"),
        ] {
            // It may be tried again.
            let all = [
                packet(LOGIN, mechanism.as_bytes(), message.as_bytes()),
                packet(LOGIN, b"PLAIN", b"\0ann\0secret"),
                packet(GET, b"k", b""),
            ];
            let expected = [barred(LOGIN), answer(LOGIN, 0, b"Authenticated"), miss.clone()];
            let (told, closed) = answers(service, &[&all.concat()]);
            assert!((told, closed) == (expected.concat(), false), "{mechanism} {message:?}");
            // And one that fails takes back an earlier one.
            let [wrong, right, get] = all;
            let (told, closed) = answers(service, &[&[right, wrong, get].concat()]);
            let [no, yes, _] = expected;
            assert!((told, closed) == ([yes, no, barred(GET)].concat(), true), "{message:?}");
        }
        let invalid = answer(LIST, 4, b"Invalid arguments");
        assert_eq!(answers(service, &[&packet(LIST, b"k", b"")]), (invalid, true));
        let settings = answers(service, &[&login("ann secret"), b"stats settings\r\n"]).0;
        let settings = String::from_utf8(settings).unwrap();
        assert!(settings.contains("auth_enabled_sasl yes\r\n"), "{settings}");
    });
    // Without users its commands are unknown ones.
    let mut memory = vec![0xa5; 4 << 20];
    let mut service = Service::new(&mut memory, &config()).unwrap();
    for (opcode, key) in [(LIST, &b""[..]), (LOGIN, b"PLAIN")] {
        let unknown = answer(opcode, 0x81, b"Unknown command");
        assert_eq!(answers(&mut service, &[&packet(opcode, key, b"")]), (unknown, false));
    }
}

/// One after the other over one connection, with and without sense, to memcached and to the library.
/// (Of several that it has not answered, memcached answers only the last.)
#[test]
fn answers_are_those_of_memcached() {
    let path = std::env::temp_dir().join(format!("exo-users-{}", std::process::id()));
    std::fs::write(&path, USERS).unwrap();
    let file = path.to_str().unwrap().to_owned();
    let mut chance = Chance(5);
    for _ in 0..40 {
        let mut requests: Vec<Vec<u8>> = (0..chance.below(12))
            .map(|_| match chance.below(8) {
                0 => b"get k\r\n".to_vec(),
                1 => b"set k 0 0\r\n".to_vec(),
                2 => login("ann wrong"),
                3 => login(""),
                4 => login("ann"),
                5 => b"set k 0 0 10\r\nann secretXX".to_vec(),
                6 => b"  set a b c 9 d e\r\nbob wrong\r\n".to_vec(),
                _ => b"\r\n".to_vec(),
            })
            .collect();
        requests.push(login(["ann secret", "bob pass:word"][chance.below(2)]));
        requests.push(b"get login\r\n".to_vec());
        let options = ["-m64", "-Y", &file, "-U0"];
        let Some((_memcached, mut theirs)) = Oracle::start_barred("logins", &options) else {
            break;
        };
        with_service(|service| {
            for n in 0..requests.len() {
                theirs.write_all(&requests[n]).unwrap();
                let mut answer = Vec::new();
                while !answer.ends_with(b"\r\n") {
                    let mut byte = [0];
                    theirs.read_exact(&mut byte).unwrap();
                    answer.push(byte[0]);
                }
                // All that came before is sent again, to a new connection.
                let pieces: Vec<&[u8]> = requests[..=n].iter().map(Vec::as_slice).collect();
                let (own, closed) = answers(service, &pieces);
                assert!(!closed && own.ends_with(&answer), "to {}", requests[n].escape_ascii());
                assert_eq!(own.iter().filter(|&&byte| byte == b'\n').count(), n + 1);
            }
        });
    }
    let _ = std::fs::remove_file(&path);
}

#[test]
fn without_users_nothing_changes() {
    let mut memory = vec![0xa5; 4 << 20];
    let mut service = Service::new(&mut memory, &config()).unwrap();
    assert_eq!(ask(&mut service, b"get k\r\n", START), b"END\r\n");
    assert_eq!(answers(&mut service, &[b"get k\r\n"]).0, b"END\r\n");
}
