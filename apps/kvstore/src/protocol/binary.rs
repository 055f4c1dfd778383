//! The binary protocol: headers of requests and answers (memcached's `BinaryProtocolRevamped`
//! wiki page; deprecated since 1.6.0, but spoken by many clients).
//!
//! ```text
//! 0       1        2      4       5      6        8      12       16    24
//! | magic | opcode | key | extras | type | status | body | opaque | cas | extras, key, value
//! ```
//!
//! All big-endian. `key`, `extras` and `body` are lengths; `body` includes the other two.

use super::reply::{Reply, TooLarge};
use crate::engine::{Delta, Key, Mode};

/// The first byte of a request.
pub const MAGIC: u8 = 0x80;
const ANSWER: u8 = 0x81;

/// Bytes of a header.
pub const HEADER: usize = 24;

/// What an opcode asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the protocol's opcodes")]
pub enum Command {
    Get { with_key: bool },
    Touch,
    GetAndTouch { with_key: bool },
    Store(Mode),
    Join(Mode),
    Delete,
    Change { up: bool },
    Quit,
    Flush,
    Noop,
    Version,
    Stat,
    Mechanisms,
    Login,
    Unknown,
}

/// The status of an answer, with the text of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u16, &'static [u8]);

impl Status {
    pub(crate) const NOT_FOUND: Self = Self(1, b"Not found");
    pub(crate) const EXISTS: Self = Self(2, b"Data exists for key.");
    pub(crate) const TOO_LARGE: Self = Self(3, b"Too large.");
    pub(crate) const INVALID: Self = Self(4, b"Invalid arguments");
    pub(crate) const NOT_STORED: Self = Self(5, b"Not stored.");
    pub(crate) const NOT_A_NUMBER: Self =
        Self(6, b"Non-numeric server-side value for incr or decr");
    pub(crate) const BARRED: Self = Self(0x20, b"Auth failure.");
    pub(crate) const UNKNOWN: Self = Self(0x81, b"Unknown command");
    pub(crate) const NO_MEMORY: Self = Self(0x82, b"Out of memory");
}

/// The header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it asks for.
    pub command: Command,
    /// The usual outcome is not told.
    pub quiet: bool,
    pub(crate) opcode: u8,
    pub(crate) key: u16,
    pub(crate) extras: u8,
    pub(crate) body: u32,
    pub(crate) opaque: [u8; 4],
    /// The CAS id the item must have; 0 for any.
    pub(crate) cas: u64,
}

/// What is needed of a request to answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub(crate) opcode: u8,
    pub(crate) opaque: [u8; 4],
}

impl Head {
    /// Reads a header. `None` if it does not begin as a request does.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let [magic, opcode, k0, k1, extras, _, _, _, b0, b1, b2, b3, o0, o1, o2, o3, cas @ ..] =
            *bytes;
        let (command, quiet) = command(opcode);
        (magic == MAGIC).then_some(Self {
            command,
            quiet,
            opcode,
            key: u16::from_be_bytes([k0, k1]),
            extras,
            body: u32::from_be_bytes([b0, b1, b2, b3]),
            opaque: [o0, o1, o2, o3],
            cas: u64::from_be_bytes(cas),
        })
    }

    /// Bytes of extras and key.
    #[must_use]
    pub fn before_value(&self) -> usize {
        usize::from(self.key) + usize::from(self.extras)
    }

    /// Bytes of the value, or what is in its place. `None` if the lengths disagree.
    #[must_use]
    pub fn value_len(&self) -> Option<usize> {
        (self.body as usize).checked_sub(self.before_value())
    }

    /// Whether the lengths are as the command wants them.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let (key, extras) = (self.key, self.extras);
        let no_value = self.value_len() == Some(0);
        let has_key = (1..=Key::MAX_LEN).contains(&usize::from(key));
        match self.command {
            Command::Get { .. } | Command::Delete => has_key && extras == 0 && no_value,
            Command::Touch | Command::GetAndTouch { .. } => has_key && extras == 4,
            Command::Store(_) => has_key && extras == 8,
            Command::Join(_) => has_key && extras == 0,
            Command::Change { .. } => has_key && extras == 20 && no_value,
            Command::Flush => key == 0 && matches!(extras, 0 | 4) && no_value,
            Command::Quit | Command::Noop | Command::Version | Command::Mechanisms => {
                self.body == 0
            }
            Command::Login => has_key && extras == 0,
            Command::Stat => extras == 0 && usize::from(key) <= Key::MAX_LEN,
            Command::Unknown => usize::from(key) <= Key::MAX_LEN,
        }
    }

    pub(crate) fn asked(&self) -> Asked {
        Asked { opcode: self.opcode, opaque: self.opaque }
    }

    /// Under which condition an item is stored.
    pub(crate) fn mode(&self, mode: Mode) -> Mode {
        if self.cas == 0 { mode } else { Mode::Cas(self.cas) }
    }
}

