//! A TCP stack made of smoltcp's interface and a fixed number of its sockets.
//!
//! For comparison, and for programs whose connections are few: each socket has its buffers for
//! as long as the stack lives, and smoltcp looks at every socket for every segment. A socket
//! serves one connection at a time and listens again when that has ended.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use exo_abi::Error;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

use super::{Host, endpoint};
use crate::net::stream::{Next, StreamService, TcpStack};
use crate::net::{NetConfig, NetDevice};

/// Bytes of a socket's buffer, for each direction.
const BUFFER: usize = 16 * 1024;

/// A TCP server on one port of one address, over smoltcp.
///
/// `C` is what the application keeps for each connection.
pub struct SmolTcp<C> {
    host: Host,
    sockets: SocketSet<'static>,
    slots: Vec<Slot<C>>,
    port: u16,
    /// What a service reads is here in one piece, and what it writes as well.
    input: Box<[u8]>,
    output: Box<[u8]>,
}

struct Slot<C> {
    handle: SocketHandle,
    app: Option<(C, Next)>,
    /// Bytes that the service has seen and not consumed.
    seen: usize,
}

impl<C> SmolTcp<C> {
    /// A server on `port` of `config.address` with `sockets` sockets, for use with `device`.
    /// `now` is in microseconds.
    pub fn new<D: NetDevice>(
        config: &NetConfig,
        port: u16,
        device: &mut D,
        sockets: usize,
        now: u64,
    ) -> Self {
        let host = Host::new(config, device, now);
        let mut set = SocketSet::new(Vec::new());
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let slots = (0..sockets).map(|_| {
            let mut socket = tcp::Socket::new(buffer(), buffer());
            socket.set_nagle_enabled(false);
            // Nothing but port zero is refused.
            let _ = socket.listen(port);
            Slot { handle: set.add(socket), app: None, seen: 0 }
        });
        let slots = slots.collect();
        let scratch = || vec![0; BUFFER].into_boxed_slice();
        Self { host, sockets: set, slots, port, input: scratch(), output: scratch() }
    }

    /// Connections there are now.
    pub fn connections(&self) -> usize {
        self.slots.iter().filter(|slot| slot.app.is_some()).count()
    }

    /// Has the service work for every connection. Returns for how many it did something.
    fn serve<S: StreamService<Connection = C>>(&mut self, service: &mut S) -> u32 {
        let Self { sockets, slots, port, input, output, .. } = self;
        let mut served = 0;
        for slot in slots {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(slot.handle);
            served += u32::from(slot.serve(socket, input, output, service));
            if !socket.is_open() {
                if let Some((connection, _)) = slot.app.take() {
                    service.closed(connection);
                }
                let _ = socket.listen(*port);
            }
        }
        served
    }
}

impl<C> Slot<C> {
    /// Has the service work for one connection. Returns whether it did.
    fn serve<S: StreamService<Connection = C>>(
        &mut self,
        socket: &mut tcp::Socket<'_>,
        input: &mut [u8],
        output: &mut [u8],
        service: &mut S,
    ) -> bool {
        if self.app.is_none() && socket.may_send() {
            let opened = socket.remote_endpoint().and_then(|from| service.open(endpoint(from)));
            let Some(connection) = opened else {
                socket.abort();
                return true;
            };
            (self.app, self.seen) = (Some((connection, Next::Room)), 0);
        }
        let Some((connection, wants)) = &mut self.app else { return false };
        let mut served = false;
        loop {
            if *wants == Next::Close {
                // What comes now is dropped.
                while socket.recv(|bytes| (bytes.len(), bytes.len())).is_ok_and(|n| n > 0) {}
                socket.close();
                return served;
            }
            let length = socket.peek_slice(input).unwrap_or(0);
            let room = (socket.send_capacity() - socket.send_queue()).min(output.len());
            let ended = !socket.may_recv() && socket.state() != tcp::State::SynReceived;
            let is_news = match wants {
                Next::Input => length > self.seen,
                _ => room > 0,
            };
            match (is_news, ended, &wants) {
                (true, ..) => {}
                (false, true, Next::Input) => {
                    *wants = Next::Close;
                    continue;
                }
                _ => return served,
            }
            let (shown, room) = (
                input.get(..length).unwrap_or_default(),
                output.get_mut(..room).unwrap_or_default(),
            );
            let progress = service.serve(connection, shown, room);
            *wants = progress.next;
            served = true;
            // There was room for it.
            let _ = socket.send_slice(room.get(..progress.produced).unwrap_or(room));
            let mut consumed = progress.consumed.min(length);
            self.seen = length - consumed;
            while consumed > 0 {
                let some =
                    |bytes: &mut [u8]| (bytes.len().min(consumed), bytes.len().min(consumed));
                let Ok(count) = socket.recv(some) else { break };
                consumed -= count;
            }
            if progress.next == Next::Room && progress.produced == 0 && progress.consumed == 0 {
                return served;
            }
        }
    }
}

impl<S: StreamService> TcpStack<S> for SmolTcp<S::Connection> {
    fn poll<D: NetDevice>(
        &mut self,
        device: &mut D,
        service: &mut S,
        now: u64,
        _budget: u32,
    ) -> Result<u32, Error> {
        let mut handled = self.host.exchange(device, &mut self.sockets, now);
        if self.serve(service) > 0 {
            service.settle()?;
            handled += 1 + self.host.exchange(device, &mut self.sockets, now);
        }
        Ok(handled)
    }

    fn wait_micros(&mut self, now: u64) -> Option<u64> {
        self.host.wait_micros(&self.sockets, now)
    }

    fn most_input(&self) -> usize {
        BUFFER
    }

    fn most_output(&self) -> usize {
        BUFFER
    }
}
