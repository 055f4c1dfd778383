//! From UDP payload to UDP payload.
//!
//! A datagram may carry several requests, one after the other; memcached answers
//! each with a datagram of its own, here all answers go into one, in order.
//! Requests and answers of several datagrams are [`crate::datagrams`]' business, and so is how much
//! a source that may be forged is sent.
//!
//! Rules that hold whatever is sent to [`Service::answer`]:
//!
//! - one datagram in, at most one out, no longer than the buffer it is written to:
//!   what a forged source address can be made to receive is bounded (this is what
//!   CVE-2018-1000115 lacked);
//! - what looks like a reply gets none, and nothing in it is carried out;
//! - a request is carried out only if there is room to answer it: what gets no
//!   answer had no effect (requests with `noreply` aside);
//! - an answer that does not fit becomes `SERVER_ERROR reply too large`.
//!
//! One `get` that finds its item goes a way of its own: the answer is the item as it lies in
//! memory, between two constants, and so is the answer's sum. So does one `set`: the item as
//! it is kept lies in the request, in two pieces.

use core::ops::{ControlFlow, Range};

use exo_sum::Sum;

use crate::engine::{
    Condition, Config, DeltaError, Engine, Expiry, Found, Held, Hit, Key, Mode, NoRoom, Outcome,
    RestoreError, SetupError, Stored, Value,
};
use crate::number::Decimal;
use crate::protocol::binary::MAGIC;
use crate::protocol::{
    BadChunk, Frame, Input, Refusal, Reply, Request, Rest, SingleSet, StatsKind, TooLarge,
    is_reply, single_get, single_set,
};
use crate::users::Users;

pub(crate) mod binary;
mod meta;
pub(crate) mod stats;

/// The largest UDP payload in one Ethernet frame: a sensible size of reply buffer.
/// memcached cuts its replies at 1400, but can send the rest in another datagram. With
/// this, nearly all that one datagram can store another can show.
pub const MAX_DATAGRAM: usize = 1500 - 20 - 8;

/// The smallest reply buffer: with less, nothing is answered.
pub const MIN_REPLY: usize = Frame::LEN + LINE + TOO_LARGE.len();

/// No answer of one line is longer.
const LINE: usize = 80;

const TOO_LARGE: &[u8] = b"SERVER_ERROR reply too large\r\n";
const END: &[u8] = b"END\r\n";
const VALUE: &[u8] = b"VALUE ";

/// Bytes before an item in the answer to one `get`.
const HIT: usize = Frame::LEN + VALUE.len();

/// The sum of `VALUE `, which begins at an even place.
const VALUE_SUM: u64 = u64::from_le_bytes(*b"VALUE \0\0");

/// The sum of `END\r\n` where it begins at an odd place, or an even one.
const fn sum_of_end(odd: bool) -> u64 {
    u64::from_le_bytes(if odd { *b"\0END\r\n\0\0" } else { *b"END\r\n\0\0\0" })
}

/// What a value leaves room for: its own end, and an error of the next request, if there
/// is one.
const SPARE: usize = END.len() + TOO_LARGE.len();

/// The memcached whose protocol this is: clients choose by the number what they may ask for.
const VERSION: &[u8] = b"VERSION 1.6.45-exo\r\n";

/// Expiry times up to this many seconds are relative (`protocol.txt`).
const MONTH: i32 = 60 * 60 * 24 * 30;

/// What time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970. Only used to read absolute expiry times, and told in
    /// `stats`.
    pub unix: u64,
    /// Seconds since the store was made. Must not go back.
    pub uptime: u32,
}

/// A store that answers datagrams.
pub struct Service<'m> {
    engine: Engine<'m>,
    /// The time of the last datagram; the engine's clock shows it.
    time: Time,
    pid: u32,
    /// Conversations that are under way, and those that ever were.
    connections: u32,
    total_connections: u64,
    /// Those that are served; all, if there are none.
    users: Option<Users<'m>>,
    /// Logins that were tried, and those that failed.
    logins: u64,
    failed_logins: u64,
    /// Answers to datagrams that were not sent: longer than what is left of a budget.
    over_budget: u64,
    /// Requests of several datagrams that never were whole.
    incomplete: u64,
    shutdown: Shutdown,
}

/// Whether a client may end the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    Refused,
    Allowed,
    /// One has.
    Done,
}

