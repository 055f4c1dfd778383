//! The store serves connections: through QEMU's user network; its other side is the host
//! kernel's TCP and slirp's.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

use exo_cmd::machine::Machine;
use machine_tests::{LONG, STORE, boot, expect, manifest, net_app};

/// A machine with a store that answers.
fn machine(args: &[&str]) -> Machine {
    let mut app = net_app("kvstore", STORE);
    app.frames = 8192;
    app.args = args.iter().map(|&argument| argument.to_owned()).collect();
    let machine = boot(manifest(vec![app]));
    machine.store(LONG).expect("the store answers");
    machine
}

fn connect(machine: &Machine) -> TcpStream {
    let port = machine.tcp_port().expect("TCP is forwarded");
    assert_eq!(Some(port), machine.udp_port(), "one number for both");
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a time");
    stream.set_nodelay(true).expect("an option");
    stream
}

/// Sends `request` and reads until `end` has come `count` times.
fn ask(stream: &mut TcpStream, request: &[u8], end: &[u8], count: usize) -> Vec<u8> {
    stream.write_all(request).expect("sent");
    let (mut answer, mut seen, mut looked) = (Vec::new(), 0, 0);
    let mut buffer = vec![0; 65_536];
    while seen < count {
        let length = stream.read(&mut buffer).expect("an answer");
        assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend(&buffer[..length]);
        while let Some(at) = answer[looked..].windows(end.len()).position(|part| part == end) {
            looked += at + end.len();
            seen += 1;
        }
    }
    answer
}

#[test]
fn requests_of_all_sizes_are_answered_over_a_connection() {
    let machine = machine(&[]);
    let mut one = connect(&machine);
    assert_eq!(ask(&mut one, b"set k 0 0 5\r\nhello\r\n", b"\r\n", 1), b"STORED\r\n");
    let answer = b"VALUE k 0 5\r\nhello\r\nEND\r\n";
    assert_eq!(ask(&mut one, b"get k\r\n", b"END\r\n", 1), answer);

    // Pipelined: more answers than any buffer holds.
    let got = ask(&mut one, &b"get k\r\n".repeat(3000), b"END\r\n", 3000);
    assert!(got == answer.repeat(3000));

    // Long, both ways: far more than a window.
    let value: Vec<u8> = (0..900_000_u32).map(|at| b'a' + (at % 26) as u8).collect();
    let set = [b"set long 0 0 900000\r\n", &value[..], b"\r\n"].concat();
    assert_eq!(ask(&mut one, &set, b"\r\n", 1), b"STORED\r\n");
    let mut other = connect(&machine);
    let got = ask(&mut other, b"get long\r\n", b"\r\nEND\r\n", 1);
    let whole = [b"VALUE long 0 900000\r\n", &value[..], b"\r\nEND\r\n"].concat();
    assert!(got == whole, "{} bytes instead of {}", got.len(), whole.len());

    // What was stored over one is found over the other.
    let mut datagrams = machine.store_client().expect("a store");
    datagrams.timeout = Duration::from_secs(20);
    assert_eq!(datagrams.ask_once(b"get k\r\n").expect("an answer"), answer);

    // A client that has sent its last byte is answered all the same.
    other.write_all(&b"get k\r\n".repeat(100)).expect("sent");
    other.shutdown(Shutdown::Write).expect("half closed");
    let mut rest = Vec::new();
    other.read_to_end(&mut rest).expect("answers");
    assert!(rest == answer.repeat(100));

    one.write_all(b"quit\r\n").expect("sent");
    assert_eq!(one.read(&mut [0; 8]).expect("the end"), 0);
}

#[test]
fn hundreds_of_connections_are_open_at_the_same_time() {
    let machine = machine(&[]);
    let mut clients: Vec<_> = (0..300).map(|_| connect_and_ask(&machine)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let set = format!("set key-{number} 0 0 4\r\n{number:04}\r\n");
        assert_eq!(ask(client, set.as_bytes(), b"\r\n", 1), b"STORED\r\n");
    }
    for (number, client) in clients.iter_mut().enumerate().rev() {
        let (number, key) = (299 - number, format!("get key-{}\r\n", 299 - number));
        let answer = format!("VALUE key-{number} 0 4\r\n{number:04}\r\nEND\r\n");
        assert_eq!(ask(client, key.as_bytes(), b"END\r\n", 1), answer.as_bytes());
    }
    // Clients that read nothing, however much they ask for, do not delay one that does.
    let mut good = clients.pop().expect("a client");
    let value = [b"set long 0 0 30000\r\n", &[b'x'; 30_000][..], b"\r\n"].concat();
    assert_eq!(ask(&mut good, &value, b"\r\n", 1), b"STORED\r\n");
    for client in &mut clients {
        client.set_nonblocking(true).expect("an option");
        let _ = client.write(&b"get long\r\n".repeat(100));
    }
    for _ in 0..20 {
        assert_eq!(ask(&mut good, b"get absent\r\n", b"\r\n", 1), b"END\r\n");
    }
}

