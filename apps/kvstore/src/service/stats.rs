//! The reply to `stats`: what memcached's general-purpose statistics have in common
//! with this store. A figure that would not be real is left out.

use super::{END, Service, TOO_LARGE, VERSION};
use crate::protocol::{Reply, TooLarge};

impl Service<'_> {
    pub(super) fn put_stats(&self, out: &mut Reply<'_>) -> Result<(), TooLarge> {
        let (stats, usage) = (self.engine.stats(), self.engine.usage());
        out.put_stat("pid", self.pid.into())?;
        out.put_stat("uptime", self.time.uptime.into())?;
        out.put_stat("time", self.time.unix)?;
        out.put(b"STAT version ")?;
        out.put(VERSION.strip_prefix(b"VERSION ").unwrap_or_default())?;
        for (name, number) in [
            ("pointer_size", u64::from(usize::BITS)),
            ("cmd_get", stats.get_hits + stats.get_misses),
            ("cmd_set", stats.cmd_set),
            ("cmd_flush", stats.cmd_flush),
            ("cmd_touch", stats.touch_hits + stats.touch_misses),
            ("get_hits", stats.get_hits),
            ("get_misses", stats.get_misses),
            ("get_expired", stats.get_expired),
            ("get_flushed", stats.get_flushed),
            ("delete_misses", stats.delete_misses),
            ("delete_hits", stats.delete_hits),
            ("incr_misses", stats.incr_misses),
            ("incr_hits", stats.incr_hits),
            ("decr_misses", stats.decr_misses),
            ("decr_hits", stats.decr_hits),
            ("cas_misses", stats.cas_misses),
            ("cas_hits", stats.cas_hits),
            ("cas_badval", stats.cas_badval),
            ("touch_hits", stats.touch_hits),
            ("touch_misses", stats.touch_misses),
            ("store_too_large", stats.store_too_large),
            ("store_no_memory", stats.store_no_memory),
            ("bytes_read", stats.bytes_read),
            ("bytes_written", stats.bytes_written),
            ("limit_maxbytes", usage.limit),
            ("threads", 1),
            ("hash_bytes", usage.index),
            ("bytes", usage.bytes),
            ("curr_items", usage.items),
            ("total_items", stats.total_items),
            ("evictions", stats.evictions),
            ("reclaimed", stats.reclaimed),
        ] {
            out.put_stat(name, number)?;
        }
        out.put(END)?;
        // As after a value: room to say that there is none for what follows.
        if out.room() < TOO_LARGE.len() { Err(TooLarge) } else { Ok(()) }
    }
}
