//! The meta commands, carried out.

use super::{Service, code};
use crate::engine::{
    Condition, Delta, DeltaError, Expiry, Found, Key, Mode, NoRoom, Outcome, Stored,
};
use crate::number::Decimal;
use crate::protocol::{Decoded, Meta, Refusal, Reply, SetAnswer, TooLarge, encode_base64, put_key};

impl Service<'_> {
    pub(super) fn meta_get(
        &mut self,
        meta: &Meta<'_>,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let (flags, mut room) = (meta.flags, None);
        let Some(key) = meta.key(&mut room) else { return out.put(Refusal::FORMAT) };
        let there = self.engine.look_up(key);
        self.count_get(there.is_some(), flags.exptime.is_some());
        let made = match (there, flags.vivify) {
            (None, Some(exptime)) => {
                let expiry = self.expiry(exptime);
                self.engine.vivify(key, b"", expiry, flags.own_cas).ok()
            }
            _ => None,
        };
        let Some(found) = there.or(made) else {
            return if flags.quiet { Ok(()) } else { self.answer_miss(b"EN", key, meta, out) };
        };
        let info = self.engine.info(found);
        let with_value = flags.value && flags.compare != Some(info.cas);
        if with_value {
            out.put(b"VA ")?;
            out.put(Decimal::new(info.value_len as u64).text())?;
        } else {
            out.put(b"HD")?;
        }
        let mut expiry = None;
        let mut remaining = info.remaining.filter(|_| made.is_none());
        let mut won = false;
        meta.answer_flags(|flag| match flag {
            b'T' => {
                expiry = flags.exptime.map(|exptime| self.expiry(exptime));
                remaining = expiry.and_then(|expiry| self.remaining(expiry));
                Ok(())
            }
            b'N' => {
                if made.is_some() {
                    expiry = flags.vivify.map(|exptime| self.expiry(exptime));
                    remaining = expiry.and_then(|expiry| self.remaining(expiry));
                    won = true;
                }
                Ok(())
            }
            b'R' => {
                let limit = self.remaining_of(flags.recache);
                let ends_soon = remaining.zip(limit).is_some_and(|(left, limit)| left < limit);
                won |= ends_soon && !info.is_won && made.is_none();
                Ok(())
            }
            b's' => out.put_flag(b's', info.value_len as u64),
            b't' => put_remaining(remaining, out),
            b'c' => out.put_flag(b'c', info.cas),
            b'f' => out.put_flag(b'f', info.flags.into()),
            b'l' => out.put_flag(b'l', info.unused_for.into()),
            b'h' => out.put_flag(b'h', info.was_read.into()),
            b'O' => put_opaque(meta, out),
            b'k' => put_key(key, flags.in_base64, out),
            _ => Ok(()),
        })?;
        if info.is_won {
            out.put(b" Z")?;
        }
        if info.is_stale {
            out.put(b" X")?;
            won |= !info.is_won;
        }
        if won {
            out.put(b" W")?;
        }
        out.put(b"\r\n")?;
        if with_value {
            self.put_item(found, |value| value.value_at()..value.wire().len(), out)?;
        }
        if won {
            self.engine.set_won(found);
        }
        let found = match expiry {
            Some(expiry) => self.engine.set_expiry(found, expiry),
            None => Some(found),
        };
        if let Some(found) = found.filter(|_| !flags.no_update) {
            self.engine.note_read(found);
        }
        Ok(())
    }

    /// What `ms` asks for beyond key, flags, expiry time and value.
    pub(crate) fn meta_condition(&self, meta: &Meta<'_>, mode: Mode) -> Condition {
        Condition {
            mode,
            compare: meta.flags.compare.unwrap_or(0),
            allow_stale: meta.flags.invalidate,
            own_cas: meta.flags.own_cas,
            vivify: meta.flags.vivify.map(|exptime| self.expiry(exptime)),
        }
    }

    /// The expiry time that a meta command gives an item.
    pub(crate) fn meta_expiry(&self, meta: &Meta<'_>) -> Expiry {
        meta.flags.exptime.map_or(Expiry::NEVER, |exptime| self.expiry(exptime))
    }

    pub(super) fn meta_set(
        &mut self,
        meta: &Meta<'_>,
        mode: Mode,
        value: &[u8],
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let mut room = None;
        let Some(key) = meta.key(&mut room) else { return out.put(Refusal::FORMAT) };
        let (condition, expiry) = (self.meta_condition(meta, mode), self.meta_expiry(meta));
        let outcome = if self.engine.fits(key, meta.flags.client_flags, value.len()) {
            self.engine.store_if(&condition, key, meta.flags.client_flags, expiry, value)
        } else {
            return out.put(self.refuse_large_meta(key));
        };
        self.answer_set_of_meta(&SetAnswer::new(meta), key, outcome, value.len(), out)
    }

    /// What to say of a data block that is not as long as it should be.
    pub(super) fn bad_chunk_of_meta(&mut self, meta: &Meta<'_>, bytes: usize) -> &'static [u8] {
        let mut room = None;
        match meta.key(&mut room) {
            // What it says of its length is used for nothing but this.
            Some(key) if !self.engine.fits(key, meta.flags.client_flags, bytes) => {
                self.refuse_large_meta(key)
            }
            _ => {
                self.engine.stats_mut().cmd_set += 1;
                super::BAD_CHUNK
            }
        }
    }

    /// Refuses a value that is larger than any may be; what it was to replace is gone.
    pub(crate) fn refuse_large_meta(&mut self, key: Key<'_>) -> &'static [u8] {
        self.refuse_large(Mode::Set, key)
    }

    /// Answers `ms`.
    pub(crate) fn answer_set_of_meta(
        &mut self,
        answer: &SetAnswer,
        key: Key<'_>,
        outcome: Outcome,
        sent: usize,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let code = match outcome.stored {
            Stored::Stored if answer.quiet => return Ok(()),
            Stored::Stored => b"HD",
            Stored::NotStored => b"NS",
            Stored::Exists => b"EX",
            Stored::NotFound => b"NF",
            refusal @ (Stored::TooLarge | Stored::OutOfMemory) => return out.put(code(refusal)),
        };
        let len = if outcome.stored == Stored::Stored { outcome.value_len } else { sent };
        answer.put(code, key, outcome.cas, len, out)
    }

    pub(super) fn meta_delete(
        &mut self,
        meta: &Meta<'_>,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let (flags, mut room) = (meta.flags, None);
        let Some(key) = meta.key(&mut room) else { return out.put(Refusal::FORMAT) };
        let Some(found) = self.engine.look_up(key) else {
            self.engine.stats_mut().delete_misses += 1;
            return self.answer_miss(b"NF", key, meta, out);
        };
        if flags.compare.is_some_and(|cas| cas != self.engine.info(found).cas) {
            self.engine.stats_mut().delete_misses += 1;
            return self.answer_miss(b"EX", key, meta, out);
        }
        let mut rest = Ok(found);
        if flags.remove_value {
            let expiry = self.meta_expiry(meta);
            rest = self.engine.empty(found, flags.client_flags, expiry, flags.own_cas);
        }
        if flags.invalidate {
            rest = rest.and_then(|mut found| {
                if flags.exptime.is_some() {
                    let expiry = self.meta_expiry(meta);
                    found = self.engine.set_expiry(found, expiry).ok_or(NoRoom)?;
                }
                self.engine.set_stale(found, flags.own_cas)
            });
        } else {
            self.engine.stats_mut().delete_hits += 1;
            if !flags.remove_value {
                self.engine.remove(found);
            }
        }
        if rest.is_err() {
            return out.put(super::OUT_OF_MEMORY);
        }
        if flags.quiet { Ok(()) } else { self.answer_miss(b"HD", key, meta, out) }
    }

    pub(super) fn meta_arithmetic(
        &mut self,
        meta: &Meta<'_>,
        delta: Delta,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let (flags, mut room) = (meta.flags, None);
        let Some(key) = meta.key(&mut room) else { return out.put(Refusal::FORMAT) };
        let compare = flags.compare.unwrap_or(0);
        let mut made = None;
        let number = match self.engine.change_if(key, delta, compare, flags.own_cas) {
            Ok(number) => number,
            Err(DeltaError::NotFound) => {
                let Some(exptime) = flags.vivify else {
                    return self.answer_miss(b"NF", key, meta, out);
                };
                let (number, expiry) = (Decimal::new(flags.initial), self.expiry(exptime));
                match self.engine.vivify(key, number.text(), expiry, flags.own_cas) {
                    Ok(found) => made = Some(found),
                    Err(NoRoom) => {
                        return out.put(b"SERVER_ERROR Out of memory allocating new item\r\n");
                    }
                }
                flags.initial
            }
            Err(DeltaError::Exists) => return self.answer_miss(b"EX", key, meta, out),
            Err(DeltaError::NotANumber) => return out.put(super::NOT_A_NUMBER),
            Err(DeltaError::OutOfMemory) => return out.put(super::OUT_OF_MEMORY),
        };
        // One that was made may have ended already.
        let (found, made) = (made.or_else(|| self.engine.look_up(key)), made.is_some());
        if !flags.quiet {
            self.answer_number(meta, key, number, (found, made), out)?;
        }
        // Of two times the later in the line counts.
        let mut exptime = None;
        meta.answer_flags(|flag| {
            match flag {
                b'T' => exptime = flags.exptime,
                b'N' if made => exptime = flags.vivify,
                _ => {}
            }
            Ok(())
        })?;
        if let (Some(found), Some(exptime)) = (found, exptime) {
            let expiry = self.expiry(exptime);
            self.engine.set_expiry(found, expiry);
        }
        Ok(())
    }

    fn answer_number(
        &self,
        meta: &Meta<'_>,
        key: Key<'_>,
        number: u64,
        (found, made): (Option<Found>, bool),
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let (flags, number) = (meta.flags, Decimal::new(number));
        let info = found.map(|found| self.engine.info(found));
        if flags.value {
            out.put(b"VA ")?;
            out.put(Decimal::new(number.text().len() as u64).text())?;
        } else {
            out.put(b"HD")?;
        }
        let mut remaining = info.and_then(|info| info.remaining).filter(|_| !made);
        meta.answer_flags(|flag| match flag {
            b'T' => {
                remaining = self.remaining_of(flags.exptime);
                Ok(())
            }
            b'N' if made => {
                remaining = self.remaining_of(flags.vivify);
                Ok(())
            }
            b't' => put_remaining(remaining, out),
            b'c' => out.put_flag(b'c', info.map_or(0, |info| info.cas)),
            b'O' => put_opaque(meta, out),
            b'k' => put_key(key, flags.in_base64, out),
            _ => Ok(()),
        })?;
        out.put(b"\r\n")?;
        if flags.value {
            out.put(number.text())?;
            out.put(b"\r\n")?;
        }
        Ok(())
    }

    pub(super) fn meta_debug(
        &mut self,
        meta: &Meta<'_>,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let mut room: Option<Decoded> = None;
        let Some(key) = meta.key(&mut room) else { return out.put(Refusal::FORMAT) };
        let Some(found) = self.engine.look_up(key) else { return out.put(b"EN\r\n") };
        let info = self.engine.info(found);
        out.put(b"ME ")?;
        if meta.flags.in_base64 {
            encode_base64(key.bytes()).try_for_each(|group| out.put(&group))?;
        } else {
            out.put(key.bytes())?;
        }
        out.put(b" exp=")?;
        match info.remaining {
            Some(left) => out.put(Decimal::new(left.max(0) as u64).text())?,
            None => out.put(b"-1")?,
        }
        out.put(b" la=")?;
        out.put(Decimal::new(info.unused_for.into()).text())?;
        out.put(b" cas=")?;
        out.put(Decimal::new(info.cas).text())?;
        out.put(if info.was_read { b" fetch=yes" } else { b" fetch=no" })?;
        out.put(b" cls=")?;
        out.put(Decimal::new(u64::from(info.class) + 1).text())?;
        out.put(b" size=")?;
        out.put_number(info.size as u64)
    }

    /// A code, with the flags of the request that do not ask for anything of an item.
    fn answer_miss(
        &self,
        code: &[u8; 2],
        key: Key<'_>,
        meta: &Meta<'_>,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        out.put(code)?;
        meta.answer_flags(|flag| match flag {
            b'O' => put_opaque(meta, out),
            b'k' => put_key(key, meta.flags.in_base64, out),
            _ => Ok(()),
        })?;
        out.put(b"\r\n")
    }

    pub(super) fn count_get(&mut self, hit: bool, touched: bool) {
        let stats = self.engine.stats_mut();
        *match (touched, hit) {
            (true, true) => &mut stats.touch_hits,
            (true, false) => &mut stats.touch_misses,
            (false, true) => &mut stats.get_hits,
            (false, false) => &mut stats.get_misses,
        } += 1;
    }

    /// Seconds until the end that an expiry time of a request means. `None` for never.
    fn remaining_of(&self, exptime: Option<i32>) -> Option<i64> {
        self.remaining(self.expiry(exptime?))
    }

    /// Seconds until then. `None` for never.
    fn remaining(&self, expiry: Expiry) -> Option<i64> {
        expiry.second().map(|end| i64::from(end) - i64::from(self.clock()))
    }
}

fn put_remaining(remaining: Option<i64>, out: &mut Reply<'_>) -> Result<(), TooLarge> {
    match remaining {
        None => out.put(b" t-1"),
        Some(left) => out.put_flag(b't', left.max(0) as u64),
    }
}

fn put_opaque(meta: &Meta<'_>, out: &mut Reply<'_>) -> Result<(), TooLarge> {
    out.put(b" O")?;
    out.put(meta.opaque())
}
