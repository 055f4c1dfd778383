//! `cargo exo attack`: what an attacker in ring 3 gets out of the kernel.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::machine::{Config, Machine};
use crate::prerequisites::QEMU;

/// How long all attacks together may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Boot an attacker beside the store and show what it achieved
///
/// The attacker is an ordinary application that tries what it should not be able
/// to do, against the kernel and against its neighbour. Every attempt must be
/// repelled, and the store must answer afterwards.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show the whole console as well
    #[arg(long)]
    verbose: bool,
}

/// An attempt, as the attacker reports it.
#[derive(Debug, PartialEq, Eq)]
struct Attempt {
    number: u32,
    name: String,
    answer: String,
    repelled: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    QEMU.require()?;
    let machine = Machine::boot(&Config::named("attack")?)?;
    let mut store = machine.store(Duration::from_secs(60))?;
    // The attacker's end is root's to report, however it ended.
    machine.wait_for_line("root: attack ended", LIMIT)?;
    let alive = (0..10).any(|_| machine.answers(&mut store).unwrap_or(false));
    if args.verbose {
        eprintln!("{}", machine.report());
    }

    let attempts: Vec<_> =
        machine.console().lines().iter().filter_map(|line| Attempt::parse(line)).collect();
    ensure!(!attempts.is_empty(), "the attacker attempted nothing\n{}", machine.report());
    println!("{:>3}  {:40}  {:30}  result", "", "attempt", "the kernel said");
    for attempt in &attempts {
        let Attempt { number, name, answer, repelled } = attempt;
        let result = if *repelled { "repelled" } else { "BREACH" };
        println!("{number:>3}  {name:40}  {answer:30}  {result}");
    }
    let breaches = attempts.iter().filter(|attempt| !attempt.repelled).count();
    println!("{} attempts, {breaches} breaches", attempts.len());
    println!("the store {}", if alive { "still answers" } else { "no longer answers: BREACH" });
    Ok(if breaches == 0 && alive { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Attempt {
    /// Reads `attack: NUMBER NAME: kernel said ANSWER: repelled`, or `BREACH`. Whatever
    /// is not clearly repelled is a breach.
    fn parse(line: &str) -> Option<Self> {
        let (number, rest) = line.strip_prefix("attack: ")?.split_once(' ')?;
        let (name, rest) = rest.split_once(": kernel said ")?;
        let (answer, result) = rest.rsplit_once(": ").unwrap_or((rest, ""));
        Some(Self {
            number: number.parse().ok()?,
            name: name.to_owned(),
            answer: answer.to_owned(),
            repelled: result.trim() == "repelled",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_attackers_lines() {
        let attempt = |answer: &str, repelled| Attempt {
            number: 7,
            name: "map frame 0".into(),
            answer: answer.into(),
            repelled,
        };
        let parse = Attempt::parse;
        assert_eq!(
            parse("attack: 07 map frame 0: kernel said NotYours: repelled"),
            Some(attempt("NotYours", true))
        );
        assert_eq!(
            parse("attack: 07 map frame 0: kernel said error: 3: BREACH"),
            Some(attempt("error: 3", false))
        );
        assert_eq!(parse("attack: 07 map frame 0: kernel said x"), Some(attempt("x", false)));
        assert_eq!(parse("attack: begins"), None);
        assert_eq!(parse("kvstore: 07 a: kernel said x: repelled"), None);
    }
}
