//! Stacks talking to each other, over good wires and bad.

use std::cell::{Cell, RefCell};

use exo_abi::EventCount;

use super::{CLIENT, PORT, Reverse, SERVER};
use crate::net::fault::{FaultInjector, Faults};
use crate::net::smol::SmolUdp;
use crate::net::socket::UdpSocket;
use crate::net::tap::{NetEvent, Tap};
use crate::net::udp::FastUdp;
use crate::net::wire::Wire;
use crate::net::{Endpoint, NetDevice, UdpStack};
use crate::sched::{Park, Scheduler, Tasks, Ticks};
use crate::time::{Clock, ManualClock};
use crate::trace::Ring;

const TO_SERVER: Endpoint = Endpoint { address: SERVER.address, port: PORT };

/// Runs `requests` one after the other from a smoltcp client, asking again until
/// the right answer comes. Returns how often was asked again.
fn converse(
    client_device: &mut impl NetDevice,
    server_device: &mut impl NetDevice,
    server: &mut impl UdpStack,
    requests: u32,
) -> u32 {
    let mut client = SmolUdp::new(&CLIENT, 4000, client_device, 0).unwrap();
    let mut service = Reverse::default();
    let (mut now, mut repeats) = (0, 0);
    for number in 0..requests {
        let request: Vec<u8> = format!("request {number} ").repeat(1 + number as usize % 70).into();
        let expected: Vec<u8> = request.iter().rev().copied().collect();
        'ask: loop {
            client.send(&request, TO_SERVER).unwrap();
            for _ in 0..6 {
                now += 100_000;
                client.exchange(client_device, now);
                client_device.sync().unwrap();
                server_device.sync().unwrap();
                server.poll(server_device, &mut service, now, 64).unwrap();
                server_device.sync().unwrap();
                client_device.sync().unwrap();
                client.exchange(client_device, now);
                let mut buffer = [0; 1500];
                while let Some((length, from)) = client.receive(&mut buffer) {
                    assert_eq!(from, TO_SERVER);
                    // A late answer to an earlier question is possible.
                    if buffer[..length] == expected {
                        break 'ask;
                    }
                }
            }
            repeats += 1;
            assert!(repeats < 100_000, "no answer ever");
        }
    }
    // What reached the service is what was asked, if not always once.
    for (request, _) in &service.requests {
        assert!(request.starts_with(b"request "), "damage got through");
    }
    repeats
}

#[test]
fn fast_path_answers_smoltcp() {
    let (mut client, mut server) = Wire::pair(16);
    let mut stack = FastUdp::new(&SERVER, PORT);
    assert_eq!(converse(&mut client, &mut server, &mut stack, 200), 0);
    assert_eq!(stack.drops().total(), 0);
}

#[test]
fn smoltcp_answers_smoltcp() {
    let (mut client, mut server) = Wire::pair(16);
    let mut stack = SmolUdp::new(&SERVER, PORT, &mut server, 0).unwrap();
    assert_eq!(converse(&mut client, &mut server, &mut stack, 200), 0);
}

#[test]
fn both_survive_a_bad_wire() {
    let faults = Faults { drop: 40, corrupt: 40, truncate: 20, duplicate: 20 };
    for seed in [3, 5, 7] {
        let (mut client, server) = Wire::pair(16);
        let mut server = FaultInjector::new(server, faults, seed);
        let mut stack = FastUdp::new(&SERVER, PORT);
        assert!(converse(&mut client, &mut server, &mut stack, 200) > 0);
        assert!(stack.drops().total() > 0);

        let (mut client, server) = Wire::pair(16);
        let mut server = FaultInjector::new(server, faults, seed);
        let mut stack = SmolUdp::new(&SERVER, PORT, &mut server, 0).unwrap();
        assert!(converse(&mut client, &mut server, &mut stack, 200) > 0);
    }
}

#[test]
fn a_tap_sees_both_directions() {
    let (mut client, server) = Wire::pair(16);
    let mut server = Tap::new(server, Ring::<NetEvent, 64>::new());
    let mut stack = FastUdp::new(&SERVER, PORT);
    converse(&mut client, &mut server, &mut stack, 1);
    let events: Vec<_> = server.record().entries().map(|entry| entry.event).collect();
    // ARP there and back, then the request, `request 0 `, and its answer.
    let frames: Vec<_> =
        events.iter().filter(|event| !matches!(event, NetEvent::Synced(..))).collect();
    assert_eq!(
        frames,
        [
            &NetEvent::Received(42),
            &NetEvent::Sent(42),
            &NetEvent::Received(52),
            &NetEvent::Sent(52)
        ]
    );
    assert!(events.contains(&NetEvent::Synced(1, 0)));
}

/// Lets a client make its moves whenever the server's tasks sleep.
struct Clients<F> {
    clock: std::rc::Rc<ManualClock>,
    events: u64,
    act: F,
}

impl<F: FnMut(u64)> Park for Clients<F> {
    fn seen(&mut self) -> EventCount {
        EventCount(self.events)
    }

    fn park(&mut self, _: EventCount, deadline: Option<Ticks>) {
        let now = self.clock.now().0;
        let until = deadline.map_or(now + 1000, |ticks| ticks.0.clamp(now + 1, now + 1000));
        self.clock.advance(until - now);
        (self.act)(until);
        self.events += 1;
    }
}

#[test]
fn tasks_echo_through_a_socket() {
    let (mut client_device, mut server_device) = Wire::pair(16);
    let mut client = SmolUdp::new(&CLIENT, 4000, &mut client_device, 0).unwrap();
    let stack = SmolUdp::new(&SERVER, 7, &mut server_device, 0).unwrap();
    let socket = UdpSocket::new(stack);
    let clock = std::rc::Rc::new(ManualClock::default());
    let (sent, received) = (Cell::new(0_u32), RefCell::new(Vec::new()));

    let mut tasks = Tasks::new();
    let events = tasks.events();
    let (socket, server_clock) = (&socket, clock.clone());
    tasks
        .spawn(async move {
            socket.drive(server_device, &*server_clock, &events).await;
            1
        })
        .unwrap();
    let seen = &received;
    tasks
        .spawn(async move {
            let mut buffer = [0; 2000];
            // Ends the run once the client has everything.
            while seen.borrow().len() < 20 {
                let (length, from) = socket.receive(&mut buffer).await;
                socket.send(&buffer[..length], from).unwrap();
            }
            9
        })
        .unwrap();
    let mut park = Clients {
        clock,
        events: 0,
        act: |now| {
            assert!(now < 60_000_000, "no answer within a minute");
            let mut buffer = [0; 2000];
            client_device.sync().unwrap();
            client.exchange(&mut client_device, now);
            while let Some((length, _)) = client.receive(&mut buffer) {
                received.borrow_mut().push(buffer[..length].to_vec());
            }
            client.send(&sent.get().to_le_bytes(), Endpoint { port: 7, ..TO_SERVER }).unwrap();
            sent.set(sent.get() + 1);
            client.exchange(&mut client_device, now);
            client_device.sync().unwrap();
        },
    };
    assert_eq!(tasks.run(&mut park), 9);
    drop(tasks);
    let received = received.into_inner();
    assert!(received.len() >= 20);
    for (number, datagram) in received.iter().enumerate() {
        assert_eq!(datagram[..], (number as u32).to_le_bytes());
    }
}
