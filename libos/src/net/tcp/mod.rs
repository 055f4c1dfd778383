//! TCP for servers: connections found by hash, and buffers only where there is data.
//!
//! Place on the packet path: step 4, beside [`FastUdp`](super::udp::FastUdp). A segment is read
//! where the kernel put it. If it continues what was received, the application reads its data
//! there, too: only what it does not consume is copied. What the application answers lies in a
//! buffer of the connection until the peer has acknowledged it, and is copied from there into
//! each frame. Answers are gathered: all that a batch of segments made the application say
//! leaves after the batch, in segments as full as possible, with acknowledgements riding on it.
//!
//! | file | what it is |
//! |---|---|
//! | `seq`, `ranges` | sequence numbers, and sets of them |
//! | `segment`, `head` | segments as bytes: any, and the usual at once |
//! | `secret` | what outsiders must not guess: first numbers, cookies, buckets |
//! | `table`, `wheel`, `pool` | connections by peer, by time; their buffers |
//! | `connection`, `congestion` | a connection's state, and what acknowledgements do to it |
//! | `arrive` | a segment has come |
//! | `usual` | one has come, or is to be sent, of a connection in which nothing is lost or closed |
//! | `serve` | data goes to the application |
//! | `output` | what is sent |
//! | `timers` | what happens when nothing comes |
//!
//! **What a connection costs.** Below 256 bytes while it is idle (a compile-time assertion), and
//! what the application keeps. All memory is taken at the start: nothing is allocated for a
//! connection or a segment. A connection with data holds one buffer of 16 KiB for each
//! direction. When none is left, a connection whose peer has neither taken nor given anything for
//! half a second loses its buffers and is reset; others wait for their peers to send again.
//!
//! **What is implemented.** RFC 9293 for the passive side, with: segment size and window scale (the
//! peer's; our windows are too small to need one); delayed acknowledgements; time-outs by RFC
//! 6298; slow start, congestion avoidance, fast retransmit and fast recovery (RFC 5681, 6582) from an
//! initial window of ten segments (RFC 6928); selective acknowledgements, both ways (RFC 2018),
//! so that in recovery holes are sent again one for each acknowledgement that comes; zero-window
//! probes and keep-alive; both sides' silly-window avoidance; half-close; TIME-WAIT; challenge
//! acknowledgements (RFC 5961); first numbers by RFC 6528; SYN cookies once too many handshakes
//! are incomplete (RFC 4987).
//!
//! **What is left out.** Connecting: it only serves. Time stamps (RFC 7323), and so protection
//! against wrapped sequence numbers within one connection: a peer would have to send 4 GiB
//! within a segment's lifetime. Urgent data is data (RFC 6093). Path MTU discovery and ICMP errors: segments are
//! of what the peer names, at most 1460 bytes, and may not be fragmented; a path with less loses
//! them. ECN, limited transmit, tail-loss probes, TCP Fast Open (data in a SYN is left to be sent
//! again). Nagle's algorithm: answers are gathered by batch instead. Sending from where data
//! lies, without the copy into a buffer. Buffers grow to 16 KiB and not beyond, which on paths of long
//! delay limits throughput to that much for each round trip.
//!
//! **Trust** any bytes of any frame. The peer's station is believed as [`FastUdp`](super::udp::FastUdp) believes it.
#![forbid(unsafe_code)]

mod arrive;
mod congestion;
mod connection;
mod head;
mod output;
mod pool;
mod ranges;
mod secret;
mod segment;
mod seq;
mod serve;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod usual;
mod wheel;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use exo_abi::Error;

pub use self::pool::BUFFER;

use self::connection::Entry;
use self::head::Template;
use self::output::Abort;
use self::pool::Pool;
use self::secret::Secret;
use self::segment::{Segment, TCP};
use self::table::{Id, Table};
use self::wheel::{Millis, Wheel};
use super::stream::{StreamService, TcpStack};
use super::udp::host::{self, Taken};
use super::udp::ipv4::Own;
use super::{NetConfig, NetDevice, TxBuffer};

/// What an idle connection takes, with all that belongs to it, is below this.
const IDLE_BYTES: usize = 256;
const _: () = assert!(
    size_of::<Entry<'static, ()>>()
        + Table::<Entry<'static, ()>>::OVERHEAD
        + size_of::<wheel::Timer>()
        + size_of::<Id>()
        + size_of::<bool>()
        < IDLE_BYTES
);

