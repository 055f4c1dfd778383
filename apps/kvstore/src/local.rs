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
    Request::unpack(message)
        .map_or(Err(Status::BadRequest), |request| visit(service, now, &request, window, scratch))
        .unwrap_or_else(Reply::of)
        .pack()
}

fn visit(
    service: &mut Service<'_>,
    now: Time,
    request: &Request,
    window: SharedBytes<'_>,
    scratch: &mut [u8],
) -> Result<Reply, Status> {
    if request.operation == Operation::GetMany {
        service.begin(now);
        return Many { service, window, scratch }.get(request);
    }
    let copied = Copied::read(
        request,
        (window, window.split_at(VALUE_AT).map(|(_, value)| value)),
        scratch,
    )?;
    copied.carry_out(service, now, |value| window.write(VALUE_AT, value))
}

/// A request whose key and value have been copied: nothing else changes them any more.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    request: &'a Request,
    key: Key<'a>,
    value: &'a [u8],
}

impl<'a> Copied<'a> {
    /// Copies the key from the beginning of `key`, and the value from that of `value`, if the
    /// operation has one, to `scratch`.
    ///
    /// What no line of the text protocol could name is no key here, either: items are kept in the
    /// form in which they are sent.
    ///
    /// # Errors
    /// [`Status::BadRequest`], [`Status::BadKey`].
    #[inline]
    pub fn read(
        request: &'a Request,
        (key, value): (SharedBytes<'_>, Option<SharedBytes<'_>>),
        scratch: &'a mut [u8],
    ) -> Result<Self, Status> {
        let (key_room, value_room) =
            scratch.split_at_mut_checked(VALUE_AT).ok_or(Status::BadRequest)?;
        let key_room = key_room.get_mut(..request.key_len.into()).ok_or(Status::BadRequest)?;
        key.read(0, key_room).ok_or(Status::BadRequest)?;
        let value = if request.operation.stores() {
            let len = request.value_len as usize;
            let room = value_room.get_mut(..len).ok_or(Status::BadRequest)?;
            value.and_then(|value| value.read(0, room)).ok_or(Status::BadRequest)?;
            &*room
        } else {
            &[]
        };
        let key = Key::new_plain(key_room).or_else(|| Key::new(key_room));
        Ok(Self { request, key: key.ok_or(Status::BadKey)?, value })
    }

    /// Carries it out; calls `found` with the value that was asked for, if it was.
    ///
    /// # Errors
    /// The status that is no success; [`Status::TooLarge`] if `found` has no room.
    #[inline]
    pub fn carry_out(
        self,
        service: &mut Service<'_>,
        now: Time,
        found: impl FnOnce(&[u8]) -> Option<()>,
    ) -> Result<Reply, Status> {
        service.begin(now);
        let Self { request, key, .. } = self;
        match request.operation {
            Operation::Get => {
                let value = service.engine_mut().get(key).ok_or(Status::NotFound)?;
                let bytes = value.bytes();
                found(bytes).ok_or(Status::TooLarge)?;
                let (flags, number) = (value.flags(key), value.cas());
                let value_len = bytes.len() as u32;
                Ok(Reply { status: Status::Done, value_len, flags, number })
            }
            Operation::GetMany => Err(Status::BadRequest),
            Operation::Set => self.store(service, Mode::Set),
            Operation::Add => self.store(service, Mode::Add),
            Operation::Replace => self.store(service, Mode::Replace),
            Operation::Append => self.store(service, Mode::Append),
            Operation::Prepend => self.store(service, Mode::Prepend),
            Operation::Cas => self.store(service, Mode::Cas(request.number)),
            Operation::Delete => Ok(Reply::of(there(service.engine_mut().delete(key)))),
            Operation::Incr => self.change(service, Delta::Up(request.number)),
            Operation::Decr => self.change(service, Delta::Down(request.number)),
            Operation::Touch => {
                let expiry = service.expiry(request.exptime);
                Ok(Reply::of(there(service.engine_mut().touch(key, expiry))))
            }
        }
    }

    #[inline]
    fn store(self, service: &mut Service<'_>, mode: Mode) -> Result<Reply, Status> {
        let Self { request, key, value } = self;
        let expiry = service.expiry(request.exptime);
        let status = match service.engine_mut().store(mode, key, request.flags, expiry, value) {
            Stored::Stored => Status::Done,
            Stored::NotStored => Status::NotStored,
            Stored::Exists => Status::Exists,
            Stored::NotFound => Status::NotFound,
            Stored::TooLarge => Status::TooLarge,
            Stored::OutOfMemory => Status::OutOfMemory,
        };
        Ok(Reply::of(status))
    }

    fn change(self, service: &mut Service<'_>, delta: Delta) -> Result<Reply, Status> {
        match service.engine_mut().change(self.key, delta) {
            Ok(number) => Ok(Reply { number, ..Reply::of(Status::Done) }),
            Err(DeltaError::NotFound) => Err(Status::NotFound),
            // (Only if a CAS id is asked for, which this operation cannot.)
            Err(DeltaError::Exists) => Err(Status::Exists),
            Err(DeltaError::NotANumber) => Err(Status::NotANumber),
            Err(DeltaError::OutOfMemory) => Err(Status::OutOfMemory),
        }
    }
}

/// A look-up of several keys.
struct Many<'v, 'm> {
    service: &'v mut Service<'m>,
    window: SharedBytes<'v>,
    scratch: &'v mut [u8],
}

impl Many<'_, '_> {
    /// The first value that does not fit any more ends it: the reply says how many keys were
    /// answered.
    fn get(&mut self, request: &Request) -> Result<Reply, Status> {
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
}

fn there(was: bool) -> Status {
    if was { Status::Done } else { Status::NotFound }
}
