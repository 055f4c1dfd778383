//! The flags of the meta commands (`protocol.txt`, "Meta Get" and what follows).
//!
//! A line is read once, all of it, before anything is done: a line with a fault has no effect.
//! The answer's flags come in the order of the request's, so the line is gone through again
//! when it is answered.

use super::base64::{self, Decoded};
use super::reply::{Reply, TooLarge};
use crate::engine::Key;
use crate::number;

/// The most tokens in a line, command and key included.
const MAX_TOKENS: usize = 20;

/// The longest opaque token, its `O` included.
const MAX_OPAQUE: usize = 32;

/// A meta command's key and flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta<'a> {
    /// As it was sent: in base64, if the flags say so.
    key: &'a [u8],
    /// The flags as they were sent.
    tokens: &'a [u8],
    /// What they mean.
    pub flags: Flags,
}

/// What the flags mean. Their names are in brackets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `b`: the key is in base64.
    pub in_base64: bool,
    /// `u`: the item is not used by that.
    pub no_update: bool,
    /// `v`: the value is wanted.
    pub value: bool,
    /// `q`: the usual outcome is not told.
    pub quiet: bool,
    /// `I`: the item becomes out of date.
    pub invalidate: bool,
    /// `x`: the item loses its value.
    pub remove_value: bool,
    /// `C`: the CAS id it must have.
    pub compare: Option<u64>,
    /// `E`: the CAS id it gets.
    pub own_cas: Option<u64>,
    /// `M`: the mode, 0 if none is given.
    pub mode: u8,
    /// `T`: the expiry time it gets.
    pub exptime: Option<i32>,
    /// `N`: if there is no item, one is made, with this expiry time.
    pub vivify: Option<i32>,
    /// `R`: one that ends before that is to be replaced.
    pub recache: Option<i32>,
    /// `F`: the item's flags.
    pub client_flags: u32,
    /// `D`: by how much a number changes.
    pub delta: Option<u64>,
    /// `J`: where a number starts.
    pub initial: u64,
}

const BAD_TOKEN: &[u8] = b"CLIENT_ERROR bad token in command line format\r\n";

impl<'a> Meta<'a> {
    /// Reads the flags in `tokens` for this key.
    ///
    /// # Errors
    /// What to answer instead.
    pub(super) fn read(key: &'a [u8], tokens: &'a [u8]) -> Result<Self, &'static [u8]> {
        if key.is_empty() || key.len() > Key::MAX_LEN {
            return Err(super::Refusal::FORMAT);
        }
        let mut meta = Self { key, tokens, flags: Flags::default() };
        if meta.tokens().count() > MAX_TOKENS - 2 {
            return Err(b"CLIENT_ERROR options flags are too long\r\n");
        }
        let mut seen = 0u128;
        // A later fault is told instead of an earlier one; these two are told at once.
        let mut fault = None;
        for (flag, argument) in meta.tokens() {
            let bit = 1u128.checked_shl(u32::from(flag)).filter(|_| flag < 127).unwrap_or(0);
            if bit == 0 || seen & bit != 0 {
                return Err(b"CLIENT_ERROR duplicate flag\r\n");
            }
            seen |= bit;
            let known = meta.flags.read(key, flag, argument, &mut fault);
            known.ok_or(b"CLIENT_ERROR invalid flag\r\n" as &[u8])?;
        }
        match fault {
            None => Ok(meta),
            Some(fault) => Err(fault),
        }
    }

    /// The flags as they were sent, each with its argument.
    fn tokens(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let tokens = self.tokens.split(|&byte| byte == b' ');
        tokens.filter_map(|token| token.split_first().map(|(flag, rest)| (*flag, rest)))
    }

    /// The flags in order, for an answer: `put` writes what one becomes.
    ///
    /// # Errors
    /// Those of `put`.
    pub(crate) fn answer_flags(
        &self,
        mut put: impl FnMut(u8) -> Result<(), TooLarge>,
    ) -> Result<(), TooLarge> {
        self.tokens().try_for_each(|(flag, _)| put(flag))
    }

    /// The opaque token, without its `O`; empty if there is none.
    pub(crate) fn opaque(&self) -> &'a [u8] {
        self.tokens().find(|(flag, _)| *flag == b'O').map_or(b"", |(_, opaque)| opaque)
    }

    /// The key, taken out of base64 into `room` if it is in that.
    pub(crate) fn key<'b>(&self, room: &'b mut Option<Decoded>) -> Option<Key<'b>>
    where
        'a: 'b,
    {
        if !self.flags.in_base64 {
            return Key::from_token(self.key);
        }
        *room = Decoded::new(self.key);
        room.as_ref().and_then(Decoded::key)
    }
}

