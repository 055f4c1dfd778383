//! The requests of the text protocol (`protocol.txt`).
//!
//! Which tokens a command takes, and what is said of a line that is wrong in
//! several ways, follows memcached from 1.6.40 on: too few tokens are
//! refused, more than enough are ignored; then `noreply`, the key, and the numbers in their
//! order. From the second step on a fault is kept quiet if the line asked for no reply. A
//! refused storage command takes its data block with it, if the line says how long that is.
//! Where older versions, newer ones and this store differ is in `docs/memcached.md`.

use super::input::Input;
use super::meta::Meta;
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
    /// `mg`.
    MetaGet(Meta<'a>),
    /// `ms`: the data block follows; take it with [`Input::data`].
    MetaSet { meta: Meta<'a>, mode: Mode, bytes: usize },
    /// `md`.
    MetaDelete(Meta<'a>),
    /// `ma`.
    MetaArithmetic { meta: Meta<'a>, delta: Delta },
    /// `me`.
    MetaDebug(Meta<'a>),
    /// `mn`.
    MetaNoop,
    /// `verbosity`: accepted, without effect.
    Verbosity { noreply: bool },
    /// `shutdown`, in one of its modes or in none that there is.
    Shutdown { is_known: bool, noreply: bool },
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
    /// What the store was made with.
    Settings,
    /// Items by bucket.
    Items,
    /// Memory by bucket.
    Slabs,
    /// Items by size: not counted.
    Sizes,
    /// Connections: known to their owner, not here.
    Connections,
    /// Keys that are read most: memcached has no such statistics.
    HotKeys,
}

impl StatsKind {
    /// The statistics of this name; of none, the general ones.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"" => Self::General,
            b"reset" => Self::Reset,
            b"settings" => Self::Settings,
            b"items" => Self::Items,
            b"slabs" => Self::Slabs,
            b"sizes" => Self::Sizes,
            b"conns" => Self::Connections,
            b"hotkeys" => Self::HotKeys,
            _ => return None,
        })
    }
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
            [b'm', kind @ (b'g' | b's' | b'd' | b'a' | b'e' | b'n')] => return self.meta(*kind),
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
            b"stats" => match StatsKind::of(args.list[0]) {
                Some(kind) => Ok(Request::Stats(kind)),
                None => Err(Refusal::new(stats_refusal(&args), false)),
            },
            b"shutdown" => {
                let mode = &args.list[..args.count.min(MAX_ARGS)];
                let is_known = matches!(mode, [] | [b"graceful"]);
                Ok(Request::Shutdown { is_known, noreply: args.noreply() })
            }
            b"cache_memlimit" => Err(args.refuse(memory_limit(&args))),
            b"slabs" if args.list[0] == b"reassign" && args.count == 3 => {
                Err(args.refuse(b"CLIENT_ERROR slab reassignment disabled\r\n"))
            }
            b"lru_crawler" if matches!((args.list[0], args.count), (b"crawl" | b"metadump", 2)) => {
                Err(args.refuse(b"CLIENT_ERROR lru crawler disabled\r\n"))
            }
            b"watch" => Err(args.refuse(b"CLIENT_ERROR watch commands not allowed\r\n")),
            b"quit" => Ok(Request::Quit),
            // What a browser sends: nothing of it is meant for us.
            [b'A'..=b'Z', _, ..] if args.last.starts_with(b"HTTP/") => Ok(Request::Quit),
            b"noreply" if args.count == 0 => Err(Refusal::new(Refusal::UNKNOWN, true)),
            _ => Err(args.refuse(Refusal::UNKNOWN)),
        };
        self.end_line();
        request
    }

    fn meta(&mut self, kind: u8) -> Result<Request<'a>, Refusal> {
        let refuse = |text| Refusal::new(text, false);
        let key = if kind == b'n' { b"" } else { self.token().unwrap_or_default() };
        let bytes = if kind == b's' { self.token().unwrap_or_default() } else { b"" };
        let tokens = self.rest_of_line();
        self.end_line();
        let meta = || Meta::read(key, tokens);
        match kind {
            b's' => meta_set(key, bytes, tokens),
            b'g' => meta().map(Request::MetaGet).map_err(refuse),
            b'd' => meta().map(Request::MetaDelete).map_err(refuse),
            b'e' => {
                // Of its flags only the first matters, and only if it is this.
                let first = tokens.split(|&byte| byte == b' ').find(|token| !token.is_empty());
                let tokens = if first == Some(b"b") { b"b" as &[u8] } else { b"" };
                let meta = Meta::read(key, tokens).map_err(|_| refuse(Refusal::FORMAT))?;
                Ok(Request::MetaDebug(meta))
            }
            b'a' => {
                let fault = b"CLIENT_ERROR invalid or duplicate flag\r\n";
                let meta = meta().map_err(|text| match text {
                    Refusal::FORMAT => refuse(text),
                    text if text.starts_with(b"CLIENT_ERROR op") => refuse(text),
                    _ => refuse(fault),
                })?;
                let by = meta.flags.delta.unwrap_or(1);
                let delta = match meta.flags.mode {
                    0 | b'I' | b'+' => Delta::Up(by),
                    b'D' | b'-' => Delta::Down(by),
                    _ => return Err(refuse(b"CLIENT_ERROR invalid mode for ma M token\r\n")),
                };
                Ok(Request::MetaArithmetic { meta, delta })
            }
            _ => Ok(Request::MetaNoop),
        }
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

