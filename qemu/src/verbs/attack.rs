//! `cargo exo attack`: what an attacker in ring 3 gets out of the kernel.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::builder::RangedU64ValueParser;

use crate::disk::{Image, Place};
use crate::machine::emulator::Emulator;
use crate::machine::{Config, MAX_CPUS, Machine};
use crate::manifest::{App, DiskShare, Grants, Manifest};
use crate::output::{self, note, say};
use crate::prerequisites::QEMU;

/// How long all attacks together may take.
const LIMIT: Duration = Duration::from_secs(300);
/// The attacker of `boot/manifests/attack.toml`.
const ATTACKER: &str = "attack";
/// A second one, with time on every processor.
const RACER: &str = "racer";

/// Boot an attacker beside the store and show what it achieved
///
/// The attacker is an ordinary application that tries what it should not be able
/// to do, against the kernel and against its neighbour; it has an extent of a disk, and others
/// lie around that. Every attempt must be
/// repelled, and the store must answer afterwards. What an emulator of a known version lets
/// pass by itself, without asking the kernel, is told apart. With several processors it stays on
/// the first, since it measures time by slices of one, and a second attacker with time
/// on all of them makes the attempts that need two.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Processors of the machine, 1 to 4
    #[arg(
        long,
        default_value_t = 1,
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_CPUS.into())
    )]
    pub(crate) cpus: u32,
    /// Show the whole console as well
    #[arg(long)]
    verbose: bool,
}

/// An attempt, as the attacker reports it.
#[derive(Debug, PartialEq, Eq)]
struct Attempt {
    number: u32,
    name: String,
    /// What the kernel said, or why it was not asked.
    answer: String,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Repelled,
    Breach,
    /// The emulator let it pass, and the kernel was not asked.
    Lenient,
    NotTried,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Repelled => "repelled",
            Self::Breach => "BREACH",
            Self::Lenient => "emulator's own",
            Self::NotTried => "not tried",
        })
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    QEMU.require()?;
    let mut config = Config::named("attack")?;
    config.cpus = args.cpus;
    if args.cpus > 1 {
        spread(&mut config.manifest);
    }
    let folder = tempfile::tempdir().context("cannot make a folder for a disk")?;
    let disk = surround(&mut config, folder.path())?;
    let machine = Machine::boot(&config)?;
    let mut store = machine.store(Duration::from_secs(60))?;
    let attackers = config.manifest.apps.iter().filter(|app| app.image == "attacker");
    let names: Vec<_> = attackers.map(|app| app.name.as_str()).collect();
    for name in &names {
        // An attacker's end is root's to report, however it ended.
        machine.wait_for_line(&format!("root: {name} ended"), LIMIT)?;
    }
    let alive = (0..10).any(|_| machine.answers(&mut store).unwrap_or(false));
    if args.verbose {
        note!("{}", machine.report());
    }

    let lines = machine.console().lines();
    let emulator = Emulator::find()?;
    let attempts = lines.iter().filter_map(|line| Attempt::parse(line));
    let attempts = merge(attempts.map(|attempt| attempt.judged(&emulator)));
    ensure!(!attempts.is_empty(), "the attacker attempted nothing\n{}", machine.report());
    output::print(table(&attempts))?;
    say!("{}", summary(&attempts))?;
    let lenient = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Lenient);
    let mut causes: Vec<_> =
        lenient.filter_map(|attempt| emulator.lenience(&attempt.name)).collect();
    causes.dedup();
    for cause in causes {
        say!("the emulator's own: {} {cause}", emulator.banner())?;
    }
    let unfinished: Vec<_> = names.iter().filter(|name| !has_finished(&lines, name)).collect();
    for name in &unfinished {
        say!("{name} ended before its last attempt: what it did not get to is not shown")?;
    }
    say!("the store {}", if alive { "still answers" } else { "no longer answers: BREACH" })?;
    let intact = is_intact(&disk)?;
    let others = "the disk outside of the attacker's extent";
    say!("{others} is {}", if intact { "as it was" } else { "not as it was: BREACH" })?;
    let breach = attempts.iter().any(|attempt| attempt.outcome == Outcome::Breach);
    Ok(if breach || !alive || !intact || !unfinished.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Sectors of the disk, of the attacker's extent, and of what lies before and behind it.
const DISK: u32 = 8192;
const EXTENT: u32 = 2048;
const AROUND: u32 = 1024;

/// Gives the attacker an extent of a disk in `folder`, with extents of others on both sides,
/// which are full. Returns the disk.
fn surround(config: &mut Config, folder: &Path) -> Result<PathBuf> {
    let path = folder.join("disk");
    let image = Image::create(&path, DISK)?;
    let (mut table, _) = image.table()?;
    for (name, sectors) in [("before", AROUND), (ATTACKER, EXTENT), ("behind", AROUND)] {
        let extent = table.claim(name, sectors)?.extent;
        if name != ATTACKER {
            image.fill(&extent, FILLED)?;
        }
    }
    image.write(&mut table)?;
    let attacker = config.manifest.apps.iter_mut().find(|app| app.name == ATTACKER);
    let attacker = attacker.context("the manifest has no attacker")?;
    attacker.disk = Some(DiskShare { name: ATTACKER.into(), sectors: EXTENT });
    config.disk = Some(Place { path: path.clone(), sectors: None });
    Ok(path)
}

/// What extents of others are full of.
const FILLED: u8 = 0x5a;

/// Whether all but the attacker's extent is as [`surround`] left it.
fn is_intact(disk: &Path) -> Result<bool> {
    let image = Image::open(disk, false)?;
    let Ok((table, [true, true])) = image.table() else { return Ok(false) };
    let mut intact = table.extents().len() == 3 && table.generation() == 3;
    for extent in table.extents().iter().filter(|extent| extent.name != ATTACKER) {
        image.read_extent(extent, |bytes| {
            intact &= bytes.iter().all(|byte| *byte == FILLED);
            Ok(())
        })?;
    }
    Ok(intact)
}

/// Whether the attacker `name` came to its last attempt, and was not ended, or ended
/// itself, on the way.
fn has_finished(lines: &[String], name: &str) -> bool {
    lines
        .iter()
        .any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(": done, ")))
}

