//! Two stores cannot be made to talk to each other: whatever a store answers, to whatever
//! is asked, another store takes it for an answer.

mod common;

use common::{Chance, START, ask, config};
use kvstore::Service;

/// Asks `first`, and passes the answers to and fro. Returns how many there were.
fn volley<'m>(first: &mut Service<'m>, second: &mut Service<'m>, text: &[u8]) -> usize {
    let mut answer = ask(first, text, START);
    for count in 0..10 {
        if answer.is_empty() {
            return count;
        }
        answer = ask(if count % 2 == 0 { second } else { first }, &answer, START);
    }
    panic!("the answers to {text:?} are answered for ever");
}

fn with_two(test: impl for<'m> FnOnce(&mut Service<'m>, &mut Service<'m>)) {
    let (mut one, mut two) = (vec![0; 2 << 20], vec![0; 2 << 20]);
    let mut first = Service::new(&mut one, &config()).expect("a store");
    let mut second = Service::new(&mut two, &config()).expect("a store");
    test(&mut first, &mut second);
}

#[test]
fn no_answer_is_answered() {
    with_two(|first, second| {
        for text in [
            "set a 0 0 3\r\nabc\r\n",
            "set a 0 0 3\r\nabc\r\n",
            "get a\r\n",
            "gets a b\r\n",
            "get none\r\n",
            "add a 0 0 1\r\nx\r\n",
            "replace none 0 0 1\r\nx\r\n",
            "cas a 0 0 1 99\r\nx\r\n",
            "cas none 0 0 1 1\r\nx\r\n",
            "append a 0 0 1\r\nx\r\n",
            "set n 0 0 2\r\n10\r\n",
            "incr n 5\r\n",
            "decr n 9\r\n",
            "incr a 5\r\n",
            "incr none 1\r\n",
            "touch a 10\r\n",
            "touch none 1\r\n",
            "gat 10 a\r\n",
            "delete a\r\n",
            "delete a\r\n",
            "version\r\n",
            "verbosity 1\r\n",
            "stats\r\n",
            "stats reset\r\n",
            "flush_all\r\n",
            "nonsense\r\n",
            "\r\n",
            "get\r\n",
            "set a\r\n",
            "mn\r\n",
            "set big 0 0 9999999\r\nx\r\n",
            "set a 0 0 1\r\nxyz\r\n",
            "get nonsense\r\nnonsense\r\n",
            // What is carried on inside an answer is not carried out.
            "set a 0 0 24\r\nset b 0 0 1\r\nx\r\nget b\r\n\r\n",
            "get a\r\n",
        ] {
            assert!(volley(first, second, text.as_bytes()) <= 1, "{text:?}");
        }
        assert_eq!(ask(second, b"get b\r\n", START), b"END\r\n", "an answer was carried out");
        // A binary response, which no request of ours has as an answer.
        assert!(
            ask(first, b"\x81\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\n", START).is_empty()
        );
    });
}

#[test]
fn whatever_is_asked_the_volley_ends() {
    let words = [
        "get", "gets", "set", "cas", "incr", "delete", "a", "b", "0", "1", "3", "\r\n", "\n",
        "\r\n", "abc", "noreply", "stats", "version", "VALUE", "END", "ERROR", "x y", "\0",
    ];
    with_two(|first, second| {
        let mut chance = Chance(11);
        for _ in 0..20_000 {
            let text: String = (0..=chance.below(12))
                .map(|_| chance.pick(&words))
                .flat_map(|word| [word, " "])
                .collect();
            let text = text + "\r\n";
            assert!(volley(first, second, text.as_bytes()) <= 1, "{text:?}");
        }
    });
}
