//! Why a system call was refused.

use core::fmt;

/// The kernel's answer when it does not do what was asked.
///
/// The number travels in `rax`; zero is success. Each variant names a reason a
/// caller can act on. Misuse that no correct program needs to recover from
/// (a wild jump, a privileged instruction) is not an error but ends the
/// environment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Error {
    /// No system call has this number.
    NoSuchCall = 1,
    /// An argument holds a value its type does not have.
    BadArgument = 2,
    /// The handle names no live capability of the caller, or the wrong kind.
    BadHandle = 3,
    /// The capability lacks the right that the operation needs.
    NoRight = 4,
    /// The capability does not cover the named range.
    OutOfRange = 5,
    /// The pointer and length are not readable (or writable) memory of the caller.
    BadPointer = 6,
    /// The address cannot be mapped: outside user space or not page aligned.
    BadAddress = 7,
    /// A frame is not free.
    NotFree = 8,
    /// A frame does not belong to the environment that was named, or is not
    /// plain memory.
    NotOwned = 9,
    /// The frame is still mapped or still in use by a device or an object.
    InUse = 10,
    /// No page table covers the address; install one first.
    NoTable = 11,
    /// Something is mapped or installed there already.
    Occupied = 12,
    /// Nothing is mapped or installed there.
    Vacant = 13,
    /// The capability table is full; donate another frame for it.
    TableFull = 14,
    /// The environment is in the wrong state for this.
    WrongState = 15,
    /// Not finished; call again with the same arguments to go on.
    Again = 16,
    /// The filter is malformed.
    BadFilter = 17,
    /// The filter would take packets that another binding has claimed.
    FilterConflict = 18,
    /// The machine lacks the device.
    NoDevice = 19,
    /// The number is above what the kernel does in one call.
    TooMuch = 20,
}

impl Error {
    /// Every error, in numeric order.
    pub const ALL: [Self; 20] = [
        Self::NoSuchCall,
        Self::BadArgument,
        Self::BadHandle,
        Self::NoRight,
        Self::OutOfRange,
        Self::BadPointer,
        Self::BadAddress,
        Self::NotFree,
        Self::NotOwned,
        Self::InUse,
        Self::NoTable,
        Self::Occupied,
        Self::Vacant,
        Self::TableFull,
        Self::WrongState,
        Self::Again,
        Self::BadFilter,
        Self::FilterConflict,
        Self::NoDevice,
        Self::TooMuch,
    ];

    /// The error with this number, if there is one.
    pub fn from_code(code: u64) -> Option<Self> {
        let index = usize::try_from(code.checked_sub(1)?).ok()?;
        Self::ALL.get(index).copied()
    }

    /// The number that travels in `rax`.
    pub fn code(self) -> u64 {
        self as u64
    }

    /// A short name, as a console line would print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSuchCall => "no such call",
            Self::BadArgument => "bad argument",
            Self::BadHandle => "bad handle",
            Self::NoRight => "no right",
            Self::OutOfRange => "out of range",
            Self::BadPointer => "bad pointer",
            Self::BadAddress => "bad address",
            Self::NotFree => "not free",
            Self::NotOwned => "not owned",
            Self::InUse => "in use",
            Self::NoTable => "no page table",
            Self::Occupied => "occupied",
            Self::Vacant => "vacant",
            Self::TableFull => "capability table full",
            Self::WrongState => "wrong state",
            Self::Again => "again",
            Self::BadFilter => "bad filter",
            Self::FilterConflict => "filter conflict",
            Self::NoDevice => "no device",
            Self::TooMuch => "too much",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Error;

    #[test]
    fn codes_round_trip() {
        for error in Error::ALL {
            assert_eq!(Error::from_code(error.code()), Some(error));
        }
        assert_eq!(Error::from_code(0), None);
        assert_eq!(Error::from_code(21), None);
        assert_eq!(Error::from_code(u64::MAX), None);
    }
}
