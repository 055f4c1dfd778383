//! Arbitrary segments: whatever comes, nothing is lost track of, and what leaves is well formed.
//!
//! An input is a list of bytes, read as what some clients do: those that proptest makes up, and
//! those in `libos/tests/corpus/tcp`. Numbers are near the right ones, where stacks go wrong.

use proptest::prelude::*;

use crate::net::stream::{Next, Progress, StreamService, TcpStack};
use crate::net::tcp::{BUFFER, FastTcp, TcpLimits};
use crate::net::tests::frames::{checksum, from};
use crate::net::tests::{CLIENT, PORT, SERVER};
use crate::net::wire::Wire;
use crate::net::{Endpoint, NetDevice};

const BUFFERS: usize = 6;
const CLIENTS: usize = 4;
const LIMITS: TcpLimits = TcpLimits { connections: 6, half_open: 2, time_wait: 1, keep_alive: 100 };

/// Asks for odd amounts: consumes, produces and waits for what its input's bytes say.
#[derive(Default)]
struct Odd {
    open: usize,
}

impl StreamService for Odd {
    type Connection = usize;

    fn open(&mut self, _: Endpoint) -> Option<usize> {
        self.open += 1;
        Some(0)
    }

    fn serve(&mut self, calls: &mut usize, input: &[u8], output: &mut [u8]) -> Progress {
        *calls += 1;
        let Some(&first) = input.first() else {
            return Progress { consumed: 0, produced: 0, next: Next::Input };
        };
        let consumed = usize::from(first % 50).min(input.len());
        let produced = (usize::from(first) * 40).min(output.len());
        let next = match first % 11 {
            7 => Next::Close,
            0..3 if !calls.is_multiple_of(3) => Next::Room,
            _ => Next::Input,
        };
        Progress { consumed, produced, next }
    }

    fn closed(&mut self, _: usize) {
        self.open -= 1;
    }
}

/// What a client knows.
#[derive(Clone, Copy, Default)]
struct Client {
    next: u32,
    ack: u32,
}

fn options(which: u8) -> &'static [u8] {
    match which {
        0 => &[],
        1 => &[2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 1, 1],
        2 => &[2, 4, 0, 1],
        3 => &[2, 0, 0, 0],
        4 => &[3, 255, 1, 1],
        5 => &[5, 10, 0, 0, 0, 0, 255, 255, 255, 255, 1, 0],
        6 => &[5, 34, 1, 1],
        _ => &[8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1],
    }
}

/// Plays `input` to a stack with the short way, and to one without: the same leaves both.
fn play(input: &[u8]) {
    let [short, any] = [true, false].map(|short| play_to(input, short));
    assert_eq!(short.len(), any.len());
    for (step, (short, any)) in short.into_iter().zip(any).enumerate() {
        assert_eq!(short, any, "in step {step}");
    }
}

/// What was sent in one step, in no order: all of each segment but its data and the sums.
type Sent = Vec<(Vec<u8>, usize)>;

