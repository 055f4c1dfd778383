//! The replies to `stats`, row by row: what memcached's statistics have in common with this
//! store. A figure that would not be real is left out.
//!
//! A reply may be longer than the room there is: a stream goes on at the row where it stopped.

use super::{Service, VERSION};
use crate::engine::Key;
use crate::number::Decimal;
use crate::protocol::binary::Asked;
use crate::protocol::{Reply, StatsKind, TooLarge};

/// Room for every row.
pub(crate) const ROW: usize = 128;

/// A row: its name, behind the number of a bucket if it is about one, and what it says.
type Row<'a> = ((&'static str, Option<u8>, &'static str), Said<'a>);

enum Said<'a> {
    Number(u64),
    Text(&'static str),
    Key(&'a [u8]),
}

/// How rows are written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Text,
    Binary(Asked),
}

impl Form {
    fn put(self, name: &[u8], value: &[u8], out: &mut Reply<'_>) -> Result<(), TooLarge> {
        match self {
            Self::Binary(asked) => asked.put(0, b"", name, value, out),
            Self::Text => [b"STAT ", name, b" ", value, b"\r\n"]
                .into_iter()
                .try_for_each(|part| out.put(part)),
        }
    }

    /// What stands behind the last row.
    pub(crate) fn end(self, out: &mut Reply<'_>) -> Result<(), TooLarge> {
        match self {
            Self::Binary(asked) => asked.put(0, b"", b"", b"", out),
            Self::Text => out.put(super::END),
        }
    }
}

