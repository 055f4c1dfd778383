//! Requests and answers of several datagrams, and how much is sent to a source that may be forged.
//!
//! Place on the packet path: step 5, around [`Service`], for a placement that has memory for it.
//! The usual request goes to the service at once.
//!
//! | file | what it is |
//! |---|---|
//! | `datagrams/assembly.rs` | requests of which some datagrams have come |
//! | `datagrams/budget.rs` | how many bytes each source may still be sent |
//! | `datagrams/answer.rs` | an answer of several datagrams, of which some are sent |
//!
//! **Amplification.** UDP's source can be forged, and an answer may be longer than its request. One
//! datagram is as much as that can bring, but for answers of several: of these each source has a
//! budget of bytes a second ([`Budget`](budget)), and beyond it gets only those that are no longer
//! than what they answer; the others are silently dropped, as the network drops them. A client
//! with a TCP connection has proved its address ([`Datagrams::connected`]) and needs no budget.
//! Answers of one datagram have none, since a client that asks as fast as it can would lose them.
//!
//! **Memory.** All of it is given to [`Datagrams::new`]. One answer of several datagrams is under
//! way at a time: its datagrams are to be asked for before the next request is answered.

mod answer;
mod assembly;
mod budget;

use exo_sum::Sum;

use crate::protocol::{Frame, Reply};
use crate::service::{MAX_DATAGRAM, MIN_REPLY, Service, Time};

use answer::Answer;
use assembly::{Assembly, NotWhole};
use budget::Budget;

pub use assembly::{MOST_PARTS, MOST_REQUESTS};

/// Bytes of an answer in several datagrams, one long item not counted.
const TEXT: usize = 64 << 10;

/// Bytes of memory without room for requests of several datagrams.
pub const LEAST_MEMORY: usize = budget::BYTES + TEXT;

/// Bytes of memory beyond [`LEAST_MEMORY`] for each request of several datagrams under way.
pub const REQUEST_MEMORY: usize = assembly::BYTES;

/// Bytes a second that are sent to one source in answers of several datagrams, unless it is told
/// otherwise.
pub const DEFAULT_BUDGET: u32 = 4 << 20;

/// Where a datagram comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// IPv4 address.
    pub address: [u8; 4],
    /// UDP port.
    pub port: u16,
}

/// What is kept between datagrams.
pub struct Datagrams<'m> {
    budget: Budget<'m>,
    assembly: Assembly<'m>,
    text: &'m mut [u8; TEXT],
    answer: Option<Answer>,
}

impl<'m> Datagrams<'m> {
    /// Nothing yet, in `memory`, with `budget` bytes a second of answers of several datagrams for
    /// each source. `None` if that is
    /// less than [`LEAST_MEMORY`].
    #[must_use]
    pub fn new(memory: &'m mut [u8], budget: u32) -> Option<Self> {
        let (budgets, rest) = memory.split_at_mut_checked(budget::BYTES)?;
        let (text, rest) = rest.split_first_chunk_mut()?;
        let budget = Budget::new(budgets, budget)?;
        Some(Self { budget, assembly: Assembly::new(rest), text, answer: None })
    }

    /// Answers the UDP payload `datagram`, as [`Service::answer`] does, with its sum. `None` if
    /// there is no answer, or one of several datagrams ([`Datagrams::has_more`]).
    ///
    /// **Trust:** `datagram` and `from` may be anything. **Cost:** as of [`Service::answer`], with
    /// that of up to [`MOST_PARTS`] datagrams for the last one of a request.
    #[inline(always)]
    pub fn answer(
        &mut self,
        service: &mut Service<'_>,
        datagram: &[u8],
        from: Source,
        now: Time,
        reply: &mut [u8],
    ) -> Option<(usize, Sum)> {
        if reply.len() < MIN_REPLY {
            return None;
        }
        if service.begin(now) {
            self.budget.refill();
        }
        match service.answer_usual(datagram, reply) {
            None => self.answer_any(service, datagram, from, now, reply),
            answer => answer,
        }
    }

    /// Whether the last answer has datagrams that are still to be sent, to where its request
    /// came from.
    #[must_use]
    #[inline(always)]
    pub fn has_more(&self) -> bool {
        self.answer.is_some()
    }

    /// Writes the next of them to `reply`, which is as long as the one before. `None` if there is
    /// none.
    pub fn next(&mut self, service: &mut Service<'_>, reply: &mut [u8]) -> Option<(usize, Sum)> {
        let written = self.answer.as_mut()?.write(&self.text[..], service.engine(), reply);
        if self.answer.as_ref().is_some_and(Answer::is_sent) || written.is_none() {
            self.drop_answer(service);
        }
        let len = written?;
        Some((len, Sum::of(reply.get(..len)?)))
    }

    /// A client at `address` is connected over TCP. To be told, too, when that ends.
    pub fn connected(&mut self, address: [u8; 4]) {
        self.budget.connected(address);
    }

    /// A connection of a client at `address` has ended.
    pub fn disconnected(&mut self, address: [u8; 4]) {
        self.budget.disconnected(address);
    }

    /// Answers what is not one of the usual requests.
    #[inline(never)]
    fn answer_any(
        &mut self,
        service: &mut Service<'_>,
        datagram: &[u8],
        from: Source,
        now: Time,
        reply: &mut [u8],
    ) -> Option<(usize, Sum)> {
        // Its owner has not asked for the rest.
        self.drop_answer(service);
        service.count_incomplete(self.assembly.take_given_up());
        let (frame, sequence, total) = Frame::part(datagram)?;
        let request = match total {
            1 => Ok(datagram),
            _ => self.assembly.add((frame, sequence, total), from, datagram, now.uptime),
        };
        let piece = reply.len().min(MAX_DATAGRAM);
        let reply = reply.get_mut(..piece)?;
        let mut out = Reply::in_datagrams(reply, &mut self.text[..]);
        out.put(&frame.reply(0, 1)).ok()?;
        match request {
            Ok(request) => service.answer_all(request, &mut out),
            Err(NotWhole::Wait) => {}
            Err(NotWhole::TooLong) => out.put(TOO_LONG).ok()?,
        }
        let (len, rest) = (out.len(), out.take_rest_behind(0));
        if len == Frame::LEN {
            service.count(datagram.len(), 0);
            return None;
        }
        if !out.has_moved() {
            service.count(datagram.len(), len);
            return Some((len, Sum::of(reply.get(..len)?)));
        }
        let answer = Answer::new(frame, len, rest, piece);
        let bytes = answer.bytes();
        let is_known = answer.can_be_numbered();
        self.answer = Some(answer);
        service.count(datagram.len(), bytes);
        // What its sender spent to be answered.
        let asked = request.map_or(datagram.len(), <[u8]>::len);
        if !self.may_be_sent(service, from, asked, bytes) || !is_known {
            self.drop_answer(service);
        }
        None
    }

    /// Whether an answer of several datagrams, `len` bytes to `asked` bytes, may be sent. It is
    /// within its source's budget then, or needs none.
    fn may_be_sent(
        &mut self,
        service: &mut Service<'_>,
        from: Source,
        asked: usize,
        len: usize,
    ) -> bool {
        let may = self.budget.spend(from.address, len)
            || len <= asked
            || self.budget.is_connected(from.address);
        if !may {
            service.count_over_budget();
        }
        may
    }

    fn drop_answer(&mut self, service: &mut Service<'_>) {
        if let Some(rest) = self.answer.take().and_then(Answer::into_rest) {
            service.release(rest.held);
        }
    }
}

const TOO_LONG: &[u8] = b"SERVER_ERROR request too large\r\n";
