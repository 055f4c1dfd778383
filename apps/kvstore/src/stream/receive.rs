//! Values that come piece by piece.

use super::{ANSWER, Conversation, Next, State, put};
use crate::engine::{Condition, Expiry, Held, Key, Mode};
use crate::protocol::binary::Asked;
use crate::protocol::{Input, Reply, SetAnswer};
use crate::service::binary::answer_store;
use crate::service::{BAD_CHUNK, Service, code};

/// A value, of which some has come.
#[derive(Debug)]
pub(super) struct Receive {
    pub(super) held: Held,
    /// Bytes that have come.
    at: u32,
    how: How,
}

/// Under which condition it is stored, and what is answered.
#[derive(Debug)]
pub(super) enum How {
    Text { mode: Mode, noreply: bool },
    Meta { terms: Terms, answer: SetAnswer },
    Binary { mode: Mode, compare: u64, asked: Asked, quiet: bool },
}

/// A condition, kept small.
#[derive(Debug)]
pub(super) struct Terms {
    cas: u64,
    vivify: Option<Expiry>,
    kind: Kind,
    allow_stale: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Cas,
}

impl Terms {
    fn new(condition: &Condition) -> Self {
        let (kind, cas) = match condition.mode {
            Mode::Set => (Kind::Set, 0),
            Mode::Add => (Kind::Add, 0),
            Mode::Replace => (Kind::Replace, 0),
            Mode::Append => (Kind::Append, condition.compare),
            Mode::Prepend => (Kind::Prepend, condition.compare),
            Mode::Cas(cas) => (Kind::Cas, cas),
        };
        Self { cas, vivify: condition.vivify, kind, allow_stale: condition.allow_stale }
    }

    /// The condition, but for the CAS id of the new item: that has it already.
    fn condition(&self) -> Condition {
        let mode = match self.kind {
            Kind::Set => Mode::Set,
            Kind::Add => Mode::Add,
            Kind::Replace => Mode::Replace,
            Kind::Append => Mode::Append,
            Kind::Prepend => Mode::Prepend,
            Kind::Cas => Mode::Cas(self.cas),
        };
        let (allow_stale, vivify) = (self.allow_stale, self.vivify);
        Condition { compare: self.cas, allow_stale, vivify, ..Condition::of(mode) }
    }
}

impl How {
    pub(super) fn meta(condition: &Condition, answer: SetAnswer) -> Self {
        Self::Meta { terms: Terms::new(condition), answer }
    }
}

impl Receive {
    pub(super) fn new(held: Held, how: How) -> Self {
        Self { held, at: 0, how }
    }
}

impl Conversation {
    /// Takes what has come of a value; when all of it has, stores it.
    pub(super) fn receive(
        &mut self,
        mut receive: Receive,
        service: &mut Service<'_>,
        input: &mut Input<'_>,
        output: &mut Reply<'_>,
    ) -> Option<Next> {
        let (at, len) = (receive.at as usize, service.engine().held_len(&receive.held));
        let rest = input.rest();
        let piece = rest.get(..rest.len().min(len - at)).unwrap_or_default();
        service.fill(&receive.held, at, piece);
        input.skip(piece.len());
        receive.at += piece.len() as u32;
        let is_binary = matches!(receive.how, How::Binary { .. });
        let end = if is_binary { Some(b"\r\n") } else { input.rest().first_chunk() };
        let end = end.filter(|_| receive.at as usize == len);
        let (Some(end), true) = (end, output.room() >= ANSWER) else {
            let next = if end.is_none() { Next::Input } else { Next::Room };
            self.state = State::Receive(receive);
            return Some(next);
        };
        if !is_binary {
            input.skip(end.len());
        }
        let Receive { held, how, .. } = receive;
        if end != b"\r\n" {
            service.release(held);
            let quiet = matches!(how, How::Text { noreply: true, .. });
            return if quiet { None } else { put(output, BAD_CHUNK) };
        }
        let done = match how {
            How::Text { mode, noreply } => {
                let stored = service.finish(held, &Condition::of(mode)).stored;
                if noreply { Ok(()) } else { output.put(code(stored)) }
            }
            How::Meta { terms, answer } => {
                let (key, key_len) = service.engine().held_key(&held);
                let outcome = service.finish(held, &terms.condition());
                match key.get(..key_len).and_then(Key::any) {
                    Some(key) => service.answer_set_of_meta(&answer, key, outcome, len, output),
                    None => Ok(()),
                }
            }
            How::Binary { mode, compare, asked, quiet } => {
                let condition = Condition { compare, ..Condition::of(mode) };
                let outcome = service.finish(held, &condition);
                answer_store(asked, quiet, mode, outcome, output)
            }
        };
        debug_assert!(done.is_ok(), "room was left");
        None
    }
}
