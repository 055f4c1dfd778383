//! Random calls on a kernel that checks itself.
//!
//! The kernel is built a second time, with its checker (`exo/src/check`) and into a
//! target directory of its own, so that the one that is shipped never holds any of
//! it. On it run two copies of `apps/fuzzer`, which make the calls.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::disk::Place;
use crate::machine::{Config, GuestExit, Machine};
use crate::symbols::Symboliser;
use crate::{guest, manifest, workspace};

/// Memory of the machine in MiB: little, because all of it is looked at in each check.
const MEMORY: u32 = 64;
/// Sectors of its disk.
const DISK: u32 = 4 << 11;
/// How long a machine may take to be gone after its last words.
const PATIENCE: Duration = Duration::from_secs(5);

/// One machine's worth of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What all random choices follow from.
    pub seed: u64,
    /// Calls that children are to make, together.
    pub calls: u64,
    /// Processors.
    pub cpus: u32,
    /// Let the clock count instructions, send no packets, and have no disk: the same happens in
    /// every run, if there is one processor.
    pub icount: bool,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Calls of all environments, as the kernel counted them.
    pub calls: u64,
    /// How often everything was checked.
    pub checks: u64,
    /// Calls that children made, whose arguments were random.
    pub random: u64,
    /// What is wrong, if anything is: the machine's last words.
    pub failure: Option<String>,
}

impl fmt::Display for Plan {
    /// The command that does it again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, calls, cpus, icount } = self;
        let icount = if *icount { " --icount" } else { "" };
        write!(f, "cargo exo fuzz --calls {calls} --seed {seed} --cpus {cpus}{icount}")
    }
}

/// The ELF file of the kernel with its checker.
fn kernel_elf() -> PathBuf {
    let directory = workspace::guest_target_dir().with_file_name("guest-check");
    directory.join(workspace::GUEST_TARGET).join(workspace::GUEST_PROFILE).join(guest::KERNEL)
}

/// Builds the kernel with its checker, which looks before every `every`th call
/// (1000th unless said otherwise), and the programs.
pub fn build(every: Option<u64>) -> Result<()> {
    guest::build(&manifest::read(&workspace::manifest("fuzz"))?)?;
    let mut command = cargo("build");
    if let Some(every) = every {
        command.env("EXO_CHECK_EVERY", every.to_string());
    }
    guest::run(command, "building the kernel with its checker")
}

/// A cargo command about the kernel with its checker.
pub(crate) fn cargo(verb: &str) -> Command {
    let mut command = workspace::cargo();
    command
        .args([verb, "--package", "exo", "--bins", "--profile", workspace::GUEST_PROFILE])
        .args(["--target", workspace::GUEST_TARGET, "--target-dir"])
        .arg(workspace::guest_target_dir().with_file_name("guest-check"))
        .env("RUSTFLAGS", format!("--cfg exo_check {}", workspace::GUEST_RUSTFLAGS))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("EXO_CHECK_EVERY");
    command
}

impl Plan {
    /// Boots the machine. [`build`] comes first.
    pub fn boot(&self) -> Result<Fuzzed> {
        let mut manifest = manifest::read(&workspace::manifest("fuzz"))?;
        let share = self.calls.div_ceil(manifest.apps.len().max(1) as u64);
        for (number, app) in (0..).zip(&mut manifest.apps) {
            let seed = self.seed.wrapping_mul(2).wrapping_add(number);
            app.args.extend([format!("seed={seed}"), format!("calls={share}")]);
            if self.icount {
                app.args.push("net=silent".to_owned());
                manifest.boot_unix_seconds = 1_700_000_000;
            }
        }
        let bundle = guest::bundle(&manifest)?;
        let mut config = Config::new(manifest);
        (config.memory, config.cpus, config.icount) = (MEMORY, self.cpus, self.icount);
        let directory = tempfile::Builder::new().prefix("exo-fuzz-").tempdir()?;
        // When a disk is done is the host's doing.
        if !self.icount {
            let path = directory.path().join("disk");
            config.disk = Some(Place { path, sectors: Some(DISK) });
        }
        let machine = Machine::start(&config, &kernel_elf(), &bundle)?;
        Ok(Fuzzed { machine, _disk: directory })
    }
}

/// A machine, and its disk as long as it runs.
pub struct Fuzzed {
    /// The machine.
    pub machine: Machine,
    _disk: TempDir,
}

/// How following a machine ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// The machine ended.
    ByItself(Outcome),
    /// The caller wanted no more.
    Unfinished {
        /// Calls that children made until then, as far as they were reported.
        random: u64,
    },
}

