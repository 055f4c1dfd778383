//! What every [`TcpStack`] must do for its peers: run it on any new one.
//!
//! [`check`] plays clients over a [`Wire`], with segments made by hand. As in
//! [`conformance`](super::conformance) they never ask for a station and never answer when asked
//! for theirs. Nothing here depends on the guest.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use exo_abi::Error;

use super::checksum::Sum;
use super::conformance::{CONFIG, PORT, Peer, SLOTS, Watched, put};
use super::stream::{Next, Progress, StreamService, TcpStack};
use super::wire::Wire;
use super::{Endpoint, NetConfig, NetDevice};

/// Connections at the same time that every stack must be able to hold.
pub const CONNECTIONS: usize = 8;

/// Where all clients are.
const PEER: Peer = Peer { mac: [2, 0, 0, 0, 7, 7], address: [172, 16, 7, 7] };
const TCP: u8 = 6;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Puts stacks that `fresh` makes for an address, a port and a device through the contract. Each
/// holds at least [`CONNECTIONS`] connections.
///
/// # Panics
/// If a stack breaks it.
pub fn check<T: TcpStack<Repeat>>(mut fresh: impl FnMut(&NetConfig, u16, &mut Wire) -> T) {
    let mut network = || {
        let (far, mut near) = Wire::pair(SLOTS);
        let stack = fresh(&CONFIG, PORT, &mut near);
        Network { stack, near, far, now: 1000, service: Repeat::default() }
    };
    a_client_is_served_and_leaves(&mut network());
    many_clients_are_served_at_the_same_time(&mut network());
    bytes_come_once_and_in_order(&mut network());
    damaged_segments_are_ignored(&mut network());
    what_was_sent_before_the_end_is_answered(&mut network());
    the_service_may_close(&mut network());
    a_reset_ends_a_connection(&mut network());
    segments_of_no_connection_are_reset(&mut network());
    the_window_is_kept_to(&mut network());
    what_is_lost_is_sent_again(&mut network());
}

fn a_client_is_served_and_leaves<T: TcpStack<Repeat>>(network: &mut Network<T>) {
    for port in 0..3 * CONNECTIONS as u16 {
        let mut client = network.connect(40_000 + port);
        network.say(&mut client, ACK, b"question");
        assert_eq!(client.heard, b"question");
        network.say(&mut client, ACK | FIN, b"");
        assert!(client.ended, "its end is answered by the server's");
        network.say(&mut client, ACK, b"");
        network.pass(1_000_000);
        assert_eq!(network.service.open, 0, "the service is told");
    }
}

fn many_clients_are_served_at_the_same_time<T: TcpStack<Repeat>>(network: &mut Network<T>) {
    let ports = 40_000..40_000 + CONNECTIONS as u16;
    let mut clients: Vec<_> = ports.map(|port| network.connect(port)).collect();
    for round in 1..20_u8 {
        for (client, number) in clients.iter_mut().zip(1_u8..) {
            network.say(client, ACK, &[round, number]);
            assert_eq!(client.heard.split_off(0), [round, number]);
        }
    }
}

fn bytes_come_once_and_in_order<T: TcpStack<Repeat>>(network: &mut Network<T>) {
    let mut client = network.connect(40_000);
    let first = client.seq;
    // The second half first, twice; then all of it; then the beginning again.
    for (from, data) in [(3, &b"def"[..]), (3, b"def"), (0, b"abcdef"), (0, b"abc")] {
        client.seq = first.wrapping_add(from);
        network.say(&mut client, ACK, data);
    }
    client.seq = first.wrapping_add(6);
    network.say(&mut client, ACK, b"g");
    assert_eq!(client.heard, b"abcdefg");
    assert_eq!(client.acked, client.seq, "all is acknowledged");
}

fn damaged_segments_are_ignored<T: TcpStack<Repeat>>(network: &mut Network<T>) {
    let mut client = network.connect(40_000);
    let good = client.segment(ACK, b"question");
    for at in 34..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        network.say_frame(&mut client, &bad);
        assert!(client.heard.is_empty() && !client.reset, "byte {at} is damaged");
    }
    network.say(&mut client, ACK, b"question");
    assert_eq!(client.heard, b"question");
}

fn what_was_sent_before_the_end_is_answered<T: TcpStack<Repeat>>(network: &mut Network<T>) {
    let mut client = network.connect(40_000);
    client.window = 4;
    network.say(&mut client, ACK | FIN, b"last words");
    for _ in 0..20 {
        client.window = 100;
        network.say(&mut client, ACK, b"");
        network.pass_for(&mut client, 300_000);
    }
    assert_eq!((&client.heard[..], client.ended), (&b"last words"[..], true));
}

