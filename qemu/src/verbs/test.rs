//! `cargo exo test`: every test there is, and a summary at the end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::Metadata;
use rustix::process::{Pid, Signal, kill_process};

use crate::output::{self, note, say};
use crate::prerequisites::{MEMCACHED, MEMCASLAP, QEMU};
use crate::workspace;

/// The package of the whole-machine tests.
const MACHINE_TESTS: &str = "machine-tests";

/// Run the tests: on the host, then in QEMU
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this; or the name of a whole-machine test file,
    /// such as s00_boot, or the beginning of one, such as s0
    filter: Option<String>,
    /// Only tests that need no machine
    #[arg(long, conflicts_with = "guest_only")]
    host_only: bool,
    /// Only tests that boot a machine
    #[arg(long)]
    guest_only: bool,
}

/// The results of a number of test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
    names: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let tests = MachineTests::of(workspace::metadata()?)?;
    let filter = args.filter.as_deref();
    let selected: Vec<_> = (tests.files.iter())
        .filter(|file| filter.is_some_and(|filter| file.starts_with(filter)))
        .map(String::as_str)
        .collect();
    // A filter that names files of machine tests names no test.
    let name = filter.filter(|_| selected.is_empty());
    if let Some(name) = name {
        let place = if args.guest_only { "tests" } else { "" };
        // Before anything is installed or built for it.
        ensure!(
            may_name_a_test(name, &workspace::root().join(place)),
            "no test's name contains \"{name}\", and no file of whole-machine tests begins with \
             it; those are: {}",
            tests.files.join(", ")
        );
    }

    if args.host_only {
        note!("tests that want QEMU skip themselves if it is missing");
    } else {
        QEMU.require()?;
        for program in [MEMCACHED, MEMCASLAP] {
            if let Err(error) = program.require() {
                note!("{error:#}\ntests that need {} will be skipped", program.name);
            }
        }
    }

    let mut lines = Vec::new();
    let mut good = true;
    let mut total = Tally::default();
    let mut part = |title: &str, command| -> Result<()> {
        let (tally, succeeded) = tally(command)?;
        // A program that dies has no result line; cargo notices.
        let verdict = if succeeded { "" } else { ", FAILED" };
        let Tally { passed, failed, ignored, .. } = tally;
        lines.push(format!(
            "{title:8}{passed:>5} passed {failed:>4} failed {ignored:>4} ignored{verdict}"
        ));
        lines.extend(tally.names.iter().map(|name| format!("        failed: {name}")));
        good &= succeeded;
        total.passed += passed;
        total.failed += failed;
        Ok(())
    };
    if !args.guest_only && selected.is_empty() {
        part("host", host(name))?;
    }
    if !args.host_only {
        let (pairs, alone) = tests.halves(&selected);
        for (title, files, threads) in [("machine", pairs, 2), ("alone", alone, 1)] {
            if !files.is_empty() {
                part(title, tests.run(&files, threads, name))?;
            }
        }
    } else if !selected.is_empty() {
        bail!("{} needs a machine, and --host-only was given", selected.join(", "));
    }

    say!("\n{}", lines.join("\n"))?;
    if good && total.passed == 0 && total.failed == 0 {
        bail!("no test was run; no name contains \"{}\"", filter.unwrap_or_default());
    }
    say!("{}", if good { "all tests passed" } else { "TESTS FAILED" })?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn host(filter: Option<&str>) -> Command {
    let mut command = workspace::cargo();
    command.args(["test", "--no-fail-fast", "--workspace", "--exclude", MACHINE_TESTS]);
    command.args(filter);
    command
}

/// The files of the whole-machine tests.
#[derive(Debug, Default, PartialEq, Eq)]
struct MachineTests {
    /// All their names.
    files: Vec<String>,
    /// Those with a machine of several processors, or whose subject is time: one test at a
    /// time, as `[package.metadata.exo] alone` in the tests' manifest says. A test of the
    /// others leaves a processor of the host to a second one.
    alone: Vec<String>,
}

impl MachineTests {
    fn of(metadata: &Metadata) -> Result<MachineTests> {
        let packages = metadata.workspace_packages();
        let Some(package) = packages.iter().find(|package| package.name == MACHINE_TESTS) else {
            return Ok(MachineTests::default());
        };
        let folder = package.manifest_path.parent().context("the tests lie in a folder")?;
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            if path.extension().is_some_and(|extension| extension == "rs") && is_numbered(name) {
                files.push(name.to_owned());
            }
        }
        files.sort();
        let alone: Vec<String> = match package.metadata.pointer("/exo/alone") {
            Some(alone) => serde_json::from_value(alone.clone())
                .context("`alone` in the machine tests' manifest is a list of names")?,
            None => Vec::new(),
        };
        for name in &alone {
            ensure!(files.contains(name), "{name} is to run alone, but no test file is called so");
        }
        Ok(MachineTests { files, alone })
    }

    /// Those of `selected` (all, when none is) that run two at a time, and those that do not.
    fn halves<'a>(&'a self, selected: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
        let wanted = |file: &&str| selected.is_empty() || selected.contains(file);
        let all = self.files.iter().map(String::as_str).filter(wanted);
        all.partition(|file| !self.alone.iter().any(|alone| alone == file))
    }

    /// Runs the tests of `files`, `threads` of them at a time, and of these only those that
    /// `filter` is part of the name of. They are one program, in which each file is a module.
    fn run(&self, files: &[&str], threads: usize, filter: Option<&str>) -> Command {
        let mut command = workspace::cargo();
        command.args(["test", "--no-fail-fast", "--package", MACHINE_TESTS, "--test", "machines"]);
        command.args(filter).args(["--", &format!("--test-threads={threads}")]);
        // Several filters would mean any of them, and one of the files, all of it.
        for file in self.files.iter().filter(|file| !files.contains(&file.as_str())) {
            command.args(["--skip", &format!("{file}::")]);
        }
        command
    }
}