impl Asked {
    /// Writes an answer: a header, and what is given of its body.
    ///
    /// # Errors
    /// If it does not fit. Part may be written then.
    pub(crate) fn put(
        self,
        cas: u64,
        extras: &[u8],
        key: &[u8],
        value: &[u8],
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        self.put_head(0, cas, (extras.len(), key.len(), value.len()), out)?;
        [extras, key, value].into_iter().try_for_each(|part| out.put(part))
    }

    /// Writes a refusal.
    ///
    /// # Errors
    /// If it does not fit. Part may be written then.
    pub(crate) fn refuse(self, status: Status, out: &mut Reply<'_>) -> Result<(), TooLarge> {
        self.put_head(status.0, 0, (0, 0, status.1.len()), out)?;
        out.put(status.1)
    }

    /// Writes that there is no such item, naming the key.
    ///
    /// # Errors
    /// If it does not fit. Part may be written then.
    pub(crate) fn miss_with_key(self, key: Key<'_>, out: &mut Reply<'_>) -> Result<(), TooLarge> {
        self.put_head(Status::NOT_FOUND.0, 0, (0, key.bytes().len(), 0), out)?;
        out.put(key.bytes())
    }

    /// Writes a header for a body of these lengths: extras, key and value.
    ///
    /// # Errors
    /// If it does not fit. Nothing is written then.
    pub(crate) fn put_head(
        self,
        status: u16,
        cas: u64,
        (extras, key, value): (usize, usize, usize),
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let [k0, k1] = (key as u16).to_be_bytes();
        let [s0, s1] = status.to_be_bytes();
        let [b0, b1, b2, b3] = ((extras + key + value) as u32).to_be_bytes();
        let [o0, o1, o2, o3] = self.opaque;
        let head = [ANSWER, self.opcode, k0, k1, extras as u8, 0, s0, s1, b0, b1, b2, b3];
        out.put(&head)?;
        out.put(&[o0, o1, o2, o3])?;
        out.put(&cas.to_be_bytes())
    }
}

/// What an opcode asks for, and whether quietly.
fn command(opcode: u8) -> (Command, bool) {
    match opcode {
        0x00 => (Command::Get { with_key: false }, false),
        0x01 => (Command::Store(Mode::Set), false),
        0x02 => (Command::Store(Mode::Add), false),
        0x03 => (Command::Store(Mode::Replace), false),
        0x04 => (Command::Delete, false),
        0x05 => (Command::Change { up: true }, false),
        0x06 => (Command::Change { up: false }, false),
        0x07 => (Command::Quit, false),
        0x08 => (Command::Flush, false),
        0x09 => (Command::Get { with_key: false }, true),
        0x0a => (Command::Noop, false),
        0x0b => (Command::Version, false),
        0x0c => (Command::Get { with_key: true }, false),
        0x0d => (Command::Get { with_key: true }, true),
        0x0e => (Command::Join(Mode::Append), false),
        0x0f => (Command::Join(Mode::Prepend), false),
        0x10 => (Command::Stat, false),
        0x11 => (Command::Store(Mode::Set), true),
        0x12 => (Command::Store(Mode::Add), true),
        0x13 => (Command::Store(Mode::Replace), true),
        0x14 => (Command::Delete, true),
        0x15 => (Command::Change { up: true }, true),
        0x16 => (Command::Change { up: false }, true),
        0x17 => (Command::Quit, true),
        0x18 => (Command::Flush, true),
        0x19 => (Command::Join(Mode::Append), true),
        0x1a => (Command::Join(Mode::Prepend), true),
        0x1c => (Command::Touch, false),
        0x1d => (Command::GetAndTouch { with_key: false }, false),
        0x1e => (Command::GetAndTouch { with_key: false }, true),
        0x20 => (Command::Mechanisms, false),
        // To begin, and to go on: with the one mechanism there is, they bring the same.
        0x21 | 0x22 => (Command::Login, false),
        0x23 => (Command::GetAndTouch { with_key: true }, false),
        0x24 => (Command::GetAndTouch { with_key: true }, true),
        _ => (Command::Unknown, false),
    }
}

/// The delta, initial value and expiry time in the extras of a [`Command::Change`].
pub(crate) fn change_extras(up: bool, extras: &[u8]) -> Option<(Delta, u64, u32)> {
    let (by, rest) = extras.split_first_chunk::<8>()?;
    let (initial, rest) = rest.split_first_chunk::<8>()?;
    let by = u64::from_be_bytes(*by);
    let delta = if up { Delta::Up(by) } else { Delta::Down(by) };
    Some((delta, u64::from_be_bytes(*initial), number(rest)?))
}

/// A number of 32 bits at the start of `extras`.
pub(crate) fn number(extras: &[u8]) -> Option<u32> {
    extras.first_chunk().map(|number| u32::from_be_bytes(*number))
}
