//! A UDP stack made of smoltcp's interface and one of its sockets.
//!
//! It can speak first, and queues in both directions, at the price of a copy into and out
//! of the socket's buffers. For programs whose packets are few, and the base for what the
//! fast path does not do.
//!
//! smoltcp is given IP packets. Its own handling of neighbours lets every answer wait
//! while it asks for one peer's station, and knows eight; `Link` sends answers where their
//! questions came from.

pub mod tcp;

use alloc::boxed::Box;
use alloc::vec;
use core::task::Waker;

use exo_abi::{BUFFER_BYTES, Error, FRAME_MAX};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::udp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint, Ipv4Address};

use super::answerers::is_answerer;
use super::link::{HEADER, Incoming, Link};
use super::{Endpoint, NetConfig, NetDevice, Service, UdpStack};

/// Datagrams, and their bytes, queued in each direction.
const QUEUE: usize = 64;
const QUEUE_BYTES: usize = 64 * 1024;
/// Longest payload that fits into one frame.
pub const MAX_PAYLOAD: usize = FRAME_MAX - 42;

/// One port of one address, over smoltcp.
///
/// **Limits** its queues are never freed: a stack lives as long as its
/// application.
pub struct SmolUdp {
    host: Host,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    port: u16,
    reply: Box<[u8; MAX_PAYLOAD]>,
}

/// The queue for sending is full, or the destination cannot be sent to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotSent;

impl SmolUdp {
    /// A stack on `port` of `config.address`, for use with `device`. `now` is in
    /// microseconds. Returns `None` if `port` is zero.
    pub fn new<D: NetDevice>(
        config: &NetConfig,
        port: u16,
        device: &mut D,
        now: u64,
    ) -> Option<Self> {
        let host = Host::new(config, device, now);
        let queue = || {
            let packets = vec![udp::PacketMetadata::EMPTY; QUEUE].leak();
            udp::PacketBuffer::new(packets, vec![0; QUEUE_BYTES].leak())
        };
        let mut socket = udp::Socket::new(queue(), queue());
        socket.bind(port).ok()?;
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY].leak());
        let socket = sockets.add(socket);
        let reply = Box::new([0; MAX_PAYLOAD]);
        Some(Self { host, sockets, socket, port, reply })
    }

    /// Moves frames between `device` and the queues. Returns how many. `now` is
    /// in microseconds.
    pub fn exchange<D: NetDevice>(&mut self, device: &mut D, now: u64) -> u32 {
        self.host.exchange(device, &mut self.sockets, now)
    }

    /// Takes the oldest datagram off the queue, into the front of `buffer`.
    /// Returns its length, cut to that of `buffer`, and its sender.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Option<(usize, Endpoint)> {
        let (payload, meta) = self.socket().recv().ok()?;
        for (to, from) in buffer.iter_mut().zip(payload) {
            *to = *from;
        }
        let length = payload.len().min(buffer.len());
        Some((length, endpoint(meta.endpoint)))
    }

    /// The same for a service: passes over what must not be answered
    /// ([`answerers`](super::answerers)).
    pub fn receive_request(&mut self, buffer: &mut [u8]) -> Option<(usize, Endpoint)> {
        loop {
            let datagram = self.receive(buffer)?;
            if !is_answerer(datagram.1.port, self.port) {
                return Some(datagram);
            }
        }
    }

    /// Queues a datagram.
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn send(&mut self, payload: &[u8], to: Endpoint) -> Result<(), NotSent> {
        if payload.len() > MAX_PAYLOAD {
            return Err(NotSent);
        }
        let to = IpEndpoint::new(IpAddress::Ipv4(to.address.into()), to.port);
        self.socket().send_slice(payload, to).map_err(|_| NotSent)
    }

    /// Wakes `waker` when a datagram may have been received.
    pub fn wake_on_receive(&mut self, waker: &Waker) {
        self.socket().register_recv_waker(waker);
    }

    fn socket(&mut self) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }
}

impl UdpStack for SmolUdp {
    fn poll<D: NetDevice, S: Service>(
        &mut self,
        device: &mut D,
        service: &mut S,
        now: u64,
        budget: u32,
    ) -> Result<u32, Error> {
        let mut handled = self.exchange(device, now);
        let Self { host, sockets, socket: handle, reply, port } = self;
        let mut answers = 0;
        while answers < budget {
            let socket: &mut udp::Socket<'_> = sockets.get_mut(*handle);
            let Ok((request, meta)) = socket.recv() else { break };
            answers += 1;
            let from = endpoint(meta.endpoint);
            if is_answerer(from.port, *port) {
                continue;
            }
            let length = service.answer(request, from, &mut reply[..]);
            if let Some(payload) = length.and_then(|length| reply.get(..length)) {
                // A full queue loses the answer, as the network may.
                let _ = socket.send_slice(payload, meta.endpoint);
            }
            while let Some((length, _)) = service.more(&mut reply[..]) {
                let payload = reply.get(..length).unwrap_or_default();
                let socket: &mut udp::Socket<'_> = sockets.get_mut(*handle);
                if socket.send_slice(payload, meta.endpoint).is_err() {
                    service.settle()?;
                    host.exchange(device, sockets, now);
                    device.sync()?;
                    let socket: &mut udp::Socket<'_> = sockets.get_mut(*handle);
                    let _ = socket.send_slice(payload, meta.endpoint);
                }
            }
        }
        if answers > 0 {
            service.settle()?;
            handled += answers + self.exchange(device, now);
        }
        Ok(handled)
    }

