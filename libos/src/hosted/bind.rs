//! Binding to the network: the same rings as in the machine, between the application and sockets of
//! the host in the kernel's place.
//!
//! A thread receives from a UDP socket, which is bound to the host's port that the manifest forwards,
//! and delivers into the receive ring as the kernel does. What the application sends leaves by the
//! same socket when it synchronises. A client at 127.0.0.1 appears as the gateway, with its own port,
//! as QEMU's user network shows it. There is no ARP and no ICMP: the host answers these itself.
//!
//! **Limits** a datagram beyond one frame is dropped, as one for a full ring is. A packet that is no
//! datagram is taken and goes nowhere.

use core::fmt;
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::string::String;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use exo_abi::{BUFFER_BYTES, Error, FRAME_BYTES, FRAME_MAX, RingOrder, RingPage, SyncCounts};

use super::{Environment, park, wire};
use crate::net::rings::{Doorbell, Rings};
use crate::net::{Endpoint, NetConfig};

/// Why there is no binding.
#[derive(Debug)]
pub enum BindError {
    /// No port of the host leads to this UDP port of the application: the manifest forwards none.
    NoForward(u16),
    /// The host refused the port.
    Host(u16, io::Error),
    /// The host has no memory.
    Memory,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoForward(port) => write!(
                f,
                "no port of the host leads here: `forward = [\"udp:{port}\"]` in the manifest would"
            ),
            Self::Host(port, error) => write!(f, "UDP port {port} of the host: {error}"),
            Self::Memory => f.write_str("no memory for the network's rings"),
        }
    }
}

/// Sends what was committed.
#[derive(Debug)]
pub struct HostBell {
    run: Run,
    socket: Arc<UdpSocket>,
    gateway: [u8; 4],
    taken: u32,
}

/// The run of pages that rings and buffers lie in, seen from the kernel's side.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: NonNull<u8>,
    order: RingOrder,
}

// SAFETY: what it leads to is never freed; indices and lengths are atomics, and which side may
// touch a buffer is what they say.
unsafe impl Send for Run {}

impl Run {
    fn new(order: RingOrder) -> Option<Self> {
        let bytes = order.frames() as usize * FRAME_BYTES as usize;
        let layout = Layout::from_size_align(bytes, FRAME_BYTES as usize).ok()?;
        // SAFETY: the layout is not empty: there is a ring page at least.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { start, order })
    }

    fn page(&self) -> &RingPage {
        // SAFETY: the run begins with a ring page, page aligned and never freed. All of it is
        // atomics.
        unsafe { self.start.cast().as_ref() }
    }

    /// The receive buffer of slot `index`.
    ///
    /// # Safety
    /// It is not delivered, or consumed again; it is not delivered before the borrow ends.
    unsafe fn receive_buffer<'a>(&self, index: u32) -> &'a mut [u8] {
        // SAFETY: `rx_offset` of any slot and a buffer's length stay within the run; by the
        // contract the application does not look at it meanwhile.
        unsafe {
            let start = self.start.add(self.order.rx_offset(index));
            core::slice::from_raw_parts_mut(start.as_ptr(), BUFFER_BYTES)
        }
    }

    /// The first `length` bytes of the transmit buffer of slot `index`.
    ///
    /// # Safety
    /// It is committed, and not given back before the borrow ends.
    unsafe fn sent<'a>(&self, index: u32, length: usize) -> &'a [u8] {
        // SAFETY: as above; the application does not write to it meanwhile.
        unsafe {
            let start = self.start.add(self.order.tx_offset(index));
            core::slice::from_raw_parts(start.as_ptr(), length.min(BUFFER_BYTES))
        }
    }

    fn slot(&self, index: u32) -> usize {
        (index & (self.order.slots() - 1)) as usize
    }
}

impl Doorbell for HostBell {
    fn ring(&mut self) -> Result<SyncCounts, Error> {
        let page = self.run.page();
        let produced = page.tx_produced.0.load(Acquire);
        let mut counts = SyncCounts { taken: 0, refused: 0 };
        // More than a ring full cannot be.
        while self.taken != produced && counts.taken < self.run.order.slots() {
            let length = page.tx_length.get(self.run.slot(self.taken));
            let length: usize = length.map_or(0, |length| length.load(Relaxed)).into();
            // SAFETY: committed, since it is before `tx_produced`, and given back below.
            let frame = unsafe { self.run.sent(self.taken, length) };
            if length > FRAME_MAX {
                counts.refused += 1;
            } else if let Some((Endpoint { address, port }, payload)) = wire::datagram_of(frame)
                && address == self.gateway
            {
                // What the host does not send is lost, as on any network.
                let _ = self.socket.send_to(payload, (Ipv4Addr::LOCALHOST, port));
            }
            self.taken = self.taken.wrapping_add(1);
            counts.taken += 1;
        }
        page.tx_consumed.0.store(self.taken, Release);
        Ok(counts)
    }
}