/// Plays `input`, and then lets so much time pass that nothing may be left.
fn play_to(input: &[u8], short: bool) -> Vec<Sent> {
    let mut memory = vec![0; BUFFERS * BUFFER];
    let (mut far, mut near) = Wire::pair(256);
    let mut stack = FastTcp::new(&SERVER, PORT, &mut memory, LIMITS, [3, 4], 0);
    stack.without_short_way = !short;
    let mut sent = Vec::new();
    let (mut service, mut now) = (Odd::default(), 0_u64);
    let mut clients = [Client { next: u32::MAX - 100, ack: 0 }; CLIENTS];
    let mut bytes = input.iter().copied();
    let mut byte = || bytes.next();
    while let Some(op) = byte() {
        let mut take = || byte().unwrap_or(0);
        if usize::from(op) % 5 == CLIENTS {
            // From a millisecond to more than a minute.
            now += 1000 << (take() / 16);
        } else {
            let who = usize::from(op) % 5;
            let client = &mut clients[who];
            let bits = take();
            let near = |code: u8| {
                u32::from(code).wrapping_sub(128).wrapping_mul(if code == 255 { 900 } else { 1 })
            };
            let seq = client.next.wrapping_add(near(take()));
            let ack = client.ack.wrapping_add(near(take()));
            let (window, options) = (u16::from(take()) << 4, options(take() % 8));
            let payload = vec![op; usize::from(take()) * 5];
            let mut tcp = Vec::new();
            tcp.extend((40_000 + who as u16).to_be_bytes());
            tcp.extend(PORT.to_be_bytes());
            tcp.extend(seq.to_be_bytes());
            tcp.extend(ack.to_be_bytes());
            tcp.extend([((20 + options.len()) << 2) as u8, bits]);
            tcp.extend(window.to_be_bytes());
            tcp.extend([0; 4]);
            tcp.extend(options);
            tcp.extend(&payload);
            let length = (tcp.len() as u16).to_be_bytes();
            let pseudo = [&CLIENT.address[..], &SERVER.address, &[0, 6], &length].concat();
            let sum = checksum(&[&pseudo, &tcp]);
            tcp[16..18].copy_from_slice(&sum.to_be_bytes());
            if op < 250 {
                // As a client that goes on would count.
                let control = u32::from(bits & 2 != 0) + u32::from(bits & 1 != 0);
                client.next = seq.wrapping_add(payload.len() as u32 + control);
            }
            let frame = from(CLIENT.mac, CLIENT.address, &crate::net::tests::frames::ipv4(6, &tcp));
            let buffer = far.slots().free.expect("room");
            buffer[..frame.len()].copy_from_slice(&frame);
            far.commit(frame.len());
            far.sync().expect("a wire");
        }
        sent.push(step(&mut stack, &mut near, &mut far, &mut service, now, &mut clients));
        assert!(stack.connections() <= LIMITS.connections);
    }
    for _ in 0..200 {
        now += 60_000_000;
        sent.push(step(&mut stack, &mut near, &mut far, &mut service, now, &mut clients));
    }
    assert_eq!((stack.connections(), stack.free_buffers(), service.open), (0, BUFFERS, 0));
    sent
}

fn step(
    stack: &mut FastTcp<'_, usize>,
    near: &mut Wire,
    far: &mut Wire,
    service: &mut Odd,
    now: u64,
    clients: &mut [Client; CLIENTS],
) -> Sent {
    let mut sent = Sent::new();
    for _ in 0..1000 {
        let moved = stack.poll(near, service, now, 64).expect("a wire");
        near.sync().expect("a wire");
        while let Some(frame) = far.slots().received {
            hear(frame, clients);
            sent.push(([&frame[..50], &frame[52..54]].concat(), frame.len()));
            far.consume();
        }
        if moved == 0 {
            sent.sort();
            return sent;
        }
    }
    panic!("the stack is busy for ever");
}

/// What leaves is a whole segment with right checksums, to a client.
fn hear(frame: &[u8], clients: &mut [Client; CLIENTS]) {
    assert_eq!((checksum(&[&frame[14..34]]), frame[23]), (0, 6));
    let tcp = &frame[34..];
    let length = (tcp.len() as u16).to_be_bytes();
    assert_eq!(checksum(&[&frame[26..34], &[0, 6], &length, tcp]), 0);
    let header = usize::from(tcp[12] >> 4) * 4;
    assert!((20..=tcp.len()).contains(&header) && frame.len() <= 1514);
    let who = u16::from_be_bytes([tcp[2], tcp[3]]) - 40_000;
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    let control = u32::from(tcp[13] & 2 != 0) + u32::from(tcp[13] & 1 != 0);
    clients[usize::from(who)].ack = seq.wrapping_add((tcp.len() - header) as u32 + control);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_segments_leave_nothing_behind(input in prop::collection::vec(any::<u8>(), 0..400)) {
        play(&input);
    }

    /// The same with more of what opens connections.
    #[test]
    fn likely_segments_leave_nothing_behind(
        steps in prop::collection::vec(
            (0_u8..5, prop::sample::select(vec![2_u8, 16, 16, 24, 17, 20, 4]),
             prop::sample::select(vec![128_u8, 128, 128, 129, 127, 160, 255, 0]),
             prop::sample::select(vec![128_u8, 128, 128, 127, 100, 140]),
             any::<u8>(), 0_u8..8, any::<u8>()),
            0..80,
        ),
    ) {
        let mut input = Vec::new();
        for (who, bits, seq, ack, window, option, length) in steps {
            if who == 4 {
                input.extend([4, window]);
            } else {
                input.extend([who, bits, seq, ack, window, option, length]);
            }
        }
        play(&input);
    }
}

#[test]
fn the_corpus_leaves_nothing_behind() {
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/tcp");
    let files: Vec<_> = std::fs::read_dir(place).unwrap().map(|file| file.unwrap()).collect();
    assert!(files.len() >= 9);
    for file in files {
        play(&std::fs::read(file.path()).unwrap());
    }
}