impl Service<'_> {
    /// Writes row number `row`. `false` if there is none.
    pub(crate) fn put_stat(
        &self,
        kind: StatsKind,
        row: u16,
        form: Form,
        out: &mut Reply<'_>,
    ) -> Result<bool, TooLarge> {
        let Some(((prefix, class, name), said)) = self.stat(kind, usize::from(row)) else {
            return Ok(false);
        };
        let mut whole = [0; ROW];
        let mut text = Reply::new(&mut whole);
        text.put(prefix.as_bytes())?;
        if let Some(class) = class {
            text.put(Decimal::new(u64::from(class) + 1).text())?;
            text.put(b":")?;
        }
        text.put(name.as_bytes())?;
        let len = text.len();
        let number;
        let value = match said {
            Said::Text(value) => value.as_bytes(),
            Said::Key(key) => key,
            Said::Number(value) => {
                number = Decimal::new(value);
                number.text()
            }
        };
        form.put(whole.get(..len).unwrap_or_default(), value, out)?;
        Ok(true)
    }

    /// All rows, and the end.
    pub(super) fn put_stats(
        &mut self,
        kind: StatsKind,
        form: Form,
        out: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        if kind == StatsKind::Reset {
            self.reset_stats();
        }
        let mut row = 0;
        while self.put_stat(kind, row, form, out)? {
            row += 1;
        }
        form.end(out)?;
        // As after a value: room to say that there is none for what follows.
        if out.room() < super::TOO_LARGE.len() { Err(TooLarge) } else { Ok(()) }
    }

    fn stat(&self, kind: StatsKind, row: usize) -> Option<Row<'_>> {
        match kind {
            StatsKind::General => self.general(row),
            StatsKind::Settings => self.setting(row),
            StatsKind::Items => self.of_bucket(row, "items:"),
            StatsKind::Slabs => self.of_bucket(row, ""),
            StatsKind::Sizes => {
                (row == 0).then_some((("", None, "sizes_status"), Said::Text("disabled")))
            }
            StatsKind::HotKeys => self.hot_key(row),
            StatsKind::Connections | StatsKind::Reset => None,
        }
    }

    /// Keys by how often they were read lately; one with a blank in it, which no line can name,
    /// is left out.
    #[inline(never)]
    fn hot_key(&self, row: usize) -> Option<Row<'_>> {
        let all = (0..).map_while(|rank| self.engine.hot_key(rank));
        let mut shown = all.filter(|hot| Key::new(hot.key).is_some());
        let (hot, rank) = (shown.nth(row / 3)?, u8::try_from(row / 3).ok()?);
        let (name, said) = match row % 3 {
            0 => ("key", Said::Key(hot.key)),
            1 => ("reads", Said::Number(hot.reads)),
            _ => ("reads_at_least", Said::Number(hot.least)),
        };
        Some((("hotkeys:", Some(rank), name), said))
    }

    #[inline(never)]
    fn general(&self, row: usize) -> Option<Row<'_>> {
        let (stats, usage) = (self.engine.stats(), self.engine.usage());
        let version = core::str::from_utf8(VERSION).unwrap_or_default();
        let version = version.trim_start_matches("VERSION ").trim_ascii_end();
        let number = Said::Number;
        let rows = [
            ("pid", number(self.pid.into())),
            ("uptime", number(self.time.uptime.into())),
            ("time", number(self.time.unix)),
            ("version", Said::Text(version)),
            ("pointer_size", number(usize::BITS.into())),
            ("curr_connections", number(self.connections.into())),
            ("total_connections", number(self.total_connections)),
            ("cmd_get", number(stats.get_hits + stats.get_misses)),
            ("cmd_set", number(stats.cmd_set)),
            ("cmd_flush", number(stats.cmd_flush)),
            ("cmd_touch", number(stats.touch_hits + stats.touch_misses)),
            ("get_hits", number(stats.get_hits)),
            ("get_misses", number(stats.get_misses)),
            ("get_expired", number(stats.get_expired)),
            ("get_flushed", number(stats.get_flushed)),
            ("delete_misses", number(stats.delete_misses)),
            ("delete_hits", number(stats.delete_hits)),
            ("incr_misses", number(stats.incr_misses)),
            ("incr_hits", number(stats.incr_hits)),
            ("decr_misses", number(stats.decr_misses)),
            ("decr_hits", number(stats.decr_hits)),
            ("cas_misses", number(stats.cas_misses)),
            ("cas_hits", number(stats.cas_hits)),
            ("cas_badval", number(stats.cas_badval)),
            ("touch_hits", number(stats.touch_hits)),
            ("touch_misses", number(stats.touch_misses)),
            ("store_too_large", number(stats.store_too_large)),
            ("store_no_memory", number(stats.store_no_memory)),
            ("auth_cmds", number(self.logins)),
            ("auth_errors", number(self.failed_logins)),
            ("bytes_read", number(stats.bytes_read)),
            ("bytes_written", number(stats.bytes_written)),
            ("datagrams_over_budget", number(self.over_budget)),
            ("requests_incomplete", number(self.incomplete)),
            ("limit_maxbytes", number(usage.limit)),
            ("threads", number(1)),
            ("hash_bytes", number(usage.index)),
            ("bytes", number(usage.bytes)),
            ("curr_items", number(usage.items)),
            ("total_items", number(stats.total_items)),
            ("evictions", number(stats.evictions)),
            ("reclaimed", number(stats.reclaimed)),
        ];
        rows.into_iter().nth(row).map(|(name, said)| (("", None, name), said))
    }

    fn setting(&self, row: usize) -> Option<Row<'_>> {
        let usage = self.engine.usage();
        let yes = |is: bool| if is { "yes" } else { "no" };
        let users = yes(self.has_users());
        let rows = [
            ("maxbytes", Said::Number(usage.limit)),
            ("evictions", Said::Text("on")),
            ("shutdown_command", Said::Text(yes(self.may_be_shut_down()))),
            ("num_threads", Said::Number(1)),
            ("detail_enabled", Said::Text("no")),
            ("cas_enabled", Said::Text("yes")),
            ("binding_protocol", Said::Text("auto-negotiate")),
            ("auth_enabled_sasl", Said::Text(users)),
            ("auth_enabled_ascii", Said::Text(users)),
            ("item_size_max", Said::Number(self.engine.max_item() as u64)),
            ("slab_page_size", Said::Number(usage.page_size)),
            ("slab_reassign", Said::Text("yes")),
            ("lru_crawler", Said::Text("no")),
            ("lru_segmented", Said::Text("no")),
            ("flush_enabled", Said::Text("yes")),
            ("dump_enabled", Said::Text("no")),
            ("track_sizes", Said::Text("no")),
        ];
        rows.into_iter().nth(row).map(|(name, said)| (("", None, name), said))
    }

    /// Rows of the buckets that have memory; of the slabs also a summary.
    fn of_bucket(&self, row: usize, prefix: &'static str) -> Option<Row<'_>> {
        let names: &[&'static str] = if prefix.is_empty() {
            &[
                "chunk_size",
                "chunks_per_page",
                "total_pages",
                "total_chunks",
                "used_chunks",
                "free_chunks",
            ]
        } else {
            &["number"]
        };
        let mut first = 0;
        for bucket in self.engine.buckets() {
            if let Some(name) = row.checked_sub(first).and_then(|field| names.get(field)) {
                let number = match *name {
                    "chunk_size" => bucket.chunk,
                    "chunks_per_page" => bucket.per_slab,
                    "total_pages" => bucket.pages,
                    "total_chunks" => bucket.chunks,
                    "free_chunks" => bucket.chunks - bucket.used,
                    _ => bucket.used,
                };
                return Some(((prefix, Some(bucket.class), name), Said::Number(number)));
            }
            first += names.len();
        }
        let usage = self.engine.usage();
        let buckets = (first / names.len()) as u64;
        let taken = usage.pages - usage.free_pages;
        match row - first {
            0 if prefix.is_empty() => Some((("", None, "active_slabs"), Said::Number(buckets))),
            1 if prefix.is_empty() => {
                Some((("", None, "total_malloced"), Said::Number(taken * usage.page_size)))
            }
            _ => None,
        }
    }
}
