//! What is sent: after each batch, for each connection that may have something to say.

use exo_abi::Error;
use smoltcp::wire::EthernetAddress;

use super::FastTcp;
use super::connection::{Entry, State};
use super::head::Route;
use super::segment::{Header, MSS, Options, bit};
use super::seq::Seq;
use super::table::Id;
use crate::net::stream::StreamService;
use crate::net::{Endpoint, NetDevice, TxBuffer};

/// Resets that wait to be sent; those beyond are not.
pub(super) const ABORTS: usize = 64;

/// What follows a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// There may be another.
    Another,
    /// There is none, and the connection's timer is set.
    Nothing,
}

/// A reset for a connection that is gone.
#[derive(Clone, Copy)]
pub(super) struct Abort {
    mac: EthernetAddress,
    peer: Endpoint,
    seq: Seq,
    ack: Seq,
}

impl<C> FastTcp<'_, C> {
    /// Sends what is to be sent. Returns how many frames.
    #[inline(never)]
    pub(super) fn send_all<D: NetDevice>(&mut self, device: &mut D) -> Result<u32, Error> {
        let mut sent = 0;
        while let Some(abort) = self.aborts.last().copied() {
            let Some(buffer) = room(device)? else { return Ok(sent) };
            let route = Route { port: self.port, mac: abort.mac, peer: abort.peer };
            let header = Header { seq: abort.seq, ack: Some(abort.ack), bits: bit::RST, window: 0 };
            let length = self.head.write_any(buffer, route, header, &Options::NONE, &[]);
            device.commit(length);
            self.aborts.pop();
            sent += 1;
            self.counts.resets += 1;
        }
        while let Some(&id) = self.ready.front() {
            loop {
                let Some(buffer) = room(device)? else {
                    self.counts.sent += u64::from(sent);
                    return Ok(sent);
                };
                let (length, after) = match self.next_usual(id, buffer) {
                    Some(usual) => usual,
                    None => (self.next_segment(id, buffer), After::Another),
                };
                if length == 0 {
                    self.set_timer(id);
                    break;
                }
                device.commit(length);
                sent += 1;
                if after == After::Nothing {
                    break;
                }
            }
            self.ready.pop_front();
            if let Some(is_ready) = self.is_ready.get_mut(id.0 as usize) {
                *is_ready = false;
            }
        }
        self.counts.sent += u64::from(sent);
        Ok(sent)
    }

    /// Writes the next segment of a connection into `buffer`. Returns the frame's length, or
    /// zero if there is none.
    #[inline(never)]
    fn next_segment(&mut self, id: Id, buffer: &mut TxBuffer) -> usize {
        let (now, micros) = (self.now, self.micros);
        let Some(peer) = self.table.peer(id) else { return 0 };
        let Some(entry) = self.table.get_mut(id) else { return 0 };
        let closing = entry.is_closing();
        let tcb = &mut entry.tcb;
        let route = Route { port: self.port, mac: EthernetAddress(tcb.mac), peer };
        if tcb.state == State::SynReceived {
            if !core::mem::take(&mut tcb.send_syn) {
                return 0;
            }
            if tcb.tries == 0 && !tcb.retransmit_at.is_set() {
                tcb.round_trip.start(tcb.max, micros);
            } else {
                tcb.round_trip.stop();
            }
            let wait = tcb.round_trip.timeout();
            tcb.retransmit_at.ensure(now, wait);
            let window = super::BUFFER as u16;
            let header = Header { seq: tcb.una, ack: Some(tcb.rcv), bits: bit::SYN, window };
            let options = Options::syn(tcb.scaled, tcb.sack);
            return self.head.write_any(buffer, route, header, &options, &[]);
        }

        let options = if tcb.sack && !tcb.beyond.is_empty() {
            Options::sack(&tcb.beyond)
        } else {
            Options::NONE
        };
        let most = usize::from(tcb.mss.min(MSS)).saturating_sub(options.len());
        let edge = tcb.new_edge();
        let window = (edge - tcb.rcv).min(u16::MAX.into()) as u16;
        let ack = Some(tcb.rcv);

        let (seq, length, bits) = if core::mem::take(&mut tcb.probe) {
            // A number that the peer has acknowledged: it answers with where it is.
            (tcb.una - 1, 0, 0)
        } else if core::mem::take(&mut tcb.resend)
            && let Some((from, length)) = tcb.hole()
        {
            let length = length.min(most);
            tcb.resent = from + length as u32;
            self.counts.resent += 1;
            (from, length, bit::PSH)
        } else {
            let (length, fin) = tcb.next_data(closing, most);
            if length == 0 && !fin {
                if !tcb.send_ack {
                    return 0;
                }
                (tcb.nxt, 0, 0)
            } else {
                let from = tcb.nxt;
                let offset = (from - tcb.una) as usize;
                let last = length > 0 && offset + length == tcb.tx.len();
                tcb.nxt += length as u32 + u32::from(fin);
                if tcb.nxt.after(tcb.max) {
                    tcb.max = tcb.nxt;
                    tcb.round_trip.start(tcb.nxt, micros);
                } else {
                    self.counts.resent += 1;
                }
                if fin && !tcb.fin_sent {
                    tcb.fin_sent = true;
                    tcb.state = match tcb.state {
                        State::CloseWait => State::LastAck,
                        _ => State::FinWait1,
                    };
                }
                let push = if last { bit::PSH } else { 0 };
                (from, length, push | if fin { bit::FIN } else { 0 })
            }
        };
        tcb.force = false;
        tcb.send_ack = false;
        tcb.ack_at.clear();
        (tcb.edge, tcb.acked) = (edge, tcb.rcv);
        let header = Header { seq, ack, bits, window };
        self.head.write_any(buffer, route, header, &options, tcb.data(seq, length))
    }

    /// Ends a connection and tells its peer.
    pub(super) fn abort<S: StreamService<Connection = C>>(&mut self, id: Id, service: &mut S) {
        if let (Some(Entry { tcb, .. }), Some(peer)) = (self.table.get(id), self.table.peer(id))
            && self.aborts.len() < ABORTS
        {
            let mac = EthernetAddress(tcb.mac);
            // Not before what the peer may have: after a time-out `nxt` is.
            self.aborts.push(Abort { mac, peer, seq: tcb.max, ack: tcb.rcv });
        }
        self.remove(id, service);
    }
}

/// A buffer to send from, if there is one even after the device was asked for it.
fn room<D: NetDevice>(device: &mut D) -> Result<Option<&mut TxBuffer>, Error> {
    if device.is_full() {
        device.sync()?;
    }
    Ok(device.slots().free)
}