fn the_service_may_close<T: TcpStack<Repeat>>(network: &mut Network<T>) {
    let mut client = network.connect(40_000);
    network.say(&mut client, ACK, b"bye\0");
    assert_eq!((&client.heard[..], client.ended, client.reset), (&b"bye"[..], true, false));
}

fn a_reset_ends_a_connection<T: TcpStack<Repeat>>(network: &mut Network<T>) {
    let mut client = network.connect(40_000);
    network.say(&mut client, RST | ACK, b"");
    assert!(!client.reset, "a reset is not answered");
    assert_eq!(network.service.open, 0, "the service is told");
    network.say(&mut client, ACK, b"question");
    assert!(client.heard.is_empty() && client.reset);
}

fn segments_of_no_connection_are_reset<T: TcpStack<Repeat>>(network: &mut Network<T>) {
    let mut stranger = Client::new(40_000);
    network.say(&mut stranger, ACK, b"");
    assert!(stranger.reset);
    let mut quiet = Client::new(40_001);
    network.say(&mut quiet, RST, b"");
    assert!(!quiet.reset, "a reset is not answered");
}

fn the_window_is_kept_to<T: TcpStack<Repeat>>(network: &mut Network<T>) {
    let mut client = network.connect(40_000);
    client.window = 500;
    client.acknowledges = false;
    let data = vec![b'x'; 1400];
    network.say(&mut client, ACK, &data);
    assert!(client.furthest <= 500, "{} bytes into a window of 500", client.furthest);
    client.acknowledges = true;
    for _ in 0..20 {
        network.say(&mut client, ACK, b"");
        network.pass_for(&mut client, 300_000);
    }
    assert_eq!(client.heard, data);
}

fn what_is_lost_is_sent_again<T: TcpStack<Repeat>>(network: &mut Network<T>) {
    let mut client = network.connect(40_000);
    client.deaf = true;
    network.say(&mut client, ACK, b"question");
    client.deaf = false;
    network.pass_for(&mut client, 4_000_000);
    assert_eq!(client.heard, b"question");
}

/// Repeats what it hears, and closes at a zero byte.
#[derive(Debug, Default)]
pub struct Repeat {
    open: usize,
    unsettled: Rc<Cell<bool>>,
}

impl StreamService for Repeat {
    type Connection = ();

    fn open(&mut self, _: Endpoint) -> Option<()> {
        self.open += 1;
        Some(())
    }

    fn settle(&mut self) -> Result<(), Error> {
        self.unsettled.set(false);
        Ok(())
    }

    fn serve(&mut self, (): &mut (), input: &[u8], output: &mut [u8]) -> Progress {
        self.unsettled.set(true);
        let text = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
        let count = text.min(output.len());
        for (to, from) in output.iter_mut().zip(&input[..count]) {
            *to = *from;
        }
        let next = match count {
            _ if count < text => Next::Room,
            _ if text < input.len() => Next::Close,
            _ => Next::Input,
        };
        Progress { consumed: count, produced: count, next }
    }

    fn closed(&mut self, (): ()) {
        self.open -= 1;
    }
}

/// A stack, its device and the other end of the wire.
struct Network<T> {
    stack: T,
    near: Wire,
    far: Wire,
    /// In microseconds.
    now: u64,
    service: Repeat,
}

impl<T: TcpStack<Repeat>> Network<T> {
    fn connect(&mut self, port: u16) -> Client {
        let mut client = Client::new(port);
        self.say(&mut client, SYN, b"");
        assert!(client.ack.is_some(), "a SYN is answered");
        self.say(&mut client, ACK, b"");
        client
    }

    /// Says a segment, and takes what is said to it.
    fn say(&mut self, client: &mut Client, bits: u8, data: &[u8]) {
        let frame = client.segment(bits, data);
        client.seq =
            client.seq.wrapping_add(data.len() as u32 + u32::from(bits & (SYN | FIN) != 0));
        self.say_frame(client, &frame);
    }

    fn say_frame(&mut self, client: &mut Client, frame: &[u8]) {
        put(&mut self.far, frame);
        self.listen(client);
    }

    /// Lets time pass, in steps.
    fn pass_for(&mut self, client: &mut Client, micros: u64) {
        let end = self.now + micros;
        while self.now < end {
            self.now += 10_000;
            self.listen(client);
        }
    }

    fn pass(&mut self, micros: u64) {
        self.pass_for(&mut Client::new(1), micros);
    }

