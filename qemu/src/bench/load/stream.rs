//! TCP connections to the service, and how a load is offered over them.
//!
//! smoltcp plays the client. Its clock stands still: it sends what it is given and acknowledges
//! what has come, but does nothing because time has passed, so that the frames that the guest
//! gets are the same in every run. An acknowledgement rides on the requests that follow, as those of a
//! client do that asks again at once.
//!
//! A *batch* is written to the connection as a whole, and so lies in as few segments as it can; with
//! several connections each is written a part of it. The guest is woken when all that may be sent
//! has arrived. If it sleeps before it has given all answers, since it waits for acknowledgements
//! or for its disk, it is given the former, and woken again.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::slice;
use std::time::Instant as Clock;

use anyhow::{Context, Result, anyhow, ensure};
use exo_load::wire::ethernet::Station;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use super::{
    Capture, Counter, Counts, DISK_GLANCE, Dialect, GLANCE, HOST, Heard, KEYS, Load, Machine,
    Monitor, PATIENCE, Phases, Signals, Workload,
};

/// Bytes that may have come and not been read: the widest window that needs no scale.
const RECEIVE: usize = 65_535;
/// Bytes that may be given to send: more than the largest batch.
const SEND: usize = 1 << 20;
/// Longest frame.
const FRAME: usize = 1514;
/// How long a batch may take.
const BATCH: std::time::Duration = std::time::Duration::from_secs(300);
/// Longer than an acknowledgement is delayed.
const PAUSE: Duration = Duration::from_millis(100);

