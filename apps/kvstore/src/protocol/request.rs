//! The requests of the text protocol (`protocol.txt`).
//!
//! Which tokens a command takes, and what is said of a line that is wrong in
//! several ways, follows memcached: first the number of tokens (`ERROR`), then
//! `noreply`, then the key, then the numbers in their order. From the second step on
//! a fault is kept quiet if the line asked for no reply.

use super::input::Input;
use crate::engine::{Delta, Key, Mode};
use crate::number;

/// A request. Expiry times are as sent: 0 for never, up to 30 days from now, above
/// that seconds since the epoch, negative for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the arguments that protocol.txt names")]
pub enum Request<'a> {
    /// `get`, `gets`, `gat`, `gats`: the keys follow in the line; take them with
    /// [`Input::key`].
    Get { with_cas: bool, touch: Option<i32> },
    /// `set` and its relatives: the data block follows; take it with [`Input::data`].
    Store { mode: Mode, key: Key<'a>, flags: u32, exptime: i32, bytes: usize, noreply: bool },
    /// `delete`.
    Delete { key: Key<'a>, noreply: bool },
    /// `incr`, `decr`.
    Change { key: Key<'a>, delta: Delta, noreply: bool },
    /// `touch`.
    Touch { key: Key<'a>, exptime: i32, noreply: bool },
    /// `flush_all`.
    FlushAll { delay: i32, noreply: bool },
    /// `stats`.
    Stats(StatsKind),
    /// `verbosity`: accepted, without effect.
    Verbosity { noreply: bool },
    /// `version`.
    Version,
    /// `quit`, or the first line of an HTTP request: the rest is not for us.
    Quit,
}

/// What `stats` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsKind {
    /// The general-purpose statistics.
    General,
    /// Setting the counters back.
    Reset,
}

/// Why a line is not a request: what to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The answer, with its line end.
    pub text: &'static [u8],
    /// Not to be sent: the line asked for no reply.
    pub noreply: bool,
}

impl Refusal {
    /// No such command, or not with that many arguments.
    pub const UNKNOWN: &'static [u8] = b"ERROR\r\n";
    /// An argument is not what it should be.
    pub const FORMAT: &'static [u8] = b"CLIENT_ERROR bad command line format\r\n";
    const EXPTIME: &'static [u8] = b"CLIENT_ERROR invalid exptime argument\r\n";
    const DELTA: &'static [u8] = b"CLIENT_ERROR invalid numeric delta argument\r\n";
    const DELETE: &'static [u8] =
        b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
}

/// The most arguments a fixed-form command takes (`cas` with `noreply`).
const MAX_ARGS: usize = 6;

/// The arguments of a line.
struct Args<'a> {
    list: [&'a [u8]; MAX_ARGS],
    /// How many there are, counted on above [`MAX_ARGS`].
    count: usize,
    last: &'a [u8],
}

impl<'a> Args<'a> {
    #[inline(never)]
    fn read(input: &mut Input<'a>) -> Self {
        let mut args = Self { list: [b""; MAX_ARGS], count: 0, last: b"" };
        while let Some(token) = input.token() {
            if let Some(place) = args.list.get_mut(args.count) {
                *place = token;
            }
            args.count += 1;
            args.last = token;
        }
        args
    }

    fn noreply(&self) -> bool {
        self.last == b"noreply"
    }

    fn refuse(&self, text: &'static [u8]) -> Refusal {
        Refusal { text, noreply: self.noreply() }
    }
}

const UNKNOWN: Refusal = Refusal { text: Refusal::UNKNOWN, noreply: false };

impl<'a> Input<'a> {
    /// Reads one line. Afterwards the input stands behind it, except for a `get`
    /// (before its first key).
    ///
    /// # Errors
    /// A [`Refusal`] says what to answer instead.
    pub fn request(&mut self) -> Result<Request<'a>, Refusal> {
        let command = self.token().unwrap_or_default();
        match command {
            b"get" => return self.get(false),
            b"gets" => return self.get(true),
            b"gat" => return self.get_and_touch(false),
            b"gats" => return self.get_and_touch(true),
            _ => {}
        }
        let args = Args::read(self);
        let request = match command {
            b"set" => self.store(Mode::Set, &args),
            b"add" => self.store(Mode::Add, &args),
            b"replace" => self.store(Mode::Replace, &args),
            b"append" => self.store(Mode::Append, &args),
            b"prepend" => self.store(Mode::Prepend, &args),
            b"cas" => self.store(Mode::Cas(0), &args),
            b"incr" => self.change(Delta::Up, &args),
            b"decr" => self.change(Delta::Down, &args),
            b"delete" => self.delete(&args),
            b"touch" => self.touch(&args),
            b"flush_all" => flush_all(&args),
            b"verbosity" => verbosity(&args),
            b"version" => Ok(Request::Version),
            b"stats" => match (args.count, args.list[0]) {
                (0, _) => Ok(Request::Stats(StatsKind::General)),
                (_, b"reset") => Ok(Request::Stats(StatsKind::Reset)),
                _ => Err(UNKNOWN),
            },
            b"quit" => Ok(Request::Quit),
            // What a browser sends: nothing of it is meant for us.
            [b'A'..=b'Z', _, ..] if args.last.starts_with(b"HTTP/") => Ok(Request::Quit),
            _ => Err(UNKNOWN),
        };
        self.end_line();
        request
    }

    fn get(&mut self, with_cas: bool) -> Result<Request<'a>, Refusal> {
        if !self.at_line_end() {
            return Ok(Request::Get { with_cas, touch: None });
        }
        self.end_line();
        Err(UNKNOWN)
    }

    fn get_and_touch(&mut self, with_cas: bool) -> Result<Request<'a>, Refusal> {
        let refusal = match self.token() {
            None => UNKNOWN,
            Some(exptime) => match number::signed(exptime) {
                Some(exptime) => return Ok(Request::Get { with_cas, touch: Some(exptime) }),
                None => Refusal { text: Refusal::EXPTIME, noreply: false },
            },
        };
        self.end_line();
        Err(refusal)
    }

    fn store(&self, mode: Mode, args: &Args<'a>) -> Result<Request<'a>, Refusal> {
        let is_cas = matches!(mode, Mode::Cas(_));
        let [key, flags, exptime, bytes, cas, _] = args.list;
        let wanted = 4 + usize::from(is_cas);
        if args.count != wanted && args.count != wanted + 1 {
            return Err(UNKNOWN);
        }
        let read = || {
            let key = self.as_key(key)?;
            let flags = number::unsigned(flags)? as u32;
            let exptime = number::signed(exptime)?;
            let bytes = number::signed(bytes)?;
            let mode = if is_cas { Mode::Cas(number::unsigned(cas)?) } else { mode };
            // memcached adds two for the line end and keeps the sum in an int.
            let bytes = usize::try_from(bytes).ok().filter(|&n| n <= i32::MAX as usize - 2)?;
            Some(Request::Store { mode, key, flags, exptime, bytes, noreply: args.noreply() })
        };
        read().ok_or(args.refuse(Refusal::FORMAT))
    }

    fn change(&self, delta: fn(u64) -> Delta, args: &Args<'a>) -> Result<Request<'a>, Refusal> {
        if args.count != 2 && args.count != 3 {
            return Err(UNKNOWN);
        }
        let key = self.as_key(args.list[0]).ok_or(args.refuse(Refusal::FORMAT))?;
        let by = number::unsigned(args.list[1]).ok_or(args.refuse(Refusal::DELTA))?;
        Ok(Request::Change { key, delta: delta(by), noreply: args.noreply() })
    }

    fn delete(&self, args: &Args<'a>) -> Result<Request<'a>, Refusal> {
        if !(1..=3).contains(&args.count) {
            return Err(UNKNOWN);
        }
        // A hold time was once allowed; 0 still is.
        let held = args.list[1] == b"0";
        let valid = match args.count {
            1 => true,
            2 => held || args.noreply(),
            _ => held && args.noreply(),
        };
        if !valid {
            return Err(args.refuse(Refusal::DELETE));
        }
        // A key of that name is not a wish to hear nothing.
        let noreply = args.count > 1 && args.noreply();
        let key = self.as_key(args.list[0]).ok_or(Refusal { text: Refusal::FORMAT, noreply })?;
        Ok(Request::Delete { key, noreply })
    }

    fn touch(&self, args: &Args<'a>) -> Result<Request<'a>, Refusal> {
        if args.count != 2 && args.count != 3 {
            return Err(UNKNOWN);
        }
        let key = self.as_key(args.list[0]).ok_or(args.refuse(Refusal::FORMAT))?;
        let exptime = number::signed(args.list[1]).ok_or(args.refuse(Refusal::EXPTIME))?;
        Ok(Request::Touch { key, exptime, noreply: args.noreply() })
    }
}

fn flush_all<'a>(args: &Args<'a>) -> Result<Request<'a>, Refusal> {
    if args.count > 2 {
        return Err(UNKNOWN);
    }
    let delay = if args.count == usize::from(args.noreply()) {
        0
    } else {
        number::signed(args.list[0]).ok_or(args.refuse(Refusal::EXPTIME))?
    };
    Ok(Request::FlushAll { delay, noreply: args.noreply() })
}

fn verbosity<'a>(args: &Args<'a>) -> Result<Request<'a>, Refusal> {
    if args.count != 1 && args.count != 2 {
        return Err(UNKNOWN);
    }
    number::unsigned(args.list[0]).ok_or(args.refuse(Refusal::FORMAT))?;
    Ok(Request::Verbosity { noreply: args.noreply() })
}