    /// Takes what the stack says, and acknowledges what is new of it, until it is silent.
    fn listen(&mut self, client: &mut Client) {
        for _ in 0..1000 {
            self.now += 1;
            self.far.sync().expect("a wire");
            let unsettled = self.service.unsettled.clone();
            let mut near = Watched { wire: &mut self.near, unsettled: &unsettled };
            let polled = self.stack.poll(&mut near, &mut self.service, self.now, SLOTS as u32);
            polled.expect("a wire");
            near.sync().expect("a wire");
            let mut news = false;
            let mut any = false;
            while let Some(frame) = self.far.slots().received {
                news |= client.hear(frame);
                any = true;
                self.far.consume();
            }
            if !any {
                return;
            }
            if news && client.acknowledges && !client.reset {
                put(&mut self.far, &client.segment(ACK, b""));
            }
        }
        panic!("the stack is busy for ever");
    }
}

/// A client's side of a connection.
struct Client {
    port: u16,
    seq: u32,
    /// The server's next number.
    ack: Option<u32>,
    /// The last of our numbers that the server has acknowledged.
    acked: u32,
    window: u16,
    heard: Vec<u8>,
    /// Bytes beyond what was acknowledged, at most.
    furthest: u32,
    ended: bool,
    reset: bool,
    /// It loses everything.
    deaf: bool,
    acknowledges: bool,
}

impl Client {
    fn new(port: u16) -> Self {
        Self {
            port,
            seq: 7_000_000,
            ack: None,
            acked: 0,
            window: 8000,
            heard: Vec::new(),
            furthest: 0,
            ended: false,
            reset: false,
            deaf: false,
            acknowledges: true,
        }
    }

    /// The frame of a segment to the server.
    fn segment(&self, bits: u8, data: &[u8]) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.port.to_be_bytes());
        tcp.extend(PORT.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.unwrap_or(0).to_be_bytes());
        tcp.extend([5 << 4, bits]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(data);
        let sum = pseudo_header(PEER.address, CONFIG.address, tcp.len()).and(Sum::of(&tcp));
        tcp[16..18].copy_from_slice(&sum.checksum());
        PEER.packet(TCP, &tcp)
    }

    /// Takes a frame of the server's. Returns whether it brought something new.
    fn hear(&mut self, frame: &[u8]) -> bool {
        assert_eq!(frame[..6], PEER.mac, "it goes to the station that asked");
        let tcp = &frame[34..];
        let sum = pseudo_header(CONFIG.address, PEER.address, tcp.len()).and(Sum::of(tcp));
        assert!(sum.is_intact() && Sum::of(&frame[14..34]).is_intact());
        let long = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        if self.deaf || tcp[2..4] != self.port.to_be_bytes() {
            return false;
        }
        let (bits, seq, data) = (tcp[13], long(4), &tcp[usize::from(tcp[12] >> 4) * 4..]);
        if bits & RST != 0 {
            self.reset = true;
            return false;
        }
        if bits & ACK != 0 {
            self.acked = long(8);
        }
        if bits & SYN != 0 {
            self.ack = Some(seq.wrapping_add(1));
            return false;
        }
        let Some(ack) = self.ack else { return false };
        self.furthest = self.furthest.max(seq.wrapping_sub(ack).wrapping_add(data.len() as u32));
        if seq != ack || !self.acknowledges || data.is_empty() && bits & FIN == 0 {
            return false;
        }
        self.heard.extend(data);
        self.ended |= bits & FIN != 0;
        let count = data.len() as u32 + u32::from(bits & FIN != 0);
        self.ack = Some(ack.wrapping_add(count));
        true
    }
}

fn pseudo_header(from: [u8; 4], to: [u8; 4], length: usize) -> Sum {
    Sum::address(from)
        .and(Sum::address(to))
        .and(Sum::field(TCP.into()))
        .and(Sum::field(length as u16))
}

#[cfg(test)]
mod tests {
    use super::{CONNECTIONS, check};
    use crate::net::smol::tcp::SmolTcp;
    use crate::net::tcp::{BUFFER, FastTcp, TcpLimits};

    #[test]
    fn our_tcp_conforms() {
        check(|config, port, _| {
            let memory = vec![0; 2 * CONNECTIONS * BUFFER].leak();
            FastTcp::new(config, port, memory, TcpLimits::default(), [1, 2], 0)
        });
    }

    #[test]
    fn smoltcp_conforms() {
        check(|config, port, device| SmolTcp::new(config, port, device, CONNECTIONS, 0));
    }
}
