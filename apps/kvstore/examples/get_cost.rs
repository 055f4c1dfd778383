//! What a request costs, in instructions.
//!
//! `cargo run --release -p kvstore --example get_cost`
//!
//! The program runs itself under `valgrind --tool=callgrind` twice for each kind of
//! request, once with few and once with many of them, and divides the difference
//! of the two instruction counts: start and setup cancel out. The count is that of
//! [`Service::answer`], from UDP payload to UDP payload, with the loop around it
//! (some ten instructions) and with the C library's `memcpy`.

use std::hint::black_box;
use std::process::Command;

use kvstore::{Config, MAX_DATAGRAM, Service, Time};

const FEW: u64 = 10_000;
const MANY: u64 = 110_000;

/// Keys in the store, and in the order asked for. A power of two.
const KEYS: usize = 4096;

/// Name, bytes of value, and the requests, for key number `i`.
type Kind = (&'static str, usize, fn(usize, usize) -> String);

const KINDS: [Kind; 10] = [
    ("get hit, 16 B key, 64 B value", 64, |i, _| format!("get key:{i:012}\r\n")),
    ("get hit, 16 B key, 1024 B value", 1024, |i, _| format!("get key:{i:012}\r\n")),
    ("get miss, 16 B key", 64, |i, _| format!("get nay:{i:012}\r\n")),
    ("gets hit, 16 B key, 64 B value", 64, |i, _| format!("gets key:{i:012}\r\n")),
    ("get of 10 keys, 16 B key, 64 B value", 64, |i, _| {
        let keys: String = (0..10).map(|k| format!(" key:{:012}", (i + k) % KEYS)).collect();
        format!("get{keys}\r\n")
    }),
    ("get of 5 keys, 16 B key, 64 B value", 64, |i, _| {
        let keys: String = (0..5).map(|k| format!(" key:{:012}", (i + k) % KEYS)).collect();
        format!("get{keys}\r\n")
    }),
    ("mg hit, 16 B key, 64 B value", 64, |i, _| format!("mg key:{i:012} v\r\n")),
    ("set, 16 B key, 64 B value", 64, |i, len| set(i, len)),
    ("ms, 16 B key, 64 B value", 64, |i, len| {
        format!("ms key:{i:012} {len}\r\n{}\r\n", "v".repeat(len))
    }),
    ("delete and set, 16 B key, 64 B value", 64, |i, len| {
        format!("delete key:{i:012}\r\n{}", set(i, len))
    }),
];

fn set(i: usize, len: usize) -> String {
    format!("set key:{i:012} 0 0 {len}\r\n{}\r\n", "v".repeat(len))
}

fn datagram(text: &str) -> Vec<u8> {
    [&[0, 1, 0, 0, 0, 1, 0, 0], text.as_bytes()].concat()
}

fn run((_, len, request): Kind, count: u64) {
    let mut memory = vec![0; 16 << 20];
    let config = Config { seed: [1, 2], ..Config::default() };
    let mut service = Service::new(&mut memory, &config).expect("16 MiB are enough");
    let now = Time { unix: 1_700_000_000, uptime: 1 };
    let mut reply = [0; MAX_DATAGRAM];
    for i in 0..KEYS {
        let stored = service.answer(&datagram(&set(i, len)), now, &mut reply);
        assert_eq!(stored.map(|n| &reply[8..n]), Some(b"STORED\r\n" as &[u8]));
    }
    let requests: Vec<Vec<u8>> = (0..KEYS).map(|i| datagram(&request(i, len))).collect();
    // Odd, so that all are used, in an order that is not that of storing.
    let mut at = 0;
    for _ in 0..count {
        at = (at + 1543) % KEYS;
        black_box(service.answer(black_box(&requests[at]), now, &mut reply));
    }
}

/// Instructions of this program, asked to run a kind so many times.
fn instructions(kind: usize, count: u64) -> Result<u64, String> {
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(me)
        .args([kind.to_string(), count.to_string()])
        .output()
        .map_err(|e| format!("valgrind: {e}"))?;
    let text = String::from_utf8_lossy(&out.stderr);
    let collected = text.lines().find_map(|line| line.split("Collected :").nth(1));
    collected
        .and_then(|n| n.trim().parse().ok())
        .ok_or_else(|| format!("no count in what valgrind said:\n{text}"))
}

fn main() -> Result<(), String> {
    let args: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    if let [kind, count] = args[..] {
        run(KINDS[kind as usize], count);
        return Ok(());
    }
    println!("instructions per request (fewer is better), callgrind, this build:");
    for (i, (name, ..)) in KINDS.iter().enumerate() {
        let cost = (instructions(i, MANY)? - instructions(i, FEW)?) as f64 / (MANY - FEW) as f64;
        println!("{cost:9.1}  {name}");
    }
    Ok(())
}
