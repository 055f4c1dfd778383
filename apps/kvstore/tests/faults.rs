//! What memcached was mended for from 1.6.19 to 1.6.45, and its known vulnerabilities that
//! need a connection, as input to this store. None of it is ever sent to memcached.
//!
//! After each, honest requests are answered correctly, no connection is left behind, and the
//! memory that a refused item would have taken is there again.

mod common;

use common::{START, config};
use kvstore::Service;
use kvstore::stream::{Conversation, MIN_INPUT, MIN_OUTPUT, Next};

/// The answers of a connection that sends this, and whether it was closed. It sends as much at a
/// time as a buffer of least size holds.
fn talk(service: &mut Service<'_>, text: &[u8]) -> (String, bool) {
    let mut conversation = Conversation::new();
    let (mut input, mut rest, mut answers) = (Vec::new(), text, Vec::new());
    let closed = loop {
        let mut output = [0; MIN_OUTPUT];
        let progress = conversation.serve(service, START, &input, &mut output);
        input.drain(..progress.consumed);
        answers.extend_from_slice(&output[..progress.produced]);
        match progress.next {
            Next::Close => break true,
            Next::Room => {}
            Next::Input if rest.is_empty() => break false,
            Next::Input => {
                let (piece, more) = rest.split_at(rest.len().min(MIN_INPUT - input.len()));
                input.extend_from_slice(piece);
                rest = more;
            }
        }
    };
    conversation.end(service);
    (String::from_utf8_lossy(&answers).into_owned(), closed)
}

/// Sends each text on a connection of its own; gives the answers, checked to be the last thing
/// that went wrong.
fn check(cases: &[(&[u8], &str, bool)]) {
    let mut memory = vec![0; 8 << 20];
    let mut service = Service::new(&mut memory, &config()).expect("a store");
    assert_eq!(talk(&mut service, b"set canary 7 0 4\r\nbird\r\n").0, "STORED\r\n");
    let items = |service: &Service<'_>| service.engine().usage().items;
    let before = items(&service);
    for (text, answers, closed) in cases {
        let shown = || String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
        let (said, was_closed) = talk(&mut service, text);
        assert_eq!(said, *answers, "{:?}", shown());
        assert_eq!(was_closed, *closed, "{:?}", shown());
        let canary = talk(&mut service, b"get canary\r\n").0;
        assert_eq!(canary, "VALUE canary 7 4\r\nbird\r\nEND\r\n", "after {:?}", shown());
        assert_eq!(items(&service), before, "after {:?}", shown());
        let stats = talk(&mut service, b"stats\r\n").0;
        assert!(stats.contains("STAT curr_connections 1\r\n"), "after {:?}", shown());
    }
}

const FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";
const TOKEN: &str = "CLIENT_ERROR bad token in command line format\r\n";

#[test]
fn lines_of_blanks_only() {
    let blanks = [b' '; 2000];
    check(&[
        (b"\r\n", "ERROR\r\n", false),
        (b" \r\n", "ERROR\r\n", false),
        (b"\n\n", "ERROR\r\nERROR\r\n", false),
        (&[&blanks[..], b"\r\n"].concat(), "ERROR\r\n", false),
        (&[&blanks[..], &blanks[..]].concat(), "", true),
    ]);
}

#[test]
fn meta_flags_without_their_argument() {
    for (verb, flags) in [("mg canary", "TNRCE"), ("md absent", "TCE"), ("mg canary v k", "TNRCE")]
    {
        for flag in flags.chars() {
            check(&[(format!("{verb} {flag}\r\n").as_bytes(), TOKEN, false)]);
        }
    }
    check(&[
        (b"mg\r\n", FORMAT, false),
        (b"ms canary\r\n", FORMAT, false),
        (b"ms canary S4\r\n", FORMAT, false),
        (b"mg canary M\r\n", "CLIENT_ERROR incorrect length for M token\r\n", false),
        (b"ma canary D\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n", false),
        (b"ma canary J\r\n", "CLIENT_ERROR invalid or duplicate flag\r\n", false),
        (b"mg canary O\r\n", "HD O\r\n", false),
        (b"mg canary \xff\r\n", "CLIENT_ERROR duplicate flag\r\n", false),
    ]);
}

