//! `cargo exo filter fuzz`: builds the programs of `dpf/fuzz`, lets libFuzzer drive them,
//! and shows what it says, condensed.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;

use crate::output::{self, say};
use crate::prerequisites::CXX;
use crate::signals::Signals;
use crate::{guest, shell, workspace};

/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a program may take to end that got the same signal.
const PATIENCE: Duration = Duration::from_secs(5);

/// Let libFuzzer look for bytes on which filters do not do what they should
///
/// Builds the package dpf-fuzz with coverage instrumentation, in a target directory of its
/// own, and runs it from the corpus in the tree. What is new is kept beside the build. An
/// input on which something does not hold is named, with the command to replay it, and the
/// exit code is 1. Ctrl-C ends it (130). Needs a C++ compiler, for libFuzzer.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the bytes are; each of them in turn if not given
    target: Option<Target>,
    /// Seconds for each target
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Processes at a time
    #[arg(long, default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=64))]
    jobs: usize,
    /// At the end, merge what was found into the corpus in the tree, as few inputs as do the
    /// same; with --for 0, only that
    #[arg(long)]
    keep: bool,
    /// Only do what this input says, and print it
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with = "keep")]
    replay: Option<PathBuf>,
}

/// A program of the package, its corpus and its dictionary are called as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// One filter from its wire form, and frames
    Wire,
    /// Filters that come and go, and frames
    History,
    /// An expression
    Text,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::History => "history",
            Self::Text => "text",
        }
    }

    /// Longest input in bytes.
    fn longest(self) -> usize {
        match self {
            Self::Wire => 512,
            Self::History => 400,
            Self::Text => 300,
        }
    }

    /// Whether operands of comparisons are noted. That shows the way where bytes are compared
    /// as they are; where they are decisions, three times as many runs are worth more.
    fn compares(self) -> bool {
        self != Self::History
    }

    /// Programs are built with either instrumentation, and neither evicts the other.
    fn build_dir(self) -> PathBuf {
        target_dir().join(if self.compares() { "compares" } else { "edges" })
    }

    /// A place below `dpf/fuzz` in the tree.
    fn source(self, place: &str) -> PathBuf {
        package().join(place).join(self.name())
    }

    /// A directory below the build directory, which is made.
    fn work(self, place: &str) -> Result<PathBuf> {
        let directory = target_dir().join(place).join(self.name());
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(directory)
    }

    fn build(self) -> Result<()> {
        let mut command = workspace::cargo();
        command.args(["build", "--package", "dpf-fuzz", "--features", "libfuzzer"]);
        command.args(["--bin", self.name(), "--profile", PROFILE, "--target-dir"]);
        command.arg(self.build_dir());
        command.env("RUSTC_WORKSPACE_WRAPPER", package().join("instrument"));
        command.env("DPF_FUZZ_COMPARES", if self.compares() { "1" } else { "" });
        guest::run(command, "building dpf-fuzz")
    }

    /// The program, as it was built.
    fn program(self) -> Command {
        let mut command = Command::new(self.build_dir().join(PROFILE).join(self.name()));
        command.stdin(Stdio::null()).current_dir(workspace::root());
        command
    }
}

/// The cargo profile, and the directory that names.
const PROFILE: &str = "fuzz";

fn package() -> PathBuf {
    workspace::root().join("dpf/fuzz")
}