/// Whether a file of this name has tests: `s`, two digits, and what it is about.
fn is_numbered(name: &str) -> bool {
    let digits = name.strip_prefix('s').and_then(|rest| rest.split_once('_'));
    digits.is_some_and(|(digits, _)| digits.len() == 2 && digits.parse::<u8>().is_ok())
}

/// Whether something in the source below `place` is called so that a test may have `name`
/// in its path: each part of it is in the name of an item, or in that of a file, after
/// which modules and tests in documentation are called. Cheap, and rather yes than no.
fn may_name_a_test(name: &str, place: &Path) -> bool {
    let mut open: Vec<&str> = name.split("::").collect();
    let mut places = vec![place.to_path_buf()];
    while let Some(place) = places.pop().filter(|_| !open.is_empty()) {
        let entries = fs::read_dir(&place).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !file.starts_with('.') && file != "target" {
                    open.retain(|part| !file.contains(part));
                    places.push(path);
                }
            } else if file.ends_with(".rs") {
                open.retain(|part| !file.contains(part));
                let text = fs::read_to_string(&path).unwrap_or_default();
                open.retain(|part| !items(&text).any(|item| item.contains(part)));
            }
        }
    }
    open.is_empty()
}

/// The names of items in Rust source, as far as a glance at each line shows them.
fn items(text: &str) -> impl Iterator<Item = &str> {
    const KINDS: &[&str] = &["fn", "mod", "struct", "enum", "trait"];
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| !KINDS.contains(word));
        let name = words.nth(1)?;
        name.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).next()
    })
}

/// Runs a cargo test command, passes its output on, and counts; true if it succeeded.
fn tally(mut command: Command) -> Result<(Tally, bool)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let mut line = line?;
            line.push(b'\n');
            if let Err(error) = output::print_bytes(&line) {
                // There is nowhere to tell the results; tests that went on would complain.
                terminate(child.id());
                let _ = child.wait();
                return Err(error.into());
            }
            tally.read(String::from_utf8_lossy(&line).trim_end());
        }
    }
    Ok((tally, child.wait()?.success()))
}

/// Asks a process and all that it has started to end, itself first.
fn terminate(pid: u32) {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&pid) = family.get(next) {
        next += 1;
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
    }
    for pid in family.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
        // One that has ended meanwhile is no matter.
        let _ = kill_process(pid, Signal::TERM);
    }
}

impl Tally {
    /// Takes in a line that a test program printed.
    fn read(&mut self, line: &str) {
        let failed = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"));
        self.names.extend(failed.map(ToOwned::to_owned));
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for count in result.split([';', '.']) {
            let Some((number, what)) = count.trim().split_once(' ') else { continue };
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_run_alone_is_not_in_the_half_of_pairs() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let tests = MachineTests { files: names(&["s00", "s70", "s90"]), alone: names(&["s70"]) };
        assert_eq!(tests.halves(&[]), (vec!["s00", "s90"], vec!["s70"]));
        assert_eq!(tests.halves(&["s70"]), (vec![], vec!["s70"]));
        assert_eq!(tests.halves(&["s90"]), (vec!["s90"], vec![]));
    }

    #[test]
    fn every_file_of_machine_tests_is_part_of_their_program() {
        let tests = MachineTests::of(workspace::metadata().unwrap()).unwrap();
        let program = fs::read_to_string(workspace::root().join("tests/main.rs")).unwrap();
        for file in &tests.files {
            assert!(program.contains(&format!("\nmod {file};\n")), "{file}");
        }
        assert!(is_numbered("s00_boot") && !is_numbered("main") && !is_numbered("model"));
    }

    #[test]
    fn the_manifest_names_test_files_that_run_alone() {
        let tests = MachineTests::of(workspace::metadata().unwrap()).unwrap();
        assert!(!tests.alone.is_empty() && tests.alone.len() < tests.files.len(), "{tests:?}");
    }

    #[test]
    fn names_are_looked_up_before_anything_is_built() {
        let found = |name: &str| may_name_a_test(name, workspace::root());
        for name in ["names_are_looked_up", "looked_up_before", "test::tests::counts", "s20_", ""] {
            assert!(found(name), "{name}");
        }
        assert!(may_name_a_test("the_store_serves_right", &workspace::root().join("tests")));
        assert!(!found("nobody_calls_a_test_so"));
        assert!(!found("tests::nobody_calls_a_test_so"));
        assert!(!may_name_a_test("counts_results", &workspace::root().join("tests")));
    }

    #[test]
    fn counts_results() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test a::good ... ok",
            "test a::bad ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 5 filtered out; \
             finished in 0.10s",
            "test result: ok. 20 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            tally.read(line);
        }
        let names = vec!["a::bad".to_owned()];
        assert_eq!(tally, Tally { passed: 21, failed: 1, ignored: 2, names });
    }
}
