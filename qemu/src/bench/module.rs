//! What it costs the store in instructions to be part of Linux's kernel.
//!
//! Code there has no SSE, no red zone and no jump tables, and returns through thunks. The
//! same library is compiled with and without these restrictions, with all else equal, and
//! called by the same small program, as the module calls it (`apps/kvstore-module/cost`).
//! So nothing but the store is counted, on the host, by callgrind: neither Linux's network
//! stack nor the hook.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tempfile::TempDir;

use super::conditions::Conditions;
use super::report::{Stating, save};
use crate::figures::Named;
use crate::guest::run as run_command;
use crate::module::{self, Variant};
use crate::output::{self, note, say};
use crate::prerequisites::VALGRIND;
use crate::signals::Signals;
use crate::workspace;

/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(50);
/// Requests of the two runs whose difference is counted: start and preparation cancel out.
/// Between them every one of the 4,096 items is asked for once.
const REQUESTS: [u32; 2] = [1_000, 1_000 + 4_096];

/// Count what Linux's restrictions of ring 0 cost the store, in instructions per request
///
/// On the host: compiles the store as a program in ring 3 may be, as Linux's ring 0 allows,
/// and as the module has it, and counts with valgrind, which is installed through apt if it
/// is missing. Only the store is counted, from UDP payload to UDP payload.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to save everything as JSON
    /// [default: figures/out/module.json]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
}

/// A kind of request.
#[derive(Clone, Copy, Debug, Serialize)]
struct Request {
    name: &'static str,
    key_bytes: u32,
    value_bytes: u32,
    /// Keys of a `get`; 0 for a `set`.
    keys: u32,
}

const fn request(name: &'static str, key_bytes: u32, value_bytes: u32, keys: u32) -> Request {
    Request { name, key_bytes, value_bytes, keys }
}

const REQUEST_KINDS: [Request; 5] = [
    request("GET, 16 B key, 64 B value", 16, 64, 1),
    request("GET, 64 B key, 1,024 B value", 64, 1024, 1),
    request("GET of 10 keys, 16 B and 64 B", 16, 64, 10),
    request("SET, 16 B key, 64 B value", 16, 64, 0),
    request("SET, 64 B key, 1,024 B value", 64, 1024, 0),
];

#[derive(Debug, Serialize)]
struct Report {
    unit: &'static str,
    better: &'static str,
    conditions: Conditions,
    /// Names of the variants, in the order of each row.
    variants: Vec<&'static str>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    request: Request,
    instructions: Vec<f64>,
}

impl Stating for Report {
    /// No document states them.
    fn stated(&self) -> Named {
        Named::new()
    }
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    VALGRIND.require()?;
    let variants = module::variants()?;
    interrupt.check()?;
    let place = tempfile::Builder::new().prefix("exo-bench-").tempdir()?;
    let programs = variants.iter().enumerate().map(|(number, variant)| {
        link(variant, number, &place).with_context(|| format!("the store, {}", variant.name))
    });
    let programs = programs.collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for request in REQUEST_KINDS {
        note!("bench: counting {}", request.name);
        let counts = programs.iter().map(|program| measure(program, request, interrupt));
        rows.push(Row { request, instructions: counts.collect::<Result<_>>()? });
    }
    let report = Report {
        unit: "instructions of the store per request",
        better: "lower",
        conditions: Conditions::on_host(),
        variants: variants.iter().map(|variant| variant.name).collect(),
        rows,
    };
    let path = save(&report, args.json.as_deref(), "module")?;
    output::print(report.text()?)?;
    say!("\nsaved to {}", path.display())?;
    Ok(())
}

/// The program that calls one variant.
fn link(variant: &Variant, number: usize, place: &TempDir) -> Result<PathBuf> {
    let text = place.path().join(format!("{number}.s"));
    let program = place.path().join(format!("{number}"));
    fs::write(&text, &variant.text)?;
    let sources = workspace::root().join("apps/kvstore-module/cost");
    let mut command = Command::new("cc");
    // Debugging information because the text has directives for it; addresses in the last
    // 2 GiB, as in the kernel, need an executable that is not moved.
    command.args(["-O2", "-gdwarf-5", "-no-pie", "-o"]).arg(&program).arg(&text);
    command.arg(sources.join("driver.c")).arg(sources.join("thunks.S"));
    run_command(command, "cc")?;
    Ok(program)
}

