//! Between a connection and the application: data in order, answers, and what waits for either.

use super::FastTcp;
use super::connection::{App, Entry, State};
use super::pool::{BUFFER, Held, Pool};
use super::seq::Seq;
use super::table::Id;
use crate::net::Endpoint;
use crate::net::stream::{Next, StreamService};

/// A connection that held buffers and moved nothing for so many milliseconds loses them when
/// there are too few.
const STALLED: u32 = 500;
/// How many connections are looked at for one buffer.
const SEARCH: u32 = 64;
/// When to try again for want of a buffer, in milliseconds.
const STARVED_PAUSE: u32 = 20;

/// What came of having the application work.
#[derive(Default)]
pub(super) struct Worked {
    /// Bytes of input it is done with.
    pub(super) consumed: usize,
    /// There was no buffer for its output: it was not asked.
    starved: bool,
    /// It wants what it cannot get.
    stuck: bool,
}

impl<'m, C> FastTcp<'m, C> {
    /// Tells the application of a connection. Returns whether it takes it.
    pub(super) fn open<S: StreamService<Connection = C>>(
        &mut self,
        id: Id,
        peer: Endpoint,
        service: &mut S,
    ) -> bool {
        let Some(connection) = service.open(peer) else { return false };
        let (now, keep_alive) = (self.now, self.limits.keep_alive);
        self.counts.opened += 1;
        if let Some(Entry { tcb, app }) = self.table.get_mut(id) {
            *app = Some(App { connection, wants: Next::Room });
            tcb.life_at.set(now, keep_alive.saturating_mul(1000));
        }
        self.work_on_buffer(id, service);
        true
    }

    /// Data in order has come, from `rcv` on.
    #[inline]
    pub(super) fn deliver<S: StreamService<Connection = C>>(
        &mut self,
        id: Id,
        data: &[u8],
        service: &mut S,
    ) {
        self.provide(id, service);
        let now = self.now;
        let Some(Entry { tcb, app: Some(app) }) = self.table.get_mut(id) else { return };
        if app.wants == Next::Close {
            // It is acknowledged and dropped, so that the peer reads our last answer in peace.
            tcb.rcv += data.len() as u32;
            tcb.received(now);
            return;
        }
        tcb.progress = now;
        let direct = tcb.rx.is_empty() && tcb.beyond.is_empty() && app.wants == Next::Input;
        let worked = if direct {
            work_any(app, &mut tcb.tx, &mut self.pool, data, service)
        } else {
            Worked::default()
        };
        self.keep_rest(id, data, &worked, service);
        if let Some(Entry { app: Some(app), .. }) = self.table.get(id)
            && !direct
            && app.wants == Next::Input
        {
            self.work_on_buffer(id, service);
        }
    }

    /// Keeps what the application has left of `data`, which came in order.
    pub(super) fn keep_rest<S: StreamService<Connection = C>>(
        &mut self,
        id: Id,
        data: &[u8],
        worked: &Worked,
        service: &mut S,
    ) {
        let now = self.now;
        let Some(Entry { tcb, app: Some(app) }) = self.table.get_mut(id) else { return };
        let mut rest = data.get(worked.consumed..).unwrap_or_default();
        tcb.rcv += worked.consumed as u32;
        if app.wants == Next::Close {
            tcb.rcv += rest.len() as u32;
            rest = &[];
        }
        if worked.starved {
            // Not received: the peer sends it again.
            rest = &[];
        }
        if !rest.is_empty() {
            let kept = tcb.beyond.last().map_or(0, |last| last.beyond(tcb.rcv)) as usize;
            let fits = rest.get(..BUFFER - tcb.rx.len()).unwrap_or(rest);
            if tcb.rx.hold(&mut self.pool) && tcb.rx.write_beyond(0, fits, kept) {
                tcb.rx.extend(fits.len());
                tcb.rcv += fits.len() as u32;
                absorb(tcb);
            }
        }
        tcb.received(now);
        if worked.stuck {
            self.abort(id, service);
        }
    }

    /// Keeps data that came before what should come first.
    pub(super) fn keep_beyond(&mut self, id: Id, start: Seq, data: &[u8]) {
        let Some(Entry { tcb, app: Some(app) }) = self.table.get_mut(id) else { return };
        tcb.send_ack = true;
        if app.wants == Next::Close || !tcb.rx.hold(&mut self.pool) {
            return;
        }
        let offset = (start - tcb.rcv) as usize;
        let kept = tcb.beyond.last().map_or(0, |last| last.beyond(tcb.rcv)) as usize;
        let mut ranges = tcb.beyond;
        if ranges.add(start, start + data.len() as u32) && tcb.rx.write_beyond(offset, data, kept) {
            tcb.beyond = ranges;
        }
    }

    /// The peer has taken data, or time has passed: the application may go on.
    #[inline]
    pub(super) fn resume<S: StreamService<Connection = C>>(&mut self, id: Id, service: &mut S) {
        let Some(Entry { app: Some(app), .. }) = self.table.get(id) else { return };
        if app.wants == Next::Room {
            self.work_on_buffer(id, service);
        }
    }

