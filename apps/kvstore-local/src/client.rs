//! The store's operations, as a client on the same machine calls them.
//!
//! Results are those of memcached's text protocol, without the text. Each operation is one call
//! of the store, and [`Client::get_many`] one for as many keys as the window has room for.

use core::fmt;

use exo_abi::Error;
use libos::memory::shared::SharedBytes;

use crate::request::{Message, Operation, Reply, Request, Status};
use crate::window::{FoundHead, VALUE_AT};

/// The way to the store: takes a request there and brings the reply.
pub trait Call {
    /// Carries out a request. Its key and value lie in the window.
    ///
    /// # Errors
    /// [`Failure::Busy`], [`Failure::Refused`].
    fn call(&mut self, request: &Message) -> Result<Message, Failure>;

    /// The same without the window: key and value are read where they are, and the value that is found is written to
    /// `room`. `None` if there is no such way, or not now.
    #[inline(always)]
    fn call_directly(
        &mut self,
        _request: &Request,
        _key: &[u8],
        _value: &[u8],
        _room: &mut [u8],
    ) -> Option<Result<Reply, Failure>> {
        None
    }

    /// Whether there is such a way.
    #[inline(always)]
    fn is_direct(&mut self) -> bool {
        false
    }
}

/// Why an operation has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// That is no key: 1 to 250 bytes, none of them a blank.
    Key,
    /// Larger than any item may be, than the window, or than the buffer.
    TooLarge,
    /// The store found no memory for it.
    OutOfMemory,
    /// The value is no number.
    NotANumber,
    /// The store was busy for too long.
    Busy,
    /// The kernel refused the call: the store has ended, or the client may not call it any more.
    Refused(Error),
    /// What the store replied makes no sense.
    Reply,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("no key"),
            Self::TooLarge => f.write_str("too large"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::NotANumber => f.write_str("not a number"),
            Self::Busy => f.write_str("the store is busy"),
            Self::Refused(error) => error.fmt(f),
            Self::Reply => f.write_str("no reply of the store"),
        }
    }
}

impl core::error::Error for Failure {}

/// An item that was found; its value is in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Bytes of the value.
    pub len: usize,
    /// Flags of the item.
    pub flags: u32,
    /// Its CAS id.
    pub cas: u64,
}

/// What became of an item that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    Stored,
    /// The condition of `add`, `replace`, `append` or `prepend` was not met.
    NotStored,
    /// `cas`: the item has changed.
    Exists,
    /// `cas`: there is no such item.
    NotFound,
}

/// The store, called over `C`.
#[derive(Debug)]
pub struct Client<'a, C> {
    way: C,
    bytes: SharedBytes<'a>,
}

impl<'a, C: Call> Client<'a, C> {
    /// A client with the window `bytes`.
    pub fn new(way: C, bytes: SharedBytes<'a>) -> Self {
        Self { way, bytes }
    }

    /// The way to the store.
    pub fn way(&mut self) -> &mut C {
        &mut self.way
    }

    /// The item with this key, its value at the beginning of `buffer`.
    ///
    /// # Errors
    /// [`Failure::TooLarge`] if the value does not fit; and the others of [`Failure`].
    #[inline]
    pub fn get(&mut self, key: &[u8], buffer: &mut [u8]) -> Result<Option<Found>, Failure> {
        let request = Request::plain(Operation::Get, key, (0, 0))?;
        let reply = match self.way.call_directly(&request, key, &[], buffer) {
            Some(reply) => reply?,
            None => {
                let reply = self.ask_with(key, request)?;
                if reply.status == Status::Done {
                    let room = buffer.get_mut(..reply.value_len as usize);
                    let value = room.ok_or(Failure::TooLarge)?;
                    self.bytes.read(VALUE_AT, value).ok_or(Failure::Reply)?;
                }
                reply
            }
        };
        let len = reply.value_len as usize;
        match reply.status {
            Status::Done if len > buffer.len() => Err(Failure::Reply),
            Status::Done => Ok(Some(Found { len, flags: reply.flags, cas: reply.number })),
            Status::NotFound => Ok(None),
            other => Err(failure(other)),
        }
    }

