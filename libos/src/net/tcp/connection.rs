//! What is kept for a connection, and how an acknowledgement changes it.
//!
//! Names follow RFC 9293, section 3.3.1: `una` is SND.UNA, `nxt` SND.NXT, `rcv` RCV.NXT. Bytes
//! to be sent lie in `tx`, the first at `una`, those sent and those not yet sent in one piece.
//! After a time-out `nxt` goes back to `una`; `max` remembers how far it has been.

use super::congestion::{Congestion, Loss, RoundTrip};
use super::pool::{BUFFER, Held};
use super::ranges::Ranges;
use super::segment::{MSS, Segment, bit};
use super::seq::Seq;
use super::wheel::{Alarm, Millis, has_come};
use crate::net::stream::Next;

/// How long an acknowledgement waits for data to ride on (RFC 9293, 3.8.6.3: below 500).
pub(super) const DELAYED_ACK: Millis = 40;
/// No more than one acknowledgement in this time to segments that should not have been sent, and
/// carry no data (RFC 5961, section 7, for each connection instead of for all together, so that
/// no connection learns from the count about another).
const CHALLENGE_PAUSE: Millis = 500;

/// RFC 9293, section 3.3.2. There is no LISTEN, since no connection is kept for it, and no
/// SYN-SENT, since a server does not connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

/// A connection, and what the application keeps for it.
pub(super) struct Entry<'m, C> {
    pub(super) tcb: Tcb<'m>,
    /// From ESTABLISHED on.
    pub(super) app: Option<App<C>>,
}

/// The application's side.
pub(super) struct App<C> {
    pub(super) connection: C,
    pub(super) wants: Next,
}

/// A transmission control block.
pub(super) struct Tcb<'m> {
    pub(super) una: Seq,
    pub(super) nxt: Seq,
    pub(super) max: Seq,
    /// The peer's window, and the largest it ever was; more than 64 KiB, which is more than can
    /// be under way, is taken for that.
    pub(super) window: u16,
    pub(super) max_window: u16,
    /// Numbers of the segment that told the window.
    window_seq: Seq,
    window_ack: Seq,
    pub(super) tx: Held<'m>,
    /// What the peer says it has beyond `una`.
    pub(super) sacked: Ranges,
    /// All before this was sent again since the last loss was noticed.
    pub(super) resent: Seq,
    pub(super) congestion: Congestion,
    pub(super) round_trip: RoundTrip,

    pub(super) rcv: Seq,
    /// The right edge of the window as the peer was told it.
    pub(super) edge: Seq,
    /// What was acknowledged last.
    pub(super) acked: Seq,
    pub(super) rx: Held<'m>,
    /// What was received beyond `rcv`; it lies in `rx`, beyond its bytes.
    pub(super) beyond: Ranges,
    /// Where the peer's FIN is, if `fin_seen`.
    pub(super) fin_at: Seq,

    pub(super) retransmit_at: Alarm,
    pub(super) ack_at: Alarm,
    /// When a connection that is only kept for a while ends, or the peer is asked whether it is
    /// there.
    pub(super) life_at: Alarm,
    /// When something was last heard of the peer.
    pub(super) heard: Millis,
    /// When the peer last took or gave data.
    pub(super) progress: Millis,
    challenged: Millis,
    /// Time-outs or probes without an answer.
    pub(super) tries: u8,

    pub(super) mss: u16,
    pub(super) mac: [u8; 6],
    pub(super) scale: u8,
    pub(super) state: State,
    /// Whether the peer understands selective acknowledgements, and window scales.
    pub(super) sack: bool,
    pub(super) scaled: bool,
    /// What is to be sent: a SYN; an acknowledgement; the first hole again; a question whether
    /// the peer is there; what fits, small as it may be.
    pub(super) send_syn: bool,
    pub(super) send_ack: bool,
    pub(super) resend: bool,
    pub(super) probe: bool,
    pub(super) force: bool,
    pub(super) fin_sent: bool,
    pub(super) fin_seen: bool,
    /// The peer sends nothing more, and all that it sent was received.
    pub(super) ended: bool,
}

/// What an acknowledgement was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Acked {
    /// Of something never sent, or long ago (RFC 5961, section 5).
    Nonsense,
    /// Of nothing new.
    Nothing,
    /// Of data.
    Data,
    /// Of our FIN, and so of all.
    Fin,
}

