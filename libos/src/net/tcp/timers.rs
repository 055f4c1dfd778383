//! What happens when nothing comes: time-outs, delayed acknowledgements, probes, ends.

use super::FastTcp;
use super::arrive::LINGER;
use super::connection::{Entry, State};
use super::table::Id;
use super::wheel::{Millis, has_come};
use crate::net::stream::StreamService;

/// Times that a SYN is sent again: about half a minute.
const SYN_TRIES: u8 = 4;
/// Times that data is sent again, or a window or a silent peer asked for, without an answer.
const TRIES: u8 = 9;
/// Milliseconds between questions whether the peer is there.
const ASK_PAUSE: Millis = 75_000;

impl<C> FastTcp<'_, C> {
    /// Does what is due.
    #[inline]
    pub(super) fn fire_timers<S: StreamService<Connection = C>>(&mut self, service: &mut S) {
        while let Some(id) = self.wheel.expire(self.now) {
            self.fire(Id(id), service);
        }
    }

    fn fire<S: StreamService<Connection = C>>(&mut self, id: Id, service: &mut S) {
        let now = self.now;
        let Some(entry) = self.table.get_mut(id) else { return };
        let closing = entry.is_closing();
        let tcb = &mut entry.tcb;
        let mut over = false;
        if tcb.ack_at.is_due(now) {
            tcb.ack_at.clear();
            tcb.send_ack = true;
        }
        if tcb.retransmit_at.is_due(now) {
            tcb.tries = tcb.tries.saturating_add(1);
            let first = tcb.tries == 1;
            if tcb.state == State::SynReceived {
                tcb.send_syn = true;
                over = tcb.tries > SYN_TRIES;
            } else if tcb.under_way() > 0 {
                let mss = tcb.mss.into();
                tcb.congestion.timed_out(tcb.una, tcb.max, mss, first);
                tcb.sacked.clear();
                (tcb.nxt, tcb.resend) = (tcb.una, false);
                // The peer may have opened its window again and said so in a segment that was
                // lost: a closed one is probed with what it does not hold, and one that is
                // open is filled, small as it may be.
                tcb.force = true;
                tcb.probe = tcb.window == 0;
                over = tcb.tries > TRIES;
            } else {
                // Nothing is under way, and yet there is something to send.
                tcb.force = true;
                tcb.probe = tcb.window == 0;
                let stalled = now.wrapping_sub(tcb.progress) > LINGER;
                over = tcb.tries > TRIES || closing && stalled;
            }
            tcb.round_trip.stop();
            tcb.round_trip.back_off();
            tcb.retransmit_at.set(now, tcb.round_trip.timeout());
        }
        if tcb.life_at.is_due(now) {
            match tcb.state {
                State::TimeWait | State::FinWait2 => over = true,
                _ => {
                    let due = tcb.heard.wrapping_add(self.limits.keep_alive.saturating_mul(1000));
                    let mut next = due;
                    if has_come(due, now) {
                        tcb.probe = true;
                        next = now.wrapping_add(ASK_PAUSE);
                        let asked = now.wrapping_sub(due) / ASK_PAUSE;
                        over = asked > TRIES.into();
                    }
                    tcb.life_at.set(next, 0);
                }
            }
        }
        let abort = match tcb.state {
            State::Established | State::CloseWait | State::FinWait1 => true,
            // The peer may wait for what it never had; without data it waits for nothing.
            State::Closing | State::LastAck => !tcb.tx.is_empty(),
            _ => false,
        };
        if over && abort {
            return self.abort(id, service);
        } else if over {
            return self.remove(id, service);
        }
        self.make_ready(id);
        self.resume(id, service);
    }

    /// Sets a connection's timer for what comes first.
    #[inline]
    pub(super) fn set_timer(&mut self, id: Id) {
        let now = self.now;
        let Some(entry) = self.table.get_mut(id) else { return };
        let closing = entry.is_closing();
        let Entry { tcb, .. } = entry;
        let waiting = tcb.under_way() > 0 || !tcb.tx.is_empty() || closing && !tcb.fin_sent;
        if waiting && !matches!(tcb.state, State::TimeWait | State::FinWait2) {
            tcb.retransmit_at.ensure(now, tcb.round_trip.timeout());
        }
        let times = [tcb.retransmit_at.at(), tcb.ack_at.at(), tcb.life_at.at()];
        let sooner = |a: Millis, b: Millis| if has_come(a, b) { a } else { b };
        if let Some(at) = times.into_iter().flatten().reduce(sooner) {
            self.wheel.ensure(id.0, at);
        }
    }
}
