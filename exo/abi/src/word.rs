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

/// What `read` makes of a word that is one byte.
pub(crate) fn byte<T>(word: u64, read: fn(u8) -> Option<T>) -> Result<T, Error> {
    u8::try_from(word).ok().and_then(read).ok_or(Error::BadArgument)
}

/// Implements [`Word`]: how a word is read, and what it is written as.
macro_rules! word {
    ($type:ty: |$word:ident| $read:expr, |$self:ident| $written:expr) => {
        impl $crate::Word for $type {
            fn from_word($word: u64) -> Result<Self, $crate::Error> {
                $read
            }

            fn into_word(self) -> u64 {
                let $self = self;
                $written
            }
        }
    };
}
pub(crate) use word;

word!(u64: |word| Ok(word), |number| number);
word!(u32: |word| Self::try_from(word).map_err(|_| Error::BadArgument), |number| number.into());

/// An address that ring 3 *claims* is its own.
///
/// It is an allegation until the kernel has found the page in the caller's own
/// page tables; nothing but that check turns it into memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct UserPtr(pub u64);

word!(UserPtr: |word| Ok(Self(word)), |pointer| pointer.0);