/// How much a stack takes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpLimits {
    /// Connections, those included that are being opened or closed.
    pub connections: u32,
    /// Of these, handshakes that are not complete; further ones are answered with cookies.
    pub half_open: u32,
    /// Of these, connections in TIME-WAIT; those beyond end without.
    pub time_wait: u32,
    /// Seconds without a word of the peer after which it is asked whether it is there.
    pub keep_alive: u32,
}

impl Default for TcpLimits {
    /// As many connections as memcached takes by default, and some to say that it takes no more;
    /// Linux's keep-alive.
    fn default() -> Self {
        Self { connections: 1024 + 64, half_open: 128, time_wait: 128, keep_alive: 7200 }
    }
}

/// What happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpCounts {
    /// Segments for this server, with a right checksum.
    pub received: u64,
    /// Frames that were not: damaged, not TCP, not for this host.
    pub dropped: u64,
    /// Segments sent.
    pub sent: u64,
    /// Of these, data sent again.
    pub resent: u64,
    /// Of these, resets.
    pub resets: u64,
    /// SYN cookies given out, and those that came back.
    pub cookies: u64,
    /// Connections opened by a cookie.
    pub cookies_opened: u64,
    /// Connections that reached the application.
    pub opened: u64,
    /// Connections that lost their buffers to others.
    pub reclaimed: u64,
}

/// A TCP server on one port.
///
/// `C` is what the application keeps for each connection.
pub struct FastTcp<'m, C> {
    own: Own,
    port: u16,
    head: Template,
    secret: Secret,
    limits: TcpLimits,
    table: Table<Entry<'m, C>>,
    wheel: Wheel,
    pool: Pool<'m>,
    /// Connections that may have something to send, each once.
    ready: VecDeque<Id>,
    is_ready: Vec<bool>,
    /// Resets for connections that are not there any more.
    aborts: Vec<Abort>,
    now: Millis,
    micros: u64,
    half_open: u32,
    time_waits: u32,
    /// When a cookie was last given out.
    cookie_at: Option<Millis>,
    /// Where the search for buffers goes on.
    hand: u32,
    counts: TcpCounts,
    /// For tests: everything goes the way that anything can go.
    #[cfg(test)]
    without_short_way: bool,
    /// For tests: what went the short way.
    #[cfg(test)]
    short: u64,
}

