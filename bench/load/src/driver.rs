//! Requests on their way: ids, sending, matching replies, time limits.
//!
//! A request's id is free again when it is answered. If it is not answered in time it
//! stays taken for as long again: a reply that comes then is *late*, and must not be
//! mistaken for the reply to a younger request of the same id.
//!
//! Every request that was sent ends in exactly one of four ways: answered, wrong, timed
//! out, or late. A late one was reported as timed out before.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::protocol::{self, Parts, Protocol, Request, Verdict};
use crate::wire::{Batch, Wire};
use crate::workload::Items;

/// Requests offered to the wire at a time.
const BATCH: usize = 256;
/// Bytes of a wrong reply that are kept to be shown.
const SHOWN: usize = 120;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// With the right answer.
    Answered {
        /// Keys with their values.
        hits: u32,
        /// Keys that the server does not have.
        misses: u32,
    },
    /// With a reply that is not the answer.
    Wrong,
    /// Without a reply in time.
    TimedOut,
    /// With a reply after it had been given up.
    Late,
}

/// A request that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The request.
    pub request: Request,
    /// How it ended.
    pub fate: Fate,
    /// When it was to be sent, in nanoseconds of the driver's clock.
    pub intended: u64,
    /// When it was sent.
    pub sent: u64,
    /// When its end was noticed.
    pub at: u64,
}

/// Replies that belong to no request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// With the id of no request that waits: duplicates, for instance.
    pub unasked: u64,
    /// Too short for a header.
    pub malformed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// In the batch, not yet with the wire.
    Offered,
    Waiting,
    /// Given up; a reply is late.
    Expired,
}

struct Slot {
    state: State,
    /// Requests that have had this id.
    uses: u32,
    intended: u64,
    sent: u64,
    request: Request,
    parts: Option<Box<Parts>>,
}

/// Sends requests over a wire and matches replies.
pub struct Driver<'d> {
    wire: &'d mut dyn Wire,
    items: &'d Items,
    protocol: Protocol,
    timeout: u64,
    epoch: Instant,
    slots: Vec<Slot>,
    next: u16,
    outstanding: u32,
    batch: Batch,
    offered: VecDeque<u16>,
    /// Requests sent, oldest first: id and its use.
    aging: VecDeque<(u16, u32)>,
    /// Those given up, oldest first.
    expired: VecDeque<(u16, u32)>,
    strays: Strays,
    last_reply: u64,
    wrong: Option<String>,
    /// Intended times of the requests that are counted, and how many of them were sent.
    window: Range<u64>,
    sent_in_window: u64,
}

impl<'d> Driver<'d> {
    /// A driver whose clock starts now. A request is given up after `timeout`.
    pub fn new(
        wire: &'d mut dyn Wire,
        items: &'d Items,
        protocol: Protocol,
        timeout: Duration,
    ) -> Self {
        let free = || Slot {
            state: State::Free,
            uses: 0,
            intended: 0,
            sent: 0,
            request: Request::Version,
            parts: None,
        };
        Self {
            wire,
            items,
            protocol,
            timeout: timeout.as_nanos() as u64,
            epoch: Instant::now(),
            slots: (0..=u16::MAX).map(|_| free()).collect(),
            next: 0,
            outstanding: 0,
            batch: Batch::default(),
            offered: VecDeque::new(),
            aging: VecDeque::new(),
            expired: VecDeque::new(),
            strays: Strays::default(),
            last_reply: 0,
            wrong: None,
            window: 0..0,
            sent_in_window: 0,
        }
    }

    /// From now on counts the requests sent whose intended times lie in `window`.
    pub fn count(&mut self, window: Range<u64>) {
        (self.window, self.sent_in_window) = (window, 0);
    }

    /// Requests sent since [`Driver::count`], of those that are counted.
    #[must_use]
    pub fn sent_in_window(&self) -> u64 {
        self.sent_in_window
    }

