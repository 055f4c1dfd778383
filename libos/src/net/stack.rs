//! What a UDP stack is, seen from both sides.

use core::fmt;

use exo_abi::Error;

use super::NetDevice;
use super::checksum::Sum;

/// How an application is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NetConfig {
    /// The network interface's Ethernet address.
    pub mac: [u8; 6],
    /// Own IPv4 address.
    pub address: [u8; 4],
    /// Length of the network prefix in bits.
    pub prefix_len: u8,
    /// The router's address.
    pub gateway: [u8; 4],
}

/// One end of a UDP conversation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// IPv4 address.
    pub address: [u8; 4],
    /// UDP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.address;
        write!(f, "{a}.{b}.{c}.{d}:{}", self.port)
    }
}

/// An application that answers datagrams.
pub trait Service {
    /// Answers `request` by writing into `reply`. Returns the length of the
    /// answer, or `None` for none.
    ///
    /// `reply` is where the answer is sent from, up to 1472 bytes; what is in
    /// it is unspecified. **Blocking** must not. **Trust** any host can send
    /// anything.
    fn answer(&mut self, request: &[u8], from: Endpoint, reply: &mut [u8]) -> Option<usize>;

    /// The same, and the sum of the answer for its checksum: for a service that knows it
    /// without reading the answer again.
    #[inline(always)]
    fn answer_with_sum(
        &mut self,
        request: &[u8],
        from: Endpoint,
        reply: &mut [u8],
    ) -> Option<(usize, Sum)> {
        let length = self.answer(request, from, reply)?;
        let length = length.min(reply.len());
        Some((length, Sum::of(reply.get(..length).unwrap_or_default())))
    }

    /// Answers are about to leave: what they depend on is made durable, by a service whose answers
    /// are. **Blocking** may.
    ///
    /// # Errors
    /// If that failed. No answer leaves then.
    #[inline(always)]
    fn settle(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Whether the last request, for which `None` was returned, is answered by several datagrams.
    /// The stack then asks for all of them before it passes on another request.
    #[inline(always)]
    fn has_more(&self) -> bool {
        false
    }

    /// Writes the next of these datagrams into `reply`, as [`Service::answer_with_sum`] does.
    /// `None` if there is none.
    fn more(&mut self, _reply: &mut [u8]) -> Option<(usize, Sum)> {
        None
    }
}

/// Turns frames into datagrams, and answers into frames.
///
/// What every stack must do beyond that is in [`conformance`](super::conformance).
pub trait UdpStack {
    /// Handles up to `budget` of the frames that `device` has received, and
    /// queues what is to be sent. Returns how many were handled or queued: at
    /// zero there is nothing to do until the device has an event or
    /// [`UdpStack::wait_micros`] have passed. `now` is in microseconds.
    ///
    /// Leaves it to the caller to call [`NetDevice::sync`] afterwards, once for
    /// the whole batch; calls it only if the transmit ring is full. Before either, it has the
    /// service settle its answers ([`Service::settle`]).
    ///
    /// # Errors
    /// Those of [`NetDevice::sync`] and of the service.
    fn poll<D: NetDevice, S: Service>(
        &mut self,
        device: &mut D,
        service: &mut S,
        now: u64,
        budget: u32,
    ) -> Result<u32, Error>;

    /// Microseconds after which the stack wants to be polled though nothing was
    /// received, if any.
    fn wait_micros(&mut self, now: u64) -> Option<u64>;
}
