//! What docs/memcached.md says of memcached's older and newer parser, and of the store,
//! is what they do; and both take the same bytes in a key.

mod common;

use std::net::UdpSocket;

use common::oracle::{Oracle, ask_udp, masked, udp_socket};
use common::{START, ask, config, datagram};
use kvstore::Service;

const PAGE: &str = include_str!("../../../docs/memcached.md");

/// A row of the table: request, and answers of the older parser, the newer one, the store.
type Row = [Vec<u8>; 4];

fn rows() -> Vec<Row> {
    let table = PAGE.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    table.take_while(|line| line.starts_with('|')).map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<_> =
        line.trim_matches('|').split('|').map(|cell| cell.trim_matches(' ')).collect();
    let [request, older, newer, here] = cells[..] else { panic!("a row of four cells: {line}") };
    let (request, older, newer) = (text(request), text(older), text(newer));
    let here = match here {
        "older" => older.clone(),
        "newer" => newer.clone(),
        cell => text(cell),
    };
    [request, older, newer, here]
}

/// What a cell stands for.
fn text(cell: &str) -> Vec<u8> {
    let text = match cell {
        "nothing" => return Vec::new(),
        "an empty line" => "",
        cell => cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).expect("quoted"),
    };
    let text = text.replace('⏎', "\r\n").replace("LONG", &"L".repeat(251)).replace("NUL", "\0");
    format!("{text}\r\n").into_bytes()
}

/// What precedes each row.
const PREPARATION: [&str; 5] = [
    "flush_all\r\n",
    "set n 0 0 8\r\naaaa1234\r\n",
    "delete n\r\n",
    "set n 0 0 3\r\n   \r\n",
    "set k 0 0 1\r\n5\r\n",
];

#[test]
fn answers_are_those_of_the_table() {
    let rows = rows();
    assert!(rows.len() > 40, "the table is there");
    let mut memory = vec![0; 8 << 20];
    let mut service = Service::new(&mut memory, &config()).unwrap();
    for [request, .., here] in &rows {
        for line in PREPARATION {
            ask(&mut service, line.as_bytes(), START);
        }
        let answer = ask(&mut service, request, START);
        assert_eq!(masked(&answer), masked(here), "the store, asked {}", masked(request));
    }

    let Some((oracle, _stream)) = Oracle::start("the table of answers") else { return };
    let socket = udp_socket(&oracle);
    for [request, older, newer, _] in &rows {
        for line in PREPARATION {
            ask_udp(&socket, &datagram(line.as_bytes()));
        }
        let answer = ask_udp(&socket, &datagram(request));
        let said = if oracle.is_newer { newer } else { older };
        assert_eq!(masked(&answer), masked(said), "memcached, asked {}", masked(request));
    }
}

/// Requests with this key, whatever it is.
fn requests(key: &[u8]) -> [Vec<u8>; 7] {
    let line = |before: &str, after: &str| [before.as_bytes(), key, after.as_bytes()].concat();
    [
        line("set ", " 0 0 1\r\n5\r\n"),
        line("get ", "\r\n"),
        line("get absent ", " absent\r\n"),
        line("gat 0 ", "\r\n"),
        line("incr ", " 1\r\n"),
        line("touch ", " 0\r\n"),
        line("delete ", "\r\n"),
    ]
}

#[test]
fn every_byte_in_a_key_is_taken_as_by_memcached() {
    let oracle = Oracle::start("every byte in a key");
    let socket: Option<UdpSocket> = oracle.as_ref().map(|(oracle, _)| udp_socket(oracle));
    let is_newer = oracle.as_ref().is_some_and(|(oracle, _)| oracle.is_newer);
    let mut memory = vec![0; 8 << 20];
    let mut service = Service::new(&mut memory, &config()).unwrap();
    for byte in 0..=255_u8 {
        // These two end a token or a line; the answers then are those of the table.
        if matches!(byte, b' ' | b'\n') {
            continue;
        }
        for key in [&[b'a', byte, b'b'][..], &[byte, b'x'], &[b'y', byte], &[byte], &[byte; 17]] {
            for request in requests(key) {
                let ours = masked(&ask(&mut service, &request, START));
                let refused = ours.contains("ERROR") || ours.contains("NOT");
                assert!(!refused, "{} gets {ours}", masked(&request));
                // Up to 1.6.39 a zero byte ends the line.
                let Some(socket) = socket.as_ref().filter(|_| byte != 0 || is_newer) else {
                    continue;
                };
                let theirs = masked(&ask_udp(socket, &datagram(&request)));
                assert_eq!(ours, theirs, "{}", masked(&request));
            }
        }
    }
}
