//! A byte stream of requests, and the answers to them: what a TCP connection carries.
//!
//! A [`Conversation`] is one connection's place in the protocol, and nothing else: no buffer,
//! no socket, no clock. The owner of the connection shows it the bytes that have come and
//! room for answers, again and again; it says how many bytes it has taken and written, and
//! what it waits for. So buffers exist only where there is data, and a connection that says
//! nothing costs the size of this type.
//!
//! Place on the packet path: step 5, behind TCP instead of UDP. The requests are carried out
//! by the same [`Service`].
//!
//! | file | what it is |
//! |---|---|
//! | `stream/login.rs`, `stream/sasl.rs` | a user and a password, where they are wanted |
//! | `stream/text.rs` | lines, and the keys of a `get` |
//! | `stream/usual.rs` | usual requests, as a whole |
//! | `stream/packet.rs` | requests of the binary protocol |
//! | `stream/receive.rs` | values that come piece by piece |
//! | `stream/send.rs` | what goes out piece by piece |
//!
//! A value of more than [`PIECE`] bytes that has not come as a whole is written where it will
//! lie, and one that does not fit the output is sent from where it lies. Both are *held*
//! meanwhile (`engine/hold.rs`): they neither change nor move, and how much may be held is
//! bounded. A connection that ends must therefore be told to its conversation
//! ([`Conversation::end`]).

mod login;
mod packet;
mod receive;
mod sasl;
mod send;
mod text;
mod usual;

use crate::engine::Expiry;
use crate::protocol::binary;
use crate::protocol::{Input, Reply, Rest};
use crate::service::{Service, Time};

use receive::Receive;
use send::Rows;

/// Input that is enough for every request that is not taken piece by piece: an owner that can
/// show so much at once, never waits for ever.
pub const MIN_INPUT: usize = 4608;

/// Output in which there is room for every answer that is not given piece by piece.
pub const MIN_OUTPUT: usize = 4096;

/// The longest line but for a `get` without its end, as in memcached: the connection of a
/// longer one is closed.
const MAX_LINE: usize = 2048;

/// Room for every answer but values and statistics.
const ANSWER: usize = 640;

/// Room for every answer to one key, but for long values, which may follow piece by piece.
const VALUE: usize = 3072;

/// A value of more bytes is taken as it comes; a shorter one, as a whole.
const PIECE: usize = 2048;

/// One connection's place in the protocol.
#[derive(Debug, Default)]
pub struct Conversation {
    state: State,
    speaks: Speaks,
}

/// Which protocol is spoken: the first byte tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Speaks {
    #[default]
    Nothing,
    /// Text, in which a user is to log in before anything else.
    Login,
    Text,
    /// Binary, of which little is answered before a login.
    Barred,
    Binary,
}

/// What [`Conversation::serve`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Bytes of the output that are to be sent.
    pub produced: usize,
    /// What it waits for.
    pub next: Next,
}

/// What a conversation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More bytes than those not consumed, which are to be shown again before the new ones.
    Input,
    /// More room: the bytes produced are to be sent first, and what was changed is to be made
    /// durable, if it is to be at all.
    Room,
    /// Nothing any more: the connection is to be closed once the bytes produced are sent.
    Close,
}

/// In the middle of what a conversation is.
#[derive(Debug, Default)]
enum State {
    /// Between two requests.
    #[default]
    Idle,
    /// Before a user and a password of so many bytes.
    Login(usize),
    /// In a `get`, before one of its keys.
    Keys(Keys),
    /// In a line that is passed over.
    SkipLine,
    /// Before so many bytes that are passed over.
    Skip(u64),
    /// In a value that is stored.
    Receive(Receive),
    /// In a value that is sent; then, in a `get`, before one of its keys.
    Send(Rest, Option<Keys>),
    /// In statistics.
    Rows(Rows),
}

/// What a `get` asks for.
#[derive(Clone, Copy, Debug)]
struct Keys {
    with_cas: bool,
    touch: Option<Expiry>,
}