/// Binds UDP port `port` of the application to the port of the host that the manifest forwards to it,
/// with rings of `order`.
///
/// # Errors
/// [`BindError`].
pub fn bind(
    environment: &Environment,
    config: &NetConfig,
    port: u16,
    order: RingOrder,
) -> Result<Rings<HostBell>, BindError> {
    let mut forwards = environment.start.grant.forwards.iter();
    let forward = forwards.find(|forward| forward.own == port);
    let host = forward.ok_or(BindError::NoForward(port))?.host;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, host));
    let socket = Arc::new(socket.map_err(|error| BindError::Host(host, error))?);
    let run = Run::new(order).ok_or(BindError::Memory)?;
    let (receives, config) = (Arc::clone(&socket), *config);
    let builder = std::thread::Builder::new().name(String::from("network"));
    let spawned = builder.spawn(move || receive(&run, &receives, &config, port));
    spawned.map_err(|error| BindError::Host(host, error))?;
    let bell = HostBell { run, socket, gateway: config.gateway, taken: 0 };
    // SAFETY: the run is page aligned, zeroed, never freed, and used by these rings and by the
    // kernel's side here, which keeps to their protocol.
    Ok(unsafe { Rings::new(run.start, order, bell) })
}

/// Delivers what comes, for ever.
fn receive(run: &Run, socket: &UdpSocket, config: &NetConfig, port: u16) {
    let mut delivered = 0_u32;
    // A byte more than is taken: what fills it is longer.
    let mut payload = [0; wire::MOST + 1];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut payload) else { continue };
        // No address of the loopback interface may be on a network.
        if from.ip() != Ipv4Addr::LOCALHOST {
            continue;
        }
        let page = run.page();
        // Acquire: the application is done with the buffer.
        let consumed = page.rx_consumed.0.load(Acquire);
        if delivered.wrapping_sub(consumed) >= run.order.slots() {
            continue;
        }
        // SAFETY: not delivered, or consumed again, and delivered below.
        let buffer = unsafe { run.receive_buffer(delivered) };
        let from = Endpoint { address: config.gateway, port: from.port() };
        let payload = payload.get(..length).unwrap_or_default();
        let Some(length) = wire::frame_of(config, port, from, payload, buffer) else { continue };
        if let Some(field) = page.rx_length.get(run.slot(delivered)) {
            field.store(length as u16, Relaxed);
        }
        delivered = delivered.wrapping_add(1);
        // Release: packet and length come before the index.
        page.rx_produced.0.store(delivered, Release);
        park::notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosted::{Forward, Grant};
    use crate::net::udp::FastUdp;
    use crate::net::{Service, UdpStack};
    use crate::sched::Park;

    struct Echo;

    impl Service for Echo {
        fn answer(&mut self, request: &[u8], _: Endpoint, reply: &mut [u8]) -> Option<usize> {
            reply.get_mut(..request.len())?.copy_from_slice(request);
            Some(request.len())
        }
    }

    fn environment(forwards: std::vec::Vec<Forward>) -> Environment {
        Environment::new(Grant {
            name: "test",
            frames: 64,
            address: Some([10, 0, 2, 15]),
            gateway: [10, 0, 2, 2],
            prefix_len: 24,
            shares: std::vec::Vec::new(),
            disk: None,
            forwards,
            arguments: std::vec::Vec::new(),
        })
    }

    #[test]
    fn a_stack_serves_a_port_of_the_host() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut environment = environment(std::vec![Forward { own: 9999, host: free }]);
        let config = environment.net_config().unwrap();
        let order = RingOrder::new(2).unwrap();
        let refused = bind(&environment, &config, 7, order).map(|_| ()).unwrap_err();
        assert!(matches!(refused, BindError::NoForward(7)), "{refused}");
        let mut device = bind(&environment, &config, 9999, order).unwrap();
        let taken = bind(&environment, &config, 9999, order).map(|_| ()).unwrap_err();
        assert!(matches!(taken, BindError::Host(..)), "{taken}");

        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let mut stack = FastUdp::new(&config, 9999);
        // More than the ring has slots.
        for round in 0..10_u8 {
            client.send_to(&[round; 100], ("127.0.0.1", free)).unwrap();
            let mut handled = 0;
            while handled == 0 {
                let seen = environment.park.seen();
                handled = stack.poll(&mut device, &mut Echo, 0, 8).unwrap();
                if handled == 0 {
                    environment.park.park(seen, None);
                }
            }
            crate::net::NetDevice::sync(&mut device).unwrap();
            let mut answer = [0; 200];
            assert_eq!(client.recv(&mut answer).unwrap(), 100);
            assert_eq!(answer[..100], [round; 100]);
        }
    }
}
