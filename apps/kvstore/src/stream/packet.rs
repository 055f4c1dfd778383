//! Requests of the binary protocol, as they come.

use super::receive::{How, Receive};
use super::sasl::{MECHANISM, MOST};
use super::send::Rows;
use super::{Conversation, Next, PIECE, State, VALUE};
use crate::engine::{Expiry, Key};
use crate::protocol::binary::{Command, HEADER, Head, Status};
use crate::protocol::{Input, Reply, StatsKind, TooLarge};
use crate::service::Service;
use crate::service::binary::binary_condition;
use crate::service::stats::Form;

impl Conversation {
    pub(super) fn next_packet(
        &mut self,
        service: &mut Service<'_>,
        input: &mut Input<'_>,
        output: &mut Reply<'_>,
    ) -> Option<Next> {
        let rest = input.rest();
        let Some(bytes) = rest.first_chunk::<HEADER>() else { return Some(Next::Input) };
        if output.room() < VALUE {
            return Some(Next::Room);
        }
        let Some(head) = Head::read(bytes) else { return Some(Next::Close) };
        let asked = head.asked();
        let Some(value_len) = head.value_len() else {
            put(asked.refuse(Status::UNKNOWN, output));
            return Some(Next::Close);
        };
        if self.bars(head.command) {
            put(asked.refuse(Status::BARRED, output));
            return Some(Next::Close);
        }
        if !head.is_valid() {
            put(asked.refuse(Status::INVALID, output));
            return Some(Next::Close);
        }
        let value_at = HEADER + head.before_value();
        let (Some(extras), Some(key)) = (
            rest.get(HEADER..HEADER + usize::from(head.extras)),
            rest.get(HEADER + usize::from(head.extras)..value_at),
        ) else {
            return Some(Next::Input);
        };
        let value = rest.get(value_at..value_at + value_len);
        // What is in place of a value where there is none.
        let mut skip = value_len as u64;
        match (head.command, value) {
            (Command::Quit, _) => {
                input.skip(value_at);
                if !head.quiet {
                    put(asked.put(0, b"", b"", b"", output));
                }
                return Some(Next::Close);
            }
            (Command::Mechanisms | Command::Login, _) if !service.has_users() => {
                put(asked.refuse(Status::UNKNOWN, output));
            }
            (Command::Mechanisms, _) => put(asked.put(0, b"", b"", MECHANISM, output)),
            (Command::Login, None) if value_len <= MOST => return Some(Next::Input),
            (Command::Login, message) => {
                put(self.log_in_by_sasl(asked, key, message, service, output));
            }
            (Command::Unknown, _) => put(asked.refuse(Status::UNKNOWN, output)),
            (Command::Stat, _) => match StatsKind::of(key) {
                None => put(asked.refuse(Status::NOT_FOUND, output)),
                Some(kind) => {
                    if kind == StatsKind::Reset {
                        service.reset_stats();
                    }
                    input.skip(value_at + value_len);
                    self.state = State::Rows(Rows { kind, row: 0, form: Form::Binary(asked) });
                    return None;
                }
            },
            (Command::Store(_) | Command::Join(_), None) => {
                match self.begin(&head, extras, key, service, output) {
                    None => return Some(Next::Input),
                    Some(true) => {
                        input.skip(value_at);
                        return None;
                    }
                    Some(false) => {}
                }
            }
            (_, value) => {
                let before = output.len();
                let value = value.unwrap_or_default();
                if let Err(TooLarge) = service.carry_out_binary(&head, extras, key, value, output) {
                    output.truncate(before);
                    put(asked.refuse(Status::NO_MEMORY, output));
                }
                if let Some(rest) = output.take_rest() {
                    self.state = State::Send(rest, None);
                }
                if skip == 0 || matches!(head.command, Command::Store(_) | Command::Join(_)) {
                    input.skip(value_at + value_len);
                    return None;
                }
            }
        }
        input.skip(value_at);
        skip -= input.skip(usize::try_from(skip).unwrap_or(usize::MAX)) as u64;
        if skip > 0 {
            self.state = State::Skip(skip);
        }
        None
    }

    /// Begins to store a value that has not come as a whole: whether it did. `None` if it is
    /// to be waited for.
    fn begin(
        &mut self,
        head: &Head,
        extras: &[u8],
        key: &[u8],
        service: &mut Service<'_>,
        output: &mut Reply<'_>,
    ) -> Option<bool> {
        let (asked, value_len) = (head.asked(), head.value_len()?);
        let key = Key::any(key)?;
        let (mode, (flags, expiry)) = match head.command {
            Command::Store(mode) => (mode, service.store_extras(extras)),
            Command::Join(mode) => (mode, (0, Expiry::NEVER)),
            _ => return Some(false),
        };
        if !service.engine().fits(key, flags, value_len) {
            put(service.refuse_large_binary(asked, mode, key, output));
            return Some(false);
        }
        if value_len <= PIECE {
            return None;
        }
        let condition = binary_condition(head, mode);
        match service.begin_item(key, flags, expiry, value_len, &condition) {
            Ok(held) => {
                let (mode, compare) = (condition.mode, condition.compare);
                let how = How::Binary { mode, compare, asked, quiet: head.quiet };
                self.state = State::Receive(Receive::new(held, how));
                Some(true)
            }
            Err(_) => {
                put(asked.refuse(Status::NO_MEMORY, output));
                Some(false)
            }
        }
    }
}

/// Of an answer for which there was room.
fn put(put: Result<(), TooLarge>) {
    debug_assert!(put.is_ok(), "room was left");
}