impl Conversation {
    /// A conversation about to begin.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Idle, speaks: Speaks::Nothing }
    }

    /// Carries out the requests at the start of `input`, in order, and writes the answers to
    /// `output`, as far as both reach. Bytes not consumed are to be shown again, with more
    /// behind them; [`MIN_INPUT`] and [`MIN_OUTPUT`] are enough to go on in any case.
    ///
    /// **Trust:** `input` may be anything. **Cost:** proportional to what is consumed and
    /// produced; a line without its end is looked through again each time.
    #[inline]
    pub fn serve(
        &mut self,
        service: &mut Service<'_>,
        now: Time,
        input: &[u8],
        output: &mut [u8],
    ) -> Progress {
        service.begin(now);
        if self.is_between_lines()
            && let Some(produced) = usual::carry_out_one(service, input, output)
        {
            service.count(input.len(), produced);
            return Progress { consumed: input.len(), produced, next: Next::Input };
        }
        self.serve_any(service, input, output)
    }

    /// The same for any number of requests of any kind.
    #[inline(never)]
    fn serve_any(
        &mut self,
        service: &mut Service<'_>,
        input: &[u8],
        output: &mut [u8],
    ) -> Progress {
        let mut input = Input::of_stream(input, 0);
        let mut output = Reply::of_stream(output);
        let next = loop {
            if self.is_between_lines() {
                usual::carry_out(service, &mut input, &mut output);
                if !input.has_more() {
                    break Next::Input;
                }
            }
            if let Some(next) = self.step(service, &mut input, &mut output) {
                break next;
            }
        };
        let (consumed, produced) = (input.at(), output.len());
        service.count(consumed, produced);
        Progress { consumed, produced, next }
    }

    /// Whether a line of text comes next.
    #[inline(always)]
    fn is_between_lines(&self) -> bool {
        matches!((&self.state, self.speaks), (State::Idle, Speaks::Text))
    }

    /// Gives back what the conversation holds of the store. To be called when the connection
    /// ends, however it ends. A new conversation may follow.
    pub fn end(&mut self, service: &mut Service<'_>) {
        match core::mem::take(&mut self.state) {
            State::Receive(receive) => service.release(receive.held),
            State::Send(rest, _) => service.release(rest.held),
            _ => {}
        }
        if core::mem::take(&mut self.speaks) != Speaks::Nothing {
            service.count_connection(false);
        }
    }

    /// Goes one step further. What is waited for, if there is none.
    fn step(
        &mut self,
        service: &mut Service<'_>,
        input: &mut Input<'_>,
        output: &mut Reply<'_>,
    ) -> Option<Next> {
        if service.engine().must_commit() {
            return Some(Next::Room);
        }
        match core::mem::take(&mut self.state) {
            State::Idle => match (self.speaks, input.rest().first()) {
                (_, None) => Some(Next::Input),
                (Speaks::Login, _) => self.log_in(input, output),
                (Speaks::Text, _) => self.next_line(service, input, output),
                (Speaks::Binary | Speaks::Barred, _) => self.next_packet(service, input, output),
                (Speaks::Nothing, Some(first)) => {
                    self.speaks = match *first {
                        binary::MAGIC if service.has_users() => Speaks::Barred,
                        _ if service.has_users() => Speaks::Login,
                        binary::MAGIC => Speaks::Binary,
                        _ => Speaks::Text,
                    };
                    service.count_connection(true);
                    None
                }
            },
            State::Login(len) => self.check(len, service, input, output),
            State::Keys(keys) => self.keys(keys, service, input, output),
            State::SkipLine => self.skip_line(input),
            State::Skip(left) => self.skip(left, input),
            State::Receive(receive) => self.receive(receive, service, input, output),
            State::Send(rest, then) => self.send(rest, then, service, output),
            State::Rows(rows) => self.rows(rows, service, output),
        }
    }

    fn skip(&mut self, left: u64, input: &mut Input<'_>) -> Option<Next> {
        let here = input.skip(usize::try_from(left).unwrap_or(usize::MAX)) as u64;
        if here < left {
            self.state = State::Skip(left - here);
            return Some(Next::Input);
        }
        None
    }

    fn skip_line(&mut self, input: &mut Input<'_>) -> Option<Next> {
        match input.line_len() {
            None => {
                input.skip_all();
                self.state = State::SkipLine;
                Some(Next::Input)
            }
            Some(len) => {
                input.skip(len);
                None
            }
        }
    }
}

/// Writes an answer for which there is room.
fn put(output: &mut Reply<'_>, answer: &[u8]) -> Option<Next> {
    let put = output.put(answer);
    debug_assert!(put.is_ok(), "room was left");
    None
}