/// What to say of statistics that there are not.
fn stats_refusal(args: &Args<'_>) -> &'static [u8] {
    match args.list[0] {
        b"detail" => b"CLIENT_ERROR usage: stats detail on|off|dump\r\n",
        b"cachedump" => b"CLIENT_ERROR stats cachedump not allowed\r\n",
        _ => Refusal::UNKNOWN,
    }
}

/// The memory was given once and for all: why the limit does not change.
fn memory_limit(args: &Args<'_>) -> &'static [u8] {
    match number::unsigned(args.list[0]) {
        None => Refusal::UNKNOWN,
        Some(..8) => b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
        Some(1_000_000_001..) => b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
        Some(_) => b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
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

fn meta_set<'a>(key: &'a [u8], bytes: &[u8], tokens: &'a [u8]) -> Result<Request<'a>, Refusal> {
    let bytes = number::signed_whole(bytes).and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = bytes.filter(|&n| n <= i32::MAX as usize - 2);
    let bytes = bytes.ok_or(Refusal::new(Refusal::FORMAT, false))?;
    let refuse = |text| Refusal { text, noreply: false, data: Some(bytes) };
    let meta = Meta::read(key, tokens).map_err(refuse)?;
    let mode = match (meta.flags.mode, meta.flags.compare) {
        (0 | b'S' | b'R', Some(cas)) => Mode::Cas(cas),
        (mode, _) => match mode {
            0 | b'S' => Mode::Set,
            b'R' => Mode::Replace,
            b'E' => Mode::Add,
            b'A' => Mode::Append,
            b'P' => Mode::Prepend,
            _ => return Err(refuse(b"CLIENT_ERROR invalid mode for ms M token\r\n")),
        },
    };
    Ok(Request::MetaSet { meta, mode, bytes })
}

fn change<'a>(delta: fn(u64) -> Delta, args: &Args<'a>) -> Result<Request<'a>, Refusal> {
    let [key, by] = args.first()?;
    let key = Key::from_token(key).ok_or(args.refuse(Refusal::FORMAT))?;
    let by = number::unsigned(by).ok_or(args.refuse(Refusal::DELTA))?;
    Ok(Request::Change { key, delta: delta(by), noreply: args.noreply() })
}

fn delete<'a>(args: &Args<'a>) -> Result<Request<'a>, Refusal> {
    let [key] = args.first()?;
    // A key, a time to hold it, and `noreply`: more was never a `delete`.
    if args.count > 3 {
        return Err(Refusal::new(Refusal::UNKNOWN, false));
    }
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