/// Keeps the attacker on the first processor, and adds the one that is on all of them.
fn spread(manifest: &mut Manifest) {
    let attackers = manifest.apps.iter_mut().filter(|app| app.image == "attacker");
    let Some(attacker) = attackers.last() else { return };
    attacker.core = Some(0);
    let racer = App {
        name: RACER.into(),
        core: None,
        address: None,
        forward: Vec::new(),
        disk: None,
        args: vec!["only=cores+exceptions".into()],
        grants: Grants { net: false, ..attacker.grants },
        slots: 15,
        ..attacker.clone()
    };
    manifest.apps.push(racer);
}

/// All attempts by number; of one that several attackers report, the one that was tried,
/// and of those the one that was not repelled.
fn merge(attempts: impl Iterator<Item = Attempt>) -> Vec<Attempt> {
    let mut attempts: Vec<_> = attempts.collect();
    let rank = |outcome| match outcome {
        Outcome::Breach => 0,
        Outcome::Lenient => 1,
        Outcome::Repelled => 2,
        Outcome::NotTried => 3,
    };
    attempts.sort_by_key(|attempt| (attempt.number, rank(attempt.outcome)));
    attempts.dedup_by_key(|attempt| attempt.number);
    attempts
}

fn table(attempts: &[Attempt]) -> String {
    const SAID: &str = "the kernel said";
    let width = |text: fn(&Attempt) -> &str, title: &str| {
        attempts.iter().map(|attempt| text(attempt).len()).max().unwrap_or(0).max(title.len())
    };
    let name_width = width(|attempt| &attempt.name, "attempt");
    let answer_width = width(|attempt| &attempt.answer, SAID);
    let mut table = format!("{:>3}  {:name_width$}  {SAID:answer_width$}  result\n", "", "attempt");
    for Attempt { number, name, answer, outcome } in attempts {
        table += &format!("{number:>3}  {name:name_width$}  {answer:answer_width$}  {outcome}\n");
    }
    table += "exception 6: invalid opcode; 13: general protection; 14: page fault. \
              Each ends the environment that caused it.\n";
    table
}

fn summary(attempts: &[Attempt]) -> String {
    let count = |outcome| attempts.iter().filter(move |attempt| attempt.outcome == outcome).count();
    let not_tried = match count(Outcome::NotTried) {
        0 => String::new(),
        some => {
            let mut reasons: Vec<_> = attempts
                .iter()
                .filter(|attempt| attempt.outcome == Outcome::NotTried)
                .map(|attempt| attempt.answer.as_str())
                .collect();
            reasons.sort_unstable();
            reasons.dedup();
            format!(", {some} not tried ({})", reasons.join("; "))
        }
    };
    let lenient = match count(Outcome::Lenient) {
        0 => String::new(),
        some => format!(", {some} the emulator's own"),
    };
    let breaches = count(Outcome::Breach);
    format!("{} attempts{not_tried}{lenient}, {breaches} breaches", attempts.len())
}

impl Attempt {
    /// Reads `attack: NUMBER NAME: kernel said ANSWER: repelled`, or `BREACH`, or
    /// `attack: NUMBER NAME: not tried: REASON`. Whatever is not clearly repelled or not
    /// tried is a breach.
    fn parse(line: &str) -> Option<Self> {
        let (attacker, line) = line.split_once(": ")?;
        if ![ATTACKER, RACER].contains(&attacker) {
            return None;
        }
        let (number, rest) = line.split_once(' ')?;
        let (name, answer, outcome) = match rest.split_once(": kernel said ") {
            Some((name, rest)) => {
                let (answer, result) = rest.rsplit_once(": ").unwrap_or((rest, ""));
                let repelled = result.trim() == "repelled";
                (name, answer, if repelled { Outcome::Repelled } else { Outcome::Breach })
            }
            None => {
                let (name, reason) = rest.split_once(": not tried: ")?;
                (name, reason.trim(), Outcome::NotTried)
            }
        };
        let (name, answer) = (name.to_owned(), answer.to_owned());
        Some(Self { number: number.parse().ok()?, name, answer, outcome })
    }