fn target_dir() -> PathBuf {
    workspace::target_dir().join("fuzz")
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    // Looked up from where this was called.
    let replayed = args
        .replay
        .as_ref()
        .map(|file| file.canonicalize().with_context(|| format!("cannot read {}", file.display())));
    let replayed = replayed.transpose()?;
    let targets = args.target.map_or(Target::value_variants().to_vec(), |target| vec![target]);
    // The build script asks for what `CXX` names, and c++ otherwise.
    if std::env::var_os("CXX").is_none() {
        CXX.require().context("libFuzzer is written in C++")?;
    }
    targets.iter().try_for_each(|target| target.build())?;
    if let (Some(file), Some(target)) = (replayed, args.target) {
        let mut command = target.program();
        command.arg(file).env("DPF_FUZZ_SHOW", "1");
        let status = command.status().context("cannot start the program")?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let signals = Signals::register()?;
    for target in targets.iter().copied().filter(|_| args.seconds > 0) {
        let failure = fuzz(target, args, &signals)?;
        signals.check()?;
        if let Some(failure) = failure {
            say!("{failure}")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    for target in targets.into_iter().filter(|_| args.keep) {
        keep(target)?;
    }
    Ok(ExitCode::SUCCESS)
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

impl Running {
    /// **Blocking** until it has ended, or this process is asked to.
    fn wait(&mut self, signals: &Signals) -> Result<Option<ExitStatus>> {
        let mut patience = PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if signals.check().is_err() {
                patience = patience.saturating_sub(GLANCE);
                if patience.is_zero() {
                    return Ok(None);
                }
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// Runs one target: what was found, if something was.
fn fuzz(target: Target, args: &Args, signals: &Signals) -> Result<Option<String>> {
    let (corpus, found) = (target.work("corpus")?, target.work("found")?);
    let before = files(&found)?;
    let mut command = target.program();
    command.arg(format!("-max_total_time={}", args.seconds));
    command.arg(format!("-max_len={}", target.longest()));
    command.arg(format!("-artifact_prefix={}/", found.display()));
    command.args(["-timeout=10", "-len_control=20", "-print_final_stats=1"]);
    if args.jobs > 1 {
        command.arg(format!("-fork={}", args.jobs));
    }
    let dictionary = package().join(target.name()).with_extension("dict");
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    command.arg(corpus);
    let given = [target.source("corpus"), target.source("regressions")];
    command.args(given.iter().filter(|directory| directory.is_dir()));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().context("cannot start the program")?);
    let output = running.0.stderr.take().context("the program has no output")?;
    let reader = std::thread::spawn(move || follow(target, output));
    let status = running.wait(signals)?;
    drop(running);
    let Some(status) = status else { return Ok(None) };
    let report = match reader.join() {
        Ok(report) => report?,
        Err(_) => bail!("cannot read what the program prints"),
    };
    if signals.check().is_err() || status.success() {
        say!("{target}: {}", report.last)?;
        return Ok(None);
    }
    let new: Vec<_> = files(&found)?.difference(&before).cloned().collect();
    let Some(input) = new.first() else {
        bail!("{target}: the program failed ({status}) and left no input\n{}", report.rest)
    };
    let input = shell::quote(input.as_os_str());
    Ok(Some(format!(
        "{}\n{target} FAILED on {input}\nreplay with: cargo exo filter fuzz {target} --replay {input}",
        report.rest.trim_end()
    )))
}

/// What libFuzzer said.
#[derive(Default)]
struct Report {
    /// How far it came.
    last: String,
    /// What followed that was neither progress nor about libFuzzer itself.
    rest: String,
}

/// Shows progress every now and then, until the program closes its output.
fn follow(target: Target, output: impl io::Read) -> Result<Report> {
    let terminal = io::stderr().is_terminal();
    let pause = Duration::from_millis(if terminal { 500 } else { 10_000 });
    let mut shown = Instant::now();
    let mut report = Report::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if let Some(progress) = progress(&line) {
            report = Report { last: progress, rest: String::new() };
            if shown.elapsed() >= pause {
                shown = Instant::now();
                let end = if terminal { " \r" } else { "\n" };
                output::progress(format_args!("{target}: {}{end}", report.last));
            }
        } else if !is_chatter(&line) && !report.rest.contains(SUMMARY) {
            report.rest.push_str(&line);
            report.rest.push('\n');
        }
    }
    if terminal {
        output::progress("\r\x1b[K");
    }
    Ok(report)
}

/// `#4096 pulse  cov: 1643 ft: 9629 corp: 1311/13Kb … exec/s: 3319 …`, in other words. Several
/// processes speak a little differently.
fn progress(line: &str) -> Option<String> {
    let (runs, rest) = line.strip_prefix('#')?.split_once(|c: char| !c.is_ascii_digit())?;
    let word = |name: &str| {
        let mut words = rest.split_whitespace();
        words.find(|word| word.trim_end_matches(':') == name)?;
        words.next()
    };
    let corpus = word("corp")?.split('/').next()?;
    Some(format!(
        "{runs} runs, {} edges, {} features, {corpus} inputs, {} runs/s",
        word("cov")?,
        word("ft")?,
        word("exec/s")?
    ))
}

/// What follows is the input as bytes.
const SUMMARY: &str = "SUMMARY: libFuzzer";

/// What libFuzzer says whether or not something fails.
fn is_chatter(line: &str) -> bool {
    let line = line.trim_start();
    let beginnings =
        ["#", "INFO:", "WARNING: F", "NEW_FUNC", "stat::", "Dictionary:", "\"", "NOTE:", "Combine"];
    line.is_empty() || beginnings.iter().any(|beginning| line.starts_with(beginning))
}

fn files(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Replaces the corpus in the tree by the fewest inputs, of it and of what was found, that
/// do the same.
fn keep(target: Target) -> Result<()> {
    let kept = target.source("corpus");
    let merged = target.work("merged")?;
    for file in files(&merged)? {
        fs::remove_file(file)?;
    }
    fs::create_dir_all(&kept)?;
    let mut command = target.program();
    command.args(["-set_cover_merge=1", "-verbosity=0"]);
    // How often an edge is passed in a parser says how long a text is.
    command.args((target == Target::Text).then_some("-use_counters=0"));
    command.args([&merged, &kept, &target.work("corpus")?]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    guest::run(command, "merging")?;
    let new = files(&merged)?;
    ensure!(!new.is_empty(), "merging has left nothing of the corpus of {target}");
    for file in files(&kept)? {
        fs::remove_file(file)?;
    }
    for file in &new {
        fs::copy(file, kept.join(file.file_name().context("a file has a name")?))?;
    }
    say!("{target}: {} inputs are the corpus in the tree", new.len())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_a_target() {
        let programs = files(&package().join("src/bin")).unwrap();
        let programs: BTreeSet<_> = programs.iter().filter_map(|file| file.file_stem()).collect();
        let targets = Target::value_variants().iter();
        assert_eq!(programs, targets.map(|target| target.name().as_ref()).collect());
        for target in Target::value_variants() {
            assert_eq!(target.to_possible_value().unwrap().get_name(), target.name());
        }
    }

    #[test]
    fn progress_is_condensed() {
        let one = "#4096\tpulse  cov: 1643 ft: 9629 corp: 1311/13Kb lim: 21 exec/s: 3319 rss: 34Mb";
        let several = "#4096: cov: 1643 ft: 9629 corp: 1311 exec/s 3319 oom/timeout/crash: 0/0/0";
        let condensed = "4096 runs, 1643 edges, 9629 features, 1311 inputs, 3319 runs/s";
        assert_eq!(progress(one).unwrap(), condensed);
        assert_eq!(progress(several).unwrap(), condensed);
        assert_eq!(progress("###### Recommended dictionary. ######"), None);
        assert_eq!(progress("thread panicked"), None);
        assert!(is_chatter("\tNEW_FUNC[1/2]: 0x56") && !is_chatter("thread '<unnamed>' panicked"));
    }
}