impl<'m> Tcb<'m> {
    /// A connection whose handshake has begun: `first` is our number, `peer_first` the peer's.
    pub(super) fn new(first: Seq, segment: &Segment<'_>, peer_first: Seq, now: Millis) -> Self {
        let rcv = peer_first + 1;
        Self {
            una: first,
            nxt: first,
            max: first + 1,
            window: segment.window,
            max_window: segment.window,
            window_seq: segment.seq,
            window_ack: first,
            tx: Held::default(),
            sacked: Ranges::default(),
            resent: first,
            congestion: Congestion::new(MSS, first),
            round_trip: RoundTrip::default(),
            rcv,
            edge: rcv + BUFFER as u32,
            acked: rcv,
            rx: Held::default(),
            beyond: Ranges::default(),
            fin_at: rcv,
            retransmit_at: Alarm::default(),
            ack_at: Alarm::default(),
            life_at: Alarm::default(),
            heard: now,
            progress: now,
            challenged: now.wrapping_sub(CHALLENGE_PAUSE),
            tries: 0,
            mss: MSS,
            mac: [0; 6],
            scale: 0,
            state: State::SynReceived,
            sack: false,
            scaled: false,
            send_syn: false,
            send_ack: false,
            resend: false,
            probe: false,
            force: false,
            fin_sent: false,
            fin_seen: false,
            ended: false,
        }
    }

    /// The handshake is complete: the peer has acknowledged our SYN with `segment`.
    pub(super) fn establish(&mut self, segment: &Segment<'_>, micros: u64) {
        self.state = State::Established;
        self.round_trip.acknowledged(segment.ack, micros);
        (self.una, self.nxt, self.max) = (segment.ack, segment.ack, segment.ack);
        self.congestion = Congestion::new(self.mss, self.una);
        self.window = scaled(segment.window, self.scale);
        self.max_window = self.window;
        (self.window_seq, self.window_ack) = (segment.seq, segment.ack);
        self.retransmit_at.clear();
        (self.tries, self.send_syn) = (0, false);
    }

