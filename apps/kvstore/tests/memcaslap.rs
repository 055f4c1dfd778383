//! The load generator of libmemcached runs against the store over UDP and finds what it stored.
//!
//! Its keys begin with bytes of all kinds, control characters among them.

mod common;

use std::io::Write;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::config;
use kvstore::{MAX_DATAGRAM, Service, Time};

/// Requests of a run: one of ten stores an item of 1 KiB. A number and not a time, for what is
/// stored has to fit into the store on the fastest machine as well.
const REQUESTS: &str = "50000";

/// Answers datagrams until it is told to stop; returns the store's `stats`.
fn serve(socket: &UdpSocket, stop: &AtomicBool) -> String {
    let mut memory = vec![0; 64 << 20];
    let mut service = Service::new(&mut memory, &config()).unwrap();
    let start = Instant::now();
    let now = || Time { unix: 1_700_000_000, uptime: start.elapsed().as_secs() as u32 };
    let (mut datagram, mut reply) = ([0; 65536], [0; MAX_DATAGRAM]);
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut datagram) else { continue };
        if let Some(len) = service.answer(&datagram[..len], now(), &mut reply) {
            let _ = socket.send_to(&reply[..len], from);
        }
    }
    String::from_utf8(common::ask(&mut service, b"stats\r\n", now())).unwrap()
}

#[test]
fn memcaslap_over_udp_stores_and_finds() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap().to_string();
    let stop = AtomicBool::new(false);
    let (output, stats) = thread::scope(|scope| {
        let serving = scope.spawn(|| serve(&socket, &stop));
        let output = Command::new("memcaslap")
            .args(["-s", &server, "-U", "-x", REQUESTS, "-T", "1", "-c", "4"])
            .output();
        stop.store(true, Ordering::Relaxed);
        (output, serving.join().unwrap())
    });
    let Ok(output) = output else {
        // Past the capture of the test harness: this has to be seen.
        let _ = writeln!(std::io::stderr(), "\n*** SKIPPED memcaslap: it is not installed ***");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    let count = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        let number = line.and_then(|rest| rest.trim_start_matches([':', ' ']).parse::<u64>().ok());
        number.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    let (stored, found) = (count(&stats, "STAT cmd_set"), count(&stats, "STAT get_hits"));
    assert!(stored > 0 && count(&stats, "STAT total_items") == stored, "{stats}");
    assert_eq!(count(&stats, "STAT evictions"), 0, "{stats}");
    assert!(found > 0 && count(&stats, "STAT get_misses") == 0, "{text}{stats}");
    assert_eq!(count(&text, "get_misses"), 0, "{text}");
    // What it does not understand or does not get it says here.
    assert!(!errors.contains("ERROR") && !text.contains("ERROR"), "{text}{errors}");
}
