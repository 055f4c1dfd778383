//! The UDP fast path: a frame in, its answer out, nothing kept.
//!
//! Place on the packet path: step 4. A received frame is read where the kernel
//! put it; the service writes its answer where the kernel sends it from; the
//! headers are put in front. Between the two there is no copy, no queue and no
//! allocation. Headers are read through checked views (`smoltcp::wire`), and an
//! answer goes back to the Ethernet address the request came from, so that no
//! address has to be looked up: a stack that only answers needs no ARP cache.
//!
//! An answer is a frame; if it is several, the service writes them one after the other once the
//! first is asked for, and until the device has taken the last no other frame is read: so
//! nothing of them is kept here but where they go.
//!
//! It handles what a server without connections needs, and drops the rest,
//! counted by reason: ARP requests for the own address (RFC 826), ICMP echo
//! (RFC 792), UDP to one port (RFC 768) over unfragmented IPv4 (RFC 791).
//! Fragments are not put together: the kernel's filters do not let them through.
//!
//! **Trust** any bytes of any frame. **Cost** see `docs/libos/net.md`.

pub(super) mod arp;
mod datagram;
mod drops;
mod head;
pub(super) mod host;
mod icmp;
pub(super) mod ipv4;

use exo_abi::Error;

pub use self::drops::{Dropped, Drops};
pub use self::head::HEADERS;
use self::head::{Head, Template, sender};
use self::host::Taken;
use self::ipv4::Own;
use super::serve::BUSY_MICROS;
use super::{NetConfig, NetDevice, STOP, Service, TxBuffer, UdpStack};

/// UDP's protocol number (RFC 790).
const UDP: u8 = 17;

/// A UDP server on one port.
#[derive(Debug)]
pub struct FastUdp {
    own: Own,
    port: u16,
    template: Template,
    drops: Drops,
    /// Headers of the request whose answer has datagrams that are still to be sent.
    unsent: Option<Head>,
    /// Whether these wait for a buffer of the device, or frames for one to be answered in.
    waits: bool,
}

impl FastUdp {
    /// A server on `port` of `config.address`.
    pub fn new(config: &NetConfig, port: u16) -> Self {
        let own = Own::new(config);
        let template = Template::new(&own, port);
        Self { own, port, template, drops: Drops::default(), unsent: None, waits: false }
    }

    /// A server on no port, for a host that serves no datagrams: ARP and ICMP echo are answered.
    pub fn deaf(config: &NetConfig) -> Self {
        // No datagram comes from a port of this number, so none is to it.
        Self::new(config, 0)
    }

    /// What was dropped so far.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Handles one frame, and writes the answer to `buffer`. Returns the length of the answer, zero
    /// if there is none, and what stops an exchange if there are several, which
    /// [`UdpStack::poll`] sends.
    #[inline(always)]
    pub fn handle<S: Service>(
        &mut self,
        frame: &[u8],
        buffer: &mut TxBuffer,
        service: &mut S,
    ) -> usize {
        self.handle_or(frame, buffer, service, |_, _, _| None)
    }

    /// The same; what is no usual datagram is given to `other` first, which returns the length
    /// of its answer if the frame was for it.
    #[inline(always)]
    pub fn handle_or<S: Service>(
        &mut self,
        frame: &[u8],
        buffer: &mut TxBuffer,
        service: &mut S,
        other: impl FnOnce(&[u8], &mut TxBuffer, &mut S) -> Option<usize>,
    ) -> usize {
        let Some((head, request)) = self.template.request(&self.own, frame) else {
            return self.unusual(frame, buffer, service, other);
        };
        let answer = service.answer_with_sum(request, sender(head), &mut buffer[HEADERS..]);
        match answer {
            Some(answer) => self.template.answer(head, buffer, answer),
            None if service.has_more() => self.begin(head),
            None => 0,
        }
    }

    /// The answer to a request with this head is several datagrams.
    #[cold]
    #[inline(never)]
    fn begin(&mut self, head: &Head) -> usize {
        self.unsent = Some(*head);
        STOP
    }

