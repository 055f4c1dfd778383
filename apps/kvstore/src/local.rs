//! The store's operations for environments of the same machine, which call them instead of
//! sending packets.
//!
//! In place of steps 1 to 6 of a packet's journey: the client's registers say what is to be done,
//! key and value lie in pages that it shares with the store. `kvstore_local` defines both, and is
//! linked by the client, too.
//!
//! **Trust.** Registers and pages may hold anything, and the pages may change at any time. Key and
//! value are copied to memory of the store's own, once, and only the copy is looked at. Lengths are
//! compared with the window's before anything is copied.
//!
//! **Cost.** As the operation's, and two copies of the value stored, one of the value found. A call
//! is bounded by the size of the window, and looks up [`MOST_KEYS`] keys at most.

use kvstore_local::request::{Message, Operation, Reply, Request, Status};
use kvstore_local::window::{FoundHead, LONGEST_LIST, MOST_KEYS, VALUE_AT};
use libos::memory::shared::SharedBytes;

use crate::engine::{Delta, DeltaError, Key, Mode, Stored, Value};
use crate::{Service, Time};

/// Carries out what `message` asks for, with the key and the value in `window`, which only its
/// client and the store have. `scratch` has room for as much as the window.
#[inline]
pub fn serve(
    service: &mut Service<'_>,
    now: Time,
    message: &Message,
    window: SharedBytes<'_>,
    scratch: &mut [u8],
) -> Message {
    service.begin(now);
    let mut visit = Visit { service, window, scratch };
    Request::unpack(message)
        .map_or(Err(Status::BadRequest), |request| visit.carry_out(&request))
        .unwrap_or_else(Reply::of)
        .pack()
}

struct Visit<'v, 'm> {
    service: &'v mut Service<'m>,
    window: SharedBytes<'v>,
    scratch: &'v mut [u8],
}

impl Visit<'_, '_> {
    #[inline]
    fn carry_out(&mut self, request: &Request) -> Result<Reply, Status> {
        match request.operation {
            Operation::Get => self.get(request),
            Operation::GetMany => self.get_many(request),
            Operation::Set => self.store(request, Mode::Set),
            Operation::Add => self.store(request, Mode::Add),
            Operation::Replace => self.store(request, Mode::Replace),
            Operation::Append => self.store(request, Mode::Append),
            Operation::Prepend => self.store(request, Mode::Prepend),
            Operation::Cas => self.store(request, Mode::Cas(request.number)),
            Operation::Delete => self.delete(request),
            Operation::Incr => self.change(request, Delta::Up(request.number)),
            Operation::Decr => self.change(request, Delta::Down(request.number)),
            Operation::Touch => self.touch(request),
        }
    }

    #[inline]
    fn get(&mut self, request: &Request) -> Result<Reply, Status> {
        let key = copy_key(self.window, request, self.scratch)?;
        let value = self.service.engine_mut().get(key).ok_or(Status::NotFound)?;
        let bytes = value.bytes();
        self.window.write(VALUE_AT, bytes).ok_or(Status::TooLarge)?;
        Ok(Reply {
            status: Status::Done,
            value_len: bytes.len() as u32,
            flags: value.flags(key),
            number: value.cas(),
        })
    }

    /// The first value that does not fit any more ends it: the reply says how many keys were
    /// answered.
    fn get_many(&mut self, request: &Request) -> Result<Reply, Status> {
        let len = (request.value_len as usize).min(LONGEST_LIST);
        let list = self.scratch.get_mut(..len).ok_or(Status::BadRequest)?;
        self.window.read(VALUE_AT, list).ok_or(Status::BadRequest)?;
        let (mut rest, mut at, mut answered) = (&*list, 0, 0);
        while let Some((&len, after)) = rest.split_first().filter(|_| answered < MOST_KEYS as u64) {
            let (key, after) = after.split_at_checked(len.into()).ok_or(Status::BadRequest)?;
            let key = Key::new(key).ok_or(Status::BadKey)?;
            rest = after;
            let found = self.service.engine_mut().get(key);
            let value = found.as_ref().map(Value::bytes);
            let head = FoundHead {
                value_len: value.map(|value| value.len() as u32),
                flags: found.as_ref().map_or(0, |found| found.flags(key)),
                cas: found.as_ref().map_or(0, Value::cas),
            };
            if head.end(at) > self.window.len() {
                // It will be asked for again.
                self.service.engine_mut().stats_mut().get_hits -= u64::from(value.is_some());
                break;
            }
            // Both are within.
            let _ = self.window.write(at, &head.to_bytes());
            let _ = self.window.write(at + FoundHead::BYTES, value.unwrap_or_default());
            at = head.end(at);
            answered += 1;
        }
        Ok(Reply { number: answered, ..Reply::of(Status::Done) })
    }

    #[inline]
    fn store(&mut self, request: &Request, mode: Mode) -> Result<Reply, Status> {
        let (key, value) = self.scratch.split_at_mut_checked(VALUE_AT).ok_or(Status::BadRequest)?;
        let key = copy_key(self.window, request, key)?;
        let value = value.get_mut(..request.value_len as usize).ok_or(Status::BadRequest)?;
        self.window.read(VALUE_AT, value).ok_or(Status::BadRequest)?;
        let expiry = self.service.expiry(request.exptime);
        let status = match self.service.engine_mut().store(mode, key, request.flags, expiry, value)
        {
            Stored::Stored => Status::Done,
            Stored::NotStored => Status::NotStored,
            Stored::Exists => Status::Exists,
            Stored::NotFound => Status::NotFound,
            Stored::TooLarge => Status::TooLarge,
            Stored::OutOfMemory => Status::OutOfMemory,
        };
        Ok(Reply::of(status))
    }

    fn delete(&mut self, request: &Request) -> Result<Reply, Status> {
        let key = copy_key(self.window, request, self.scratch)?;
        Ok(Reply::of(there(self.service.engine_mut().delete(key))))
    }

    fn touch(&mut self, request: &Request) -> Result<Reply, Status> {
        let key = copy_key(self.window, request, self.scratch)?;
        let expiry = self.service.expiry(request.exptime);
        Ok(Reply::of(there(self.service.engine_mut().touch(key, expiry))))
    }

    fn change(&mut self, request: &Request, delta: Delta) -> Result<Reply, Status> {
        let key = copy_key(self.window, request, self.scratch)?;
        match self.service.engine_mut().change(key, delta) {
            Ok(number) => Ok(Reply { number, ..Reply::of(Status::Done) }),
            Err(DeltaError::NotFound) => Err(Status::NotFound),
            // (Only if a CAS id is asked for, which this operation cannot.)
            Err(DeltaError::Exists) => Err(Status::Exists),
            Err(DeltaError::NotANumber) => Err(Status::NotANumber),
            Err(DeltaError::OutOfMemory) => Err(Status::OutOfMemory),
        }
    }
}

/// The key of a request, copied to the beginning of `scratch`. What no line of the text protocol
/// could name is no key here, either: items are kept in the form in which they are sent.
#[inline]
fn copy_key<'s>(
    window: SharedBytes<'_>,
    request: &Request,
    scratch: &'s mut [u8],
) -> Result<Key<'s>, Status> {
    let key = scratch.get_mut(..request.key_len.into()).ok_or(Status::BadRequest)?;
    window.read(0, key).ok_or(Status::BadRequest)?;
    Key::new_plain(key).or_else(|| Key::new(key)).ok_or(Status::BadKey)
}

fn there(was: bool) -> Status {
    if was { Status::Done } else { Status::NotFound }
}
