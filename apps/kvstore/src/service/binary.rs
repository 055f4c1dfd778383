//! The commands of the binary protocol, carried out.

use super::stats::Form;
use super::{Service, VERSION};
use crate::engine::{Condition, DeltaError, Expiry, Key, Mode, NoRoom, Outcome, Stored};
use crate::number::Decimal;
use crate::protocol::binary::{Asked, Command, HEADER, Head, Status, change_extras, number};
use crate::protocol::{Reply, StatsKind, TooLarge};

/// Stands for "do not make an item" in place of an expiry time.
const NONE_IS_MADE: u32 = u32::MAX;

impl Service<'_> {
    /// Carries out a request, whose lengths are valid, and whose value is there if it stores.
    /// [`Command::Quit`], [`Command::Stat`] and what is unknown are the caller's affair.
    pub(crate) fn carry_out_binary(
        &mut self,
        head: &Head,
        extras: &[u8],
        key: &[u8],
        value: &[u8],
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let (asked, cas) = (head.asked(), head.cas);
        match (head.command, Key::any(key)) {
            (Command::Noop, _) => asked.put(0, b"", b"", b"", out),
            (Command::Version, _) => {
                let version = VERSION.strip_prefix(b"VERSION ").unwrap_or_default();
                let version = version.strip_suffix(b"\r\n").unwrap_or_default();
                asked.put(0, b"", b"", version, out)
            }
            (Command::Flush, _) => {
                self.flush_at(number(extras).unwrap_or(0));
                done(head, 0, out)
            }
            (Command::Get { with_key }, Some(key)) => {
                self.get_binary(head, key, (with_key, true), None, out)
            }
            (Command::GetAndTouch { with_key }, Some(key)) => {
                let expiry = number(extras).map(|exptime| self.expiry_of(exptime));
                self.get_binary(head, key, (with_key, true), expiry, out)
            }
            (Command::Touch, Some(key)) => {
                let expiry = number(extras).map(|exptime| self.expiry_of(exptime));
                self.get_binary(head, key, (false, false), expiry, out)
            }
            (Command::Delete, Some(key)) => match self.engine.look_up(key) {
                None => {
                    self.engine.stats_mut().delete_misses += 1;
                    asked.refuse(Status::NOT_FOUND, out)
                }
                Some(found) if cas != 0 && self.engine.info(found).cas != cas => {
                    asked.refuse(Status::EXISTS, out)
                }
                Some(found) => {
                    self.engine.stats_mut().delete_hits += 1;
                    self.engine.remove(found);
                    done(head, 0, out)
                }
            },
            (Command::Change { up }, Some(key)) => self.change_binary(head, key, (up, extras), out),
            (Command::Store(mode), Some(key)) => {
                let (flags, expiry) = self.store_extras(extras);
                if !self.engine.fits(key, flags, value.len()) {
                    return self.refuse_large_binary(asked, mode, key, out);
                }
                let condition = binary_condition(head, mode);
                let outcome = self.engine.store_if(&condition, key, flags, expiry, value);
                answer_store(asked, head.quiet, condition.mode, outcome, out)
            }
            (Command::Join(mode), Some(key)) => {
                if !self.engine.fits(key, 0, value.len()) {
                    return self.refuse_large_binary(asked, mode, key, out);
                }
                let condition = binary_condition(head, mode);
                let outcome = self.engine.store_if(&condition, key, 0, Expiry::NEVER, value);
                answer_store(asked, head.quiet, mode, outcome, out)
            }
            _ => asked.refuse(Status::INVALID, out),
        }
    }

    /// Carries out the requests in a datagram, and answers them.
    pub(super) fn answer_packets(&mut self, mut packets: &[u8], out: &mut Reply<'_>) {
        while let Some(head) = packets.first_chunk().and_then(Head::read) {
            let asked = head.asked();
            let start = out.len();
            if out.room() < super::LINE {
                return;
            }
            if self.engine.must_commit() {
                let _ = asked.refuse(Status::NO_MEMORY, out);
                return;
            }
            let (extras, value_at) = (usize::from(head.extras), HEADER + head.before_value());
            let end = HEADER + head.body as usize;
            let parts = (|| {
                let extras_and_key = packets.get(HEADER..value_at)?;
                Some((extras_and_key.split_at_checked(extras)?, packets.get(value_at..end)?))
            })();
            let Some(((extras, key), value)) = parts.filter(|_| head.is_valid()) else {
                let _ = asked.refuse(Status::INVALID, out);
                return;
            };
            let done = match (head.command, StatsKind::of(key)) {
                (Command::Quit, _) => return,
                (Command::Unknown | Command::Mechanisms | Command::Login, _) => {
                    asked.refuse(Status::UNKNOWN, out)
                }
                (Command::Stat, None) => asked.refuse(Status::NOT_FOUND, out),
                (Command::Stat, Some(kind)) => self.put_stats(kind, Form::Binary(asked), out),
                _ => self.carry_out_binary(&head, extras, key, value, out),
            };
            if let Err(TooLarge) = done {
                self.take_back(start, out);
                // Room for it was seen to be left.
                let _ = asked.refuse(Status::TOO_LARGE, out);
            }
            packets = packets.get(end..).unwrap_or_default();
        }
    }

    /// Flags and expiry time of an item that is stored.
    pub(crate) fn store_extras(&self, extras: &[u8]) -> (u32, Expiry) {
        let flags = number(extras).unwrap_or(0);
        let exptime = extras.get(4..).and_then(number).unwrap_or(0);
        (flags, self.expiry_of(exptime))
    }

    /// Refuses a value that is larger than any may be.
    pub(crate) fn refuse_large_binary(
        &mut self,
        asked: Asked,
        mode: Mode,
        key: Key<'_>,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        self.engine.refuse_large(mode, key);
        asked.refuse(Status::TOO_LARGE, out)
    }

    fn get_binary(
        &mut self,
        head: &Head,
        key: Key<'_>,
        (with_key, with_value): (bool, bool),
        touch: Option<Expiry>,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let asked = head.asked();
        let Some(found) = self.engine.get_found(key, touch) else {
            return match (head.quiet, with_key) {
                (true, _) => Ok(()),
                (false, true) => asked.miss_with_key(key, out),
                (false, false) => asked.refuse(Status::NOT_FOUND, out),
            };
        };
        let info = self.engine.info(found);
        let key = if with_key { key.bytes() } else { b"" };
        let value_len = if with_value { info.value_len } else { 0 };
        asked.put_head(0, info.cas, (4, key.len(), value_len), out)?;
        out.put(&info.flags.to_be_bytes())?;
        out.put(key)?;
        if with_value {
            let range = |value: &crate::engine::Value<'_>| value.value_at()..value.wire().len() - 2;
            self.put_item(found, range, out)?;
        }
        Ok(())
    }

    fn change_binary(
        &mut self,
        head: &Head,
        key: Key<'_>,
        (up, extras): (bool, &[u8]),
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let asked = head.asked();
        let Some((delta, initial, exptime)) = change_extras(up, extras) else {
            return asked.refuse(Status::INVALID, out);
        };
        let (number, made) = match self.engine.change_if(key, delta, head.cas, None) {
            Ok(number) => (number, None),
            Err(DeltaError::NotFound) if exptime != NONE_IS_MADE => {
                let expiry = self.expiry_of(exptime);
                match self.engine.vivify(key, Decimal::new(initial).text(), expiry, None) {
                    Ok(made) => (initial, Some(made)),
                    Err(NoRoom) => return asked.refuse(Status::NO_MEMORY, out),
                }
            }
            Err(DeltaError::NotFound) => return asked.refuse(Status::NOT_FOUND, out),
            Err(DeltaError::Exists) => return asked.refuse(Status::EXISTS, out),
            Err(DeltaError::NotANumber) => return asked.refuse(Status::NOT_A_NUMBER, out),
            Err(DeltaError::OutOfMemory) => return asked.refuse(Status::NO_MEMORY, out),
        };
        if head.quiet {
            return Ok(());
        }
        // One that was made may have ended already.
        let found = made.or_else(|| self.engine.look_up(key));
        let cas = found.map_or(0, |found| self.engine.info(found).cas);
        asked.put(cas, b"", b"", &number.to_be_bytes(), out)
    }
}