    /// [`UdpStack::poll`], with `other` as in [`FastUdp::handle_or`]. While the device has no room
    /// for an answer, frames stay with it: what comes is not lost as long as their ring is not full.
    ///
    /// # Errors
    /// Those of [`NetDevice::sync`].
    #[inline]
    pub fn poll_or<D: NetDevice, S: Service>(
        &mut self,
        device: &mut D,
        service: &mut S,
        budget: u32,
        mut other: impl FnMut(&[u8], &mut TxBuffer, &mut S) -> Option<usize>,
    ) -> Result<u32, Error> {
        let mut handled = 0;
        self.waits = false;
        loop {
            if self.is_sending() {
                handled += self.send_rest(device, service)?;
                if self.is_sending() {
                    self.waits = true;
                    return Ok(handled);
                }
            }
            handled += device.exchange(budget.saturating_sub(handled), |frame, buffer| {
                self.handle_or(frame, buffer, service, &mut other)
            });
            service.settle()?;
            if self.is_sending() {
                continue;
            }
            if handled >= budget || !device.is_full() || device.slots().received.is_none() {
                return Ok(handled);
            }
            device.sync()?;
            if device.is_full() {
                self.waits = true;
                return Ok(handled);
            }
        }
    }

    /// Whether an answer has datagrams that wait for room.
    #[inline(always)]
    fn is_sending(&self) -> bool {
        self.unsent.is_some()
    }

    /// Microseconds until there may be room for what waits for it, if anything does: that there is
    /// room is no event.
    #[inline(always)]
    pub fn wait_micros(&self) -> Option<u64> {
        self.waits.then_some(BUSY_MICROS)
    }

    /// Sends datagrams of an answer as long as the device takes them. Returns how many.
    #[cold]
    #[inline(never)]
    fn send_rest<D: NetDevice, S: Service>(
        &mut self,
        device: &mut D,
        service: &mut S,
    ) -> Result<u32, Error> {
        let Some(head) = self.unsent else { return Ok(0) };
        let mut sent = 0;
        loop {
            while let Some(buffer) = device.slots().free {
                let Some(answer) = service.more(&mut buffer[HEADERS..]) else {
                    self.unsent = None;
                    return Ok(sent);
                };
                let length = self.template.answer(&head, buffer, answer);
                device.commit(length);
                sent += 1;
            }
            device.sync()?;
            if device.is_full() {
                return Ok(sent);
            }
        }
    }

    /// Kept out of the loop over datagrams, which needs the registers.
    #[cold]
    #[inline(never)]
    fn unusual<S: Service>(
        &mut self,
        frame: &[u8],
        buffer: &mut TxBuffer,
        service: &mut S,
        other: impl FnOnce(&[u8], &mut TxBuffer, &mut S) -> Option<usize>,
    ) -> usize {
        other(frame, buffer, service).unwrap_or_else(|| self.judge(frame, buffer, service))
    }

    #[inline(never)]
    fn judge<S: Service>(&mut self, frame: &[u8], buffer: &mut TxBuffer, service: &mut S) -> usize {
        match self.other(frame, buffer, service) {
            Ok(STOP) => frame.first_chunk().map_or(0, |head| self.begin(head)),
            Ok(length) => length,
            Err(reason) => {
                self.drops.add(reason);
                0
            }
        }
    }

    /// The same for any frame, header by header.
    fn other<S: Service>(
        &self,
        frame: &[u8],
        buffer: &mut TxBuffer,
        service: &mut S,
    ) -> Result<usize, Dropped> {
        match host::take(&self.own, frame, buffer)? {
            Taken::Answered(length) => Ok(length),
            Taken::Packet(_, packet) if packet.protocol == UDP => {
                self.datagram(frame, packet, buffer, service)
            }
            Taken::Packet(..) => Err(Dropped::Protocol),
        }
    }
}

impl UdpStack for FastUdp {
    #[inline]
    fn poll<D: NetDevice, S: Service>(
        &mut self,
        device: &mut D,
        service: &mut S,
        _now: u64,
        budget: u32,
    ) -> Result<u32, Error> {
        self.poll_or(device, service, budget, |_, _, _| None)
    }

    fn wait_micros(&mut self, _now: u64) -> Option<u64> {
        Self::wait_micros(self)
    }
}
