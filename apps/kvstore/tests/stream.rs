//! A connection's bytes: the same answers however they are cut, and however little room there
//! is for the answers.

mod common;

use common::{Chance, START, config};
use kvstore::Service;
use kvstore::stream::{Conversation, MIN_INPUT, MIN_OUTPUT, Next};

/// Shows `text` to a conversation in pieces of lengths that `cut` gives, with room for
/// answers of lengths that `room` gives, in buffers of least size. The answers, and whether it
/// closed.
fn talk(
    service: &mut Service<'_>,
    text: &[u8],
    mut cut: impl FnMut() -> usize,
    mut room: impl FnMut() -> usize,
) -> (Vec<u8>, bool) {
    let mut conversation = Conversation::new();
    let (mut waiting, mut answers) = (Vec::new(), Vec::new());
    let (mut rest, mut least_room) = (text, 1);
    loop {
        let mut output = vec![0xee; room().clamp(least_room, MIN_OUTPUT)];
        let progress = conversation.serve(service, START, &waiting, &mut output);
        assert!(progress.consumed <= waiting.len() && progress.produced <= output.len());
        waiting.drain(..progress.consumed);
        answers.extend_from_slice(&output[..progress.produced]);
        match progress.next {
            Next::Close => return (answers, true),
            Next::Room => {
                let moved = progress.produced + progress.consumed > 0;
                assert!(moved || least_room == 1, "stuck for room");
                least_room = MIN_OUTPUT;
            }
            Next::Input => {
                assert!(waiting.len() < MIN_INPUT, "stuck for input at {}", waiting.len());
                if rest.is_empty() {
                    conversation.end(service);
                    return (answers, false);
                }
                let len = cut().clamp(1, MIN_INPUT - waiting.len()).min(rest.len());
                waiting.extend_from_slice(&rest[..len]);
                rest = &rest[len..];
                least_room = 1;
            }
        }
    }
}

