//! A TCP connection to the service, and how a load is offered over it.
//!
//! smoltcp plays the client. Its clock stands still: it sends what it is given and acknowledges
//! what has come, but does nothing because time has passed, so that the frames that the guest
//! gets are the same in every run. An acknowledgement rides on the requests that follow, as those of a
//! client do that asks again at once.
//!
//! A *batch* is written to the connection as a whole, and so lies in as few segments as it can. The
//! guest is woken when all that may be sent has arrived. If it sleeps before it has given all
//! answers, since it waits for acknowledgements, it is given those and woken again.

use std::collections::VecDeque;
use std::time::Instant as Clock;

use anyhow::{Context, Result, anyhow, ensure};
use exo_load::wire::ethernet::Station;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use super::{HOST, Heard, KEYS, Load, PATIENCE};

/// Bytes that may have come and not been read: the widest window that needs no scale.
const RECEIVE: usize = 65_535;
/// Bytes that may be given to send: more than the largest batch.
const SEND: usize = 1 << 20;
/// Longest frame.
const FRAME: usize = 1514;
/// Longer than an acknowledgement is delayed.
const PAUSE: Duration = Duration::from_millis(100);

/// One connection.
pub(super) struct Stream {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    wire: Frames,
    now: Instant,
}

/// Frames between smoltcp and the guest.
#[derive(Default)]
struct Frames {
    arrived: VecDeque<Vec<u8>>,
    leaving: Vec<Vec<u8>>,
}

impl Stream {
    /// Begins to connect `from` to `to`.
    pub(super) fn connect(from: Station, to: Station) -> Result<Self> {
        let mut stream = Self::new(from);
        let remote = IpEndpoint::new(IpAddress::Ipv4(to.address), to.port);
        let socket = stream.sockets.get_mut::<tcp::Socket<'_>>(stream.socket);
        socket
            .connect(stream.interface.context(), remote, from.port)
            .map_err(|error| anyhow!("cannot connect: {error}"))?;
        Ok(stream)
    }

    fn new(from: Station) -> Self {
        let mut wire = Frames::default();
        let now = Instant::ZERO;
        let address = HardwareAddress::Ethernet(EthernetAddress(from.mac));
        let mut interface = Interface::new(Config::new(address), &mut wire, now);
        interface.update_ip_addrs(|addresses| {
            // The list is empty and has room for one.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(from.address), 24));
        });
        let buffer = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
        let mut socket = tcp::Socket::new(buffer(RECEIVE), buffer(SEND));
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self { interface, sockets, socket, wire, now }
    }

    /// Whether it is connected.
    fn is_open(&mut self) -> bool {
        self.socket().may_send()
    }

    /// Gives it bytes to send.
    fn say(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.socket().send_slice(bytes).context("the connection has ended")?;
        ensure!(sent == bytes.len(), "a batch of {} bytes is too long", bytes.len());
        Ok(())
    }

    /// Frames that are to be sent now.
    fn leaving(&mut self) -> Vec<Vec<u8>> {
        self.interface.poll_egress(self.now, &mut self.wire, &mut self.sockets);
        std::mem::take(&mut self.wire.leaving)
    }

    /// The same if nothing is said for some time: acknowledgements that wait for a request to ride
    /// on wait no longer.
    fn leaving_later(&mut self) -> Vec<Vec<u8>> {
        self.now += PAUSE;
        self.leaving()
    }

    /// Takes a frame that has come.
    pub(super) fn hear(&mut self, frame: Vec<u8>) {
        self.wire.arrived.push_back(frame);
        loop {
            let Self { interface, sockets, wire, .. } = self;
            let result = interface.poll_ingress_single(self.now, wire, sockets);
            if matches!(result, PollIngressSingleResult::None) {
                return;
            }
        }
    }

    /// Bytes that have come since the last call.
    fn take(&mut self) -> Result<Vec<u8>> {
        let socket = self.socket();
        ensure!(socket.is_active(), "the service has closed the connection");
        let mut bytes = vec![0; socket.recv_queue()];
        let count = socket.recv_slice(&mut bytes).context("the service has closed its half")?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }
}

