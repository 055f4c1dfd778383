//! A client made of smoltcp, with any number of connections.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{IpAddress, IpEndpoint};

use crate::net::NetDevice;
use crate::net::smol::Host;
use crate::net::tests::{CLIENT, PORT, SERVER};

pub(in crate::net) struct Client {
    host: Host,
    sockets: SocketSet<'static>,
    next_port: u16,
}

impl Client {
    pub(in crate::net) fn new(device: &mut impl NetDevice) -> Self {
        let host = Host::new(&CLIENT, device, 0);
        Self { host, sockets: SocketSet::new(Vec::new()), next_port: 40_000 }
    }

    /// Begins to connect, with buffers of `bytes`.
    pub(in crate::net) fn connect(&mut self, bytes: usize) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; bytes]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let to = IpEndpoint::new(IpAddress::Ipv4(SERVER.address.into()), PORT);
        self.next_port += 1;
        socket.connect(self.host.interface.context(), to, self.next_port).expect("a free socket");
        self.sockets.add(socket)
    }

    pub(in crate::net) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(in crate::net) fn wait_micros(&mut self, now: u64) -> Option<u64> {
        self.host.wait_micros(&self.sockets, now)
    }

    pub(in crate::net) fn poll(&mut self, device: &mut impl NetDevice, now: u64) -> u32 {
        self.host.exchange(device, &mut self.sockets, now)
    }
}
