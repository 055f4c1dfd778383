//! How a client reaches the store: through its gate, by protected control transfer, or by the post.

use exo_abi::Error;
use libos::gate::{Gate, Value};
use libos::share::Share;
use libos::sys;
use libos::time::timestamp;
use libos::transfer::Remote;

use crate::client::{Call, Client, Failure};
use crate::request::{Message, Reply, Request, Status};
use crate::window::{Post, Window};

/// Which side of a share the store is.
pub const STORE_SIDE: usize = 0;

/// How often to look for a reply before giving way to the store.
const LOOKS: u32 = 64;

/// Ticks of patience with a store that is busy: a guard against hanging.
const PATIENCE: u64 = 1 << 38;

/// The way to the store through a share in which it is the first of two.
#[derive(Debug)]
pub struct Door {
    share: Share,
    gate: Entrance,
    remote: Option<Remote<Message, Message>>,
    post: Post<'static>,
}

/// The way through the gate.
#[derive(Debug)]
enum Entrance {
    /// Not looked for yet.
    Unknown,
    Open(Gate),
    /// There is none: processors have no keys, or the manifest grants none to one of the two.
    Closed,
}

impl Door {
    /// A client of the store through `share`. The store need not serve yet. It enters the store through
    /// its gate if the manifest grants both "keys", and then trusts it with all that it has.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the share is too small.
    pub fn open(share: Share) -> Result<Client<'static, Self>, Error> {
        Self::open_with(share, Entrance::Unknown)
    }

    /// The same by protected control transfer alone.
    ///
    /// # Errors
    /// As [`Door::open`].
    pub fn open_by_transfer(share: Share) -> Result<Client<'static, Self>, Error> {
        Self::open_with(share, Entrance::Closed)
    }

    fn open_with(share: Share, gate: Entrance) -> Result<Client<'static, Self>, Error> {
        let Window { post, bytes } = Window::new(share.words()).ok_or(Error::OutOfRange)?;
        Ok(Client::new(Self { share, gate, remote: None, post }, bytes))
    }

    /// The gate, if there is one.
    #[inline]
    fn gate(&mut self) -> Option<&mut Gate> {
        if let Entrance::Unknown = self.gate {
            self.look_for_gate();
        }
        match &mut self.gate {
            Entrance::Open(gate) => Some(gate),
            _ => None,
        }
    }

    /// Goes in by the gate with what is no request, and comes out again: what that alone takes. False if
    /// there is no gate.
    #[inline]
    pub fn knock(&mut self) -> bool {
        let visited = self.gate().map(|gate| gate.visit([0; 3], &[], Value::Read(&[])));
        visited.is_some()
    }

    #[cold]
    #[inline(never)]
    fn look_for_gate(&mut self) {
        if self.share.entry(STORE_SIDE).is_none() {
            return; // It does not serve yet.
        }
        self.gate = match Gate::join(&self.share, STORE_SIDE) {
            Ok(Some(gate)) => Entrance::Open(gate),
            _ => Entrance::Closed,
        };
    }

    /// Leaves the request for the store, and looks for the reply some times. `None` if the store
    /// does not look either.
    fn leave(&self, request: &Message) -> Option<Message> {
        self.post.leave(request);
        for _ in 0..LOOKS {
            core::hint::spin_loop();
            if let Some(reply) = self.post.collect() {
                return Some(reply);
            }
        }
        loop {
            // It cannot be refused.
            let _ = sys::slice_yield();
            if self.post.withdraw() {
                return None;
            }
            // The store has it: it is being carried out, or it is answered.
            if let Some(reply) = self.post.collect() {
                return Some(reply);
            }
        }
    }

    /// What is to be done about a store that is busy.
    #[cold]
    #[inline(never)]
    fn insist(&mut self, request: &Message) -> Result<Message, Failure> {
        let end = timestamp().saturating_add(PATIENCE);
        while timestamp() < end {
            if let Some(reply) = self.leave(request) {
                return Ok(reply);
            }
            if let Some(reply) = self.transfer(request)? {
                return Ok(reply);
            }
        }
        Err(Failure::Busy)
    }

    /// Calls the store. `None` if it is busy, or has no entry yet.
    #[inline]
    fn transfer(&mut self, request: &Message) -> Result<Option<Message>, Failure> {
        const BUSY: u64 = Status::Busy as u64;
        if self.remote.is_none() {
            self.remote = self.share.remote(STORE_SIDE);
        }
        let Some(remote) = &self.remote else { return Ok(None) };
        match remote.call(*request) {
            Ok([BUSY, ..]) | Err(Error::Busy) => Ok(None),
            Ok(reply) => Ok(Some(reply)),
            Err(error) => Err(Failure::Refused(error)),
        }
    }
}

impl Call for Door {
    #[inline]
    fn call(&mut self, request: &Message) -> Result<Message, Failure> {
        match self.transfer(request)? {
            Some(reply) => Ok(reply),
            None => self.insist(request),
        }
    }

    #[inline]
    fn call_directly(
        &mut self,
        request: &Request,
        key: &[u8],
        value: &[u8],
        room: &mut [u8],
    ) -> Option<Result<Reply, Failure>> {
        let gate = self.gate()?;
        let [head, times, number, ..] = request.pack();
        let stores = request.operation.stores();
        let value = if stores { Value::Read(value) } else { Value::Write(room) };
        let answer = gate.visit([head, times, number], key, value);
        match Reply::unpack_short([answer.0, answer.1]) {
            // Something else is in the middle of it: a request that is left gets its turn.
            Some(Reply { status: Status::Busy, .. }) => None,
            reply => Some(reply.ok_or(Failure::Reply)),
        }
    }

    #[inline]
    fn is_direct(&mut self) -> bool {
        self.gate().is_some()
    }
}
