//! Whole conversations: bytes go through the service and come back, however bad the wire is.

use super::client::Client;
use super::service::Increment;
use crate::net::NetDevice;
use crate::net::fault::{FaultInjector, Faults};
use crate::net::smol::tcp::SmolTcp;
use crate::net::stream::TcpStack;
use crate::net::tcp::{BUFFER, FastTcp, TcpLimits};
use crate::net::tests::{PORT, SERVER};
use crate::net::wire::Wire;
use crate::net::Endpoint;

/// Sends `bytes` on each of `count` connections, expects them back changed, closes. Returns how
/// many microseconds it took.
fn converse(
    near: &mut impl NetDevice,
    far: &mut impl NetDevice,
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
        now += 1000;
        client.poll(far, now);
        far.sync().unwrap();
        near.sync().unwrap();
        server.poll(near, service, now, 64).unwrap();
        near.sync().unwrap();
        far.sync().unwrap();
        client.poll(far, now);
        let mut done = 0;
        for (n, &handle) in handles.iter().enumerate() {
            let socket = client.socket(handle);
            if socket.can_send() && sent[n] < bytes {
                let some: Vec<u8> = (sent[n]..bytes.min(sent[n] + 3000)).map(|at| byte(n, at)).collect();
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
        if done == count {
            return now;
        }
        if now > 600_000_000 {
            let state: Vec<_> = handles.iter().map(|&h| { let s = client.socket(h); (s.state(), s.send_queue(), s.recv_queue()) }).collect();
            panic!("ten minutes have passed: {sent:?} {received:?} {state:?} {}", service.debug());
        }
    }
}

fn memory(buffers: usize) -> Vec<u8> {
    vec![0; buffers * BUFFER]
}

fn fast(memory: &mut [u8]) -> FastTcp<'_, Endpoint> {
    FastTcp::new(&SERVER, PORT, memory, TcpLimits::default(), [1, 2], 0)
}

#[test]
fn a_good_wire_loses_nothing_and_sends_nothing_twice() {
    let (mut far, mut near) = Wire::pair(64);
    let (mut memory, mut service) = (memory(100), Increment::default());
    let mut server = fast(&mut memory);
    converse(&mut near, &mut far, &mut server, &mut service, 20, 100_000);
    assert_eq!((service.opened, service.bytes), (20, 2_000_000));
    assert_eq!((server.counts().resent, server.counts().dropped), (0, 0), "{:?}", server.counts());
}

#[test]
fn smoltcp_serves_too() {
    let (mut far, mut near) = Wire::pair(64);
    let mut service = Increment::default();
    let mut server = SmolTcp::new(&SERVER, PORT, &mut near, 20, 0);
    converse(&mut near, &mut far, &mut server, &mut service, 20, 100_000);
    assert_eq!((service.opened, service.bytes), (20, 2_000_000));
}

#[test]
fn a_bad_wire_loses_nothing_either() {
    let faults = Faults { drop: 30, corrupt: 20, truncate: 10, duplicate: 20 };
    for seed in 1..4 {
        let (mut far, near) = Wire::pair(64);
        let mut near = FaultInjector::new(near, faults, seed);
        let (mut memory, mut service) = (memory(100), Increment::default());
        let mut server = fast(&mut memory);
        let took = converse(&mut near, &mut far, &mut server, &mut service, 5, 50_000);
        assert_eq!((service.opened, service.bytes), (5, 250_000), "{took}");
        assert!(server.counts().resent > 0 && server.counts().dropped > 0);
    }
}