    /// What the attacker calls a breach may be the emulator's own doing.
    fn judged(mut self, emulator: &Emulator) -> Self {
        if self.outcome == Outcome::Breach && emulator.lenience(&self.name).is_some() {
            self.outcome = Outcome::Lenient;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use root::extents::Extent;

    use super::*;

    fn attempt(number: u32, answer: &str, outcome: Outcome) -> Attempt {
        Attempt { number, name: "map frame 0".into(), answer: answer.into(), outcome }
    }

    #[test]
    fn reads_the_attackers_lines() {
        let parse = Attempt::parse;
        assert_eq!(
            parse("attack: 07 map frame 0: kernel said NotYours: repelled"),
            Some(attempt(7, "NotYours", Outcome::Repelled))
        );
        assert_eq!(
            parse("attack: 07 map frame 0: kernel said error: 3: BREACH"),
            Some(attempt(7, "error: 3", Outcome::Breach))
        );
        assert_eq!(
            parse("racer: 07 map frame 0: not tried: there is one processor"),
            Some(attempt(7, "there is one processor", Outcome::NotTried))
        );
        assert_eq!(
            parse("attack: 07 map frame 0: kernel said x"),
            Some(attempt(7, "x", Outcome::Breach))
        );
        assert_eq!(parse("attack: begins"), None);
        assert_eq!(parse("kvstore: 07 a: kernel said x: repelled"), None);
    }

    #[test]
    fn what_was_not_tried_is_no_success() {
        let attempts = vec![
            attempt(1, "no", Outcome::Repelled),
            attempt(2, "one processor", Outcome::NotTried),
            attempt(3, "one processor", Outcome::NotTried),
        ];
        assert_eq!(summary(&attempts), "3 attempts, 2 not tried (one processor), 0 breaches");
        let excused = [attempt(1, "yes", Outcome::Lenient), attempt(2, "no", Outcome::Repelled)];
        assert_eq!(summary(&excused), "2 attempts, 1 the emulator's own, 0 breaches");
        let again = [
            attempt(2, "no", Outcome::Repelled),
            attempt(3, "yes", Outcome::Breach),
            attempt(3, "no", Outcome::Repelled),
        ];
        let merged = merge(attempts.into_iter().chain(again));
        assert_eq!(summary(&merged), "3 attempts, 1 breaches");
    }

    #[test]
    fn an_attacker_that_dies_on_the_way_has_not_finished() {
        let lines = ["racer: done, 6 attacks, 0 not tried, 0 breaches", "attack: panic: done, x"];
        let lines = lines.map(str::to_owned);
        assert!(has_finished(&lines, RACER));
        assert!(!has_finished(&lines, ATTACKER));
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let long = "x".repeat(70);
        let attempts = [attempt(1, &long, Outcome::Repelled), attempt(2, "no", Outcome::Breach)];
        let table = table(&attempts);
        let at = |word: &str| table.lines().find_map(|line| line.find(word)).unwrap();
        assert_eq!(at("result"), at("repelled"));
        assert_eq!(at("result"), at("BREACH"));
    }

    #[test]
    fn what_is_written_outside_of_the_extent_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::named("attack").unwrap();
        let disk = surround(&mut config, folder.path()).unwrap();
        config.manifest.check().unwrap();
        assert!(is_intact(&disk).unwrap());
        let table = Image::open(&disk, false).unwrap().table().unwrap().0;
        let extent = |name: &str| table.find(name).unwrap().clone();
        let one = |first: u32| Extent { name: String::new(), first, sectors: 1 };
        let write = |first: u32, byte: u8| {
            Image::open(&disk, true).unwrap().fill(&one(first), byte).unwrap();
            is_intact(&disk).unwrap()
        };
        for first in [extent(ATTACKER).first, extent(ATTACKER).end() - 1] {
            assert!(write(first, 1));
        }
        for first in [extent(ATTACKER).first - 1, extent(ATTACKER).end()] {
            assert!(!write(first, 1) && write(first, FILLED), "{first}");
        }
        assert!(!write(8, 1), "the table");
    }

    #[test]
    fn the_manifest_for_several_processors_is_good() {
        let mut manifest = Config::named("attack").unwrap().manifest;
        spread(&mut manifest);
        manifest.check().unwrap();
        let names: Vec<_> = manifest.apps.iter().map(|app| (&*app.name, app.core)).collect();
        assert_eq!(names, [("kvstore", None), (ATTACKER, Some(0)), (RACER, None)]);
    }
}