    /// Nanoseconds since this was made.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Requests that wait for a reply or to be sent.
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Replies that belonged to no request.
    #[must_use]
    pub fn strays(&self) -> Strays {
        self.strays
    }

    /// When the last reply came that was not a stray.
    #[must_use]
    pub fn last_reply(&self) -> u64 {
        self.last_reply
    }

    /// The first wrong reply, and what it should have answered.
    #[must_use]
    pub fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    /// The wire.
    pub fn wire(&mut self) -> &mut dyn Wire {
        self.wire
    }

    /// Whether another request can be offered now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.batch.len() < BATCH && self.free_id().is_some()
    }

    /// Takes a request to be sent. True if there was room for it.
    pub fn offer(&mut self, request: Request, intended: u64) -> bool {
        if self.batch.len() >= BATCH {
            return false;
        }
        let Some(id) = self.free_id() else { return false };
        self.next = id.wrapping_add(1);
        let (protocol, items) = (self.protocol, self.items);
        self.batch.push(|out| protocol.write(items, id, &request, out));
        let slot = &mut self.slots[usize::from(id)];
        slot.state = State::Offered;
        slot.uses = slot.uses.wrapping_add(1);
        (slot.intended, slot.request, slot.parts) = (intended, request, None);
        self.offered.push_back(id);
        self.outstanding += 1;
        true
    }

    /// Sends what was offered, as far as there is room; how many went.
    pub fn send(&mut self) -> Result<usize> {
        if self.batch.is_empty() {
            return Ok(0);
        }
        // Before they leave: a reply must not seem to come before its request.
        let now = self.now();
        let sent = self.wire.send(&self.batch)?;
        self.batch.remove(sent);
        for id in self.offered.drain(..sent) {
            let slot = &mut self.slots[usize::from(id)];
            (slot.state, slot.sent) = (State::Waiting, now);
            self.sent_in_window += u64::from(self.window.contains(&slot.intended));
            self.aging.push_back((id, slot.uses));
        }
        Ok(sent)
    }

    /// Takes back what was offered and not sent; how many requests, by intended time.
    pub fn withdraw(&mut self) -> Vec<u64> {
        self.batch.clear();
        let mut intended = Vec::new();
        for id in self.offered.drain(..) {
            let slot = &mut self.slots[usize::from(id)];
            slot.state = State::Free;
            intended.push(slot.intended);
            self.outstanding -= 1;
        }
        intended
    }

    /// Takes replies in, and gives requests up whose time is over; adds to `ended` the
    /// requests that this ends. How many datagrams came.
    pub fn receive(&mut self, ended: &mut Vec<Finished>) -> Result<usize> {
        let now = self.now();
        let Self { wire, slots, items, protocol, strays, wrong, outstanding, last_reply, .. } =
            self;
        let received = wire.receive(&mut |datagram| {
            let mut matcher = Matcher { slots, items, protocol: *protocol, strays, wrong };
            if let Some(end) = matcher.take(datagram, now) {
                *outstanding -= u32::from(end.fate != Fate::Late);
                *last_reply = now;
                ended.push(end);
            }
        })?;
        self.expire(now, ended);
        Ok(received)
    }

    /// Gives up every request that waits: no reply can come any more.
    pub fn abandon(&mut self, ended: &mut Vec<Finished>) {
        let now = self.now();
        for slot in &mut self.slots {
            if slot.state == State::Waiting {
                slot.state = State::Free;
                self.outstanding -= 1;
                ended.push(slot.end(Fate::TimedOut, now));
            }
        }
    }

    /// **Blocking** until a reply may have come, at most for `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<()> {
        self.wire.wait(timeout)
    }

    fn expire(&mut self, now: u64, ended: &mut Vec<Finished>) {
        while let Some(&(id, uses)) = self.aging.front() {
            let slot = &mut self.slots[usize::from(id)];
            if slot.uses == uses && slot.state == State::Waiting {
                if now.saturating_sub(slot.sent) < self.timeout {
                    break;
                }
                slot.state = State::Expired;
                self.outstanding -= 1;
                self.expired.push_back((id, uses));
                ended.push(slot.end(Fate::TimedOut, now));
            }
            self.aging.pop_front();
        }
        while let Some(&(id, uses)) = self.expired.front() {
            let slot = &mut self.slots[usize::from(id)];
            if slot.uses == uses && slot.state == State::Expired {
                if now.saturating_sub(slot.sent) < 2 * self.timeout {
                    break;
                }
                slot.state = State::Free;
            }
            self.expired.pop_front();
        }
    }

    /// The next free id, from the one after the last on.
    fn free_id(&self) -> Option<u16> {
        let taken = self.outstanding as usize + self.expired.len();
        // Few are taken, or few are free: then it is not worth a long search each time.
        let most = if taken < self.slots.len() / 2 { self.slots.len() } else { 256 };
        (0..most)
            .map(|step| self.next.wrapping_add(step as u16))
            .find(|id| self.slots[usize::from(*id)].state == State::Free)
    }
}