/// One connection.
pub(super) struct Stream {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    wire: Frames,
    now: Instant,
    /// Its port at this end.
    port: u16,
    /// What the answers to the current batch must be, and what of them has come.
    wanted: Vec<u8>,
    came: Vec<u8>,
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
        let (wanted, came, port) = (Vec::new(), Vec::new(), from.port);
        Self { interface, sockets, socket, wire, now, port, wanted, came }
    }

    /// Whether this segment is for it.
    fn is_for(&self, segment: &[u8]) -> bool {
        // Behind the headers of Ethernet and IP, without options.
        segment.get(36..38) == Some(&self.port.to_be_bytes())
    }

    /// Whether some of its answers have not come.
    fn waits(&self) -> bool {
        self.came.len() < self.wanted.len()
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

impl<'a> Load<'a> {
    /// Finds the service of `machine`, which has one connection from now on and sleeps for the disk
    /// that `disk` is the monitor of, and fills it.
    pub(crate) fn over_tcp(
        machine: &'a Machine,
        counter: &'a Counter,
        interrupt: &'a Signals,
        capture: &'a Capture,
        (workload, dialect): (Workload, Dialect),
        address: Ipv4Addr,
        disk: &'a Monitor,
    ) -> Result<Self> {
        let mut load = Self::new(machine, counter, interrupt, capture, workload, address)?;
        (load.dialect, load.disk) = (dialect, Some(disk));
        counter.begin();
        counter.wait_until_counting(machine, interrupt)?;
        load.connect()?;
        if !matches!(dialect, Dialect::Fio(_)) {
            load.fill()?;
        }
        Ok(load)
    }

    /// Opens a connection, over which passes of a held load go from now on.
    pub(crate) fn connect(&mut self) -> Result<()> {
        self.connect_from(HOST.port)
    }

    /// Opens more connections, so that there are so many.
    pub(crate) fn connect_more(&mut self, clients: u16) -> Result<()> {
        self.acknowledge()?;
        (self.streams.len() as u16..clients)
            .try_for_each(|number| self.connect_from(HOST.port + number))
    }

    /// The guest is held where it goes to sleep meanwhile, and from now on: one that sleeps on a
    /// clock that counts instructions lives through its timers at once, and on a busy host would
    /// have given the connection up before its answer was heard.
    fn connect_from(&mut self, port: u16) -> Result<()> {
        let mut stream = Stream::connect(Station { port, ..HOST }, self.store)?;
        self.counter.hold();
        let start = Clock::now();
        while !stream.is_open() {
            self.send_leaving(slice::from_mut(&mut stream))?;
            self.wait_until_arrived()?;
            self.counter.let_one_pass();
            while !stream.is_open() {
                let is_held = self.counter.is_held();
                match self.hear()? {
                    Heard::Segment(frame) | Heard::Answer(frame) => stream.hear(frame),
                    // It waits for something that has to be sent, or for a timer of its own.
                    _ if is_held => break,
                    Heard::Refused | Heard::Question(_) | Heard::Nothing => {}
                }
                self.interrupt.check()?;
                let alive = self.machine.running() && start.elapsed() < PATIENCE;
                ensure!(alive, "the service does not take a connection\n{}", self.machine.report());
            }
        }
        self.send_leaving(slice::from_mut(&mut stream))?;
        self.streams.push(stream);
        Ok(())
    }

    /// Goes on in another dialect, over the same connections.
    pub(crate) fn speak(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    /// Has the guest know that all it said has arrived, so that it says nothing again when it is let
    /// go.
    fn acknowledge(&mut self) -> Result<()> {
        let frames: Vec<_> = self.streams.iter_mut().flat_map(Stream::leaving_later).collect();
        frames.iter().try_for_each(|frame| self.send(frame))
    }

    /// From now on divides what batches over connections take by the guest's sleeps.
    pub(crate) fn divide(&mut self, phases: Phases) {
        self.phases = Some(phases);
    }

    /// What came of that.
    pub(crate) fn divided(&mut self) -> Option<Phases> {
        self.phases.take()
    }

    /// `count` requests over the connections, as many on each, until all answers have come and the
    /// guest sleeps.
    pub(super) fn batch_over(
        &mut self,
        mut streams: Vec<Stream>,
        count: u32,
    ) -> Result<Vec<Stream>> {
        self.say(&mut streams, count)?;
        let glance = if self.disk.is_some() { DISK_GLANCE } else { GLANCE };
        self.note(Phases::begin);
        let start = Clock::now();
        while streams.iter().any(Stream::waits) {
            // Each sleep is a sign of life, but not for ever.
            let mut progress = Clock::now();
            ensure!(start.elapsed() < BATCH, "no answer\n{}", self.machine.report());
            self.send_leaving(&mut streams)?;
            self.wait_until_arrived()?;
            self.counter.let_one_pass();
            while streams.iter().any(Stream::waits) {
                let is_held = self.counter.is_held();
                if self.take_in(&mut streams, glance)? {
                    progress = Clock::now();
                } else if is_held {
                    self.note(Phases::sleep);
                    self.wait_for_disk()?;
                    break;
                }
                self.ensure_alive(progress)?;
            }
            self.counter.wait_until_held(self.machine, self.interrupt)?;
        }
        self.note(Phases::end);
        for Stream { came, wanted, .. } in &streams {
            ensure!(
                came == wanted,
                "the store gave a wrong answer: \"{}\" instead of \"{}\"",
                came.escape_ascii(),
                wanted.escape_ascii()
            );
        }
        Ok(streams)
    }

    /// Gives `count` requests to the connections, as many to each.
    fn say(&mut self, streams: &mut [Stream], count: u32) -> Result<()> {
        let (workload, dialect) = (self.workload, self.dialect);
        let each = count as usize / streams.len().max(1);
        for stream in streams {
            (stream.wanted, stream.came) = (Vec::new(), Vec::new());
            let mut requests = Vec::new();
            for _ in 0..each {
                requests.extend(dialect.request(workload, self.next_key));
                stream.wanted.extend(dialect.answer(workload, self.next_key));
                self.next_key = (self.next_key + 1) % KEYS;
            }
            stream.say(&requests)?;
        }
        Ok(())
    }

    fn send_leaving(&mut self, streams: &mut [Stream]) -> Result<()> {
        for stream in streams {
            for frame in stream.leaving() {
                self.send(&frame)?;
            }
        }
        Ok(())
    }

    /// Takes what comes next, if it comes in `time`. Whether it was a segment.
    fn take_in(&mut self, streams: &mut [Stream], time: std::time::Duration) -> Result<bool> {
        match self.hear_within(time)? {
            Heard::Segment(frame) => {
                if let Some(stream) = streams.iter_mut().find(|stream| stream.is_for(&frame)) {
                    stream.hear(frame);
                    let bytes = stream.take()?;
                    stream.came.extend(bytes);
                }
                Ok(true)
            }
            Heard::Question(_) | Heard::Nothing => Ok(false),
            Heard::Answer(_) | Heard::Refused => {
                Err(anyhow!("the service sent what it was not asked for"))
            }
        }
    }

    fn ensure_alive(&self, since: Clock) -> Result<()> {
        self.interrupt.check()?;
        let alive = self.machine.running() && since.elapsed() < PATIENCE;
        ensure!(alive, "the store does not answer\n{}", self.machine.report());
        Ok(())
    }

    /// **Blocking** until the disk has answered: let go before, the guest would live through time
    /// of its own.
    fn wait_for_disk(&self) -> Result<()> {
        let start = Clock::now();
        while self.disk.map_or(Ok(false), Monitor::is_busy)? {
            self.ensure_alive(start)?;
            std::thread::sleep(DISK_GLANCE);
        }
        Ok(())
    }

    fn note(&mut self, what: fn(&mut Phases, Counts)) {
        if let Some(phases) = &mut self.phases {
            what(phases, self.counter.read());
        }
    }
}

#[cfg(test)]
mod tests {
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
