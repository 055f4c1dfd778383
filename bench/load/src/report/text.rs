//! A report as text.

use std::fmt;

use super::{Knee, Report, Row};
use crate::protocol::Protocol;
use crate::schedule::Schedule;

impl fmt::Display for Report {
    /// What was loaded, and how.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "server     {} ({}, {})", self.server, self.protocol, self.version)?;
        writeln!(f, "wire       {}", self.wire)?;
        let Self { workload, key_bytes_mean, value_bytes_mean, .. } = self;
        match self.protocol {
            Protocol::Echo => {
                writeln!(
                    f,
                    "workload   datagrams of {} B and 8 more (mean {value_bytes_mean:.1})",
                    workload.value_sizes
                )?;
            }
            Protocol::Memcached => {
                writeln!(
                    f,
                    "workload   {} keys of {} B (mean {key_bytes_mean:.1}), values of {} B (mean \
                     {value_bytes_mean:.1}), popularity {}",
                    workload.keys, workload.key_sizes, workload.value_sizes, workload.popularity
                )?;
                writeln!(
                    f,
                    "           {:.1} % GET of {} key{}, the rest SET; seed {}",
                    workload.get_share * 100.0,
                    workload.keys_per_get,
                    if workload.keys_per_get == 1 { "" } else { "s" },
                    workload.seed
                )?;
            }
        }
        if self.values_cut > 0 {
            writeln!(
                f,
                "           {} of {} values were cut, to fit a datagram",
                self.values_cut, workload.keys
            )?;
        }
        writeln!(
            f,
            "limits     {} s of warm-up are not counted; a request is given up after {} s",
            self.warm_up_s, self.timeout_s
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, {:.2} s", self.schedule, self.seconds)?;
        if let Some(why) = self.ended_early {
            writeln!(f, "ENDED EARLY: {why}; this is what was measured until then")?;
        }
        writeln!(
            f,
            "  intended {} = {} sent + {} never sent",
            self.intended, self.sent, self.never_sent
        )?;
        writeln!(
            f,
            "  sent     {} = {} answered + {} timed out + {} wrong + {} late",
            self.sent, self.answered, self.timed_out, self.wrong, self.late
        )?;
        if self.gets + self.sets > 0 && self.hits + self.misses > 0 {
            let keys = (self.hits + self.misses) as f64;
            writeln!(
                f,
                "  answered {} GET ({} of {keys} keys found: {:.2} %) + {} SET",
                self.gets,
                self.hits,
                self.hits as f64 / keys * 100.0,
                self.sets
            )?;
        }
        if self.unasked + self.malformed > 0 {
            writeln!(
                f,
                "  besides  {} replies to nothing that waits, {} too short to be replies",
                self.unasked, self.malformed
            )?;
        }
        if let Some(wrong) = &self.first_wrong {
            writeln!(f, "  the first wrong reply: {wrong}")?;
        }
        writeln!(f, "  {:.0} answers/s", self.answers_per_second)?;
        self.table(f)?;
        for (index, (name, count)) in self.wire_counts.iter().enumerate() {
            let per = *count as f64 / self.sent.max(1) as f64;
            let before = if index == 0 { "  wire: " } else { "; " };
            write!(f, "{before}{count} {name}, {per:.3} a request")?;
        }
        if !self.wire_counts.is_empty() {
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Row {
    /// The percentiles, and beside each what it leaves out.
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = matches!(self.schedule, Schedule::Open(..));
        writeln!(f, "  latency in µs, lower is better; beside it what it leaves out:")?;
        write!(f, "  {:>7} {:>11}", "", if open { "from its time" } else { "latency" })?;
        if open {
            write!(
                f,
                " {:>12} {:>10} {:>10} {:>10}",
                "from sending", "slip", "never sent", "late sent"
            )?;
        }
        writeln!(f, " {:>10}", "unanswered")?;
        for row in &self.percentiles {
            let time = |time: Option<f64>| match time {
                Some(time) => format!("{time:.1}"),
                None => "refused".to_owned(),
            };
            let width = if open { 13 } else { 11 };
            write!(f, "  {:>7} {:>width$}", format!("p{}", row.percentile), time(row.latency_us))?;
            if open {
                write!(
                    f,
                    " {:>12} {:>10.1} {:>8.3} % {:>8.3} %",
                    time(row.from_sending_us),
                    row.slip_us,
                    row.never_sent * 100.0,
                    row.late_sent * 100.0
                )?;
            }
            writeln!(f, " {:>8.3} %", row.unanswered * 100.0)?;
        }
        if let Some(longest) = self.longest_us {
            let width = if open { 13 } else { 11 };
            writeln!(f, "  {:>7} {longest:>width$.1}", "longest")?;
        }
        match &self.refused {
            Some(why) => writeln!(f, "  no percentile is given: {why}"),
            None if open => {
                writeln!(f, "  sent late means: more than {} µs after its time", self.late_after_us)
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Knee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "knee for {}: ", self.objective)?;
        match (self.kept, self.broken) {
            (Some(kept), Some(broken)) => {
                writeln!(f, "kept at {kept:.0} requests/s, broken at {broken:.0}")
            }
            (Some(kept), None) => {
                writeln!(f, "kept at {kept:.0} requests/s; no rate tried broke it")
            }
            (None, Some(broken)) => writeln!(f, "broken even at {broken:.1} requests/s"),
            (None, None) => writeln!(f, "nothing was measured"),
        }
    }
}
