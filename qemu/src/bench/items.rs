//! How much memory an item takes, beside memcached.
//!
//! Both stores are filled with the same items until they hold no more, and what stays is
//! counted (`bench/eviction/src/fill.rs`). The engine's memory includes its index; memcached's is
//! what `-m` bounds, and its hash table comes in addition.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use bench_eviction::contender::{Memcached, Ours};
use bench_eviction::fill::{Filled, fill};
use kvstore::engine::Eviction;
use serde::Serialize;

use super::conditions::Conditions;
use super::report::{Stating, save};
use crate::figures::Named;
use crate::output::{self, note, say};
use crate::prerequisites::MEMCACHED;
use crate::signals::Signals;

/// Bytes of key and value.
const SIZES: [(u16, u32); 5] = [(16, 10), (16, 64), (16, 200), (16, 1024), (64, 64)];

/// Count how many bytes an item takes beyond key and value, in the store and in memcached
///
/// On the host: fills both with items of one size until they hold no more, and divides the memory
/// by what stayed. Takes a minute.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Memory of each store, in MiB
    #[arg(long, default_value_t = 64, value_name = "N",
          value_parser = clap::value_parser!(u32).range(2..=4096))]
    memory_mib: u32,
    /// Where to save everything as JSON
    /// [default: figures/out/items.json]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    unit: &'static str,
    better: &'static str,
    conditions: Conditions,
    memory_mib: u32,
    /// The store with its default, with a policy that keeps lists, and memcached.
    contenders: [&'static str; 3],
    rows: Vec<[Filled; 3]>,
}

impl Stating for Report {
    /// The document that states them says when they were taken.
    fn stated(&self) -> Named {
        Named::new()
    }
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    MEMCACHED.require()?;
    let bytes = (args.memory_mib as usize) << 20;
    let interrupted = || Ok(interrupt.check()?);
    let mut rows = Vec::new();
    for size in SIZES {
        let ours = |eviction| {
            let mut memory = vec![0; bytes];
            fill(bytes, size, &mut Ours::new(&mut memory, eviction)?, &interrupted)
        };
        let (sampled, sieve) = (ours(Eviction::Sampled)?, ours(Eviction::Sieve)?);
        let mut theirs = Memcached::start(args.memory_mib as usize)?;
        let row = [sampled, sieve, fill(bytes, size, &mut theirs, &interrupted)?];
        let [sampled, sieve, memcached] = [&row[0], &row[1], &row[2]].map(|filled| filled.overhead);
        note!(
            "bench: {} and {} bytes: sampled {sampled:.1}, sieve {sieve:.1}, memcached {memcached:.1}",
            size.0,
            size.1
        );
        rows.push(row);
    }
    let report = Report {
        unit: "bytes of memory for an item, beyond key and value",
        better: "lower",
        conditions: Conditions::on_host(),
        memory_mib: args.memory_mib,
        contenders: ["sampled", "sieve", "memcached"],
        rows,
    };
    let path = save(&report, args.json.as_deref(), "items")?;
    output::print(report.text()?)?;
    say!("\nsaved to {}", path.display())?;
    Ok(())
}

impl Report {
    fn text(&self) -> Result<String> {
        let mut out = String::new();
        let lines = self.conditions.host_lines();
        writeln!(
            out,
            "{}, of {} MiB; {} is better\n{lines}",
            self.unit, self.memory_mib, self.better
        )?;
        writeln!(out, "| key, value | {} |", self.contenders.join(" | "))?;
        writeln!(out, "|---{}|", "|--:".repeat(self.contenders.len()))?;
        for row in &self.rows {
            write!(out, "| {} B, {} B", row[0].key_len, row[0].value_len)?;
            for filled in row {
                write!(out, " | {:.1}", filled.overhead)?;
            }
            writeln!(out, " |")?;
        }
        writeln!(
            out,
            "\nmemcached's hash table is not in its figures; the store's index is in ours"
        )?;
        Ok(out)
    }
}
