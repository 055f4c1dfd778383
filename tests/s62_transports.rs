//! Many requests over connections and in datagrams, with values of up to a mebibyte, in a store
//! that evicts all the time: every answer is checked, and every request has exactly one, or the
//! host says that it has lost a datagram of it.
//!
//! A short form always; a long one by
//! `SOAK_REQUESTS=10000000 cargo test --release -p machine-tests -- s62_transports --ignored --nocapture`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use exo_cmd::manifest::Transport;
use machine_tests::soak::{Counts, lost::lost, tcp, udp};
use machine_tests::{LONG, STORE, assert_no_leak, boot, expect, manifest, net_app, stat};

/// Clients at the same time. Of one address the store takes two requests of several datagrams
/// together at a time, and here all have the same.
const CLIENTS: u64 = 3;
const OF_DATAGRAMS: u64 = 2;
/// Requests of the short form.
const SHORT: u64 = 20_000;

/// A connection on which it is asked for statistics.
struct Statistics {
    stream: TcpStream,
    /// Bytes of the answers so far.
    received: u64,
}

impl Statistics {
    fn ask(&mut self) -> String {
        self.stream.write_all(b"stats\r\n").expect("sent");
        let mut text = Vec::new();
        while !text.ends_with(b"END\r\n") {
            let mut piece = [0; 4096];
            let length = self.stream.read(&mut piece).expect("an answer");
            assert!(length > 0, "closed");
            text.extend(&piece[..length]);
        }
        self.received += text.len() as u64;
        String::from_utf8(text).expect("text")
    }
}

fn soak(requests: u64) {
    let mut app = net_app("kvstore", STORE);
    // Less than the keys take all together: something is given up all the time.
    app.frames = 5120;
    app.args = vec!["shutdown=yes".into()];
    let machine = boot(manifest(vec![app]));
    machine.store(LONG).expect("the store answers");
    let at = |transport| machine.store_address(transport).expect("the port is forwarded");
    let (at_tcp, at_udp) = (at(Transport::Tcp), at(Transport::Udp));
    let stream = TcpStream::connect(at_tcp).expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a time");
    let mut statistics = Statistics { stream, received: 0 };
    let before = statistics.ask();

    let each = requests.div_ceil(CLIENTS + OF_DATAGRAMS);
    let lost_before = lost(at_udp.port());
    let (connected, datagrams): (Vec<Counts>, Vec<(Counts, u64)>) = thread::scope(|scope| {
        let connected = (0..CLIENTS).map(|n| scope.spawn(move || tcp::run(at_tcp, n, each)));
        let connected: Vec<_> = connected.collect();
        let datagrams = (CLIENTS..CLIENTS + OF_DATAGRAMS)
            .map(|n| scope.spawn(move || udp::run(at_udp, at_tcp, n, each)));
        let datagrams: Vec<_> = datagrams.collect();
        let right = "every answer is right";
        (
            connected.into_iter().map(|client| client.join().expect(right)).collect(),
            datagrams.into_iter().map(|client| client.join().expect(right)).collect(),
        )
    });
    // Of requests, by the socket that QEMU listens at; of answers, by the clients' sockets.
    let lost_requests = lost(at_udp.port()) - lost_before;
    let lost_answers: u64 = datagrams.iter().map(|(_, lost)| lost).sum();
    let counts: Vec<Counts> =
        connected.into_iter().chain(datagrams.into_iter().map(|(counts, _)| counts)).collect();
    let sum = |what: fn(&Counts) -> u64| counts.iter().map(what).sum::<u64>();
    for counts in &counts {
        println!("{counts:?}");
    }
    // The store has counted the same, and has no connection but this one.
    let stats = machine_tests::wait_until("connections are left", || {
        Some(statistics.ask()).filter(|stats| stat(stats, "curr_connections") == 1)
    });
    let grown = |name: &str| stat(&stats, name) - stat(&before, name);
    let lost = sum(|counts| counts.lost);
    let incomplete = grown("requests_incomplete");
    println!(
        "{lost} requests without an answer; the host lost {lost_requests} datagrams of requests and \
         {lost_answers} of answers, the store gave up {incomplete} requests"
    );
    assert_eq!(sum(|counts| counts.sent), sum(|counts| counts.answered) + lost);
    assert!(sum(|counts| counts.sent) >= requests);
    assert!(lost <= lost_requests + lost_answers + incomplete, "more was lost than is known of");
    let missing: i64 = counts.iter().map(|counts| counts.missing).sum();
    assert!(missing <= lost_answers as i64, "more is missing than was lost");

    // Each within what was lost: exactly, if nothing was.
    let within = |name: &str, counted: u64, lost: u64| {
        let told = grown(name);
        assert!(
            (counted..=counted + lost).contains(&told),
            "{name}: {told} and {counted}: {stats}"
        );
    };
    within("cmd_get", sum(|counts| counts.gets), lost);
    within("get_hits", sum(|counts| counts.hits), lost);
    within("cmd_set", sum(|counts| counts.sets), lost);
    // Of this connection: all but the last answer, which was not yet counted when it was made.
    let asked = statistics.received - stats.len() as u64;
    let datagram = kvstore::MAX_DATAGRAM as u64;
    within("bytes_written", sum(|counts| counts.received) + asked, lost_answers * datagram);
    assert_eq!(grown("datagrams_over_budget"), 0, "their senders are connected");
    let evictions = stat(&stats, "evictions");
    assert!(evictions > 1000 && sum(|counts| counts.hits) > requests / 10, "{stats}");
    assert!(sum(|counts| counts.gone) <= evictions, "what was lost was not evicted: {stats}");
    println!("{evictions} evicted");

    // It ends when it is told to, and leaves no frame behind.
    statistics.stream.write_all(b"shutdown\r\n").expect("sent");
    let rest = statistics.stream.read(&mut [0; 8]);
    assert!(matches!(rest, Ok(0) | Err(_)), "{rest:?}");
    expect(&machine, "root: kvstore ended: exit code 0");
    expect(&machine, "root: leak check");
    assert_no_leak(&machine, 1);
}

#[test]
fn every_answer_over_either_transport_is_right() {
    soak(SHORT);
}

#[test]
#[ignore = "as long as it is told to be"]
fn every_answer_over_either_transport_is_right_for_long() {
    let requests = std::env::var("SOAK_REQUESTS").ok();
    soak(requests.map_or(1_000_000, |requests| requests.parse().expect("a number")));
}