    /// Looks up all of `keys`: calls `take` with the place of each among `keys` and, if there is
    /// such an item, what it is and its value, which lies in `buffer`.
    ///
    /// # Errors
    /// As for [`Client::get`]; `take` was called for those before the one that failed.
    pub fn get_many(
        &mut self,
        keys: &[&[u8]],
        buffer: &mut [u8],
        mut take: impl FnMut(usize, Option<(Found, &[u8])>),
    ) -> Result<(), Failure> {
        if self.way.is_direct() {
            for (index, key) in keys.iter().enumerate() {
                let found = self.get(key, buffer)?;
                take(
                    index,
                    found.map(|found| (found, buffer.get(..found.len).unwrap_or_default())),
                );
            }
            return Ok(());
        }
        let mut done = 0;
        while let Some(rest) = keys.get(done..).filter(|rest| !rest.is_empty()) {
            let list = self.write_list(rest)?;
            let request = Request {
                operation: Operation::GetMany,
                key_len: 0,
                value_len: list as u32,
                flags: 0,
                exptime: 0,
                number: 0,
            };
            let reply = self.exchange(request)?;
            if reply.status != Status::Done {
                return Err(failure(reply.status));
            }
            let answered = (reply.number as usize).min(rest.len());
            if answered == 0 {
                return Err(Failure::TooLarge);
            }
            let mut at = 0;
            for _ in 0..answered {
                let mut head = [0; FoundHead::BYTES];
                self.bytes.read(at, &mut head).ok_or(Failure::Reply)?;
                let head = FoundHead::from_bytes(&head);
                let found = match head.value_len {
                    None => None,
                    Some(len) => {
                        let len = len as usize;
                        let value = buffer.get_mut(..len).ok_or(Failure::TooLarge)?;
                        self.bytes.read(at + FoundHead::BYTES, value).ok_or(Failure::Reply)?;
                        Some((Found { len, flags: head.flags, cas: head.cas }, &*value))
                    }
                };
                take(done, found);
                done += 1;
                at = head.end(at);
            }
        }
        Ok(())
    }

