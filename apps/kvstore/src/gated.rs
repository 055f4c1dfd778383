//! Clients on the same machine that enter the store through its gate, behind a protection key.
//!
//! [`serve`] stands behind the gate: it is the store's code, on the client's time and in the
//! client's address space. Key and value are copied to memory of the store's before anything is locked,
//! and a value that was found is copied out after that: so a client that passes a wild pointer ends
//! without the lock. Under it the operation is the one of the other ways ([`kvstore::local`]).
//!
//! Place among the steps of a packet's journey: instead of 1 to 6, as [`crate::colocated`].

use core::ptr::NonNull;

use exo_abi::Pages;
use kvstore::local::Copied;
use kvstore::users::Users;
use kvstore::{Config, Service, SetupError, Time};
use kvstore_local::window::VALUE_AT;
use kvstore_local::{Operation, Reply, Request, Status};
use libos::gate::lock::Number;
use libos::gate::{Answer, Domain, Inside};
use libos::memory::MemoryError;
use libos::memory::shared::copy_to;
use libos::println;
use libos::runtime::Environment;
use libos::time::{Clock, TscClock, timestamp};

/// What all ways to the store share.
pub(crate) struct Common {
    pub(crate) service: Service<'static>,
    pub(crate) time: Seconds,
    /// What the service was made of.
    memory: NonNull<[u8]>,
    terms: Terms,
}

/// What the manifest says of the service.
pub(crate) struct Terms {
    pub(crate) config: Config,
    /// Those that are served, if not all.
    pub(crate) users: Option<Users<'static>>,
    /// Whether a client may end it.
    pub(crate) shutdown: bool,
}

impl Common {
    /// An empty store in `memory`.
    pub(crate) fn new(
        memory: &'static mut [u8],
        terms: Terms,
        time: Seconds,
    ) -> Result<Self, SetupError> {
        let mut whole = NonNull::from(memory);
        // SAFETY: given for good, and used by the service alone.
        let service = serving(unsafe { whole.as_mut() }, &terms)?;
        Ok(Self { service, time, memory: whole, terms })
    }

    /// The client with this number has ended with the lock, in the middle of an operation that no code
    /// will end: nothing of what it worked with is trusted. The store starts again, empty.
    ///
    /// It does not come to that while `env_destroy` lets a client leave the gate and the store's own code
    /// has no exception there.
    #[cold]
    pub(crate) fn mend(&mut self, number: Number) {
        println!("client {} ended in the middle of an operation: all items are gone", number.0);
        // SAFETY: nothing but the service refers to it, and that is never used again.
        let memory = unsafe { self.memory.as_mut() };
        // (It was made so before.)
        if let Ok(service) = serving(memory, &self.terms) {
            self.service = service;
        }
    }
}

fn serving(memory: &'static mut [u8], terms: &Terms) -> Result<Service<'static>, SetupError> {
    let mut service = Service::new(memory, &terms.config)?;
    if let Some(users) = terms.users {
        service.require(users);
    }
    if terms.shutdown {
        service.allow_shutdown();
    }
    Ok(service)
}

/// What time it is.
pub(crate) struct Seconds {
    pub(crate) now: Time,
    start: u64,
    epoch: u64,
    /// Ticks of a second.
    hz: u64,
    /// The tick with which the second ends.
    end: u64,
}

impl Seconds {
    pub(crate) fn new(clock: TscClock) -> Self {
        let now = Time { unix: clock.unix_seconds(), uptime: 0 };
        let (epoch, hz) = (clock.epoch_seconds(), clock.frequency().get());
        Self { now, start: now.unix, epoch, hz, end: 0 }
    }

    /// It is so many seconds after the boot, or later.
    fn advance(&mut self, seconds: u64) {
        let unix = self.epoch.saturating_add(seconds).max(self.now.unix);
        self.now = Time { unix, uptime: unix.saturating_sub(self.start) as u32 };
    }

    /// It is so many microseconds after the boot.
    #[inline]
    pub(crate) fn set(&mut self, micros: u64) {
        self.advance(micros / 1_000_000);
    }

    /// Looks at the counter, and at nothing that is not the store's. **Cost** that, but for
    /// once in a second.
    #[inline]
    pub(crate) fn look(&mut self) -> Time {
        let tick = timestamp();
        if tick >= self.end {
            let seconds = tick / self.hz;
            self.advance(seconds);
            self.end = (seconds + 1).saturating_mul(self.hz);
        }
        self.now
    }
}

/// The domain of a store with `pages` of memory for `clients`, whose requests and values are of `room` pages at
/// most. `None` if there can be none.
pub(crate) fn domain(
    environment: &Environment,
    pages: Pages,
    (clients, room): (u32, Pages),
) -> Result<Option<(Domain, &'static mut [u8])>, MemoryError> {
    // SAFETY: `serve` uses what it is given, its ticket and what is shared; no variables, no heap, no calls.
    unsafe { Domain::new(environment, (pages, room, clients), serve) }
}

/// Behind the gate. Everything that it is given may be anything.
unsafe extern "C" fn serve(
    head: u64,
    times: u64,
    number: u64,
    key_at: u64,
    value_at: u64,
    lens: u64,
) -> Answer {
    // SAFETY: this is the serving function, and its beginning.
    let inside = unsafe { Inside::here() };
    let request = Request::unpack(&[head, times, number, 0, 0, 0]);
    let reply = request.map_or(Err(Status::BadRequest), |request| {
        visit(inside, &request, key_at, (value_at, (lens >> 32) as u32))
    });
    let [head, number] = reply.unwrap_or_else(Reply::of).pack_short();
    Answer(head, number)
}

#[inline(always)]
fn visit(
    inside: Inside,
    request: &Request,
    key_at: u64,
    (value_at, room): (u64, u32),
) -> Result<Reply, Status> {
    // SAFETY: the type that the store has published.
    let shared = unsafe { inside.shared::<Common>() };
    let mut shared = shared.ok_or(Status::Busy)?;
    // SAFETY: the client's own memory, which nothing else uses while this runs on its time.
    let key = unsafe { Inside::foreign(key_at, request.key_len.into()) };
    let key = key.ok_or(Status::BadRequest)?;
    if request.operation == Operation::Get {
        let (copy, value) =
            inside.scratch.split_at_mut_checked(VALUE_AT).ok_or(Status::BadRequest)?;
        let copied = Copied::read(request, (key, None), copy)?;
        let reply = shared
            .try_hold(|Common { service, time, .. }| {
                copied.carry_out(service, time.look(), |found| copy_to(value, found))
            })
            .map_err(|_| Status::Busy)??;
        let found = value.get(..reply.value_len as usize).unwrap_or_default();
        // SAFETY: as the key.
        let place = unsafe { Inside::foreign(value_at, room) }.ok_or(Status::BadRequest)?;
        place.write(0, found).ok_or(Status::TooLarge)?;
        return Ok(reply);
    }
    // SAFETY: as the key.
    let value = unsafe { Inside::foreign(value_at, request.value_len.min(room)) };
    let copied = Copied::read(request, (key, value), inside.scratch)?;
    let held = shared.try_hold(|Common { service, time, .. }| {
        copied.carry_out(service, time.look(), |_| Some(()))
    });
    held.map_err(|_| Status::Busy)?
}