/// Prints what the 99th of a hundred answers takes a client alone, and beside 500 that ask for much
/// and read nothing: `cargo test -p machine-tests -- s52_tcp --ignored --nocapture`.
#[test]
#[ignore = "a measurement of time"]
fn a_good_client_beside_500_that_read_nothing() {
    const ASKED: usize = 2000;
    let machine = machine(&[]);
    let mut good = connect_and_ask(&machine);
    let value = [b"set long 0 0 30000\r\n", &[b'x'; 30_000][..], b"\r\n"].concat();
    assert_eq!(ask(&mut good, &value, b"\r\n", 1), b"STORED\r\n");
    let mut p99 = |what: &str| {
        let mut times: Vec<_> = (0..ASKED)
            .map(|_| {
                let start = std::time::Instant::now();
                assert_eq!(ask(&mut good, b"get absent\r\n", b"\r\n", 1), b"END\r\n");
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{what}: p50 {:?}, p99 {:?}", times[ASKED / 2], times[ASKED * 99 / 100]);
    };
    p99("alone");
    let mut bad: Vec<_> = (0..500).map(|_| connect_and_ask(&machine)).collect();
    p99("beside 500 idle");
    for client in &mut bad {
        client.set_nonblocking(true).expect("an option");
        let _ = client.write(&b"get long\r\n".repeat(200));
    }
    p99("beside 500 that read nothing");
    p99("the same later");
}

/// The answer shows that the guest has it: slirp takes one unfinished connection at a time, and
/// what comes too soon is tried again by the host after a second.
fn connect_and_ask(machine: &Machine) -> TcpStream {
    let mut client = connect(machine);
    ask(&mut client, b"version\r\n", b"\r\n", 1);
    client
}

#[test]
fn one_connection_too_many_is_told_so() {
    let machine = machine(&["connections=3"]);
    let mut clients: Vec<_> = (0..3).map(|_| connect_and_ask(&machine)).collect();
    let mut refused = String::new();
    connect(&machine).read_to_string(&mut refused).expect("its end");
    assert_eq!(refused, "ERROR Too many open connections\r\n");
    assert_eq!(ask(&mut clients[0], b"get k\r\n", b"\r\n", 1), b"END\r\n");
    clients.pop();
    // Its end is noticed some day.
    let served = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        let mut client = connect(&machine);
        let _ = client.write_all(b"get k\r\n");
        let mut answer = [0; 5];
        client.read_exact(&mut answer).is_ok() && &answer == b"END\r\n"
    });
    assert!(served);
}

/// Guest instructions from sleep to sleep: one request at a time, and 50 written together.
#[test]
fn a_get_over_a_connection_costs_what_is_promised() {
    let manifest = exo_cmd::manifest::read(&exo_cmd::workspace::manifest("bench"));
    let manifest = manifest.expect("a manifest of the tree");
    let [alone, batch] = exo_cmd::get_cost_over_tcp(manifest).expect("counted");
    println!("one at a time: {alone} instructions; 50 written together: {batch}");
    assert!(alone <= 2800.0, "{alone} instructions");
    assert!(batch <= 450.0, "{batch} instructions");
}

#[test]
fn users_log_in_first_and_datagrams_are_not_served() {
    let mut app = net_app("kvstore", STORE);
    app.frames = 8192;
    app.args = vec!["auth=ann:secret,bob:word".into()];
    let machine = boot(manifest(vec![app]));
    expect(&machine, "serving 10.0.2.15:11211");
    let mut one = connect(&machine);
    let refused = b"CLIENT_ERROR unauthenticated\r\n";
    assert_eq!(ask(&mut one, b"get k\r\n", b"\r\n", 1), refused);
    let failed = b"CLIENT_ERROR authentication failure\r\n";
    assert_eq!(ask(&mut one, b"set x 0 0 8\r\nann word\r\n", b"\r\n", 1), failed);
    assert_eq!(ask(&mut one, b"set x 0 0 8\r\nbob word\r\n", b"\r\n", 1), b"STORED\r\n");
    assert_eq!(ask(&mut one, b"set k 0 0 1\r\nv\r\n", b"\r\n", 1), b"STORED\r\n");
    assert_eq!(ask(&mut one, b"get k\r\n", b"END\r\n", 1), b"VALUE k 0 1\r\nv\r\nEND\r\n");
    // Each connection for itself.
    let mut other = connect(&machine);
    assert_eq!(ask(&mut other, b"get k\r\n", b"\r\n", 1), refused);
    let mut datagrams = machine.store_client().expect("a client");
    (datagrams.timeout, datagrams.attempts) = (Duration::from_secs(1), 1);
    assert!(datagrams.ask_once(b"get k\r\n").is_err());
    assert_eq!(ask(&mut one, b"get k\r\n", b"END\r\n", 1), b"VALUE k 0 1\r\nv\r\nEND\r\n");
}