#[test]
fn a_refused_meta_set_takes_its_data_with_it_and_leaves_nothing() {
    let long = "O".repeat(33);
    let tell = |line: &str, answer: &str| {
        for len in [1, 3000, 900_000] {
            let value = "v".repeat(len);
            let text = line.replace("LEN", &len.to_string());
            let text = format!("{text}\r\n{value}\r\nmn\r\n");
            check(&[(text.as_bytes(), &format!("{answer}MN\r\n"), false)]);
        }
    };
    tell(&format!("ms new LEN {long}"), "CLIENT_ERROR opaque token too long\r\n");
    tell("ms new LEN Mx", "CLIENT_ERROR invalid mode for ms M token\r\n");
    tell("ms new LEN MSS", "CLIENT_ERROR incorrect length for M token\r\n");
    tell("ms new LEN T", TOKEN);
    tell("ms new LEN Fx", FORMAT);
    tell("ms new LEN q q", "CLIENT_ERROR duplicate flag\r\n");
    tell("ms !!! LEN b", "CLIENT_ERROR error decoding key\r\n");
    tell(&format!("ms {} LEN", "k".repeat(251)), FORMAT);
    // A condition that does not hold, found when the value is there.
    tell("ms canary LEN ME", "NS\r\n");
    tell("ms new LEN MR", "NS\r\n");
    tell("ms new LEN C5", "NF\r\n");
    tell("ms canary LEN C5", "EX\r\n");
}

#[test]
fn a_key_repeated_without_end() {
    // A counter of references of 16 bits once overflowed, and the item was freed under the reader.
    let keys = "canary ".repeat(70_000);
    let expected = "VALUE canary 7 4\r\nbird\r\n".repeat(70_000) + "END\r\n";
    check(&[(format!("get {keys}\r\n").as_bytes(), &expected, false)]);
}

#[test]
fn a_get_of_keys_without_end() {
    // The buffer once grew until there was no memory. Here each key is done with as it comes.
    let keys = "absent".repeat(30) + " ";
    check(&[
        (format!("get {}", keys.repeat(20_000)).as_bytes(), "", false),
        (format!("gets {}\r\n", "x".repeat(100_000)).as_bytes(), FORMAT, false),
    ]);
}

/// A request of the binary protocol whose lengths are as they should not be.
fn packet(opcode: u8, key: u16, extras: u8, body: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, opcode];
    bytes.extend(key.to_be_bytes());
    bytes.extend([extras, 0, 0, 0]);
    bytes.extend(body.to_be_bytes());
    bytes.extend([0; 12]);
    bytes.extend([b'k'; 400]);
    bytes
}

#[test]
fn binary_bodies_of_all_lengths() {
    let mut memory = vec![0; 8 << 20];
    let mut service = Service::new(&mut memory, &config()).expect("a store");
    for opcode in 0..=255 {
        for body in [0, 1, 8, 20, 300, 1 << 20, i32::MAX as u32, 1 << 31, u32::MAX - 1, u32::MAX] {
            for (key, extras) in
                [(0, 0), (1, 8), (1, 0), (250, 8), (251, 8), (u16::MAX, 255), (8, 20)]
            {
                let (said, _) = talk(&mut service, &packet(opcode, key, extras, body));
                // Nothing is stored of it, as it never comes to its end or is refused.
                let stored =
                    said.as_bytes().starts_with(&[0x81, opcode]) && said.as_bytes()[6..8] == [0, 0];
                assert!(!stored || body <= 300, "{opcode:#x} {key} {extras} {body}");
            }
        }
    }
    let stats = talk(&mut service, b"stats\r\n").0;
    assert!(stats.contains("STAT curr_connections 1\r\n"));
    let set = format!("set big 0 0 1000000\r\n{}\r\n", "v".repeat(1_000_000));
    assert_eq!(talk(&mut service, set.as_bytes()).0, "STORED\r\n", "no memory is left behind");
}

#[test]
fn a_body_above_two_to_the_31_is_refused_and_passed_over() {
    let mut text = packet(0x01, 3, 8, 1 << 31);
    text.extend(vec![0; 100_000]);
    let mut memory = vec![0; 8 << 20];
    let mut service = Service::new(&mut memory, &config()).expect("a store");
    let (said, closed) = talk(&mut service, &text);
    assert!(said.contains("Too large.") && !closed);
    assert_eq!(said.matches("Too large.").count(), 1, "the rest is no request");
}
