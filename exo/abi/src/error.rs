//! Why a system call was refused.

use core::fmt;

macro_rules! errors {
    ($($(#[doc = $doc:literal])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// The kernel's answer when it does not do what was asked.
        ///
        /// The number travels in `rax`; zero is success. Each variant names a reason
        /// a caller can act on. Misuse that no correct program needs to recover from
        /// (a wild jump, a privileged instruction) is not an error but ends the
        /// environment.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u64)]
        pub enum Error {
            $($(#[doc = $doc])* $variant = $code,)*
        }

        impl Error {
            /// Every error, in numeric order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// A short name, as a console line would print it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

errors! {
    /// No system call has this number.
    NoSuchCall = 1, "no such call";
    /// An argument holds a value its type does not have.
    BadArgument = 2, "bad argument";
    /// The handle names no live capability of the caller, or the wrong kind.
    BadHandle = 3, "bad handle";
    /// The capability lacks the right that the operation needs.
    NoRight = 4, "no right";
    /// The capability does not cover the named range.
    OutOfRange = 5, "out of range";
    /// The pointer and length are not readable (or writable) memory of the caller.
    BadPointer = 6, "bad pointer";
    /// The address cannot be mapped: outside user space or not page aligned.
    BadAddress = 7, "bad address";
    /// A frame is not free.
    NotFree = 8, "not free";
    /// A frame does not belong to the environment that was named, or is not
    /// plain memory.
    NotOwned = 9, "not owned";
    /// The frame is still mapped or still in use by a device or an object.
    InUse = 10, "in use";
    /// No page table covers the address; install one first.
    NoTable = 11, "no page table";
    /// Something is mapped or installed there already.
    Occupied = 12, "occupied";
    /// Nothing is mapped or installed there.
    Vacant = 13, "vacant";
    /// The capability table is full; donate another frame for it.
    TableFull = 14, "capability table full";
    /// The environment or the capability is in the wrong state for this.
    WrongState = 15, "wrong state";
    /// Not finished; call again with the same arguments to go on.
    Again = 16, "again";
    /// The filter is malformed.
    BadFilter = 17, "bad filter";
    /// The filter is installed already, or a scope made from the same capability holds some
    /// of the packets.
    FilterConflict = 18, "filter conflict";
    /// The machine lacks the device.
    NoDevice = 19, "no device";
    /// The number is above what the kernel does in one call.
    TooMuch = 20, "too much";
    /// The environment serves another call.
    Busy = 21, "busy";
    /// The other side of a protected call has ended.
    PeerGone = 22, "peer gone";
    /// The device could not do what it was asked for.
    DeviceFailed = 23, "device failed";
}

impl Error {
    /// The error with this number, if there is one.
    pub fn from_code(code: u64) -> Option<Self> {
        let index = usize::try_from(code.checked_sub(1)?).ok()?;
        Self::ALL.get(index).copied()
    }

    /// The number that travels in `rax`.
    pub fn code(self) -> u64 {
        self as u64
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
        for &error in Error::ALL {
            assert_eq!(Error::from_code(error.code()), Some(error));
        }
        assert_eq!(Error::from_code(0), None);
        assert_eq!(Error::from_code(24), None);
        assert_eq!(Error::from_code(u64::MAX), None);
    }
}
