//! What a call and its reply carry in the message registers.
//!
//! | word | request | reply |
//! |---|---|---|
//! | 0 | operation (8 bits), bytes of the key (8), bytes of the value (from bit 32) | status (8 bits), bytes of the value (from bit 32) |
//! | 1 | flags (32 bits), expiry time (from bit 32) | flags (32 bits) |
//! | 2 | amount of `incr` and `decr`, CAS id of `cas` | the number, the CAS id, how many were answered |
//!
//! Key and value lie in the [window](crate::window).

/// Six registers.
pub type Message = [u64; 6];

/// What is to be done. The results are memcached's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// The value, flags and CAS id of an item: `gets`.
    Get = 1,
    /// The same of several: the value of the request is a list of keys
    /// ([`window`](crate::window)).
    GetMany,
    /// Stores an item.
    Set,
    /// Stores it if there is none with its key.
    Add,
    /// Stores it if there is one.
    Replace,
    /// Adds to the end of a value.
    Append,
    /// Adds to the beginning of a value.
    Prepend,
    /// Stores it if the item there is has the CAS id of the request.
    Cas,
    /// Removes an item.
    Delete,
    /// Adds to a number, modulo 2^64.
    Incr,
    /// Subtracts from one, not below zero.
    Decr,
    /// Gives an item another expiry time.
    Touch,
}

impl Operation {
    /// All of them, by number from 1.
    pub const ALL: [Self; 12] = [
        Self::Get,
        Self::GetMany,
        Self::Set,
        Self::Add,
        Self::Replace,
        Self::Append,
        Self::Prepend,
        Self::Cas,
        Self::Delete,
        Self::Incr,
        Self::Decr,
        Self::Touch,
    ];

    /// Whether a request has a value that may be stored.
    #[must_use]
    #[inline]
    pub const fn stores(self) -> bool {
        use Operation::{Add, Append, Cas, Prepend, Replace, Set};
        matches!(self, Set | Add | Replace | Append | Prepend | Cas)
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Found, stored, deleted, changed.
    Done = 1,
    /// There is no such item.
    NotFound,
    /// The condition of `add`, `replace`, `append` or `prepend` was not met.
    NotStored,
    /// `cas`: the item has changed.
    Exists,
    /// The item is larger than any may be, or the value than the window.
    TooLarge,
    /// The store found no memory for it.
    OutOfMemory,
    /// The value is no number.
    NotANumber,
    /// No key is so long, or has such bytes.
    BadKey,
    /// No such operation, or lengths that lead out of the window.
    BadRequest,
    /// The store is in the middle of something else.
    Busy,
}

impl Status {
    const ALL: [Self; 10] = [
        Self::Done,
        Self::NotFound,
        Self::NotStored,
        Self::Exists,
        Self::TooLarge,
        Self::OutOfMemory,
        Self::NotANumber,
        Self::BadKey,
        Self::BadRequest,
        Self::Busy,
    ];
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub operation: Operation,
    /// Bytes of the key.
    pub key_len: u8,
    /// Bytes of the value, or of the list of keys.
    pub value_len: u32,
    /// Flags of the item.
    pub flags: u32,
    /// Its expiry time, as in memcached's protocol.
    pub exptime: i32,
    /// The amount, or a CAS id.
    pub number: u64,
}

impl Request {
    /// As a message.
    #[must_use]
    #[inline]
    pub fn pack(self) -> Message {
        let lengths = u64::from(self.key_len) << 8 | u64::from(self.value_len) << 32;
        let times = u64::from(self.flags) | u64::from(self.exptime.cast_unsigned()) << 32;
        [self.operation as u64 | lengths, times, self.number, 0, 0, 0]
    }

    /// Out of a message, which may be anything; `None` if it names no operation.
    #[must_use]
    #[inline]
    pub fn unpack(message: &Message) -> Option<Self> {
        let [head, times, number, ..] = *message;
        let operation = usize::from(head as u8).checked_sub(1)?;
        Some(Self {
            operation: *Operation::ALL.get(operation)?,
            key_len: (head >> 8) as u8,
            value_len: (head >> 32) as u32,
            flags: times as u32,
            exptime: ((times >> 32) as u32).cast_signed(),
            number,
        })
    }
}

/// A reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What became of the request.
    pub status: Status,
    /// Bytes of the value in the window.
    pub value_len: u32,
    /// Flags of the item.
    pub flags: u32,
    /// The CAS id, the number, or how many keys of several were answered.
    pub number: u64,
}

impl Reply {
    /// One that says nothing but this.
    #[must_use]
    pub const fn of(status: Status) -> Self {
        Self { status, value_len: 0, flags: 0, number: 0 }
    }

    /// As a message.
    #[must_use]
    #[inline]
    pub fn pack(self) -> Message {
        let head = self.status as u64 | u64::from(self.value_len) << 32;
        [head, u64::from(self.flags), self.number, 0, 0, 0]
    }

    /// As two words, by which a gate is left: status (8 bits), bytes of the value (24), flags; number.
    #[must_use]
    #[inline]
    pub fn pack_short(self) -> [u64; 2] {
        let lens = self.status as u64 | u64::from(self.value_len) << 8;
        [lens & 0xffff_ffff | u64::from(self.flags) << 32, self.number]
    }

    /// Out of two words; `None` if they have no status.
    #[must_use]
    #[inline]
    pub fn unpack_short([head, number]: [u64; 2]) -> Option<Self> {
        let status = usize::from(head as u8).checked_sub(1)?;
        let (value_len, flags) = (head as u32 >> 8, (head >> 32) as u32);
        Some(Self { status: *Status::ALL.get(status)?, value_len, flags, number })
    }

    /// Out of a message; `None` if it has no status.
    #[must_use]
    #[inline]
    pub fn unpack(message: &Message) -> Option<Self> {
        let [head, flags, number, ..] = *message;
        let status = usize::from(head as u8).checked_sub(1)?;
        Some(Self {
            status: *Status::ALL.get(status)?,
            value_len: (head >> 32) as u32,
            flags: flags as u32,
            number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_what_they_say() {
        for (number, operation) in (1..).zip(Operation::ALL) {
            assert_eq!(operation as u8, number);
        }
        for (number, status) in (1..).zip(Status::ALL) {
            assert_eq!(status as u8, number);
        }
    }

    #[test]
    fn messages_carry_all_of_it() {
        for operation in Operation::ALL {
            let request = Request {
                operation,
                key_len: 250,
                value_len: u32::MAX,
                flags: 0xdead_beef,
                exptime: -1,
                number: u64::MAX - 1,
            };
            assert_eq!(Request::unpack(&request.pack()), Some(request));
        }
        for status in Status::ALL {
            let reply = Reply { status, value_len: 77, flags: u32::MAX, number: 1 << 63 };
            assert_eq!(Reply::unpack(&reply.pack()), Some(reply));
            let reply = Reply { value_len: (1 << 24) - 1, ..reply };
            assert_eq!(Reply::unpack_short(reply.pack_short()), Some(reply));
        }
    }

    #[test]
    fn other_numbers_are_none() {
        for number in [0, 13, 14, 255] {
            assert_eq!(Request::unpack(&[number, 0, 0, 0, 0, 0]), None);
        }
        for number in [0, 11, 255] {
            assert_eq!(Reply::unpack(&[number, 0, 0, 0, 0, 0]), None);
        }
    }
}