impl Flags {
    /// Reads one flag. `None` if there is no such flag; what is wrong with it goes to `fault`.
    fn read(
        &mut self,
        key: &[u8],
        flag: u8,
        argument: &[u8],
        fault: &mut Option<&'static [u8]>,
    ) -> Option<()> {
        let mut signed = |field: &mut Option<i32>| {
            *field = number::signed_whole(argument);
            if field.is_none() {
                *fault = Some(BAD_TOKEN);
            }
        };
        match flag {
            b'N' => signed(&mut self.vivify),
            b'T' => signed(&mut self.exptime),
            b'R' => signed(&mut self.recache),
            b'b' => {
                self.in_base64 = true;
                if Decoded::new(key).is_none() {
                    *fault = Some(b"CLIENT_ERROR error decoding key\r\n");
                }
            }
            b'C' | b'E' => {
                let number = number::unsigned(argument);
                if number.is_none() {
                    *fault = Some(BAD_TOKEN);
                }
                *(if flag == b'C' { &mut self.compare } else { &mut self.own_cas }) = number;
            }
            b'F' => match number::unsigned(argument) {
                Some(flags) => self.client_flags = flags as u32,
                None => *fault = Some(fault.unwrap_or(super::Refusal::FORMAT)),
            },
            b'D' => {
                self.delta = number::unsigned(argument);
                if self.delta.is_none() {
                    *fault = Some(b"CLIENT_ERROR invalid numeric delta value\r\n");
                }
            }
            b'J' => match number::unsigned(argument) {
                Some(number) => self.initial = number,
                None => *fault = Some(b"CLIENT_ERROR invalid numeric initial value\r\n"),
            },
            b'M' => match argument {
                [mode] => self.mode = *mode,
                _ => *fault = Some(b"CLIENT_ERROR incorrect length for M token\r\n"),
            },
            b'O' => {
                if argument.len() >= MAX_OPAQUE {
                    *fault = Some(b"CLIENT_ERROR opaque token too long\r\n");
                }
            }
            b'v' => self.value = true,
            b'u' => self.no_update = true,
            b'q' => self.quiet = true,
            b'I' => self.invalidate = true,
            b'x' => self.remove_value = true,
            // Told in the answer, or (`P`, `L`) meant for a proxy.
            b'l' | b'h' | b'k' | b's' | b't' | b'c' | b'f' | b'P' | b'L' => {}
            _ => return None,
        }
        Some(())
    }
}

/// What of an `ms` is needed for its answer, which comes after its data block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAnswer {
    /// The flags to answer, in order; zeros behind.
    order: [u8; 4],
    opaque: [u8; MAX_OPAQUE - 1],
    opaque_len: u8,
    in_base64: bool,
    /// That it is stored is not told.
    pub quiet: bool,
}

impl SetAnswer {
    pub(crate) fn new(meta: &Meta<'_>) -> Self {
        let (mut order, mut count) = ([0; 4], 0);
        for (flag, _) in meta.tokens().filter(|(flag, _)| b"Okcs".contains(flag)) {
            if let Some(place) = order.get_mut(count) {
                *place = flag;
                count += 1;
            }
        }
        let mut opaque = [0; MAX_OPAQUE - 1];
        let sent = meta.opaque();
        if let Some(place) = opaque.get_mut(..sent.len()) {
            place.copy_from_slice(sent);
        }
        let Flags { in_base64, quiet, .. } = meta.flags;
        Self { order, opaque, opaque_len: sent.len() as u8, in_base64, quiet }
    }

    /// Writes the answer: this code, and the flags with what became of the item.
    ///
    /// # Errors
    /// If it does not fit. Part may be written then.
    pub(crate) fn put(
        &self,
        code: &[u8; 2],
        key: Key<'_>,
        cas: u64,
        value_len: usize,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        out.put(code)?;
        for flag in self.order {
            match flag {
                b'O' => {
                    out.put(b" O")?;
                    out.put(self.opaque.get(..usize::from(self.opaque_len)).unwrap_or_default())?;
                }
                b'k' => put_key(key, self.in_base64, out)?,
                b'c' => out.put_flag(b'c', cas)?,
                b's' => out.put_flag(b's', value_len as u64)?,
                _ => {}
            }
        }
        out.put(b"\r\n")
    }
}

/// Adds a key as a flag of an answer; in base64, and then says so.
pub(crate) fn put_key(key: Key<'_>, in_base64: bool, out: &mut Reply<'_>) -> Result<(), TooLarge> {
    out.put(b" k")?;
    if !in_base64 {
        return out.put(key.bytes());
    }
    base64::encode(key.bytes()).try_for_each(|group| out.put(&group))?;
    out.put(b" b")
}
