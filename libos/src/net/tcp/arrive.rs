//! A segment has come (RFC 9293, section 3.10.7).

use smoltcp::wire::EthernetAddress;

use super::FastTcp;
use super::connection::{Acked, Entry, State, Tcb};
use super::head::Route;
use super::segment::{Header, Options, Segment, bit};
use super::seq::Seq;
use super::table::Id;
use crate::net::TxBuffer;
use crate::net::stream::StreamService;

/// Milliseconds for which a closed connection is remembered: twice the time that a segment lives
/// in the network, taken for half a minute. A peer whose FIN never comes is waited for as long.
pub(super) const LINGER: u32 = 60_000;
/// Milliseconds for which cookies may still come back.
const COOKIE_LIFE: u32 = 1 << 17;

/// What is said at once, without a connection.
enum Answer {
    Nothing,
    Reset,
    Cookie(Seq),
}

impl<'m, C> FastTcp<'m, C> {
    /// Takes an intact `segment` from the station `mac`. Returns the length of the answer in
    /// `buffer`, zero if there is none.
    pub(super) fn arrive<S: StreamService<Connection = C>>(
        &mut self,
        mac: EthernetAddress,
        segment: &Segment<'_>,
        buffer: &mut TxBuffer,
        service: &mut S,
    ) -> usize {
        self.counts.received += 1;
        let secret = &self.secret;
        let found = self.table.find(segment.peer, || secret.bucket(segment.peer));
        let answer = match found {
            _ if segment.to_port != self.port => refusal(segment),
            Some(id) => self.arrive_at(id, mac, segment, service),
            None => self.arrive_anew(mac, segment, service),
        };
        self.say(answer, mac, segment, buffer)
    }

    fn say(
        &mut self,
        answer: Answer,
        mac: EthernetAddress,
        segment: &Segment<'_>,
        buffer: &mut TxBuffer,
    ) -> usize {
        let header = match answer {
            Answer::Nothing => return 0,
            Answer::Reset => {
                self.counts.resets += 1;
                // A number that the peer accepts.
                let (seq, ack) = if segment.has(bit::ACK) {
                    (segment.ack, None)
                } else {
                    (Seq(0), Some(segment.seq + segment.len()))
                };
                Header { seq, ack, bits: bit::RST, window: 0 }
            }
            Answer::Cookie(seq) => {
                self.counts.cookies += 1;
                let window = super::BUFFER as u16;
                Header { seq, ack: Some(segment.seq + 1), bits: bit::SYN, window }
            }
        };
        let syn = matches!(answer, Answer::Cookie(_));
        let options = if syn { Options::syn(false, false) } else { Options::NONE };
        self.counts.sent += 1;
        // A closed port answers for itself.
        let route = Route { port: segment.to_port, mac, peer: segment.peer };
        self.head.write_any(buffer, route, header, &options, &[])
    }

    /// A segment of no connection: state LISTEN.
    fn arrive_anew<S: StreamService<Connection = C>>(
        &mut self,
        mac: EthernetAddress,
        segment: &Segment<'_>,
        service: &mut S,
    ) -> Answer {
        if segment.has(bit::RST) {
            return Answer::Nothing;
        }
        if segment.has(bit::ACK) {
            return self.open_cookie(mac, segment, service);
        }
        if !segment.has(bit::SYN) || segment.has(bit::FIN) {
            return Answer::Nothing;
        }
        let options = segment.syn_options();
        if self.half_open >= self.limits.half_open || self.table.is_full() {
            self.cookie_at = Some(self.now);
            let cookie = self.secret.cookie(segment.peer, segment.seq, options.mss, self.now);
            return Answer::Cookie(cookie);
        }
        let first = self.secret.first_number(segment.peer, self.micros);
        let mut tcb = Tcb::new(first, segment, segment.seq, self.now);
        (tcb.mss, tcb.mac, tcb.sack) = (options.mss, mac.0, options.sack);
        (tcb.scale, tcb.scaled) = (options.scale.unwrap_or(0), options.scale.is_some());
        tcb.send_syn = true;
        let hash = self.secret.bucket(segment.peer);
        if let Some(id) = self.table.insert(segment.peer, hash, Entry { tcb, app: None }) {
            self.half_open += 1;
            self.make_ready(id);
        }
        Answer::Nothing
    }