    fn wait_micros(&mut self, now: u64) -> Option<u64> {
        self.host.wait_micros(&self.sockets, now)
    }
}

/// smoltcp's interface with Ethernet below it: what all stacks made of smoltcp share.
pub(super) struct Host {
    pub(super) interface: Interface,
    pub(super) link: Link,
    /// A received frame is copied here, so that its slot and the slot of the
    /// answer need not be borrowed at once.
    pub(super) frame: Box<[u8; BUFFER_BYTES]>,
}

impl Host {
    /// An interface for `device` with the addresses in `config`. `now` is in microseconds.
    pub(super) fn new<D: NetDevice>(config: &NetConfig, device: &mut D, now: u64) -> Self {
        let mut frame = Box::new([0; BUFFER_BYTES]);
        let mut link = Link::new(config);
        let mut adapter = Adapter { device, link: &mut link, frame: &mut frame, now, moved: 0 };
        let hardware = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(hardware, &mut adapter, instant(now));
        let address = Ipv4Address::from(config.address);
        let prefix_len = config.prefix_len.min(32);
        interface.update_ip_addrs(|list| {
            // The list is empty, and has room for one.
            let _ = list.push(IpCidr::new(IpAddress::Ipv4(address), prefix_len));
        });
        let gateway = Ipv4Address::from(config.gateway);
        // As above: the table of routes is empty.
        let _ = interface.routes_mut().add_default_ipv4_route(gateway);
        Self { interface, link, frame }
    }

    /// Moves frames between `device` and `sockets`. Returns how many were moved.
    pub(super) fn exchange<D: NetDevice>(
        &mut self,
        device: &mut D,
        sockets: &mut SocketSet<'_>,
        now: u64,
    ) -> u32 {
        let Self { interface, link, frame } = self;
        let mut adapter = Adapter { device, link, frame, now, moved: 0 };
        interface.poll(instant(now), &mut adapter, sockets);
        adapter.release();
        adapter.moved
    }

    /// Microseconds after which `sockets` want to be polled though nothing was received, if any.
    pub(super) fn wait_micros(&mut self, sockets: &SocketSet<'_>, now: u64) -> Option<u64> {
        let delay = self.interface.poll_delay(instant(now), sockets)?;
        Some(delay.total_micros())
    }
}

fn instant(micros: u64) -> Instant {
    Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

fn endpoint(from: IpEndpoint) -> Endpoint {
    let IpAddress::Ipv4(address) = from.addr;
    Endpoint { address: address.octets(), port: from.port }
}

/// A [`NetDevice`] as smoltcp wants one.
struct Adapter<'a, D> {
    device: &'a mut D,
    link: &'a mut Link,
    frame: &'a mut [u8; BUFFER_BYTES],
    /// In microseconds.
    now: u64,
    /// Frames received and sent.
    moved: u32,
}

struct Received<'a>(&'a [u8]);

struct Sending<'a, D> {
    device: &'a mut D,
    link: &'a mut Link,
    now: u64,
    moved: &'a mut u32,
}

impl<D: NetDevice> Adapter<'_, D> {
    /// Sends what has waited for a station that is known now.
    fn release(&mut self) {
        while let Some(buffer) = self.device.slots().free
            && let Some(length) = self.link.release(buffer, self.now)
        {
            self.device.commit(length);
            self.moved += 1;
        }
    }
}

impl<D: NetDevice> Device for Adapter<'_, D> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Sending<'a, D>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let length = loop {
            let slots = self.device.slots();
            let (received, free) = (slots.received?, slots.free?);
            let incoming = self.link.receive(received, free);
            let packet = received.get(HEADER..).unwrap_or_default();
            let length = packet.len().min(BUFFER_BYTES);
            if incoming == Incoming::Packet {
                for (to, from) in self.frame.iter_mut().zip(packet) {
                    *to = *from;
                }
            }
            self.device.consume();
            self.moved += 1;
            match incoming {
                Incoming::Packet => break length,
                Incoming::Answered(length) => self.device.commit(length),
                Incoming::Done => {}
            }
        };
        let packet = self.frame.get(..length)?;
        let Self { device, link, now, moved, .. } = self;
        Some((Received(packet), Sending { device, link, now: *now, moved }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        self.device.slots().free?;
        let Self { device, link, now, moved, .. } = self;
        Some(Sending { device, link, now: *now, moved })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = FRAME_MAX - HEADER;
        capabilities
    }
}

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl<D: NetDevice> phy::TxToken for Sending<'_, D> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let free = self.device.slots().free;
        let Some((buffer, end)) =
            free.map(|buffer| (buffer, HEADER + length)).filter(|(_, end)| *end <= FRAME_MAX)
        else {
            // The token was made when there was room, and nothing is longer than
            // the capabilities allow; should both fail, the packet is lost.
            return f(&mut vec![0; length]);
        };
        let packet = buffer.get_mut(HEADER..end).unwrap_or_default();
        // Some fields are only ever set bit by bit.
        packet.fill(0);
        let result = f(packet);
        let length = self.link.send(buffer, length, self.now);
        if length > 0 {
            self.device.commit(length);
            *self.moved += 1;
        }
        result
    }
}
