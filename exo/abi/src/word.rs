//! Machine words as system-call arguments: each argument type says how it is
//! read from, and written into, one register.

use crate::Error;

/// A value that travels in one register.
///
/// `from_word` runs in ring 0 on whatever the caller left in the register, so
/// it must accept every bit pattern and refuse what its type cannot hold.
pub trait Word: Sized {
    /// Decodes a register.
    ///
    /// # Errors
    /// [`Error::BadArgument`] if the register holds no value of this type.
    fn from_word(word: u64) -> Result<Self, Error>;

    /// Encodes into a register.
    fn into_word(self) -> u64;
}

impl Word for u64 {
    fn from_word(word: u64) -> Result<Self, Error> {
        Ok(word)
    }

    fn into_word(self) -> u64 {
        self
    }
}

impl Word for u32 {
    fn from_word(word: u64) -> Result<Self, Error> {
        u32::try_from(word).map_err(|_| Error::BadArgument)
    }

    fn into_word(self) -> u64 {
        u64::from(self)
    }
}

/// An address that ring 3 *claims* is its own.
///
/// It is an allegation until the kernel has found the page in the caller's own
/// page tables; nothing but that check turns it into memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct UserPtr(pub u64);

impl Word for UserPtr {
    fn from_word(word: u64) -> Result<Self, Error> {
        Ok(Self(word))
    }

    fn into_word(self) -> u64 {
        self.0
    }
}