    /// An acknowledgement of no connection: of a cookie, or of nothing.
    fn open_cookie<S: StreamService<Connection = C>>(
        &mut self,
        mac: EthernetAddress,
        segment: &Segment<'_>,
        service: &mut S,
    ) -> Answer {
        let (cookie, first) = (segment.ack - 1, segment.seq - 1);
        let recent = self.cookie_at.is_some_and(|at| self.now.wrapping_sub(at) <= COOKIE_LIFE);
        if !recent || segment.has(bit::SYN) {
            return Answer::Reset;
        }
        let Some(mss) = self.secret.open(cookie, segment.peer, first, self.now) else {
            return Answer::Reset;
        };
        let mut tcb = Tcb::new(cookie, segment, first, self.now);
        (tcb.mss, tcb.mac) = (mss, mac.0);
        let hash = self.secret.bucket(segment.peer);
        let Some(id) = self.table.insert(segment.peer, hash, Entry { tcb, app: None }) else {
            return Answer::Reset;
        };
        self.half_open += 1;
        self.counts.cookies_opened += 1;
        self.arrive_at(id, mac, segment, service)
    }

    fn arrive_at<S: StreamService<Connection = C>>(
        &mut self,
        id: Id,
        mac: EthernetAddress,
        segment: &Segment<'_>,
        service: &mut S,
    ) -> Answer {
        let (now, micros) = (self.now, self.micros);
        let Some(Entry { tcb, .. }) = self.table.get_mut(id) else { return Answer::Nothing };
        let state = tcb.state;
        let (seq, end) = (segment.seq, segment.seq + segment.len());
        let is_new = segment.has(bit::SYN) && !segment.has(bit::ACK | bit::RST);
        if state == State::TimeWait && is_new && seq.after(tcb.rcv) {
            // RFC 9293, section 3.6.1.
            self.remove(id, service);
            return self.arrive_anew(mac, segment, service);
        }
        if state == State::SynReceived && is_new && seq + 1 == tcb.rcv {
            tcb.send_syn = true;
            self.make_ready(id);
            return Answer::Nothing;
        }
        // First, the sequence number; somewhat wider than in RFC 9293: to be behind what was
        // received, or at the edge of a closed window, does no harm.
        let window = tcb.edge - tcb.rcv;
        if end.before(tcb.rcv) || seq.after(tcb.rcv + window) {
            if segment.has(bit::RST) {
                return Answer::Nothing;
            }
            if segment.payload.is_empty() {
                tcb.challenge(now);
            } else {
                tcb.send_ack = true;
            }
            self.make_ready(id);
            return Answer::Nothing;
        }
        // Second, resets: only at exactly the next number (RFC 5961, section 3), and not in
        // TIME-WAIT (RFC 1337).
        if segment.has(bit::RST) {
            if state == State::TimeWait || seq.before(tcb.rcv) {
            } else if seq == tcb.rcv {
                self.remove(id, service);
            } else {
                tcb.challenge(now);
                self.make_ready(id);
            }
            return Answer::Nothing;
        }
        // Fourth, a SYN: RFC 5961, section 4.
        if segment.has(bit::SYN) {
            tcb.challenge(now);
            self.make_ready(id);
            return Answer::Nothing;
        }
        // Fifth, the acknowledgement.
        if !segment.has(bit::ACK) {
            return Answer::Nothing;
        }
        tcb.heard = now;
        let mut acked = Acked::Nothing;
        if state == State::SynReceived {
            if segment.ack != tcb.max {
                return Answer::Reset;
            }
            tcb.mac = mac.0;
            tcb.establish(segment, micros);
            self.half_open -= 1;
            if !self.open(id, segment.peer, service) {
                self.remove(id, service);
                return Answer::Reset;
            }
        } else {
            acked = tcb.acknowledge(segment, now, micros);
            if acked == Acked::Nonsense {
                tcb.challenge(now);
                self.make_ready(id);
                return Answer::Nothing;
            }
            tcb.mac = mac.0;
            if tcb.tx.is_empty() {
                tcb.tx.release(&mut self.pool);
            }
        }
        self.make_ready(id);
        match (acked, state) {
            (Acked::Fin, State::FinWait1) => {
                if let Some(Entry { tcb, .. }) = self.table.get_mut(id) {
                    tcb.state = State::FinWait2;
                    tcb.life_at.set(now, LINGER);
                }
            }
            (Acked::Fin, State::Closing) => return self.linger(id, service),
            (Acked::Fin, State::LastAck) => {
                self.remove(id, service);
                return Answer::Nothing;
            }
            (Acked::Data, _) => self.resume(id, service),
            _ => {}
        }
        if segment.payload.is_empty() && !segment.has(bit::FIN) {
            return Answer::Nothing;
        }
        self.take_data(id, segment, service)
    }