    /// The peer will send nothing more: what is there is all.
    pub(super) fn end_input(&mut self, id: Id) {
        let Some(Entry { tcb, app: Some(app) }) = self.table.get_mut(id) else { return };
        if app.wants == Next::Input && tcb.ended {
            app.wants = Next::Close;
            tcb.rx.release(&mut self.pool);
        }
    }

    /// Has the application work on what was received and kept.
    fn work_on_buffer<S: StreamService<Connection = C>>(&mut self, id: Id, service: &mut S) {
        self.provide(id, service);
        let now = self.now;
        let Some(Entry { tcb, app: Some(app) }) = self.table.get_mut(id) else { return };
        tcb.tx.compact_cheaply();
        let worked = work_any(app, &mut tcb.tx, &mut self.pool, tcb.rx.bytes(), service);
        tcb.rx.consume(worked.consumed);
        if worked.consumed > 0 {
            tcb.progress = now;
        }
        if app.wants == Next::Close {
            tcb.beyond.clear();
        }
        if app.wants == Next::Close || tcb.rx.is_empty() && tcb.beyond.is_empty() {
            tcb.rx.release(&mut self.pool);
        }
        tcb.update_window();
        // All the input that can be kept is there, and it wants more.
        let stuck = app.wants == Next::Input && tcb.rx.len() == BUFFER;
        if worked.starved {
            app.wants = Next::Room;
            tcb.ack_at.ensure(now, STARVED_PAUSE);
        }
        if worked.stuck || stuck {
            return self.abort(id, service);
        }
        self.end_input(id);
        self.make_ready(id);
    }

    /// Sees to it that the connection can have two buffers, at the expense of others if need be.
    #[inline]
    fn provide<S: StreamService<Connection = C>>(&mut self, id: Id, service: &mut S) {
        if self.pool.free() < 2 {
            self.reclaim(id, service);
        }
    }

    /// Takes the buffers of a connection that does nothing with them.
    #[cold]
    fn reclaim<S: StreamService<Connection = C>>(&mut self, but: Id, service: &mut S) {
        for _ in 0..SEARCH.min(self.table.capacity()) {
            self.hand = (self.hand + 1) % self.table.capacity();
            let id = Id(self.hand);
            let Some(Entry { tcb, .. }) = self.table.get(id) else { continue };
            let holds = tcb.rx.is_held() || tcb.tx.is_held();
            if id != but && holds && self.now.wrapping_sub(tcb.progress) >= STALLED {
                self.counts.reclaimed += 1;
                self.abort(id, service);
                if self.pool.free() >= 2 {
                    return;
                }
            }
        }
    }
}

/// What was received before its turn and now continues what is there, joins it.
fn absorb(tcb: &mut super::connection::Tcb<'_>) {
    while let Some(end) = tcb.beyond.end_of(tcb.rcv) {
        let more = end - tcb.rcv;
        tcb.rx.extend(more as usize);
        tcb.rcv = end;
        // A hole was filled (RFC 5681, section 4.2).
        tcb.send_ack = true;
    }
    tcb.beyond.pass(tcb.rcv);
}

/// Has the application work on `input` until it wants what is not there.
#[inline(always)]
pub(super) fn work<'m, S: StreamService>(
    app: &mut App<S::Connection>,
    tx: &mut Held<'m>,
    pool: &mut Pool<'m>,
    input: &[u8],
    service: &mut S,
) -> Worked {
    let mut worked = Worked { consumed: 0, starved: false, stuck: false };
    if !tx.hold(pool) {
        worked.starved = true;
        return worked;
    }
    loop {
        let rest = input.get(worked.consumed..).unwrap_or_default();
        let room = tx.room();
        let (all, most) = (room.len() == BUFFER, room.len());
        let progress = service.serve(&mut app.connection, rest, room);
        worked.consumed += progress.consumed.min(rest.len());
        tx.extend(progress.produced.min(most));
        app.wants = progress.next;
        if progress.next != Next::Room {
            break;
        }
        if tx.compact_cheaply() {
            continue;
        }
        if !tx.is_empty() {
            break;
        }
        if all && progress.consumed == 0 {
            worked.stuck = true;
            break;
        }
    }
    if tx.is_empty() {
        tx.release(pool);
    }
    worked
}

/// The same, where it is not called for every request.
#[inline(never)]
fn work_any<'m, S: StreamService>(
    app: &mut App<S::Connection>,
    tx: &mut Held<'m>,
    pool: &mut Pool<'m>,
    input: &[u8],
    service: &mut S,
) -> Worked {
    work(app, tx, pool, input, service)
}

impl<C> Entry<'_, C> {
    /// Whether nothing more will be written to the connection.
    pub(super) fn is_closing(&self) -> bool {
        self.app.as_ref().is_none_or(|app| app.wants == Next::Close)
            && self.tcb.state != State::SynReceived
    }
}
