//! UDP and TCP on one port number, over one device.
//!
//! A datagram takes the way of [`FastUdp`], at its cost: only what is not a usual datagram is
//! looked at for TCP.

use exo_abi::Error;

use super::stream::StreamService;
use super::tcp::FastTcp;
use super::udp::FastUdp;
use super::{NetDevice, Service};

/// A server for datagrams and connections.
pub struct Dual<'m, C> {
    udp: FastUdp,
    tcp: FastTcp<'m, C>,
}

impl<'m, C> Dual<'m, C> {
    /// Both together.
    pub const fn new(udp: FastUdp, tcp: FastTcp<'m, C>) -> Self {
        Self { udp, tcp }
    }

    /// The server for connections.
    pub const fn tcp(&self) -> &FastTcp<'m, C> {
        &self.tcp
    }

    /// As [`UdpStack::poll`](super::UdpStack::poll) and
    /// [`TcpStack::poll`](super::stream::TcpStack::poll).
    ///
    /// # Errors
    /// Those of [`NetDevice::sync`].
    #[inline]
    pub fn poll<D, S>(
        &mut self,
        device: &mut D,
        service: &mut S,
        now: u64,
        budget: u32,
    ) -> Result<u32, Error>
    where
        D: NetDevice,
        S: Service + StreamService<Connection = C>,
    {
        let Self { udp, tcp } = self;
        let handled = udp.poll_or(device, service, budget, |frame, buffer, service| {
            FastTcp::<C>::may_be_for(frame).then(|| {
                tcp.set_time(now);
                tcp.handle(frame, buffer, service)
            })
        })?;
        // Without connections they cost nothing.
        if tcp.is_idle() {
            return Ok(handled);
        }
        tcp.set_time(now);
        Ok(handled + tcp.flush(device, service)?)
    }

    /// Microseconds until something is due, if anything is.
    #[inline]
    pub fn wait_micros(&mut self, now: u64) -> Option<u64> {
        let wait = if self.tcp.is_idle() { None } else { self.tcp.wait_micros(now) };
        match self.udp.wait_micros() {
            None => wait,
            Some(busy) => Some(wait.map_or(busy, |wait| wait.min(busy))),
        }
    }
}