    /// Sixth to eighth: data and FIN.
    fn take_data<S: StreamService<Connection = C>>(
        &mut self,
        id: Id,
        segment: &Segment<'_>,
        service: &mut S,
    ) -> Answer {
        let now = self.now;
        let Some(Entry { tcb, .. }) = self.table.get_mut(id) else { return Answer::Nothing };
        if !tcb.may_receive() || tcb.ended {
            // The peer has sent its FIN: this is sent again.
            tcb.send_ack = true;
            if tcb.state == State::TimeWait {
                tcb.life_at.set(now, LINGER);
            }
            return Answer::Nothing;
        }
        let payload = segment.payload;
        let skip = (tcb.rcv.beyond(segment.seq) as usize).min(payload.len());
        let start = segment.seq + skip as u32;
        let fits = tcb.edge.beyond(start) as usize;
        let fresh = payload.get(skip..).unwrap_or_default();
        let data = fresh.get(..fits).unwrap_or(fresh);
        if data.len() < payload.len() {
            // Sent before, or beyond the window.
            tcb.send_ack = true;
        }
        if segment.has(bit::FIN) && data.len() == fresh.len() {
            (tcb.fin_at, tcb.fin_seen) = (start + data.len() as u32, true);
        }
        if !data.is_empty() {
            if start == tcb.rcv {
                self.deliver(id, data, service);
            } else {
                self.keep_beyond(id, start, data);
            }
        } else if start != tcb.rcv {
            tcb.send_ack = true;
        }
        self.take_fin(id, service)
    }

    /// Takes the peer's FIN if all before it was received.
    fn take_fin<S: StreamService<Connection = C>>(&mut self, id: Id, service: &mut S) -> Answer {
        let Some(Entry { tcb, .. }) = self.table.get_mut(id) else { return Answer::Nothing };
        if !tcb.fin_seen || tcb.fin_at != tcb.rcv {
            return Answer::Nothing;
        }
        tcb.fin_seen = false;
        tcb.rcv += 1;
        tcb.edge = tcb.edge.max(tcb.rcv);
        (tcb.ended, tcb.send_ack) = (true, true);
        match tcb.state {
            State::Established => {
                tcb.state = State::CloseWait;
                self.end_input(id);
                Answer::Nothing
            }
            State::FinWait1 => {
                tcb.state = State::Closing;
                Answer::Nothing
            }
            _ => self.linger(id, service),
        }
    }

    /// Both sides have closed, and we first.
    fn linger<S: StreamService<Connection = C>>(&mut self, id: Id, service: &mut S) -> Answer {
        let (now, most) = (self.now, self.limits.time_wait);
        let Some(Entry { tcb, app }) = self.table.get_mut(id) else { return Answer::Nothing };
        tcb.state = State::TimeWait;
        tcb.retransmit_at.clear();
        tcb.ack_at.clear();
        tcb.life_at.set(now, LINGER);
        tcb.rx.release(&mut self.pool);
        tcb.tx.release(&mut self.pool);
        tcb.beyond.clear();
        if let Some(app) = app.take() {
            service.closed(app.connection);
        }
        self.time_waits += 1;
        if self.time_waits > most {
            // The peer's last segment must still be acknowledged: by the state that is leaving.
            tcb.life_at.set(now, 0);
        }
        self.make_ready(id);
        Answer::Nothing
    }
}

/// The answer to a segment that nothing waits for.
const fn refusal(segment: &Segment<'_>) -> Answer {
    if segment.has(bit::RST) { Answer::Nothing } else { Answer::Reset }
}
