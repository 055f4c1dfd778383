//! Lines of the text protocol, as they come.
//!
//! A line is carried out when its end is there; the keys of a `get`, of which there may be any
//! number, as they come once the line is long.

use super::{ANSWER, Conversation, Keys, MAX_LINE, Next, State};
use crate::engine::Key;
use crate::protocol::{Input, Refusal, Reply, Request, TooLarge};
use crate::service::Service;

/// Room for every value that is not given piece by piece, and what is around it.
const VALUE: usize = 3072;

const END: &[u8] = b"END\r\n";

impl Conversation {
    pub(super) fn next_line(
        &mut self,
        service: &mut Service<'_>,
        input: &mut Input<'_>,
        output: &mut Reply<'_>,
    ) -> Option<Next> {
        let Some(len) = input.line_len() else { return self.unfinished(service, input) };
        if output.room() < ANSWER {
            return Some(Next::Room);
        }
        let start = input.at();
        let line = input.rest().get(..len).unwrap_or_default();
        match input.request() {
            Ok(Request::Get { with_cas, touch }) => {
                if len > Key::MAX_LEN && has_bad_key(line) {
                    input.go_to(start + len);
                    return put(output, Refusal::FORMAT);
                }
                let touch = touch.map(|exptime| service.expiry(exptime));
                self.state = State::Keys(Keys { with_cas, touch });
            }
            Ok(Request::Quit) => return Some(Next::Close),
            Ok(Request::Store { bytes, key, flags, mode, noreply, .. })
                if input.rest().len() < bytes + 2 =>
            {
                if service.engine().fits(key, flags, bytes) {
                    input.go_to(start);
                    return Some(Next::Input);
                }
                let answer = service.refuse_large(mode, key);
                self.state = State::Skip(bytes as u64 + 2);
                return if noreply { None } else { put(output, answer) };
            }
            Ok(Request::Stats(_)) if output.room() < super::MIN_OUTPUT / 2 => {
                input.go_to(start);
                return Some(Next::Room);
            }
            Ok(request) => {
                let before = output.len();
                if let Err(TooLarge) = service.carry_out(request, input, output) {
                    output.truncate(before);
                    return put(output, b"SERVER_ERROR reply too large\r\n");
                }
            }
            Err(Refusal { text, noreply, data }) => {
                if let Some(len) = data {
                    self.state = State::Skip(len as u64 + 2);
                }
                return if noreply { None } else { put(output, text) };
            }
        }
        None
    }

    /// A line whose end is not there yet.
    fn unfinished(&mut self, service: &Service<'_>, input: &mut Input<'_>) -> Option<Next> {
        let rest = input.rest();
        if rest.len() <= MAX_LINE {
            return Some(Next::Input);
        }
        // A long `get`. (memcached lets a hundred blanks precede it.)
        let text = rest.get(rest.iter().take_while(|&&byte| byte == b' ').count()..);
        let text = text.filter(|text| rest.len() - text.len() <= 100).unwrap_or_default();
        let with_cas = match text {
            [b'g', b'e', b't', b' ', ..] => false,
            [b'g', b'e', b't', b's', b' ', ..] => true,
            _ => return Some(Next::Close),
        };
        let _ = service;
        input.go_to(input.at() + rest.len() - text.len() + 4 + usize::from(with_cas));
        self.state = State::Keys(Keys { with_cas, touch: None });
        None
    }

    /// Answers the keys of a `get` from where the input stands.
    pub(super) fn keys(
        &mut self,
        keys: Keys,
        service: &mut Service<'_>,
        input: &mut Input<'_>,
        output: &mut Reply<'_>,
    ) -> Option<Next> {
        let ends = input.line_len();
        loop {
            if output.room() < VALUE {
                return Some(Next::Room);
            }
            input.skip_blanks();
            let start = input.at();
            let key = input.key();
            if ends.is_none() && input.rest().is_empty() && input.at() - start <= Key::MAX_LEN {
                // It may go on.
                input.go_to(start);
                return Some(Next::Input);
            }
            match key {
                None => {
                    input.end_line();
                    self.state = State::Idle;
                    return put(output, END);
                }
                Some(Err(_)) => return self.refuse_rest(output),
                Some(Ok(key)) => {
                    let before = output.len();
                    if let Err(TooLarge) = service.put_value(keys.with_cas, keys.touch, key, output)
                    {
                        output.truncate(before);
                        self.state = State::SkipLine;
                        return put(output, b"SERVER_ERROR reply too large\r\n");
                    }
                }
            }
        }
    }

    /// The rest of a line is nothing; what precedes it was answered.
    fn refuse_rest(&mut self, output: &mut Reply<'_>) -> Option<Next> {
        self.state = State::SkipLine;
        put(output, Refusal::FORMAT)
    }
}

/// Whether a token of a line of `get` is too long for a key.
fn has_bad_key(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.split(|&byte| byte == b' ').any(|token| token.len() > Key::MAX_LEN)
}

/// Writes an answer for which there is room.
fn put(output: &mut Reply<'_>, answer: &[u8]) -> Option<Next> {
    let put = output.put(answer);
    debug_assert!(put.is_ok(), "room was left");
    None
}
