//! Whole conversations: bytes go through the service and come back, however bad the network.

use super::client::Client;
use super::network::{End, Weather};
use super::service::Increment;
use crate::net::Endpoint;
use crate::net::smol::tcp::SmolTcp;
use crate::net::stream::TcpStack;
use crate::net::tcp::{BUFFER, FastTcp, TcpLimits};
use crate::net::tests::{PORT, SERVER};

const HOUR: u64 = 3_600_000_000;

/// Sends `bytes` on each of `count` connections, expects them back changed, closes. Returns how
/// many microseconds it took.
fn converse(
    (far, near): (&mut End, &mut End),
    server: &mut impl TcpStack<Increment>,
    service: &mut Increment,
    count: usize,
    bytes: usize,
) -> u64 {
    let mut client = Client::new(far);
    let handles: Vec<_> = (0..count).map(|_| client.connect(8000)).collect();
    let mut sent = vec![0; count];
    let mut received = vec![0; count];
    let byte = |connection: usize, at: usize| (at * 7 + at / 256 + connection) as u8;
    let mut now = 0;
    loop {
        far.set_time(now);
        client.poll(far, now);
        server.poll(near, service, now, 64).unwrap();
        let mut done = 0;
        for (n, &handle) in handles.iter().enumerate() {
            let socket = client.socket(handle);
            if socket.can_send() && sent[n] < bytes {
                let end = bytes.min(sent[n] + 3000);
                let some: Vec<u8> = (sent[n]..end).map(|at| byte(n, at)).collect();
                sent[n] += socket.send_slice(&some).unwrap();
                if sent[n] == bytes {
                    // The other half goes on.
                    socket.close();
                }
            }
            let mut buffer = [0; 5000];
            while let Ok(length @ 1..) = socket.recv_slice(&mut buffer) {
                for value in &buffer[..length] {
                    assert_eq!(*value, byte(n, received[n]).wrapping_add(1));
                    received[n] += 1;
                }
            }
            done += usize::from(received[n] == bytes && !socket.may_recv());
        }
        client.poll(far, now);
        if done == count {
            return now;
        }
        if now > HOUR {
            let states: Vec<_> = handles.iter().map(|&n| client.socket(n).state()).collect();
            panic!("an hour has passed: {sent:?} {received:?} {states:?}, {} open", service.open);
        }
        let waits = [server.wait_micros(now), client.wait_micros(now)];
        let waits = waits.into_iter().flatten().map(|wait| now + wait.max(1));
        let next = waits.chain(far.next_arrival()).min();
        now = next.expect("something happens some day").max(now + 1);
    }
}

fn fast(memory: &mut [u8]) -> FastTcp<'_, Endpoint> {
    FastTcp::new(&SERVER, PORT, memory, TcpLimits::default(), [1, 2], 0)
}

const GOOD: Weather = Weather { lost: 0, repeated: 0, damaged: 0, jitter: 0, delay: 50 };

#[test]
fn a_good_network_loses_nothing_and_nothing_is_sent_twice() {
    let (mut far, mut near) = End::pair(GOOD, 1);
    let (mut memory, mut service) = (vec![0; 100 * BUFFER], Increment::default());
    let mut server = fast(&mut memory);
    let took = converse((&mut far, &mut near), &mut server, &mut service, 20, 100_000);
    assert_eq!((service.opened, service.bytes), (20, 2_000_000));
    assert_eq!((server.counts().resent, server.counts().dropped), (0, 0), "{:?}", server.counts());
    assert!(2 * server.short > server.counts().received, "{} of them", server.short);
    // A second for the client's ARP, and no pause of a delayed acknowledgement or time-out.
    assert!(took < 1_050_000, "{took}");
}

#[test]
fn smoltcp_serves_too() {
    let (mut far, mut near) = End::pair(GOOD, 1);
    let mut service = Increment::default();
    let mut server = SmolTcp::new(&SERVER, PORT, &mut near, 20, 0);
    converse((&mut far, &mut near), &mut server, &mut service, 20, 100_000);
    assert_eq!((service.opened, service.bytes), (20, 2_000_000));
}

/// One conversation over a network as bad as `seed` makes it.
fn bad_network(seed: u64) {
    let pick = |step: u64, below: u64| (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> step) % below;
    let weather = Weather {
        lost: pick(3, 100),
        repeated: pick(13, 60),
        damaged: pick(23, 60),
        jitter: [1, 1000, 20_000, 100_000][pick(33, 4) as usize],
        delay: [20, 2000, 50_000][pick(43, 3) as usize],
    };
    let (count, bytes) = (1 + pick(50, 3) as usize, 1000 + pick(20, 30_000) as usize);
    let (mut far, mut near) = End::pair(weather, seed);
    // Too few buffers for all, sometimes.
    let (mut memory, mut service) = (vec![0; 8 * BUFFER], Increment::default());
    let mut server = fast(&mut memory);
    converse((&mut far, &mut near), &mut server, &mut service, count, bytes);
    assert_eq!(service.opened, count);
    // Our stack holds nothing for connections that are over.
    let mut now = 2 * HOUR;
    far.set_time(now);
    for _ in 0..100 {
        server.poll(&mut near, &mut service, now, 64).unwrap();
        now += 100_000_000;
    }
    assert_eq!((server.connections(), server.free_buffers(), service.open), (0, 8, 0));
}

#[test]
fn a_bad_network_loses_nothing_either() {
    let seeds = std::env::var("TCP_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 1..=seeds.unwrap_or(200) {
        if std::env::var("TCP_SEED").is_ok_and(|only| only != seed.to_string()) {
            continue;
        }
        if let Err(panic) = std::panic::catch_unwind(|| bad_network(seed)) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Those of the first ten thousand in which the client leaves a window that is open, but below half
/// of what it was, while what was sent before is lost, or what is sent again meets what was never
/// sent: it arrives all the same.
#[test]
fn a_small_window_stops_nothing() {
    [
        756, 1242, 1381, 1488, 1496, 1787, 2329, 2484, 2618, 2875, 3148, 3203, 3723, 3987, 4534,
        4795, 4807, 5234, 6084, 6111, 7330, 7373, 7610, 8138, 8703, 8852, 9264, 9373, 9848, 9914,
        9956,
    ]
    .into_iter()
    .for_each(bad_network);
}

/// As many as the issue of robustness wants: `cargo test --release -p libos -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn ten_thousand_bad_networks_lose_nothing() {
    (1..=10_000).for_each(bad_network);
}

/// smoltcp's server is held to the same, but for repeated packets: it resets a connection whose
/// SYN comes twice while its other sockets are busy.
#[test]
fn smoltcp_survives_a_bad_network() {
    for seed in 1..=20 {
        let weather = Weather { lost: 30, repeated: 0, damaged: 20, jitter: 300, delay: 500 };
        let (mut far, mut near) = End::pair(weather, seed);
        let mut service = Increment::default();
        let mut server = SmolTcp::new(&SERVER, PORT, &mut near, 8, 0);
        converse((&mut far, &mut near), &mut server, &mut service, 2, 20_000);
    }
}
