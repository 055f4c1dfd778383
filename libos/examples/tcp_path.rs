//! What a segment costs with 1, 100, 1,000 or 10,000 connections, in our TCP and in smoltcp's.
//!
//! Every connection asks in turn: 100 bytes, which acknowledge the answer before, and are
//! answered with as many. Counts what the stack does for that, and nothing for the clients.
//! Times are printed for a first look; instructions are counted twice and the difference divided:
//!
//! ```sh
//! cargo build --profile guest -p libos --example tcp_path
//! for n in 1000 2000; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!         target/guest/examples/tcp_path ours 1000 $n 2>&1 | grep refs
//! done
//! ```
//!
//! Arguments: `ours` or `smoltcp`, connections, requests. Without arguments all pairs are timed
//! in turn.

use std::hint::black_box;
use std::time::Instant;

use exo_abi::{Error, FRAME_MAX, SyncCounts};
use libos::net::checksum::Sum;
use libos::net::smol::tcp::SmolTcp;
use libos::net::stream::{Next, Progress, StreamService, TcpStack};
use libos::net::tcp::{BUFFER, FastTcp, TcpLimits};
use libos::net::{Endpoint, NetConfig, NetDevice, Slots, TxBuffer};

const SERVER: NetConfig = NetConfig {
    mac: [2, 0, 0, 0, 0, 1],
    address: [10, 0, 2, 15],
    prefix_len: 24,
    gateway: [10, 0, 2, 2],
};
const PORT: u16 = 11_211;
const BYTES: usize = 100;
const SYN: u8 = 2;
const ACK: u8 = 16;

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).map(|text| text.parse().expect("a number"));
    if let Some(stack) = arguments.first() {
        let (connections, requests) = (number(1).unwrap_or(1), number(2).unwrap_or(1000));
        measure(stack, connections, requests);
        return;
    }
    println!("nanoseconds for each request, the least of five runs in turn");
    for connections in [1, 100, 1000, 10_000] {
        let mut least = [f64::MAX; 2];
        for _ in 0..5 {
            for (stack, least) in ["ours", "smoltcp"].into_iter().zip(&mut least) {
                *least = least.min(measure(stack, connections, 2000));
            }
        }
        println!("{connections} connections: ours {:.0}, smoltcp {:.0}", least[0], least[1]);
    }
}

/// Nanoseconds for each request.
fn measure(stack: &str, connections: usize, requests: usize) -> f64 {
    let mut device =
        Single { frame: Vec::new(), is_there: false, sent: Box::new([0; FRAME_MAX]), length: 0 };
    match stack {
        "ours" => {
            // Each holds one until its answer is acknowledged, with the next request.
            let mut memory = vec![0; (connections + 2) * BUFFER];
            let limits = TcpLimits { connections: connections as u32, ..TcpLimits::default() };
            let stack = FastTcp::new(&SERVER, PORT, &mut memory, limits, [1, 2], 0);
            run(stack, device, connections, requests)
        }
        "smoltcp" => {
            let stack = SmolTcp::new(&SERVER, PORT, &mut device, connections, 0);
            run(stack, device, connections, requests)
        }
        other => panic!("{other}: neither ours nor smoltcp"),
    }
}

fn run(
    mut stack: impl TcpStack<Repeat>,
    mut device: Single,
    connections: usize,
    requests: usize,
) -> f64 {
    let mut now = 1000;
    let mut clients: Vec<_> = (0..connections).map(|n| Client::new(n as u32)).collect();
    let mut ask = |client: &mut Client, bits, payload: &[u8], now: &mut u64| {
        client.write(&mut device.frame, bits, payload);
        (device.is_there, device.length) = (true, 0);
        // Time stands still, so that no timer is counted.
        *now += u64::from(bits == SYN);
        stack.poll(&mut device, &mut Repeat, *now, 64).expect("a device");
        client.hear(&device.sent[..device.length]);
    };
    for client in &mut clients {
        ask(client, SYN, &[], &mut now);
        ask(client, ACK, &[], &mut now);
    }
    let payload = [b'q'; BYTES];
    // Each once, to be warm.
    for client in &mut clients {
        ask(client, ACK, &payload, &mut now);
    }
    let start = Instant::now();
    for n in 0..requests {
        // Not the order in which they were opened.
        let client = &mut clients[n * 7919 % connections];
        let before = client.heard;
        ask(client, ACK, &payload, &mut now);
        assert_eq!(client.heard - before, BYTES, "it is answered");
    }
    start.elapsed().as_nanos() as f64 / requests as f64
}

/// Sends back what it is sent.
struct Repeat;

impl StreamService for Repeat {
    type Connection = ();

    fn open(&mut self, _: Endpoint) -> Option<()> {
        Some(())
    }

    fn serve(&mut self, (): &mut (), input: &[u8], output: &mut [u8]) -> Progress {
        let count = input.len().min(output.len());
        output[..count].copy_from_slice(&input[..count]);
        black_box(&output);
        Progress { consumed: count, produced: count, next: Next::Input }
    }
}

/// One frame in, and the last frame out.
struct Single {
    frame: Vec<u8>,
    is_there: bool,
    sent: Box<TxBuffer>,
    length: usize,
}

impl NetDevice for Single {
    fn slots(&mut self) -> Slots<'_> {
        Slots { received: self.is_there.then_some(&self.frame), free: Some(&mut self.sent) }
    }

    fn consume(&mut self) {
        self.is_there = false;
    }

    fn commit(&mut self, length: usize) {
        self.length = length;
    }

    fn sync(&mut self) -> Result<SyncCounts, Error> {
        Ok(SyncCounts { taken: 0, refused: 0 })
    }
}

/// A client's side of a connection.
struct Client {
    address: [u8; 4],
    seq: u32,
    ack: u32,
    heard: usize,
}

impl Client {
    fn new(number: u32) -> Self {
        let [_, _, high, low] = number.to_be_bytes();
        Self { address: [10, 1, high, low], seq: 0, ack: 0, heard: 0 }
    }

    /// Writes a segment to the server.
    fn write(&mut self, frame: &mut Vec<u8>, bits: u8, payload: &[u8]) {
        frame.clear();
        frame.extend(SERVER.mac);
        frame.extend([2, 0, 0, 0, 0, 2, 8, 0]);
        let [high, low] = (40 + payload.len() as u16).to_be_bytes();
        frame.extend([0x45, 0, high, low, 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend(self.address);
        frame.extend(SERVER.address);
        let sum = Sum::of(&frame[14..34]).checksum();
        frame[24..26].copy_from_slice(&sum);
        frame.extend(40_000_u16.to_be_bytes());
        frame.extend(PORT.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([5 << 4, bits, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(payload);
        let length = Sum::field(6).and(Sum::field(20 + payload.len() as u16));
        let sum = Sum::of(&frame[26..]).and(length).checksum();
        frame[50..52].copy_from_slice(&sum);
        self.seq += payload.len() as u32 + u32::from(bits == SYN);
    }

    /// Takes what the server has sent, if anything.
    fn hear(&mut self, frame: &[u8]) {
        if frame.is_empty() {
            return;
        }
        let data = usize::from(frame[46] >> 4) * 4 + 34;
        let length = frame.len() - data;
        let seq = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
        self.ack = seq.wrapping_add(length as u32 + u32::from(frame[47] & SYN != 0));
        self.heard += length;
    }
}
