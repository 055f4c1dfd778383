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
use libos::lend::Lent;
use libos::runtime::Environment;
use libos::share::Share;
use libos::{entry_point, println, sys, transfer};

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
    windows: Vec<Window<'static>>,
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
        visit.message = Reply::of(Status::Busy).pack();
    }
    *message = visit.message;
}

impl Clients {
    /// Those that the manifest names; they can call from now on.
    pub(crate) fn open(environment: &Environment) -> Result<Self, Failure> {
        let shares: Vec<Share> = shares(environment).collect();
        if shares.is_empty() {
            return Ok(Self { windows: Vec::new(), scratch: &mut [] });
        }
        let windows = shares.iter().map(|share| Window::new(share.words()));
        let windows = windows.collect::<Option<_>>().ok_or(Failure::Entry(Error::OutOfRange))?;
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
        Ok(Self { windows, scratch })
    }

    /// None, and says so if the manifest names some.
    pub(crate) fn none(environment: &Environment) -> Self {
        if are_there(environment) {
            println!("a durable store is not called: clients use the network");
        }
        Self { windows: Vec::new(), scratch: &mut [] }
    }

    /// Carries out what a call asks for.
    #[inline]
    pub(crate) fn serve(&mut self, visit: &mut Visit, service: &mut Service<'_>, now: Time) {
        let client = (visit.badge as usize).checked_sub(1);
        visit.message = match client.and_then(|client| self.windows.get(client)) {
            Some(window) => local::serve(service, now, &visit.message, window.bytes, self.scratch),
            None => Reply::of(Status::BadRequest).pack(),
        };
    }

    /// Carries out the requests that clients have left, one of each.
    #[inline]
    pub(crate) fn serve_post(&mut self, service: &mut Service<'_>, now: Time) {
        for window in &self.windows {
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
    match scratch(environment) {
        0 => 0,
        // And tables for both.
        scratch => scratch + STACK + 4,
    }
}

/// Pages of the room for what a window holds.
fn scratch(environment: &Environment) -> Pages {
    let longest = shares(environment).map(|share| size_of_val(share.words())).max().unwrap_or(0);
    longest.div_ceil(FRAME_BYTES as usize) as Pages
}

fn shares(environment: &Environment) -> impl Iterator<Item = Share> {
    environment.shares().filter(|share| share.side() == SIDE && share.sides() == 2)
}
