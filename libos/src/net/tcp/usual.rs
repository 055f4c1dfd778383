//! The short way of a connection in which nothing is lost, kept back or closed: what it expects
//! has come, or what it sends next is new.
//!
//! Place on the packet path: step 4, before `arrive`, `serve` and `output`, which do the same for any
//! connection and any segment. Nothing is decided here that they would decide otherwise: a
//! segment, or a connection, that is not usual in all of what is asked first is left to them, and nothing
//! was done to it. (Van Jacobson's header prediction, with what follows from it for sending.)

use smoltcp::wire::EthernetAddress;

use super::FastTcp;
use super::connection::{App, Entry, State, Tcb};
use super::head::Route;
use super::output::After;
use super::segment::{Header, Options, Segment, bit};
use super::serve::work;
use super::table::Id;
use super::wheel::{Millis, has_come};
use crate::net::TxBuffer;
use crate::net::stream::{Next, StreamService};

impl<C> FastTcp<'_, C> {
    /// Takes a segment to this server's port, without options and without control bits but ACK and
    /// PSH, if its connection expects it. Returns the length of the answer in `buffer`, if it was.
    ///
    /// It is answered at once if nothing that was sent is under way, so to the first segment of several that come
    /// together; the answers to others are gathered until the batch is over.
    #[inline(always)]
    pub(super) fn take_expected<S: StreamService<Connection = C>>(
        &mut self,
        mac: EthernetAddress,
        segment: &Segment<'_>,
        buffer: &mut TxBuffer,
        service: &mut S,
    ) -> Option<usize> {
        let (now, micros) = (self.now, self.micros);
        let id = self.table.guess(segment.peer)?;
        let Some(Entry { tcb, app: Some(app) }) = self.table.get_mut(id) else { return None };
        if !tcb.expects(segment) || app.wants != Next::Input || self.pool.free() < 2 {
            return None;
        }
        self.counts.received += 1;
        #[cfg(test)]
        {
            self.short += 1;
        }
        tcb.heard = now;
        tcb.mac = mac.0;
        tcb.tries = 0;
        tcb.take_window(segment);
        if segment.ack != tcb.una {
            tcb.advance(segment.ack, now, micros);
        }
        let data = segment.payload;
        if data.is_empty() {
            if tcb.tx.is_empty() {
                // Nothing is to be sent, and nothing is waited for.
                tcb.tx.release(&mut self.pool);
            } else {
                self.make_ready(id);
            }
            return Some(0);
        }
        tcb.progress = now;
        tcb.tx.rewind();
        let worked = work(app, &mut tcb.tx, &mut self.pool, data, service);
        if worked.consumed != data.len() || app.wants != Next::Input {
            self.make_ready(id);
            self.keep_rest(id, data, &worked, service);
            return Some(0);
        }
        tcb.rcv += data.len() as u32;
        let waits = self.is_ready.get(id.0 as usize).is_none_or(|waits| *waits);
        let length = tcb.tx.len();
        if tcb.may_answer_at_once(length) && !waits {
            let (header, at) = tcb.begin_usual(length, true, now, micros);
            self.wheel.ensure(id.0, at);
            self.counts.sent += 1;
            let route = Route { port: self.port, mac, peer: segment.peer };
            let payload = tcb.tx.bytes();
            return Some(self.head.write(buffer, route, header, &Options::NONE, payload));
        }
        tcb.received(now);
        self.make_ready(id);
        Some(0)
    }

    /// Writes the next segment of a connection into `buffer`, if it is a usual one. Returns the
    /// frame's length, and what follows.
    #[inline(always)]
    pub(super) fn next_usual(&mut self, id: Id, buffer: &mut TxBuffer) -> Option<(usize, After)> {
        #[cfg(test)]
        if self.without_short_way {
            return None;
        }
        let (now, micros) = (self.now, self.micros);
        let (peer, entry) = self.table.entry_mut(id)?;
        let Entry { tcb, app: Some(App { wants: Next::Input | Next::Room, .. }) } = entry else {
            return None;
        };
        let (length, is_last) = tcb.usual_length()?;
        let seq = tcb.nxt;
        let (header, at) = tcb.begin_usual(length, is_last, now, micros);
        let mut after = After::Another;
        if is_last {
            after = After::Nothing;
            self.wheel.ensure(id.0, at);
        }
        let route = Route { port: self.port, mac: EthernetAddress(tcb.mac), peer };
        let payload = tcb.data(seq, length);
        Some((self.head.write(buffer, route, header, &Options::NONE, payload), after))
    }
}

impl Tcb<'_> {
    /// Whether `segment` is what comes next, or acknowledges what was sent, and there is nothing else to be
    /// thought of: no hole on either side, nothing that was kept, no FIN.
    #[inline(always)]
    fn expects(&self, segment: &Segment<'_>) -> bool {
        let advanced = segment.ack - self.una;
        let length = segment.payload.len() as u32;
        self.state == State::Established
            && segment.seq == self.rcv
            && advanced <= self.under_way()
            && (advanced > 0 || length > 0)
            && length <= self.edge - self.rcv
            && self.rx.is_empty()
            && self.beyond.is_empty()
            && self.sacked.is_empty()
            && !self.congestion.is_recovering()
            && !self.fin_seen
    }

    /// Whether the connection, which expected what has come, can be answered by `length` bytes in one
    /// segment at once: nothing of it is under way.
    #[inline(always)]
    fn may_answer_at_once(&self, length: usize) -> bool {
        let most = self.mss.min(self.window).min(self.congestion.window() as u16);
        self.una == self.max
            && (1..=usize::from(most)).contains(&length)
            && !self.resend
            && !self.probe
            && !self.force
    }

    /// Bytes of the next segment, and whether it is the last, if it carries data never sent before,
    /// as much as there is or fits into a segment, and both windows have room for it.
    #[inline(always)]
    fn usual_length(&self) -> Option<(usize, bool)> {
        let offset = (self.nxt - self.una) as usize;
        let unsent = self.tx.len().checked_sub(offset).filter(|unsent| *unsent > 0)?;
        let length = unsent.min(self.mss.into());
        let window = u32::from(self.window).min(self.congestion.window()) as usize;
        let is_usual = self.state == State::Established
            && self.nxt == self.max
            && offset + length <= window
            && self.beyond.is_empty()
            && !self.resend
            && !self.probe
            && !self.force;
        is_usual.then_some((length, length == unsent))
    }

    /// Counts `length` bytes from `nxt` on as sent, all acknowledgements with them. Returns the
    /// segment's header, and when the connection wants attention if nothing comes.
    #[inline(always)]
    fn begin_usual(
        &mut self,
        length: usize,
        is_last: bool,
        now: Millis,
        micros: u64,
    ) -> (Header, Millis) {
        let (seq, edge) = (self.nxt, self.new_edge());
        self.nxt += length as u32;
        self.max = self.nxt;
        self.round_trip.start(self.nxt, micros);
        self.send_ack = false;
        self.ack_at.clear();
        (self.edge, self.acked) = (edge, self.rcv);
        self.retransmit_at.ensure_with(now, || self.round_trip.timeout());
        let at = self.retransmit_at.at().unwrap_or(now);
        let life = self.life_at.at().filter(|life| has_come(*life, at));
        let window = (edge - self.rcv).min(u16::MAX.into()) as u16;
        let bits = if is_last { bit::PSH } else { 0 };
        (Header { seq, ack: Some(self.rcv), bits, window }, life.unwrap_or(at))
    }
}
