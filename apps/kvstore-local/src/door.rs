//! How a client reaches the store: by protected control transfer, or by the post.

use exo_abi::Error;
use libos::share::Share;
use libos::sys;
use libos::time::timestamp;
use libos::transfer::Remote;

use crate::client::{Call, Client, Failure};
use crate::request::{Message, Status};
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
    remote: Option<Remote<Message, Message>>,
    post: Post<'static>,
}

impl Door {
    /// A client of the store through `share`. The store need not serve yet.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if the share is too small.
    pub fn open(share: Share) -> Result<Client<'static, Self>, Error> {
        let Window { post, bytes } = Window::new(share.words()).ok_or(Error::OutOfRange)?;
        Ok(Client::new(Self { share, remote: None, post }, bytes))
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
}