impl Slot {
    /// The request's end; its contents stay for a late reply.
    fn end(&self, fate: Fate, at: u64) -> Finished {
        let (intended, sent) = (self.intended, self.sent);
        Finished { request: self.request.clone(), fate, intended, sent, at }
    }
}

/// Matches one datagram.
struct Matcher<'m> {
    slots: &'m mut [Slot],
    items: &'m Items,
    protocol: Protocol,
    strays: &'m mut Strays,
    wrong: &'m mut Option<String>,
}

impl Matcher<'_> {
    fn take(&mut self, datagram: &[u8], now: u64) -> Option<Finished> {
        let Some(fragment) = protocol::fragment(datagram) else {
            self.strays.malformed += 1;
            return None;
        };
        let slot = &mut self.slots[usize::from(fragment.id)];
        if !matches!(slot.state, State::Waiting | State::Expired) {
            self.strays.unasked += 1;
            return None;
        }
        let (items, protocol) = (self.items, self.protocol);
        let verdict = if fragment.whole() && slot.parts.is_none() {
            protocol.check(items, &slot.request, fragment.text)
        } else {
            let parts = slot.parts.get_or_insert_default();
            match parts.add(&fragment) {
                protocol::Added::Text => protocol.check(items, &slot.request, parts.text()),
                protocol::Added::Nothing => return None,
                protocol::Added::Misfit => Verdict::Wrong,
            }
        };
        let late = slot.state == State::Expired;
        let fate = match verdict {
            Verdict::More => {
                if slot.parts.is_none() {
                    slot.parts.get_or_insert_default().add(&fragment);
                }
                return None;
            }
            Verdict::Answer { .. } if late => Fate::Late,
            Verdict::Answer { hits, misses } => Fate::Answered { hits, misses },
            // Wrong and late is late: it was counted as lost, and may belong to another.
            Verdict::Wrong if late => Fate::Late,
            Verdict::Wrong => Fate::Wrong,
        };
        if fate == Fate::Wrong && self.wrong.is_none() {
            *self.wrong = Some(shown(protocol, items, &slot.request, datagram));
        }
        slot.state = State::Free;
        slot.parts = None;
        let request = std::mem::replace(&mut slot.request, Request::Version);
        Some(Finished { request, fate, intended: slot.intended, sent: slot.sent, at: now })
    }
}

/// A wrong reply beside its request, harmless to a terminal.
fn shown(protocol: Protocol, items: &Items, request: &Request, datagram: &[u8]) -> String {
    let mut asked = Vec::new();
    protocol.write(items, 0, request, &mut asked);
    let cut = |bytes: &[u8]| {
        let more = if bytes.len() > SHOWN { "…" } else { "" };
        format!("\"{}{more}\"", bytes[..bytes.len().min(SHOWN)].escape_ascii())
    };
    let text = |bytes: &[u8]| cut(bytes.get(protocol::UDP_HEADER..).unwrap_or_default());
    format!("{} in reply to {}", text(datagram), text(&asked))
}