/// Instructions of one request.
fn measure(program: &Path, request: Request, interrupt: &Signals) -> Result<f64> {
    let [few, many] = REQUESTS.map(|count| collected(program, request, count, interrupt));
    let (few, many) = (few?, many?);
    ensure!(many > few, "{}: nothing was counted", request.name);
    Ok((many - few) as f64 / f64::from(REQUESTS[1] - REQUESTS[0]))
}

/// Kills the program if it has not been waited for.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is no matter.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What callgrind counts inside of the store while `program` runs.
fn collected(program: &Path, request: Request, count: u32, interrupt: &Signals) -> Result<u64> {
    let complaints = program.with_extension("err");
    let mut command = Command::new(VALGRIND.name);
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg("--toggle-collect=exo_store_answer").arg(program);
    let Request { key_bytes, value_bytes, keys, .. } = request;
    command.args([key_bytes, value_bytes, keys, count].map(|number| number.to_string()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&complaints)?);
    let mut running = Running(command.spawn().context("cannot start valgrind")?);
    let status = loop {
        interrupt.check()?;
        match running.0.try_wait()? {
            Some(status) => break status,
            None => thread::sleep(GLANCE),
        }
    };
    let text = fs::read_to_string(&complaints)?;
    ensure!(status.success(), "{}: {status}\n{text}", request.name);
    parse(&text).with_context(|| format!("no count in what valgrind said:\n{text}"))
}

/// The count in what callgrind says at its end.
fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.split("Collected :").nth(1)?.trim().parse().ok())
}

impl Report {
    fn text(&self) -> Result<String> {
        let mut out = String::new();
        writeln!(out, "{}; {} is better\n", self.unit, self.better)?;
        write!(out, "{:<32}", "")?;
        for name in &self.variants {
            write!(out, "{name:>18}")?;
        }
        writeln!(out)?;
        for row in &self.rows {
            write!(out, "{:<32}", row.request.name)?;
            let first = row.instructions.first().copied().unwrap_or(f64::NAN);
            for (number, instructions) in row.instructions.iter().enumerate() {
                let beside = match number {
                    0 => String::new(),
                    _ => format!(" ({:+.0} %)", (instructions / first - 1.0) * 100.0),
                };
                write!(out, "{:>18}", format!("{instructions:.1}{beside}"))?;
            }
            writeln!(out)?;
        }
        writeln!(
            out,
            "\nring 3: as a program is compiled. ring 0: without SSE, red zone and jump tables, \
             for\naddresses in the last 2 GiB. with thunks: returns and indirect calls through \
             them, as\nthe module has it; each is the plain instruction here, as with \
             mitigations=off before\nLinux patches it in place.\nAll use the C library's memcpy, \
             with its vector registers; Linux's own is `rep movsb`\nor a loop. Counted by \
             callgrind from UDP payload to UDP payload."
        )?;
        write!(out, "\n{}", self.conditions.host_lines())?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found() {
        let text = "==1== Events    : Ir\n==1== Collected : 123456\n==1==\n";
        assert_eq!(parse(text), Some(123_456));
        assert_eq!(parse("==1== error\n"), None);
    }

    #[test]
    fn the_table_holds_each_variant_against_the_first() {
        let row = Row { request: REQUEST_KINDS[0], instructions: vec![200.0, 210.0, 250.0] };
        let report = Report {
            unit: "instructions",
            better: "lower",
            conditions: Conditions::on_host(),
            variants: vec!["ring 3", "ring 0", "with thunks"],
            rows: vec![row],
        };
        let text = report.text().unwrap();
        assert!(text.contains("200.0") && text.contains("210.0 (+5 %)"), "{text}");
        assert!(text.contains("250.0 (+25 %)"), "{text}");
    }
}