impl Device for Frames {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        Some((Arrived(self.arrived.pop_front()?), Leaving(&mut self.leaving)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

struct Arrived(Vec<u8>);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Leaving<'a>(&'a mut Vec<Vec<u8>>);

impl phy::TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut frame = vec![0; length];
        let result = write(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Load<'_> {
    /// Opens a connection, over which passes of a held load go from now on. What is stored
    /// beforehand still goes by datagram.
    pub(crate) fn connect(&mut self) -> Result<()> {
        let mut stream = Stream::connect(HOST, self.store)?;
        self.counter.let_go();
        let deadline = Clock::now() + PATIENCE;
        loop {
            for frame in stream.leaving() {
                self.send(&frame)?;
            }
            if stream.is_open() {
                break;
            }
            match self.hear()? {
                Heard::Segment(frame) | Heard::Answer(frame) => stream.hear(frame),
                Heard::Refused | Heard::Question(_) | Heard::Nothing => {}
            }
            self.interrupt.check()?;
            let alive = self.machine.running() && Clock::now() < deadline;
            ensure!(alive, "the service does not take a connection\n{}", self.machine.report());
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// Has the guest know that all it said has arrived, so that it says nothing again when it is let
    /// go.
    pub(super) fn acknowledge(&mut self) -> Result<()> {
        let frames = self.stream.as_mut().map(Stream::leaving_later).unwrap_or_default();
        frames.iter().try_for_each(|frame| self.send(frame))
    }

    /// `count` requests over the connection, until all answers have come and the guest sleeps.
    pub(super) fn batch_over(&mut self, mut stream: Stream, count: u32) -> Result<Stream> {
        let workload = self.workload;
        let (mut requests, mut wanted) = (Vec::new(), Vec::new());
        for _ in 0..count {
            requests.extend(workload.request(self.next_key));
            wanted.extend(workload.answer(self.next_key));
            self.next_key = (self.next_key + 1) % KEYS;
        }
        stream.say(&requests)?;
        let (mut came, mut progress) = (Vec::new(), Clock::now());
        while came.len() < wanted.len() {
            for frame in stream.leaving() {
                self.send(&frame)?;
            }
            self.wait_until_arrived()?;
            self.counter.let_one_pass();
            while came.len() < wanted.len() {
                match self.hear()? {
                    Heard::Segment(frame) => {
                        stream.hear(frame);
                        came.extend(stream.take()?);
                        progress = Clock::now();
                    }
                    Heard::Nothing if self.counter.is_held() => break,
                    Heard::Question(_) | Heard::Nothing => {}
                    Heard::Answer(_) | Heard::Refused => {
                        return Err(anyhow!("the service sent what it was not asked for"));
                    }
                }
                self.interrupt.check()?;
                let alive = self.machine.running() && progress.elapsed() < PATIENCE;
                ensure!(alive, "the store does not answer\n{}", self.machine.report());
            }
            self.counter.wait_until_held(self.machine, self.interrupt)?;
        }
        ensure!(
            came == wanted,
            "the store gave a wrong answer: \"{}\" instead of \"{}\"",
            came.escape_ascii(),
            wanted.escape_ascii()
        );
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SERVICE: Station =
        Station { mac: [2, 0, 0, 0, 0, 9], address: Ipv4Addr::new(10, 0, 2, 15), port: 11_211 };

    /// Moves frames both ways until there are none; how many carried data to the service.
    fn exchange(client: &mut Stream, service: &mut Stream) -> usize {
        let mut count = 0;
        loop {
            let there = client.leaving();
            count += there.iter().filter(|frame| frame.len() > 60).count();
            let quiet = there.is_empty();
            there.into_iter().for_each(|frame| service.hear(frame));
            let back = service.leaving();
            if quiet && back.is_empty() {
                return count;
            }
            back.into_iter().for_each(|frame| client.hear(frame));
        }
    }

    #[test]
    fn a_batch_goes_in_full_segments_and_acknowledgements_ride() {
        let mut service = Stream::new(SERVICE);
        service.socket().listen(SERVICE.port).unwrap();
        let mut client = Stream::connect(HOST, SERVICE).unwrap();
        exchange(&mut client, &mut service);
        assert!(client.is_open() && service.is_open());
        let batch = vec![b'q'; 2000];
        client.say(&batch).unwrap();
        assert_eq!(exchange(&mut client, &mut service), 2);
        assert_eq!(service.take().unwrap(), batch);
        service.say(b"answer").unwrap();
        exchange(&mut client, &mut service);
        assert_eq!(client.take().unwrap(), b"answer");
        assert!(client.leaving().is_empty(), "it waits for a request to ride on");
        client.say(b"more").unwrap();
        assert_eq!(client.leaving().len(), 1);
        assert!(client.leaving_later().is_empty(), "nothing is left to acknowledge");
        service.say(b"answer").unwrap();
        for frame in service.leaving() {
            client.hear(frame);
        }
        assert_eq!(client.leaving_later().len(), 1);
        // What the other end has closed is noticed.
        service.socket().close();
        exchange(&mut client, &mut service);
        assert_eq!(client.take().unwrap(), b"answer");
        assert!(client.take().is_err());
    }
}