/// The condition of a request that stores in this mode.
pub(crate) fn binary_condition(head: &Head, mode: Mode) -> Condition {
    match head.command {
        Command::Join(_) => Condition { compare: head.cas, ..Condition::of(mode) },
        _ => Condition::of(head.mode(mode)),
    }
}

/// Answers what stores.
pub(crate) fn answer_store(
    asked: Asked,
    quiet: bool,
    mode: Mode,
    outcome: Outcome,
    out: &mut Reply<'_>,
) -> Result<(), TooLarge> {
    let status = match (outcome.stored, mode) {
        (Stored::Stored, _) if quiet => return Ok(()),
        (Stored::Stored, _) => return asked.put(outcome.cas, b"", b"", b"", out),
        (Stored::NotStored, Mode::Add) | (Stored::Exists, _) => Status::EXISTS,
        (Stored::NotStored, Mode::Replace) | (Stored::NotFound, _) => Status::NOT_FOUND,
        (Stored::NotStored, _) => Status::NOT_STORED,
        (Stored::TooLarge, _) => Status::TOO_LARGE,
        (Stored::OutOfMemory, _) => Status::NO_MEMORY,
    };
    asked.refuse(status, out)
}

/// Tells that a command was carried out, unless it is quiet.
fn done(head: &Head, cas: u64, out: &mut Reply<'_>) -> Result<(), TooLarge> {
    if head.quiet { Ok(()) } else { head.asked().put(cas, b"", b"", b"", out) }
}