impl<'m> Service<'m> {
    /// Makes an empty store in `memory`, which is all it will ever use.
    ///
    /// # Errors
    /// If the memory or a parameter is out of range.
    pub fn new(memory: &'m mut [u8], config: &Config) -> Result<Self, SetupError> {
        let engine = Engine::new(memory, config)?;
        // No datagram comes at this time, so the first one sets the engine's clock. Set here,
        // it would cost a copy of the store on a stack, which Linux's kernel has no room for.
        Ok(Self {
            engine,
            time: Time { unix: u64::MAX, uptime: u32::MAX },
            pid: config.pid,
            connections: 0,
            total_connections: 0,
            users: None,
            logins: 0,
            failed_logins: 0,
            over_budget: 0,
            incomplete: 0,
            shutdown: Shutdown::Refused,
        })
    }

    /// The store itself.
    #[must_use]
    pub fn engine(&self) -> &Engine<'m> {
        &self.engine
    }

    /// The same, for operations that come without a protocol.
    #[cfg(feature = "local")]
    pub(crate) fn engine_mut(&mut self) -> &mut Engine<'m> {
        &mut self.engine
    }

    /// Serves only connections on which one of `users` has logged in. Its owner then passes no
    /// datagrams on: nothing is known of their senders.
    pub fn require(&mut self, users: Users<'m>) {
        self.users = Some(users);
    }

    /// Lets clients end the store with `shutdown`, over connections only: a datagram may be forged.
    pub fn allow_shutdown(&mut self) {
        self.shutdown = Shutdown::Allowed;
    }

    /// Whether a client has ended the store: its owner then serves nothing more.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.shutdown == Shutdown::Done
    }

    pub(crate) fn may_be_shut_down(&self) -> bool {
        self.shutdown != Shutdown::Refused
    }

    /// Ends the store. `false` if no client may.
    pub(crate) fn shut_down(&mut self) -> bool {
        let may = self.may_be_shut_down();
        if may {
            self.shutdown = Shutdown::Done;
        }
        may
    }

    /// Whether there are users that have to log in.
    pub(crate) fn has_users(&self) -> bool {
        self.users.is_some()
    }

    /// Whether this user is served, with this password.
    pub(crate) fn admit(&mut self, user: &[u8], password: &[u8]) -> bool {
        let is_known = self.users.is_none_or(|users| users.admit(user, password));
        self.logins += 1;
        self.failed_logins += u64::from(!is_known);
        is_known
    }

    /// Answers the UDP payload `datagram` at time `now`: writes a UDP payload to
    /// `reply` and returns its length, at most that of `reply`. `None` if nothing is
    /// to be sent: the datagram was no request, or asked for no reply, or `reply` is
    /// shorter than [`MIN_REPLY`].
    ///
    /// **Trust:** `datagram` may be anything. **Cost:** proportional to its length and
    /// that of the reply; a stored item may in addition cost looking through a few slabs and
    /// evicting or moving the items of one ([`crate::engine`], `evict` and `rebalance`).
    pub fn answer(&mut self, datagram: &[u8], now: Time, reply: &mut [u8]) -> Option<usize> {
        self.answer_with_sum(datagram, now, reply).map(|(len, _)| len)
    }

    /// The same, and the sum of the answer, for its checksum.
    #[inline(always)]
    pub fn answer_with_sum(
        &mut self,
        datagram: &[u8],
        now: Time,
        reply: &mut [u8],
    ) -> Option<(usize, Sum)> {
        if reply.len() < MIN_REPLY {
            return None;
        }
        self.begin(now);
        self.answer_usual(datagram, reply).or_else(|| self.answer_any(datagram, reply))
    }

    /// Answers one of the two requests that nearly all datagrams are. `None` if it is another,
    /// or no answer of one datagram: then nothing was done.
    #[inline(always)]
    pub(crate) fn answer_usual(
        &mut self,
        datagram: &[u8],
        reply: &mut [u8],
    ) -> Option<(usize, Sum)> {
        if let Some(key) = single_get(datagram)
            && let Some(hit) = self.answer_hit(datagram, key, reply)
        {
            return Some(hit);
        }
        self.answer_set(datagram, &single_set(datagram)?, reply)
    }

    /// Has the store, which is empty, keep notes of what changes from [`Service::begin_notes`] on;
    /// see [`Engine::keep`].
    pub fn keep(&mut self, buffer: &'m mut [u8], now: Time) {
        self.begin(now);
        self.engine.keep(buffer, now.unix.saturating_sub(self.clock().into()));
    }

    /// See [`Engine::restore`].
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn restore(&mut self, notes: &[u8]) -> Result<(), RestoreError> {
        self.engine.restore(notes)
    }

    /// See [`Engine::begin_notes`].
    pub fn begin_notes(&mut self) {
        self.engine.begin_notes();
    }

    /// See [`Engine::notes`].
    pub fn notes(&mut self) -> Option<(&mut [u8], usize)> {
        self.engine.notes()
    }

    /// See [`Engine::forget_notes`].
    pub fn forget_notes(&mut self) {
        self.engine.forget_notes();
    }

    /// What time it is for the requests that follow. Whether it is another than before.
    #[inline(always)]
    pub(crate) fn begin(&mut self, now: Time) -> bool {
        let is_later = self.time != now;
        if is_later {
            self.set_time(now);
        }
        is_later
    }

    /// Counts bytes taken and given.
    pub(crate) fn count(&mut self, read: usize, written: usize) {
        let stats = self.engine.stats_mut();
        stats.bytes_read = stats.bytes_read.wrapping_add(read as u64);
        stats.bytes_written = stats.bytes_written.wrapping_add(written as u64);
    }

    /// Counts an answer that was longer than its source's budget.
    pub(crate) fn count_over_budget(&mut self) {
        self.over_budget += 1;
    }

    /// Counts requests of which some datagrams never came, or came too late.
    pub(crate) fn count_incomplete(&mut self, requests: u64) {
        self.incomplete += requests;
    }

    #[inline(never)]
    fn set_time(&mut self, now: Time) {
        self.time = now;
        self.engine.set_time(self.clock());
    }

    /// Answers one `get` of one key, if there is such an item and the answer fits. Otherwise
    /// nothing was done.
    #[inline(always)]
    fn answer_hit(
        &mut self,
        datagram: &[u8],
        key: Key<'_>,
        reply: &mut [u8],
    ) -> Option<(usize, Sum)> {
        const END_SUM: [u64; 2] = [sum_of_end(false), sum_of_end(true)];
        let frame = Frame::parse(datagram)?.reply(0, 1);
        let Hit { wire, sum } = self.engine.get_hit(key)?;
        let len = HIT + wire.len() + END.len();
        let (head, rest) = reply.get_mut(..len)?.split_first_chunk_mut::<HIT>()?;
        let (body, end) = rest.split_last_chunk_mut::<{ END.len() }>()?;
        head[..Frame::LEN].copy_from_slice(&frame);
        head[Frame::LEN..].copy_from_slice(VALUE);
        body.copy_from_slice(wire);
        *end = *b"END\r\n";
        let constants = VALUE_SUM + END_SUM[wire.len() & 1];
        let stats = self.engine.stats_mut();
        stats.get_hits += 1;
        stats.bytes_read = stats.bytes_read.wrapping_add(datagram.len() as u64);
        stats.bytes_written = stats.bytes_written.wrapping_add(len as u64);
        let frame = Sum::word(u64::from_le_bytes(frame));
        Some((len, frame.and(Sum::word(u64::from(sum) + constants))))
    }

    /// Adds the answer to one `get` of one key to a stream, if there is such an item and the
    /// answer fits. Otherwise nothing was done.
    #[inline(always)]
    pub(crate) fn put_hit(&mut self, key: Key<'_>, out: &mut Reply<'_>) -> bool {
        let Some(hit) = self.engine.get_hit(key) else { return false };
        let is_put = out.put_all([VALUE, hit.wire, END]).is_ok();
        self.engine.stats_mut().get_hits += u64::from(is_put);
        is_put
    }

    /// Carries out one usual `set`.
    #[inline(always)]
    pub(crate) fn set(&mut self, set: &SingleSet<'_>) -> Stored {
        self.engine.set(&set.item, self.expiry(set.exptime))
    }

    /// Answers one `set` of one item.
    #[inline(always)]
    fn answer_set(
        &mut self,
        datagram: &[u8],
        set: &SingleSet<'_>,
        reply: &mut [u8],
    ) -> Option<(usize, Sum)> {
        const STORED: [u8; 8] = *b"STORED\r\n";
        let frame = Frame::parse(datagram)?.reply(0, 1);
        let stored = self.set(set);
        let answer = code(stored);
        let len = Frame::LEN + answer.len();
        let (head, text) = reply.get_mut(..len)?.split_first_chunk_mut()?;
        *head = frame;
        let sum = if stored == Stored::Stored {
            // Nearly always: of a length that is known.
            if let Some(text) = text.first_chunk_mut() {
                *text = STORED;
            }
            Sum::word(u64::from_le_bytes(STORED))
        } else {
            text.copy_from_slice(answer);
            Sum::of(answer)
        };
        let stats = self.engine.stats_mut();
        stats.bytes_read = stats.bytes_read.wrapping_add(datagram.len() as u64);
        stats.bytes_written = stats.bytes_written.wrapping_add(len as u64);
        Some((len, Sum::word(u64::from_le_bytes(frame)).and(sum)))
    }

    /// Answers any other datagram.
    #[inline(never)]
    fn answer_any(&mut self, datagram: &[u8], reply: &mut [u8]) -> Option<(usize, Sum)> {
        let frame = Frame::parse(datagram)?;
        let mut out = Reply::new(reply);
        out.put(&frame.reply(0, 1)).ok()?;
        self.answer_all(datagram, &mut out);
        let len = out.len();
        if len == Frame::LEN {
            self.count(datagram.len(), 0);
            return None;
        }
        self.count(datagram.len(), len);
        Some((len, Sum::of(reply.get(..len).unwrap_or_default())))
    }

    /// Carries out the requests of a datagram, and answers them behind a frame.
    pub(crate) fn answer_all(&mut self, datagram: &[u8], out: &mut Reply<'_>) {
        let text = datagram.get(Frame::LEN..).unwrap_or_default();
        if is_reply(text) {
            return;
        }
        if text.first() == Some(&MAGIC) {
            return self.answer_packets(text, out);
        }
        let mut input = Input::new(datagram, Frame::LEN);
        while input.has_more() {
            if out.room() < LINE + TOO_LARGE.len() {
                let _ = out.put(TOO_LARGE);
                break;
            }
            if self.engine.must_commit() {
                let _ = out.put(OUT_OF_MEMORY);
                break;
            }
            if self.step(&mut input, out).is_break() {
                break;
            }
        }
    }

    /// Carries out the next request of a datagram.
    #[inline(always)]
    fn step(&mut self, input: &mut Input<'_>, out: &mut Reply<'_>) -> ControlFlow<()> {
        let start = out.len();
        let done = match input.request() {
            Ok(Request::Quit) => return ControlFlow::Break(()),
            Ok(request) => self.carry_out(request, input, out),
            Err(Refusal { text, noreply, data }) => {
                if let Some(len) = data {
                    input.skip_data(len);
                }
                if noreply { Ok(()) } else { out.put(text) }
            }
        };
        if let Err(TooLarge) = done {
            self.take_back(start, out);
            // Room for it is always left.
            let _ = out.put(TOO_LARGE);
        }
        ControlFlow::Continue(())
    }

    /// `get`, `gets`, `gat`, `gats`.
    fn get(
        &mut self,
        input: &mut Input<'_>,
        out: &mut Reply<'_>,
        with_cas: bool,
        touch: Option<i32>,
    ) -> Result<(), TooLarge> {
        let start = out.len();
        let expiry = touch.map(|exptime| self.expiry(exptime));
        let spare = if input.is_last_line() { END.len() } else { SPARE };
        let mut result = Ok(());
        while let Some(key) = input.key() {
            let Ok(key) = key else {
                self.take_back(start, out);
                input.end_line();
                return out.put(Refusal::FORMAT);
            };
            result = self.put_value(with_cas, expiry, key, out);
            if out.room() < spare {
                result = Err(TooLarge);
            }
            if result.is_err() {
                break;
            }
        }
        input.end_line();
        result?;
        out.put(END)
    }

    /// Adds the item with this key, if there is one, as `get` and its relatives show it.
    pub(crate) fn put_value(
        &mut self,
        with_cas: bool,
        touch: Option<Expiry>,
        key: Key<'_>,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        if !with_cas && touch.is_none() {
            // Nearly always, and then it is sent as it lies.
            let Some(hit) = self.engine.get_hit(key) else {
                self.engine.stats_mut().get_misses += 1;
                return Ok(());
            };
            if out.put_all([VALUE, hit.wire, b""]).is_ok() {
                self.engine.stats_mut().get_hits += 1;
                return Ok(());
            }
        }
        let Some(found) = self.engine.get_found(key, touch) else { return Ok(()) };
        out.put(VALUE)?;
        if !with_cas {
            return self.put_item(found, |value| 0..value.wire().len(), out);
        }
        let value = self.engine.value(found);
        out.put(value.head())?;
        out.put(b" ")?;
        out.put(Decimal::new(value.cas()).text())?;
        self.put_item(found, |value| value.head().len()..value.wire().len(), out)
    }

    /// Adds bytes of an item, counted from its key on. If they do not fit and may follow, the
    /// item is held.
    pub(crate) fn put_item(
        &mut self,
        found: Found,
        range: impl FnOnce(&Value<'_>) -> Range<usize>,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let value = self.engine.value(found);
        let range = range(&value);
        if let Err(TooLarge) = out.put(value.wire().get(range.clone()).unwrap_or_default()) {
            let held = if out.in_pieces() { self.engine.hold_found(found) } else { Ok(None) };
            let Ok(Some(held)) = held else { return Err(TooLarge) };
            out.set_rest(Rest { held, at: range.start as u32, end: range.end as u32 });
        }
        Ok(())
    }

    /// Takes back what was written after the first `len` bytes.
    fn take_back(&mut self, len: usize, out: &mut Reply<'_>) {
        out.truncate(len);
        if let Some((rest, _)) = out.take_rest_behind(len) {
            self.engine.release(rest.held);
        }
    }

    /// Refuses an item that is larger than any may be.
    pub(crate) fn refuse_large(&mut self, mode: Mode, key: Key<'_>) -> &'static [u8] {
        code(self.engine.refuse_large(mode, key))
    }

    /// Makes room for a long item that comes piece by piece.
    ///
    /// # Errors
    /// What to answer if there is none.
    pub(crate) fn begin_item(
        &mut self,
        key: Key<'_>,
        flags: u32,
        expiry: Expiry,
        value_len: usize,
        condition: &Condition,
    ) -> Result<Held, &'static [u8]> {
        let begun = self.engine.begin(key, flags, expiry, value_len, condition.own_cas);
        begun.map_err(|NoRoom| {
            // Rather no value than a stale one.
            if condition.mode == Mode::Set
                && let Some(old) = self.engine.look_up(key)
            {
                self.engine.remove(old);
            }
            code(self.engine.refuse_for_memory())
        })
    }

    /// See [`Engine::fill`].
    pub(crate) fn fill(&mut self, held: &Held, at: usize, piece: &[u8]) {
        self.engine.fill(held, at, piece);
    }

    /// See [`Engine::finish`].
    pub(crate) fn finish(&mut self, held: Held, condition: &Condition) -> Outcome {
        self.engine.finish(held, condition)
    }

    /// See [`Engine::release`].
    pub(crate) fn release(&mut self, held: Held) {
        self.engine.release(held);
    }

    /// Carries out a request, whose data block, if it has one, is next in the input.
    pub(crate) fn carry_out(
        &mut self,
        request: Request<'_>,
        input: &mut Input<'_>,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let (answer, noreply): (&[u8], bool) = match request {
            Request::Get { with_cas, touch } => return self.get(input, out, with_cas, touch),
            Request::Store { mode, key, flags, exptime, bytes, noreply } => {
                let answer = match input.data(bytes) {
                    Ok(value) => {
                        let expiry = self.expiry(exptime);
                        code(self.engine.store(mode, key, flags, expiry, value))
                    }
                    // What it says of its length is used for nothing but this.
                    Err(BadChunk) if !self.engine.fits(key, flags, bytes) => {
                        self.refuse_large(mode, key)
                    }
                    Err(BadChunk) => {
                        self.engine.stats_mut().cmd_set += 1;
                        BAD_CHUNK
                    }
                };
                (answer, noreply)
            }
            Request::Delete { key, noreply } => {
                (if self.engine.delete(key) { b"DELETED\r\n" } else { NOT_FOUND }, noreply)
            }
            Request::Touch { key, exptime, noreply } => {
                let expiry = self.expiry(exptime);
                (if self.engine.touch(key, expiry) { b"TOUCHED\r\n" } else { NOT_FOUND }, noreply)
            }
            Request::Change { key, delta, noreply } => match self.engine.change(key, delta) {
                Ok(number) if !noreply => return out.put_number(number),
                Ok(_) => return Ok(()),
                // (Only if a CAS id is asked for, which this command cannot.)
                Err(DeltaError::NotFound | DeltaError::Exists) => (NOT_FOUND, noreply),
                Err(DeltaError::NotANumber) => (NOT_A_NUMBER, noreply),
                Err(DeltaError::OutOfMemory) => (OUT_OF_MEMORY, noreply),
            },
            Request::FlushAll { delay, noreply } => {
                self.flush_all(delay);
                (OK, noreply)
            }
            Request::MetaGet(meta) => return self.meta_get(&meta, out),
            Request::MetaSet { meta, mode, bytes } => match input.data(bytes) {
                Ok(value) => return self.meta_set(&meta, mode, value, out),
                Err(BadChunk) => (self.bad_chunk_of_meta(&meta, bytes), false),
            },
            Request::MetaDelete(meta) => return self.meta_delete(&meta, out),
            Request::MetaArithmetic { meta, delta } => {
                return self.meta_arithmetic(&meta, delta, out);
            }
            Request::MetaDebug(meta) => return self.meta_debug(&meta, out),
            Request::MetaNoop => (b"MN\r\n", false),
            Request::Stats(StatsKind::Reset) => {
                self.reset_stats();
                (b"RESET\r\n", false)
            }
            Request::Stats(kind) => return self.put_stats(kind, stats::Form::Text, out),
            Request::Verbosity { noreply } => (OK, noreply),
            Request::Shutdown { is_known: false, noreply } if self.may_be_shut_down() => {
                (b"CLIENT_ERROR invalid shutdown mode\r\n", noreply)
            }
            // A conversation has taken one that is carried out.
            Request::Shutdown { noreply, .. } => (b"ERROR: shutdown not enabled\r\n", noreply),
            Request::Version => (VERSION, false),
            Request::Quit => (b"", true),
        };
        if noreply { Ok(()) } else { out.put(answer) }
    }

    fn flush_all(&mut self, delay: i32) {
        self.flush_at(u32::try_from(delay).unwrap_or(0));
    }

    /// Empties the store, at once for 0.
    fn flush_at(&mut self, delay: u32) {
        self.engine.stats_mut().cmd_flush += 1;
        match delay {
            0 => self.engine.flush(),
            _ => self.engine.flush_later(self.second(delay)),
        }
    }

    /// Sets the counters back.
    pub(crate) fn reset_stats(&mut self) {
        *self.engine.stats_mut() = Default::default();
        self.engine.forget_hot_keys();
        self.total_connections = 0;
        (self.over_budget, self.incomplete) = (0, 0);
        (self.logins, self.failed_logins) = (0, 0);
    }

    /// Counts a connection that has come, or gone.
    pub(crate) fn count_connection(&mut self, more: bool) {
        if more {
            self.connections += 1;
            self.total_connections += 1;
        } else {
            self.connections -= 1;
        }
    }

    /// The engine's clock. It starts at 2, so that 1 is past and 0 can mean never.
    #[inline(always)]
    fn clock(&self) -> u32 {
        self.time.uptime.saturating_add(2)
    }

    /// An expiry time of a request.
    pub(crate) fn expiry(&self, exptime: i32) -> Expiry {
        match exptime {
            0 => Expiry::NEVER,
            ..0 => Expiry::at(1),
            _ => Expiry::at(self.second(exptime.unsigned_abs())),
        }
    }

    /// An expiry time of a request of the binary protocol, which has no sign.
    fn expiry_of(&self, exptime: u32) -> Expiry {
        if exptime == 0 { Expiry::NEVER } else { Expiry::at(self.second(exptime)) }
    }

    /// A time of a request, above zero, on the engine's clock.
    fn second(&self, time: u32) -> u32 {
        if time <= MONTH as u32 {
            return self.clock().saturating_add(time);
        }
        let origin = self.time.unix.saturating_sub(u64::from(self.clock()));
        u32::try_from(u64::from(time).saturating_sub(origin)).unwrap_or(u32::MAX)
    }
}

const OK: &[u8] = b"OK\r\n";
pub(crate) const BAD_CHUNK: &[u8] = b"CLIENT_ERROR bad data chunk\r\n";
const OUT_OF_MEMORY: &[u8] = b"SERVER_ERROR out of memory\r\n";
const NOT_A_NUMBER: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
const NOT_FOUND: &[u8] = b"NOT_FOUND\r\n";

/// The text commands' word for an outcome.
pub(crate) fn code(outcome: Stored) -> &'static [u8] {
    match outcome {
        Stored::Stored => b"STORED\r\n",
        Stored::NotStored => b"NOT_STORED\r\n",
        Stored::Exists => b"EXISTS\r\n",
        Stored::NotFound => NOT_FOUND,
        Stored::TooLarge => b"SERVER_ERROR object too large for cache\r\n",
        Stored::OutOfMemory => b"SERVER_ERROR out of memory storing object\r\n",
    }
}