fn with_store<T>(test: impl FnOnce(&mut Service<'_>) -> T) -> T {
    let mut memory = vec![0; 8 << 20];
    test(&mut Service::new(&mut memory, &config()).expect("a store"))
}

/// The answers to `text` in one piece.
fn answers(text: &[u8]) -> (String, bool) {
    with_store(|service| {
        let (answers, closed) = talk(service, text, || usize::MAX, || usize::MAX);
        (String::from_utf8_lossy(&answers).into_owned(), closed)
    })
}

fn check(text: &str, expected: &str) {
    assert_eq!(answers(text.as_bytes()), (expected.to_owned(), false), "{text:?}");
}

#[test]
fn requests_are_answered_in_order() {
    check(
        "set a 5 0 3\r\nabc\r\nget a\r\nget b\nset b 0 0 1 noreply\r\nx\r\nget a b  a\r\ndelete a\r\n",
        "STORED\r\nVALUE a 5 3\r\nabc\r\nEND\r\nEND\r\n\
         VALUE a 5 3\r\nabc\r\nVALUE b 0 1\r\nx\r\nVALUE a 5 3\r\nabc\r\nEND\r\nDELETED\r\n",
    );
    check("get a", "");
    check("set a 0 0 3\r\nab", "");
    check("set a 0 0 3\r\nabcde\r\nget a\r\n", "CLIENT_ERROR bad data chunk\r\nERROR\r\nEND\r\n");
    check("set a x 0 5\r\nget a\r\nget a\r\n", "CLIENT_ERROR bad command line format\r\nEND\r\n");
    assert!(answers(b"version\r\nquit\r\nversion\r\n").1);
}

#[test]
fn a_get_of_keys_without_end_is_answered_as_they_come() {
    let keys = "absent present ".repeat(20_000);
    let text = format!("set present 0 0 1\r\nx\r\nget {keys}\r\nget absent\r\n");
    let expected = "VALUE present 0 1\r\nx\r\n".repeat(20_000);
    check(&text, &format!("STORED\r\n{expected}END\r\nEND\r\n"));
    // A key that is too long, far down the line.
    let text = format!("get {keys}{}\r\nget absent\r\n", "k".repeat(5000));
    check(&text, "CLIENT_ERROR bad command line format\r\nEND\r\n");
    let text = format!("get present {}\r\nget absent\r\n", "k".repeat(251));
    check(&text, "CLIENT_ERROR bad command line format\r\nEND\r\n");
}

#[test]
fn a_line_without_end_closes_the_connection() {
    for text in ["x".repeat(2049), format!("set {}", "x".repeat(2045)), " ".repeat(2049)] {
        assert_eq!(answers(text.as_bytes()), (String::new(), true));
        assert_eq!(answers(&text.as_bytes()[..2048]), (String::new(), false));
    }
}

#[test]
fn a_value_larger_than_any_is_refused_at_once_and_passed_over() {
    let text =
        format!("set a 0 0 1\r\nx\r\nset a 0 0 2000000\r\n{}\r\nget a\r\n", "v".repeat(2_000_000));
    check(&text, "STORED\r\nSERVER_ERROR object too large for cache\r\nEND\r\n");
}

/// Requests of all kinds, well-formed or not.
fn requests(chance: &mut Chance) -> Vec<u8> {
    let mut text = Vec::new();
    let line = |text: &mut Vec<u8>, line: String| text.extend(line.bytes().chain(*b"\r\n"));
    for _ in 0..40 {
        let key = ["a", "b", "c", "counter"][chance.below(4)];
        let len = [0, 1, 5, 60, 300, 2000, 2048, 2049, 5000, 70_000][chance.below(10)];
        let value = String::from_utf8(vec![b'a' + chance.below(26) as u8; len]).unwrap();
        match chance.below(16) {
            0 => line(&mut text, format!("get {key} a b {key}")),
            1 => line(&mut text, format!("gets {key}")),
            2 => line(&mut text, format!("gat 0 {key} c")),
            3 => line(&mut text, format!("incr {key} 5")),
            4 => line(&mut text, "set counter 0 0 2\r\n17".into()),
            5 => line(&mut text, "stats nonsense\r\n\r\nversion\r\nget\r\nstats settings".into()),
            6 => line(&mut text, format!("delete {key}\r\ntouch {key} 0")),
            7 => line(&mut text, format!("set {key} x 0 {len}\r\n{value}")),
            8 => line(&mut text, format!("get {}", "k".repeat(251))),
            9 => line(&mut text, format!("append {key} 0 0 {len}\r\n{value}")),
            10 => line(&mut text, format!("mg {key} v k c s f Oabc")),
            11 => line(&mut text, format!("ms {key} {len} MP c k s Oxyz\r\n{value}")),
            12 => line(&mut text, format!("ms YQ== {len} b I C3 c k q\r\n{value}")),
            13 => line(&mut text, format!("set {key} 0 0 {}\r\n{value}", len.saturating_sub(1))),
            _ => line(&mut text, format!("set {key} 7 0 {len}\r\n{value}")),
        }
    }
    text
}

/// Packets of the binary protocol.
fn packets(chance: &mut Chance) -> Vec<u8> {
    let mut text = Vec::new();
    for opaque in 0..40 {
        let key = ["a", "b", "c", "counter"][chance.below(4)];
        let len = [0, 1, 5, 60, 300, 2000, 2048, 2049, 5000, 70_000][chance.below(10)];
        let value = vec![b'a' + chance.below(26) as u8; len];
        let (opcode, extras, key, value): (u8, &[u8], _, &[u8]) = match chance.below(10) {
            0..3 => ([0, 9, 0x0c, 0x0d][chance.below(4)], &[], key, &[]),
            3..6 => ([1, 2, 3, 0x11][chance.below(4)], &[0, 0, 0, 7, 0, 0, 0, 0], key, &value),
            6 => ([0x0e, 0x0f, 0x19][chance.below(3)], &[], key, &value),
            7 => ([4, 0x14][chance.below(2)], &[], key, &[]),
            8 => (5, &[0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0], key, &[]),
            _ => ([0x0a, 0x0b, 0x7f][chance.below(3)], &[], "", &[]),
        };
        text.extend(packet(opcode, opaque, 0, extras, key.as_bytes(), value));
    }
    text
}

fn packet(opcode: u8, opaque: u32, cas: u64, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut text = vec![0x80, opcode];
    text.extend((key.len() as u16).to_be_bytes());
    text.extend([extras.len() as u8, 0, 0, 0]);
    text.extend(((extras.len() + key.len() + value.len()) as u32).to_be_bytes());
    text.extend(opaque.to_be_bytes());
    text.extend(cas.to_be_bytes());
    [&text, extras, key, value].concat()
}

#[test]
fn answers_do_not_depend_on_how_requests_are_cut_or_how_much_room_there_is() {
    for seed in 0..40 {
        let chance = &mut Chance(seed);
        let text = if seed % 2 == 0 { requests(chance) } else { packets(chance) };
        let whole = with_store(|service| {
            let mut output = vec![0; 8 << 20];
            let progress = Conversation::new().serve(service, START, &text, &mut output);
            assert_eq!((progress.consumed, progress.next), (text.len(), Next::Input));
            output.truncate(progress.produced);
            (output, false)
        });
        for most in [1, 100, 3000, 100_000] {
            let (mut cuts, mut rooms) = (Chance(seed), Chance(seed + 1));
            let cut = with_store(|service| {
                talk(service, &text, || 1 + cuts.below(most), || 1 + rooms.below(2 * most))
            });
            let same = cut.0.iter().zip(&whole.0).take_while(|(a, b)| a == b).count();
            let near = |text: &[u8]| {
                text[same.saturating_sub(80)..]
                    .escape_ascii()
                    .take(200)
                    .map(char::from)
                    .collect::<String>()
            };
            assert!(
                cut == whole,
                "seed {seed}, pieces of at most {most}: {} and {}",
                near(&cut.0),
                near(&whole.0)
            );
        }
    }
}

/// The first `len` bytes of the answers to `text`, and the conversation in the middle of them.
fn begin(service: &mut Service<'_>, text: &[u8], len: usize) -> (Conversation, Vec<u8>, usize) {
    let mut conversation = Conversation::new();
    let mut output = vec![0; len];
    let progress = conversation.serve(service, START, text, &mut output);
    output.truncate(progress.produced);
    (conversation, output, progress.consumed)
}

fn ask_whole(service: &mut Service<'_>, text: &str) -> String {
    let mut conversation = Conversation::new();
    let mut output = vec![0; 4 << 20];
    let progress = conversation.serve(service, START, text.as_bytes(), &mut output);
    conversation.end(service);
    String::from_utf8_lossy(&output[..progress.produced]).into_owned()
}

#[test]
fn a_value_on_its_way_out_does_not_change() {
    for change in ["set", "append", "delete", "flush_all", "incr", "prepend", "full"] {
        with_store(|service| {
            let digits = format!("5 {}", "o".repeat(99_998));
            let stored = ask_whole(service, &format!("set k 0 0 100000\r\n{digits}\r\n"));
            assert_eq!(stored, "STORED\r\n");
            let (mut reader, mut answer, consumed) = begin(service, b"get k\r\n", 4096);
            assert_eq!((answer.len(), consumed), (4096, 5));
            let new = "n".repeat(100_000);
            let _ = match change {
                "set" => ask_whole(service, &format!("set k 0 0 100000\r\n{new}\r\n")),
                "append" | "prepend" => ask_whole(service, &format!("{change} k 0 0 1\r\nn\r\n")),
                "incr" => ask_whole(service, "incr k 7\r\n"),
                "full" => (0..400)
                    .map(|n| ask_whole(service, &format!("set k{n} 0 0 100000\r\n{new}\r\n")))
                    .collect(),
                _ => ask_whole(service, &format!("{change} k\r\n").replace("all k", "all")),
            };
            let mut output = vec![0; 200_000];
            let progress = reader.serve(service, START, b"\r\n", &mut output);
            answer.extend_from_slice(&output[..progress.produced]);
            let expected = format!("VALUE k 0 100000\r\n{digits}\r\nEND\r\n");
            assert!(String::from_utf8_lossy(&answer) == expected, "after {change}");
            reader.end(service);
        });
    }
}

#[test]
fn what_is_held_is_bounded_and_given_back() {
    with_store(|service| {
        let text = format!("set k 0 0 1000000\r\n{}\r\n", "v".repeat(1_000_000));
        // Values that never come to their end: 8 MiB hold four of them, in half of the pages.
        let mut begun: Vec<_> =
            (0..10).map(|_| begin(service, &text.as_bytes()[..500_000], 4096)).collect();
        let refused = begun.iter().filter(|(_, answer, _)| !answer.is_empty()).count();
        assert!((6..9).contains(&refused), "{refused} of 10 refused");
        for (_, answer, _) in begun.iter().filter(|(_, answer, _)| !answer.is_empty()) {
            assert_eq!(answer, b"SERVER_ERROR out of memory storing object\r\n");
        }
        // The others are still served, with what is left.
        assert_eq!(ask_whole(service, "set small 0 0 1\r\nx\r\n"), "STORED\r\n");
        for (conversation, ..) in &mut begun {
            conversation.end(service);
        }
        assert_eq!(ask_whole(service, &text), "STORED\r\n");
        // The same for readers.
        for n in 0..6 {
            ask_whole(service, &text.replace("set k", &format!("set k{n}")));
        }
        let mut readers: Vec<_> =
            (0..6).map(|n| begin(service, format!("get k{n}\r\n").as_bytes(), 4096)).collect();
        let refusal = b"SERVER_ERROR out of memory writing get response\r\n";
        assert!(readers.iter().any(|(_, answer, _)| answer == refusal));
        assert!(readers.iter().any(|(_, answer, _)| answer.len() == 4096));
        for (conversation, ..) in &mut readers {
            conversation.end(service);
        }
        let connections = ask_whole(service, "stats\r\n");
        assert!(connections.contains("STAT curr_connections 1\r\n"), "{connections}");
        assert_eq!(ask_whole(service, &text), "STORED\r\n");
    });
}

#[test]
fn an_idle_conversation_is_small() {
    assert!(size_of::<Conversation>() <= 88, "{}", size_of::<Conversation>());
}

/// A store that no client may end says so; one that may be ended is, and answers no more on that
/// connection. A datagram ends none.
#[test]
fn a_client_ends_the_store_only_if_it_may_and_over_a_connection() {
    let refused = "ERROR: shutdown not enabled\r\n";
    let (answer, closed) = answers(b"shutdown\r\nshutdown graceful\r\nshutdown x\r\nmn\r\n");
    assert_eq!((answer, closed), (refused.repeat(3) + "MN\r\n", false));
    with_store(|service| {
        service.allow_shutdown();
        let mut reply = [0; 1400];
        let datagram = b"\0\x01\0\0\0\x01\0\0shutdown\r\n";
        let len = service.answer(datagram, START, &mut reply).expect("an answer");
        assert_eq!((&reply[8..len], service.is_shut_down()), (refused.as_bytes(), false));
        let ask = |service: &mut Service<'_>, text: &[u8]| {
            let (answer, closed) = talk(service, text, || usize::MAX, || usize::MAX);
            (String::from_utf8(answer).expect("text"), closed, service.is_shut_down())
        };
        let wrong = "CLIENT_ERROR invalid shutdown mode\r\nMN\r\n".to_owned();
        assert_eq!(ask(service, b"shutdown soon\r\nmn\r\n"), (wrong, false, false));
        let end = ("MN\r\n".to_owned(), true, true);
        assert_eq!(ask(service, b"mn\r\nshutdown graceful\r\nmn\r\n"), end);
    });
}
