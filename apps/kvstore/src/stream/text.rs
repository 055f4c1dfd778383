//! Lines of the text protocol, as they come.
//!
//! A line is carried out when its end is there; the keys of a `get`, of which there may be any
//! number, as they come once the line is long.

use super::receive::{How, Receive};
use super::send::Rows;
use super::{ANSWER, Conversation, Keys, MAX_LINE, Next, PIECE, State, VALUE, put};
use crate::engine::{Condition, Key};
use crate::protocol::{Input, Refusal, Reply, Request, SetAnswer, StatsKind, TooLarge};
use crate::service::Service;
use crate::service::stats::Form;

const NO_MEMORY: &[u8] = b"SERVER_ERROR out of memory writing get response\r\n";
const END: &[u8] = b"END\r\n";

impl Conversation {
    pub(super) fn next_line(
        &mut self,
        service: &mut Service<'_>,
        input: &mut Input<'_>,
        output: &mut Reply<'_>,
    ) -> Option<Next> {
        let Some(len) = input.line_len() else { return self.unfinished(input) };
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
            Ok(Request::Shutdown { is_known: true, .. }) if service.shut_down() => {
                return Some(Next::Close);
            }
            Ok(Request::Store { mode, key, flags, exptime, bytes, noreply })
                if input.rest().len() < bytes + 2 =>
            {
                let begun = if !service.engine().fits(key, flags, bytes) {
                    Err(service.refuse_large(mode, key))
                } else if bytes <= PIECE {
                    input.go_to(start);
                    return Some(Next::Input);
                } else {
                    let expiry = service.expiry(exptime);
                    service.begin_item(key, flags, expiry, bytes, &Condition::of(mode))
                };
                let begun = begun.map(|held| Receive::new(held, How::Text { mode, noreply }));
                return self.begin_value(begun, bytes, noreply, output);
            }
            Ok(Request::MetaSet { meta, mode, bytes }) if input.rest().len() < bytes + 2 => {
                let (flags, mut room) = (meta.flags.client_flags, None);
                let begun = match meta.key(&mut room) {
                    None => Err(Refusal::FORMAT),
                    Some(key) if !service.engine().fits(key, flags, bytes) => {
                        Err(service.refuse_large_meta(key))
                    }
                    Some(_) if bytes <= PIECE => {
                        input.go_to(start);
                        return Some(Next::Input);
                    }
                    Some(key) => {
                        let condition = service.meta_condition(&meta, mode);
                        let expiry = service.meta_expiry(&meta);
                        let how = How::meta(&condition, SetAnswer::new(&meta));
                        let held = service.begin_item(key, flags, expiry, bytes, &condition);
                        held.map(|held| Receive::new(held, how))
                    }
                };
                return self.begin_value(begun, bytes, false, output);
            }
            Ok(Request::Stats(kind)) if kind != StatsKind::Reset => {
                self.state = State::Rows(Rows { kind, row: 0, form: Form::Text });
            }
            Ok(request) => {
                let may_be_long = matches!(request, Request::MetaGet(_));
                if may_be_long && output.room() < VALUE {
                    input.go_to(start);
                    return Some(Next::Room);
                }
                let before = output.len();
                if let Err(TooLarge) = service.carry_out(request, input, output) {
                    output.truncate(before);
                    return put(output, NO_MEMORY);
                }
                if let Some(rest) = output.take_rest() {
                    self.state = State::Send(rest, None);
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

    /// Takes a value of `bytes` bytes piece by piece from now on, or passes it over and says why.
    fn begin_value(
        &mut self,
        begun: Result<Receive, &'static [u8]>,
        bytes: usize,
        noreply: bool,
        output: &mut Reply<'_>,
    ) -> Option<Next> {
        match begun {
            Ok(receive) => self.state = State::Receive(receive),
            Err(refusal) => {
                self.state = State::Skip(bytes as u64 + 2);
                if !noreply {
                    return put(output, refusal);
                }
            }
        }
        None
    }

    /// A line that has no end yet.
    fn unfinished(&mut self, input: &mut Input<'_>) -> Option<Next> {
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
            self.state = State::Keys(keys);
            if output.room() < VALUE || service.engine().must_commit() {
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
                        return put(output, NO_MEMORY);
                    }
                    if let Some(rest) = output.take_rest() {
                        self.state = State::Send(rest, Some(keys));
                        return None;
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