    /// Stores an item.
    ///
    /// # Errors
    /// [`Failure`].
    #[inline]
    pub fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        flags: u32,
        exptime: i32,
    ) -> Result<(), Failure> {
        self.store(Operation::Set, key, value, (flags, exptime)).map(drop)
    }

    /// Stores an item if the one there has this CAS id, which [`Client::get`] told.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn cas(
        &mut self,
        key: &[u8],
        value: &[u8],
        meta: (u32, i32),
        cas: u64,
    ) -> Result<Stored, Failure> {
        self.put(Operation::Cas, key, value, meta, cas)
    }

    /// Stores an item as `operation` says: `Set`, `Add`, `Replace`, `Append` or `Prepend`.
    ///
    /// # Errors
    /// [`Failure`].
    #[inline]
    pub fn store(
        &mut self,
        operation: Operation,
        key: &[u8],
        value: &[u8],
        meta: (u32, i32),
    ) -> Result<Stored, Failure> {
        self.put(operation, key, value, meta, 0)
    }

    /// Removes an item. Whether there was one.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, Failure> {
        self.ask(Operation::Delete, key, (0, 0)).and_then(was_there)
    }

    /// Gives an item another expiry time. Whether there was one.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn touch(&mut self, key: &[u8], exptime: i32) -> Result<bool, Failure> {
        self.ask(Operation::Touch, key, (exptime, 0)).and_then(was_there)
    }

    /// Adds to the number an item holds, and returns the result; `None` if there is no item.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn incr(&mut self, key: &[u8], by: u64) -> Result<Option<u64>, Failure> {
        self.ask(Operation::Incr, key, (0, by)).and_then(number)
    }

    /// Subtracts from it, not below zero.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn decr(&mut self, key: &[u8], by: u64) -> Result<Option<u64>, Failure> {
        self.ask(Operation::Decr, key, (0, by)).and_then(number)
    }

    #[inline]
    fn put(
        &mut self,
        operation: Operation,
        key: &[u8],
        value: &[u8],
        (flags, exptime): (u32, i32),
        number: u64,
    ) -> Result<Stored, Failure> {
        let value_len = u32::try_from(value.len()).map_err(|_| Failure::TooLarge)?;
        let plain = Request::plain(operation, key, (exptime, number))?;
        let request = Request { value_len, flags, ..plain };
        if let Some(reply) = self.way.call_directly(&request, key, value, &mut []) {
            return reply.and_then(stored);
        }
        self.bytes.write(VALUE_AT, value).ok_or(Failure::TooLarge)?;
        self.ask_with(key, request).and_then(stored)
    }

    /// Writes as many of `keys` as there is room for; returns how many bytes they take.
    fn write_list(&self, keys: &[&[u8]]) -> Result<usize, Failure> {
        let mut at = 0;
        for key in keys {
            let len = u8::try_from(key.len()).map_err(|_| Failure::Key)?;
            if VALUE_AT + at + 1 + key.len() > self.bytes.len() {
                break;
            }
            self.bytes.write(VALUE_AT + at, &[len]).ok_or(Failure::TooLarge)?;
            self.bytes.write(VALUE_AT + at + 1, key).ok_or(Failure::TooLarge)?;
            at += 1 + key.len();
        }
        Ok(at)
    }

    #[inline]
    fn ask(
        &mut self,
        operation: Operation,
        key: &[u8],
        meta: (i32, u64),
    ) -> Result<Reply, Failure> {
        let request = Request::plain(operation, key, meta)?;
        match self.way.call_directly(&request, key, &[], &mut []) {
            Some(reply) => reply,
            None => self.ask_with(key, request),
        }
    }

    /// The reply to `request` for `key`, by the window.
    #[inline]
    fn ask_with(&mut self, key: &[u8], request: Request) -> Result<Reply, Failure> {
        self.bytes.write(0, key).ok_or(Failure::Key)?;
        self.exchange(request)
    }

    #[inline]
    fn exchange(&mut self, request: Request) -> Result<Reply, Failure> {
        let reply = self.way.call(&request.pack())?;
        Reply::unpack(&reply).ok_or(Failure::Reply)
    }
}

impl Request {
    /// One without a value.
    #[inline]
    fn plain(
        operation: Operation,
        key: &[u8],
        (exptime, number): (i32, u64),
    ) -> Result<Self, Failure> {
        let key_len = u8::try_from(key.len()).map_err(|_| Failure::Key)?;
        Ok(Self { operation, key_len, value_len: 0, flags: 0, exptime, number })
    }
}

fn stored(reply: Reply) -> Result<Stored, Failure> {
    match reply.status {
        Status::Done => Ok(Stored::Stored),
        Status::NotStored => Ok(Stored::NotStored),
        Status::Exists => Ok(Stored::Exists),
        Status::NotFound => Ok(Stored::NotFound),
        other => Err(failure(other)),
    }
}

fn was_there(reply: Reply) -> Result<bool, Failure> {
    match reply.status {
        Status::Done => Ok(true),
        Status::NotFound => Ok(false),
        other => Err(failure(other)),
    }
}

fn number(reply: Reply) -> Result<Option<u64>, Failure> {
    match reply.status {
        Status::Done => Ok(Some(reply.number)),
        Status::NotFound => Ok(None),
        other => Err(failure(other)),
    }
}

#[cold]
fn failure(status: Status) -> Failure {
    match status {
        Status::BadKey => Failure::Key,
        Status::TooLarge => Failure::TooLarge,
        Status::OutOfMemory => Failure::OutOfMemory,
        Status::NotANumber => Failure::NotANumber,
        Status::Busy => Failure::Busy,
        Status::Done
        | Status::NotFound
        | Status::NotStored
        | Status::Exists
        | Status::BadRequest => Failure::Reply,
    }
}
