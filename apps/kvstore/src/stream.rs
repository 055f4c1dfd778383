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
//! | `stream/text.rs` | lines, and the keys of a `get` |

mod text;

use crate::engine::Expiry;
use crate::protocol::{Input, Reply};
use crate::service::{Service, Time};

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

/// One connection's place in the protocol.
#[derive(Debug, Default)]
pub struct Conversation {
    state: State,
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
    /// More room: the bytes produced are to be sent first.
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
    /// In a `get`, before one of its keys.
    Keys(Keys),
    /// In a line that is passed over.
    SkipLine,
    /// Before so many bytes that are passed over.
    Skip(u64),
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
        Self { state: State::Idle }
    }

    /// Carries out the requests at the start of `input`, in order, and writes the answers to
    /// `output`, as far as both reach. Bytes not consumed are to be shown again, with more
    /// behind them; [`MIN_INPUT`] and [`MIN_OUTPUT`] are enough to go on in any case.
    ///
    /// **Trust:** `input` may be anything. **Cost:** proportional to what is consumed and
    /// produced; a line without its end is looked through again each time.
    pub fn serve(
        &mut self,
        service: &mut Service<'_>,
        now: Time,
        input: &[u8],
        output: &mut [u8],
    ) -> Progress {
        service.begin(now);
        let mut input = Input::of_stream(input, 0);
        let mut output = Reply::new(output);
        let next = loop {
            if let Some(next) = self.step(service, &mut input, &mut output) {
                break next;
            }
        };
        let (consumed, produced) = (input.at(), output.len());
        service.count(consumed, produced);
        Progress { consumed, produced, next }
    }

    /// Gives back what the conversation holds of the store. To be called when the connection
    /// ends, however it ends.
    pub fn end(&mut self, _service: &mut Service<'_>) {
        self.state = State::Idle;
    }

    /// Goes one step further. What is waited for, if there is none.
    fn step(
        &mut self,
        service: &mut Service<'_>,
        input: &mut Input<'_>,
        output: &mut Reply<'_>,
    ) -> Option<Next> {
        match self.state {
            State::Idle => self.next_line(service, input, output),
            State::Keys(keys) => self.keys(keys, service, input, output),
            State::SkipLine => self.skip_line(input),
            State::Skip(left) => self.skip(left, input),
        }
    }

    fn skip(&mut self, left: u64, input: &mut Input<'_>) -> Option<Next> {
        let here = input.skip(usize::try_from(left).unwrap_or(usize::MAX)) as u64;
        if here < left {
            self.state = State::Skip(left - here);
            return Some(Next::Input);
        }
        self.state = State::Idle;
        None
    }

    fn skip_line(&mut self, input: &mut Input<'_>) -> Option<Next> {
        match input.line_len() {
            None => {
                input.skip_all();
                Some(Next::Input)
            }
            Some(len) => {
                input.skip(len);
                self.state = State::Idle;
                None
            }
        }
    }
}