    /// Whether the peer may still send data.
    #[inline]
    pub(super) const fn may_receive(&self) -> bool {
        matches!(self.state, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// Data that was not acknowledged, or our SYN or FIN.
    #[inline(always)]
    pub(super) fn under_way(&self) -> u32 {
        self.max - self.una
    }

    /// An acknowledgement is wanted by a segment that should not have come: often it is no
    /// answer, so there are not many.
    pub(super) fn challenge(&mut self, now: Millis) {
        if has_come(self.challenged.wrapping_add(CHALLENGE_PAUSE), now) {
            self.challenged = now;
            self.send_ack = true;
        }
    }

    /// `bytes` of data were received in order.
    #[inline]
    pub(super) fn received(&mut self, now: Millis) {
        // At least every second full segment (RFC 9293, 3.8.6.3).
        if self.rcv - self.acked > u32::from(MSS) {
            self.send_ack = true;
        } else {
            self.ack_at.ensure(now, DELAYED_ACK);
        }
    }

    /// The right edge of the window that can be offered now: never before an earlier one, and
    /// beyond it only if that is worth it (RFC 9293, 3.8.6.2.2).
    #[inline]
    pub(super) fn new_edge(&self) -> Seq {
        let edge = self.rcv + (BUFFER - self.rx.len()) as u32;
        if edge.beyond(self.edge) >= u32::from(MSS) { edge } else { self.edge }
    }

    /// The peer waits for a wider window, if it waits.
    pub(super) fn update_window(&mut self) {
        let edge = self.rcv + (BUFFER - self.rx.len()) as u32;
        if edge.beyond(self.edge) as usize >= BUFFER / 2 {
            self.send_ack = true;
        }
    }

    /// Takes what `segment` acknowledges, and the window it tells.
    pub(super) fn acknowledge(&mut self, segment: &Segment<'_>, now: Millis, micros: u64) -> Acked {
        let ack = segment.ack;
        if ack.after(self.max) || ack.before(self.una - u32::from(self.max_window)) {
            return Acked::Nonsense;
        }
        if ack.before(self.una) {
            return Acked::Nothing;
        }
        let window = scaled(segment.window, self.scale);
        let same_window = window == self.window;
        self.take_window(segment);
        self.tries = 0;
        let mut told = false;
        if self.sack {
            let (una, max, sacked) = (ack, self.max, &mut self.sacked);
            segment.each_sack(|start, end| {
                let sound = start.before(end) && !start.before(una) && !end.after(max);
                let known = sacked.end_of(start).is_some_and(|known| !end.after(known));
                told |= sound && !known && sacked.add(start, end);
            });
        }
        let mss = u32::from(self.mss);
        if ack == self.una {
            let bare = segment.payload.is_empty() && !segment.has(bit::FIN) && same_window;
            if self.under_way() > 0 && (bare || told) {
                let loss = self.congestion.duplicate(self.una, self.max, mss);
                self.lost(loss, now);
            }
            return Acked::Nothing;
        }
        let fin = ack - self.una > self.tx.len() as u32;
        self.advance(ack, now, micros);
        if fin { Acked::Fin } else { Acked::Data }
    }

    /// Takes the window that `segment` tells, unless a later one has told another.
    #[inline(always)]
    pub(super) fn take_window(&mut self, segment: &Segment<'_>) {
        let (seq, ack) = (segment.seq, segment.ack);
        if self.window_seq.before(seq) || self.window_seq == seq && !self.window_ack.after(ack) {
            self.window = scaled(segment.window, self.scale);
            self.max_window = self.max_window.max(self.window);
            (self.window_seq, self.window_ack) = (seq, ack);
        }
    }

    /// Takes an acknowledgement of all before `ack`, which is beyond `una`.
    #[inline(always)]
    pub(super) fn advance(&mut self, ack: Seq, now: Millis, micros: u64) {
        let advanced = ack - self.una;
        self.una = ack;
        self.nxt = self.nxt.max(ack);
        self.tx.consume(advanced as usize);
        self.sacked.pass(ack);
        self.round_trip.acknowledged(ack, micros);
        self.progress = now;
        if self.under_way() > 0 {
            self.retransmit_at.set(now, self.round_trip.timeout());
        } else {
            self.retransmit_at.clear();
        }
        let loss = self.congestion.acknowledged(ack, advanced, self.max, self.mss.into());
        self.lost(loss, now);
    }

    #[inline]
    fn lost(&mut self, loss: Loss, now: Millis) {
        match loss {
            Loss::None => return,
            Loss::Noticed => {
                self.round_trip.stop();
                // Without selective acknowledgements, the first hole is all that is known.
                if !self.sack || !self.resent.after(self.una) || !self.congestion.is_recovering() {
                    self.resent = self.una;
                }
                self.retransmit_at.set(now, self.round_trip.timeout());
            }
            Loss::Continues if !self.sack => return,
            Loss::Continues => {}
        }
        self.resend = true;
    }

    /// The first bytes that are lost, as far as is known, and how many to send at once.
    pub(super) fn hole(&self) -> Option<(Seq, usize)> {
        let mut from = self.resent.max(self.una);
        while let Some(end) = self.sacked.end_of(from) {
            from = end;
        }
        let known = self.sacked.last().unwrap_or(self.una).max(self.una + 1);
        if !from.before(known) {
            return None;
        }
        // No further than data was sent: an acknowledgement of more would be nonsense.
        let sent = self.max.min(self.una + self.tx.len() as u32);
        let end = self.sacked.start_after(from).map_or(sent, |end| end.min(sent));
        let length = end.beyond(from).min(self.mss.into()) as usize;
        (length > 0).then_some((from, length))
    }

    /// The next data in order, and whether our FIN goes with it. `closing`: all that will ever
    /// be sent is in `tx`. `most` is what fits into a segment.
    pub(super) fn next_data(&mut self, closing: bool, most: usize) -> (usize, bool) {
        if self.nxt.before(self.max) {
            // After a time-out: what the peer has need not be sent again.
            while let Some(end) = self.sacked.end_of(self.nxt) {
                self.nxt = end;
            }
        }
        let offset = (self.nxt - self.una) as usize;
        let unsent = self.tx.len().saturating_sub(offset);
        let window = u32::from(self.window).min(self.congestion.window()) as usize;
        let room = window.saturating_sub(offset);
        let mut length = unsent.min(room).min(most);
        if length < unsent && length < most && !self.force {
            // Silly window syndrome: wait for more room (RFC 9293, 3.8.6.2.1), unless it is
            // half of all there ever was.
            if length < (usize::from(self.max_window) / 2).max(1) {
                length = 0;
            }
        }
        let may_close = matches!(
            self.state,
            State::Established
                | State::CloseWait
                | State::FinWait1
                | State::Closing
                | State::LastAck
        );
        let end = self.una + self.tx.len() as u32;
        let fin = closing && may_close && self.nxt + length as u32 == end;
        (length, fin)
    }

    /// Bytes of `tx` from `seq` on.
    pub(super) fn data(&self, seq: Seq, length: usize) -> &[u8] {
        let offset = (seq - self.una) as usize;
        self.tx.bytes().get(offset..offset + length).unwrap_or_default()
    }
}

const fn scaled(window: u16, scale: u8) -> u16 {
    let window = (window as u32) << scale;
    if window > u16::MAX as u32 { u16::MAX } else { window as u16 }
}