impl<'m, C> FastTcp<'m, C> {
    /// A server on `port` of `config.address`, with as many buffers as fit into `memory`. `seed`
    /// is what outsiders cannot guess; `now` is in microseconds.
    pub fn new(
        config: &NetConfig,
        port: u16,
        memory: &'m mut [u8],
        limits: TcpLimits,
        seed: [u64; 2],
        now: u64,
    ) -> Self {
        let connections = limits.connections as usize;
        let millis = millis(now);
        let own = Own::new(config);
        Self {
            head: Template::new(&own, port),
            own,
            port,
            secret: Secret::new(seed),
            limits,
            table: Table::new(limits.connections),
            wheel: Wheel::new(connections, millis),
            pool: Pool::new(memory),
            ready: VecDeque::with_capacity(connections),
            is_ready: alloc::vec![false; connections],
            aborts: Vec::with_capacity(output::ABORTS),
            now: millis,
            micros: now,
            half_open: 0,
            time_waits: 0,
            cookie_at: None,
            hand: 0,
            counts: TcpCounts::default(),
            #[cfg(test)]
            without_short_way: false,
            #[cfg(test)]
            short: 0,
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> &TcpCounts {
        &self.counts
    }

    /// Connections there are now.
    pub fn connections(&self) -> u32 {
        self.table.len()
    }

    /// Buffers that no connection holds.
    pub fn free_buffers(&self) -> usize {
        self.pool.free()
    }

    /// Whether there is no connection and nothing to be sent, so that nothing is ever due.
    #[inline(always)]
    pub fn is_idle(&self) -> bool {
        self.table.len() == 0 && self.ready.is_empty() && self.aborts.is_empty()
    }

    /// Says what time it is, in microseconds: before a batch.
    #[inline]
    pub fn set_time(&mut self, now: u64) {
        if self.micros != now {
            self.micros = now;
            self.now = millis(now);
        }
    }

    /// Whether a frame may be a segment: what a stack that does something else besides looks at.
    #[inline(always)]
    pub fn may_be_for(frame: &[u8]) -> bool {
        frame.get(23) == Some(&TCP) && frame.get(12..14) == Some(&[8, 0])
    }

    /// Takes one frame, and writes a frame that answers it at once into `buffer`. Returns that
    /// one's length, or zero: most of what is to be said waits for [`FastTcp::flush`].
    #[inline]
    pub fn handle<S: StreamService<Connection = C>>(
        &mut self,
        frame: &[u8],
        buffer: &mut TxBuffer,
        service: &mut S,
    ) -> usize {
        #[cfg(test)]
        if self.without_short_way {
            return self.handle_any(frame, buffer, service);
        }
        if let Some((station, segment)) = self.head.usual(&self.own, frame)
            && let Some(length) = self.take_expected(station, &segment, buffer, service)
        {
            return length;
        }
        self.handle_any(frame, buffer, service)
    }

    #[inline(never)]
    fn handle_any<S: StreamService<Connection = C>>(
        &mut self,
        frame: &[u8],
        buffer: &mut TxBuffer,
        service: &mut S,
    ) -> usize {
        let answer = self.judge(frame, buffer, service);
        answer.unwrap_or_else(|| {
            self.counts.dropped += 1;
            0
        })
    }

    fn judge<S: StreamService<Connection = C>>(
        &mut self,
        frame: &[u8],
        buffer: &mut TxBuffer,
        service: &mut S,
    ) -> Option<usize> {
        match host::take(&self.own, frame, buffer).ok()? {
            Taken::Answered(length) => Some(length),
            Taken::Packet(station, packet) if packet.protocol == TCP => {
                let segment = Segment::parse(&self.own, packet)?;
                if segment.peer.port == 0 {
                    return None;
                }
                Some(self.arrive(station, &segment, buffer, service))
            }
            Taken::Packet(..) => None,
        }
    }

    /// Does what is due, and sends what is to be sent: after a batch. Returns how many frames
    /// were queued.
    ///
    /// # Errors
    /// Those of [`NetDevice::sync`], which is called if the transmit ring is full, and of the
    /// service.
    #[inline]
    pub fn flush<D: NetDevice, S: StreamService<Connection = C>>(
        &mut self,
        device: &mut D,
        service: &mut S,
    ) -> Result<u32, Error> {
        self.fire_timers(service);
        service.settle()?;
        if self.ready.is_empty() && self.aborts.is_empty() {
            return Ok(0);
        }
        self.send_all(device)
    }

    /// Microseconds until something is due, if anything is.
    #[inline]
    pub fn wait_micros(&mut self, now: u64) -> Option<u64> {
        if !self.ready.is_empty() {
            return Some(1000);
        }
        let at = self.wheel.next()?;
        let wait = (at.wrapping_sub(millis(now)) as i32).max(0) as u64;
        // To the beginning of that millisecond.
        Some((wait * 1000).saturating_sub(now % 1000).max(1))
    }

    /// Has a connection looked at after the batch.
    #[inline]
    fn make_ready(&mut self, id: Id) {
        if let Some(is_ready) = self.is_ready.get_mut(id.0 as usize)
            && !*is_ready
        {
            *is_ready = true;
            self.ready.push_back(id);
        }
    }

    /// Ends a connection without a word.
    fn remove<S: StreamService<Connection = C>>(&mut self, id: Id, service: &mut S) {
        self.wheel.cancel(id.0);
        let Some(mut entry) = self.table.remove(id) else { return };
        match entry.tcb.state {
            connection::State::SynReceived => self.half_open -= 1,
            connection::State::TimeWait => self.time_waits -= 1,
            _ => {}
        }
        entry.tcb.rx.release(&mut self.pool);
        entry.tcb.tx.release(&mut self.pool);
        if let Some(app) = entry.app {
            service.closed(app.connection);
        }
    }
}

impl<S: StreamService> TcpStack<S> for FastTcp<'_, S::Connection> {
    fn poll<D: NetDevice>(
        &mut self,
        device: &mut D,
        service: &mut S,
        now: u64,
        budget: u32,
    ) -> Result<u32, Error> {
        self.set_time(now);
        let handled = device.exchange(budget, |frame, buffer| self.handle(frame, buffer, service));
        Ok(handled + self.flush(device, service)?)
    }

    fn wait_micros(&mut self, now: u64) -> Option<u64> {
        Self::wait_micros(self, now)
    }

    fn most_input(&self) -> usize {
        BUFFER
    }

    fn most_output(&self) -> usize {
        BUFFER
    }
}

const fn millis(micros: u64) -> Millis {
    (micros / 1000) as Millis
}
