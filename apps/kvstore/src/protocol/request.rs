//! The requests of the text protocol (`protocol.txt`).
//!
//! Which tokens a command takes, and what is said of a line that is wrong in
//! several ways, follows memcached from 1.6.40 on: too few tokens are
//! refused, more than enough are ignored; then `noreply`, the key, and the numbers in their
//! order. From the second step on a fault is kept quiet if the line asked for no reply. A
//! refused storage command takes its data block with it, if the line says how long that is.
//! Where older versions, newer ones and this store differ is in `docs/memcached.md`.

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
    /// Bytes of the data block that follows the line, if one does: it is to be passed over
    /// ([`Input::skip_data`]).
    pub data: Option<usize>,
}

impl Refusal {
    /// No such command.
    pub const UNKNOWN: &'static [u8] = b"ERROR\r\n";
    /// An argument is missing, or is not what it should be.
    pub const FORMAT: &'static [u8] = b"CLIENT_ERROR bad command line format\r\n";
    const EXPTIME: &'static [u8] = b"CLIENT_ERROR invalid exptime argument\r\n";
    const DELTA: &'static [u8] = b"CLIENT_ERROR invalid numeric delta argument\r\n";

    fn new(text: &'static [u8], noreply: bool) -> Self {
        Self { text, noreply, data: None }
    }
}

/// The most arguments that are read (`cas`), besides the last.
const MAX_ARGS: usize = 5;

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
        Refusal::new(text, self.noreply())
    }

    /// The first so many. That one is missing is told even if the line asked for no reply:
    /// what it asks for is not known.
    fn first<const N: usize>(&self) -> Result<[&'a [u8]; N], Refusal> {
        let first = self.list.first_chunk().filter(|_| self.count >= N);
        first.copied().ok_or(Refusal::new(Refusal::FORMAT, false))
    }
}

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
            b"set" => store(Mode::Set, &args),
            b"add" => store(Mode::Add, &args),
            b"replace" => store(Mode::Replace, &args),
            b"append" => store(Mode::Append, &args),
            b"prepend" => store(Mode::Prepend, &args),
            b"cas" => store(Mode::Cas(0), &args),
            b"incr" => change(Delta::Up, &args),
            b"decr" => change(Delta::Down, &args),
            b"delete" => delete(&args),
            b"touch" => touch(&args),
            b"flush_all" => flush_all(&args),
            b"verbosity" => verbosity(&args),
            b"version" => Ok(Request::Version),
            b"stats" => match (args.count, args.list[0]) {
                (0, _) => Ok(Request::Stats(StatsKind::General)),
                (_, b"reset") => Ok(Request::Stats(StatsKind::Reset)),
                _ => Err(Refusal::new(Refusal::UNKNOWN, false)),
            },
            b"quit" => Ok(Request::Quit),
            // What a browser sends: nothing of it is meant for us.
            [b'A'..=b'Z', _, ..] if args.last.starts_with(b"HTTP/") => Ok(Request::Quit),
            b"noreply" if args.count == 0 => Err(Refusal::new(Refusal::UNKNOWN, true)),
            _ => Err(args.refuse(Refusal::UNKNOWN)),
        };
        self.end_line();
        request
    }

    fn get(&mut self, with_cas: bool) -> Result<Request<'a>, Refusal> {
        if !self.at_line_end() {
            return Ok(Request::Get { with_cas, touch: None });
        }
        self.end_line();
        Err(Refusal::new(Refusal::FORMAT, false))
    }

    fn get_and_touch(&mut self, with_cas: bool) -> Result<Request<'a>, Refusal> {
        let exptime = self.token();
        let refusal = match exptime {
            Some(exptime) if !self.at_line_end() => match number::signed_whole(exptime) {
                Some(exptime) => return Ok(Request::Get { with_cas, touch: Some(exptime) }),
                None => Refusal::EXPTIME,
            },
            _ => Refusal::FORMAT,
        };
        self.end_line();
        Err(Refusal::new(refusal, false))
    }
}

fn store<'a>(mode: Mode, args: &Args<'a>) -> Result<Request<'a>, Refusal> {
    let [key, flags, exptime, bytes] = args.first()?;
    // memcached adds two for the line end and keeps the sum in an int.
    let bytes = number::signed(bytes).and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = bytes.filter(|&n| n <= i32::MAX as usize - 2);
    let bytes = bytes.ok_or(args.refuse(Refusal::FORMAT))?;
    let read = || {
        let key = Key::from_token(key)?;
        let flags = number::unsigned(flags)? as u32;
        let exptime = number::signed(exptime)?;
        let mode = match mode {
            Mode::Cas(_) => Mode::Cas(number::unsigned(args.list[4])?),
            mode => mode,
        };
        Some(Request::Store { mode, key, flags, exptime, bytes, noreply: args.noreply() })
    };
    read().ok_or(Refusal { data: Some(bytes), ..args.refuse(Refusal::FORMAT) })
}

fn change<'a>(delta: fn(u64) -> Delta, args: &Args<'a>) -> Result<Request<'a>, Refusal> {
    let [key, by] = args.first()?;
    let key = Key::from_token(key).ok_or(args.refuse(Refusal::FORMAT))?;
    let by = number::unsigned(by).ok_or(args.refuse(Refusal::DELTA))?;
    Ok(Request::Change { key, delta: delta(by), noreply: args.noreply() })
}

fn delete<'a>(args: &Args<'a>) -> Result<Request<'a>, Refusal> {
    let [key] = args.first()?;
    // A key of that name is not a wish to hear nothing.
    let noreply = args.count > 1 && args.noreply();
    let key = Key::from_token(key).ok_or(Refusal::new(Refusal::FORMAT, noreply))?;
    Ok(Request::Delete { key, noreply })
}

fn touch<'a>(args: &Args<'a>) -> Result<Request<'a>, Refusal> {
    let [key, exptime] = args.first()?;
    let key = Key::from_token(key).ok_or(args.refuse(Refusal::FORMAT))?;
    let exptime = number::signed_whole(exptime).ok_or(args.refuse(Refusal::EXPTIME))?;
    Ok(Request::Touch { key, exptime, noreply: args.noreply() })
}

fn flush_all<'a>(args: &Args<'a>) -> Result<Request<'a>, Refusal> {
    let delay = if args.count == usize::from(args.noreply()) {
        0
    } else {
        number::signed_whole(args.list[0]).ok_or(args.refuse(Refusal::EXPTIME))?
    };
    Ok(Request::FlushAll { delay, noreply: args.noreply() })
}

fn verbosity<'a>(args: &Args<'a>) -> Result<Request<'a>, Refusal> {
    let [level] = args.first()?;
    number::unsigned(level).ok_or(args.refuse(Refusal::FORMAT))?;
    Ok(Request::Verbosity { noreply: args.noreply() })
}
