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
    assert_eq!(answers(b"version\r\nquit\r\nversion\r\n").1, true);
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
    for _ in 0..40 {
        let key = ["a", "b", "c", "counter"][chance.below(4)];
        let len = [0, 1, 5, 20, 30, 40][chance.below(6)];
        let value = vec![b'v'; len];
        match chance.below(12) {
            0 => text.extend(format!("get {key} a b {key}\r\n").bytes()),
            1 => text.extend(format!("gets {key}\n").bytes()),
            2 => text.extend(format!("gat 0 {key} c\r\n").bytes()),
            3 => text.extend(format!("incr {key} 5\r\n").bytes()),
            4 => text.extend(b"set counter 0 0 2\r\n17\r\n"),
            5 => text.extend(b"stats nonsense\r\n\r\nversion\r\nget\r\n"),
            6 => text.extend(format!("delete {key}\r\ntouch {key} 0\r\n").bytes()),
            7 => {
                text.extend(format!("set {key} x 0 {len}\r\n").bytes().chain(value).chain(*b"\r\n"))
            }
            8 => text.extend(format!("get {}\r\n", "k".repeat(251)).bytes()),
            9 => text
                .extend(format!("append {key} 0 0 {len}\r\n").bytes().chain(value).chain(*b"\r\n")),
            _ => {
                text.extend(format!("set {key} 7 0 {len}\r\n").bytes().chain(value).chain(*b"\r\n"))
            }
        }
    }
    text
}

#[test]
fn answers_do_not_depend_on_how_requests_are_cut_or_how_much_room_there_is() {
    for seed in 0..60 {
        let text = requests(&mut Chance(seed));
        let whole = with_store(|service| talk(service, &text, || usize::MAX, || usize::MAX));
        for most in [1, 7, 100, 3000] {
            let (mut cuts, mut rooms) = (Chance(seed), Chance(seed + 1));
            let cut = with_store(|service| {
                talk(service, &text, || 1 + cuts.below(most), || 1 + rooms.below(2 * most))
            });
            assert_eq!(cut, whole, "seed {seed}, pieces of at most {most}");
        }
    }
}