/// Follows `machine` to its end. `look` is called several times a second with the
/// number of random calls made so far, as far as they were reported; it says whether to
/// go on.
///
/// # Errors
/// If the machine is silent for two minutes.
pub fn follow(machine: &Machine, mut look: impl FnMut(u64) -> bool) -> Result<Ended> {
    const SILENCE: Duration = Duration::from_secs(120);
    const GLANCE: Duration = Duration::from_millis(200);
    let console = machine.console();
    let (mut next, mut spoken) = (0, Instant::now());
    let mut made = [0, 0];
    loop {
        while let Some(line) = console.line(next) {
            next += 1;
            spoken = Instant::now();
            for (made, name) in made.iter_mut().zip(["left: ", "right: "]) {
                let said = line.strip_prefix(name).and_then(|rest| number_before(rest, " calls"));
                *made = said.unwrap_or(*made);
            }
        }
        let random = made.iter().sum();
        if !look(random) {
            return Ok(Ended::Unfinished { random });
        }
        if !console.wait_for(next, Instant::now() + GLANCE) && console.ended() {
            break;
        }
        if spoken.elapsed() > SILENCE {
            bail!("the machine has said nothing for {SILENCE:?}\n{}", report(machine));
        }
    }
    let exit = machine.exit_status(PATIENCE)?;
    let lines = console.lines();
    let about = |what: &str| lines.iter().rev().find_map(|line| number_before(line, what));
    let panicked = lines.iter().rev().find_map(|line| {
        let (_, rest) = line.split_once("does not hold after ")?;
        rest.split(' ').next()?.parse().ok()
    });
    let mut outcome = Outcome {
        calls: lines
            .iter()
            .rev()
            .find_map(|line| line.split_once(" checks in ")?.1.split(' ').next()?.parse().ok())
            .or(panicked)
            .unwrap_or(0),
        checks: about(" checks in").unwrap_or(0),
        random: made.iter().sum(),
        failure: None,
    };
    let complaint = complaint(&lines, exit, &outcome);
    outcome.failure = complaint.map(|complaint| format!("{complaint}\n{}", report(machine)));
    Ok(Ended::ByItself(outcome))
}

/// What is wrong with a machine that ended so, if anything is.
fn complaint(lines: &[String], exit: GuestExit, outcome: &Outcome) -> Option<String> {
    if exit != GuestExit::Success {
        return Some(exit.to_string());
    }
    let done = |name: &str| {
        let line = lines.iter().find(|line| line.starts_with(name) && line.contains(": done, "));
        line.is_some_and(|line| line.ends_with(" 0 frames lost"))
    };
    if !done("left: ") || !done("right: ") {
        return Some("a program did not end as it should".to_owned());
    }
    let balanced = |line: &&String| {
        let numbers: Vec<u32> =
            line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        matches!(numbers[..], [before, after] if before == after)
    };
    let checks: Vec<_> = lines.iter().filter(|line| line.contains("root: leak check: ")).collect();
    if checks.len() != 2 || !checks.iter().all(balanced) {
        return Some("frames were lost".to_owned());
    }
    (outcome.checks == 0).then(|| "nothing was checked".to_owned())
}

/// The number right before `what`.
fn number_before(line: &str, what: &str) -> Option<u64> {
    let (before, _) = line.split_once(what)?;
    before.rsplit(' ').next()?.parse().ok()
}

/// The console with its backtraces explained, the kernel's by the kernel that ran.
fn report(machine: &Machine) -> String {
    let directory = kernel_elf();
    let mut kernel = Symboliser::new(directory.parent().unwrap_or(&directory));
    let mut programs = Symboliser::default();
    let mut text = String::new();
    for line in machine.console().lines() {
        text += &format!("{line}\n");
        let of_kernel = line.contains(&format!(": backtrace: {} ", guest::KERNEL));
        let symboliser = if of_kernel { &mut kernel } else { &mut programs };
        for frame in symboliser.explain(&line) {
            text += &format!("{frame}\n");
        }
    }
    text
}

/// Boots the machine of `plan` and follows it to its end.
///
/// # Errors
/// As [`follow`]; QEMU.
pub fn run(plan: &Plan) -> Result<Outcome> {
    let fuzzed = plan.boot()?;
    match follow(&fuzzed.machine, |_| true)? {
        Ended::ByItself(outcome) => Ok(outcome),
        Ended::Unfinished { .. } => bail!("the machine was not followed to its end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(checks: u64) -> Outcome {
        Outcome { calls: 1, checks, random: 1, failure: None }
    }

    #[test]
    fn a_good_end_needs_all_of_it() {
        let good = [
            "left: done, 9 calls in 1 rounds, 2 deaths, 0 frames lost",
            "root: leak check: 10 frames free before, 10 after",
            "right: done, 9 calls in 1 rounds, 2 deaths, 0 frames lost",
            "root: leak check: 7 frames free before, 7 after",
        ];
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        let complain =
            |text: &[&str], exit, checks| complaint(&lines(text), exit, &outcome(checks)).is_some();
        assert!(!complain(&good, GuestExit::Success, 1));
        assert!(complain(&good, GuestExit::Panic, 1));
        assert!(complain(&good, GuestExit::Success, 0));
        assert!(complain(&good[1..], GuestExit::Success, 1));
        assert!(complain(&good[..3], GuestExit::Success, 1));
        let leaks = "root: leak check: 7 frames free before, 6 after";
        assert!(complain(&[good[0], good[1], good[2], leaks], GuestExit::Success, 1));
        let lost = "right: done, 9 calls in 1 rounds, 2 deaths, 1 frames lost";
        assert!(complain(&[good[0], good[1], lost, good[3]], GuestExit::Success, 1));
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(number_before("done, 12 calls in", " calls"), Some(12));
        assert_eq!(number_before("exo: check: 3 checks in 40 calls", " checks in"), Some(3));
        assert_eq!(number_before("no calls", " calls"), None);
    }
}
