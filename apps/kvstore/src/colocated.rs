//! Clients on the same machine, which call the store by protected control transfer.
//!
//! The manifest names them: each share that the store has with one other application, in which it
//! is the first, is a client's window. The store makes one entry point and marks the capability
//! for it with the client's number, so that a client can only ever have its own window looked at.
//! A call runs on the client's time, in the store's address space, while the store's own activity
//! rests. If that rests in the middle of a batch the client is told so, and leaves its request in
//! the window: it is carried out before the next batch.
//!
//! A store whose answers are durable has no such clients: an answer would have to wait for the
//! device, which a call cannot.

use alloc::vec::Vec;

use exo_abi::{Error, FRAME_BYTES, Handle, Pages, Word};
use kvstore::{Service, Time, local};
use kvstore_local::{Message, Reply, Status, Window};
use libos::gate::lock::Number;
use libos::gate::shared::Shared;
use libos::gate::{self, Domain, JOIN, Mapped};
use libos::lend::Lent;
use libos::runtime::Environment;
use libos::share::Share;
use libos::{entry_point, println, sys, transfer};

use crate::gated::Common;
use crate::guest::Failure;

/// Which side of a share the store is.
const SIDE: usize = 0;
/// The entry point.
const ENTRY: u32 = 0;
/// Pages of the stack that calls are served on.
const STACK: Pages = 8;

/// The store, for calls.
pub(crate) static STORE: Lent<Visit> = Lent::new();

/// A call.
pub(crate) struct Visit {
    /// Which client, from 1.
    badge: u64,
    /// What it asks for, and then the reply.
    message: Message,
}

/// The clients.
pub(crate) struct Clients {
    /// What is mapped for those that take part in protection keys.
    pub(crate) domain: Option<Domain>,
    pub(crate) windows: Windows,
}

/// What clients have in common with the store.
pub(crate) struct Windows {
    each: Vec<Window<'static>>,
    /// Room for as much as the largest of them.
    scratch: &'static mut [u8],
}

entry_point!(
    /// Where calls arrive.
    arrive => visit
);

extern "C" fn visit(badge: u64, _: u64, message: &mut Message) {
    let mut visit = Visit { badge, message: *message };
    if !STORE.visit(&mut visit) {
        visit.message = match message[0] {
            JOIN => Mapped::pack(Ok(Mapped::Later)),
            _ => Reply::of(Status::Busy).pack(),
        };
    }
    *message = visit.message;
}

impl Clients {
    /// Those that the manifest names; they can call from now on.
    pub(crate) fn open(environment: &Environment, domain: Option<Domain>) -> Result<Self, Failure> {
        let shares: Vec<Share> = shares(environment).collect();
        if shares.is_empty() {
            return Ok(Self { domain, windows: Windows::none() });
        }
        let windows = shares.iter().map(|share| Window::new(share.words()));
        let each = windows.collect::<Option<_>>().ok_or(Failure::Entry(Error::OutOfRange))?;
        let scratch = environment.memory.map_region(scratch(environment))?;
        let stack = environment.memory.map_region(STACK)?;
        let top = stack.as_ptr_range().end.expose_provenance() as u64;
        // SAFETY: the region is used by nothing else, and is never unmapped.
        let entry = unsafe { transfer::offer(ENTRY, arrive, top) };
        let entry = entry.map_err(Failure::Entry)?;
        for (share, badge) in shares.iter().zip(1..) {
            let marked = sys::cap_badge(entry, badge).and_then(Handle::from_word);
            marked.and_then(|marked| share.offer(marked)).map_err(Failure::Entry)?;
            println!("called by the other side of \"{}\"", share.name());
        }
        Ok(Self { domain, windows: Windows { each, scratch } })
    }

    /// None, and says so if the manifest names some.
    pub(crate) fn none(environment: &Environment) -> Self {
        if are_there(environment) {
            println!("a durable store is not called: clients use the network");
        }
        Self { domain: None, windows: Windows::none() }
    }

    /// Carries out what a call asks for.
    #[inline]
    pub(crate) fn serve(&mut self, visit: &mut Visit, common: &mut Shared<Common>) {
        let client = (visit.badge as usize).checked_sub(1);
        let Some(window) = client.and_then(|client| self.windows.each.get(client)) else {
            visit.message = Reply::of(Status::BadRequest).pack();
            return;
        };
        if visit.message[0] == JOIN {
            let reply = self.join(visit);
            visit.message = reply.unwrap_or_else(|| Reply::of(Status::BadRequest).pack());
            return;
        }
        let (message, scratch) = (&visit.message, &mut *self.windows.scratch);
        // A client behind the gate may have the lock: then it gets this client's time to give it back.
        let domain = self.domain.as_ref();
        let wait = |number| domain.is_none_or(|domain| domain.wait_for(number));
        visit.message = common.hold(wait, Common::mend, |Common { service, time, .. }| {
            local::serve(service, time.look(), message, window.bytes, scratch)
        });
    }

    /// Maps some of the domain for a client, if that is what it asks for.
    #[cold]
    fn join(&mut self, visit: &Visit) -> Option<Message> {
        self.domain.as_mut()?.join(Number(visit.badge), &visit.message)
    }
}

impl Windows {
    fn none() -> Self {
        Self { each: Vec::new(), scratch: &mut [] }
    }

    /// Carries out the requests that clients have left, one of each.
    #[inline]
    pub(crate) fn serve_post(&mut self, service: &mut Service<'_>, now: Time) {
        if !self.each.is_empty() {
            self.serve_each(service, now);
        }
    }

    /// (Not within the loop of the network, which has few registers to spare.)
    #[inline(never)]
    fn serve_each(&mut self, service: &mut Service<'_>, now: Time) {
        for window in &self.each {
            if let Some(request) = window.post.take() {
                let reply = local::serve(service, now, &request, window.bytes, self.scratch);
                window.post.answer(&reply);
            }
        }
    }
}

/// Whether the manifest names any.
pub(crate) fn are_there(environment: &Environment) -> bool {
    shares(environment).next().is_some()
}

/// Pages that serving them takes.
pub(crate) fn pages(environment: &Environment) -> Pages {
    match sizes(environment) {
        None => 0,
        // And tables for both; for those behind the gate a stack, a ticket, and as much again.
        Some((clients, scratch)) => {
            scratch + STACK + 4 + clients * (scratch + gate::STACK_PAGES + 1) + 4
        }
    }
}

/// How many there are, and pages for what a window holds. `None` if there are none.
pub(crate) fn sizes(environment: &Environment) -> Option<(u32, Pages)> {
    let clients = shares(environment).count() as u32;
    (clients > 0).then(|| (clients, scratch(environment)))
}

/// Pages of the room for what a window holds.
fn scratch(environment: &Environment) -> Pages {
    let longest = shares(environment).map(|share| size_of_val(share.words())).max().unwrap_or(0);
    longest.div_ceil(FRAME_BYTES as usize) as Pages
}

fn shares(environment: &Environment) -> impl Iterator<Item = Share> {
    environment.shares().filter(|share| share.side() == SIDE && share.sides() == 2)
}
