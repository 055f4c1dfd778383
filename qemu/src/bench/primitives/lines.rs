//! What the two guests print, as figures.
//!
//! Lines that are none of these are the guest's own business. A line that is nearly one
//! is an error: a figure must not get lost.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

/// Nothing but instructions counts one each, so this much is all the counter may be off.
const EXACT: u64 = 1000;

/// One operation's figures: instructions of one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// The median.
    pub(crate) instructions: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) samples: u64,
}

/// All that one guest said.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Figures by name.
    pub(crate) figures: BTreeMap<String, Figure>,
    /// `linux KEY: VALUE`, in order.
    pub(crate) facts: Vec<(String, String)>,
    /// What a string instruction of so many repetitions counted as.
    pub(crate) string: Option<(u64, u64)>,
}

impl Measured {
    /// Reads a console on which lines begin with `prefix`. Fails unless the guest has
    /// shown that its counter counts instructions.
    pub(crate) fn read(lines: &[String], prefix: &str) -> Result<Self> {
        let mut measured = Self::default();
        let mut exact = false;
        for line in lines.iter().filter_map(|line| line.strip_prefix(prefix)) {
            let part = || format!("the guest printed \"{line}\"");
            if let Some(rest) = line.strip_prefix("primitive ") {
                let (name, figure) = figure(rest).with_context(part)?;
                let before = measured.figures.insert(name, figure);
                ensure!(before.is_none(), "{} a second time", part());
            } else if let Some(rest) = line.strip_prefix("check nops=") {
                ensure!(
                    counted(rest).with_context(part)? == (EXACT, EXACT),
                    "the time-stamp counter does not count instructions here: {}",
                    part()
                );
                exact = true;
            } else if let Some(rest) = line.strip_prefix("check string=") {
                measured.string = Some(counted(rest).with_context(part)?);
            } else if let Some(rest) = line.strip_prefix("linux ") {
                let (key, value) = rest.split_once(": ").with_context(part)?;
                measured.facts.push((key.to_owned(), value.to_owned()));
            }
        }
        ensure!(exact, "the guest did not show that it counts instructions");
        Ok(measured)
    }
}

/// `NAME instructions=N least=N most=N samples=N`; all but the first two may be missing.
fn figure(text: &str) -> Result<(String, Figure)> {
    let mut words = text.split_ascii_whitespace();
    let name = words.next().context("it has no name")?;
    let (mut instructions, mut least, mut most, mut samples) = (None, None, None, 1);
    for word in words {
        let (key, value) = word.split_once('=').context("not all are KEY=VALUE")?;
        match key {
            "samples" => samples = value.parse()?,
            "instructions" => instructions = Some(number(value)?),
            "least" => least = Some(number(value)?),
            "most" => most = Some(number(value)?),
            _ => bail!("no table knows what \"{key}\" is"),
        }
    }
    let instructions = instructions.context("it has no instructions")?;
    let (least, most) = (least.unwrap_or(instructions), most.unwrap_or(instructions));
    ensure!(least <= instructions && instructions <= most, "least and most are not");
    Ok((name.to_owned(), Figure { instructions, least, most, samples }))
}

/// A count, not negative.
fn number(text: &str) -> Result<f64> {
    let number: f64 = text.parse().with_context(|| format!("\"{text}\" is no number"))?;
    ensure!(number.is_finite() && number >= 0.0, "\"{text}\" is no count");
    Ok(number)
}

/// `WANTED counted=COUNTED`.
fn counted(text: &str) -> Result<(u64, u64)> {
    let (wanted, counted) = text.split_once(" counted=").context("it has no count")?;
    Ok((wanted.parse()?, counted.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Measured> {
        let lines: Vec<_> = lines.iter().map(|&line| line.to_owned()).collect();
        Measured::read(&lines, "")
    }

    const EXACT_LINE: &str = "check nops=1000 counted=1000";

    #[test]
    fn reads_what_guests_print() {
        let measured = read(&[
            "[    0.1] primitive noise",
            EXACT_LINE,
            "check string=4096 counted=4103",
            "linux version: Linux version 6.1: x",
            "primitive pipe instructions=5293.5 least=5293.5 most=9920 samples=1000",
            "primitive short instructions=3",
        ]);
        let measured = measured.unwrap();
        let pipe = Figure { instructions: 5293.5, least: 5293.5, most: 9920.0, samples: 1000 };
        assert_eq!(measured.figures["pipe"], pipe);
        let short = Figure { instructions: 3.0, least: 3.0, most: 3.0, samples: 1 };
        assert_eq!(measured.figures["short"], short);
        assert_eq!(measured.figures.len(), 2);
        assert_eq!(measured.facts, [("version".to_owned(), "Linux version 6.1: x".to_owned())]);
        assert_eq!(measured.string, Some((4096, 4103)));
    }

    #[test]
    fn sees_only_lines_with_the_prefix() {
        let lines = ["app: check nops=1000 counted=1000", "primitive x instructions=1"];
        let lines = lines.map(ToOwned::to_owned);
        assert!(Measured::read(&lines, "app: ").unwrap().figures.is_empty());
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for line in [
            "primitive ",
            "primitive x",
            "primitive x instructions=",
            "primitive x instructions=-1",
            "primitive x instructions=NaN",
            "primitive x instructions=inf",
            "primitive x instructions=5 least=6",
            "primitive x instructions=5 most=4",
            "primitive x instructions=5 samples=many",
            "primitive x instructions=5 seconds=1",
            "primitive x 5",
            "check nops=1000 counted=1001",
            "check nops=1000",
            "linux version",
        ] {
            assert!(read(&[EXACT_LINE, line]).is_err(), "{line}");
        }
        let twice = "primitive x instructions=5";
        assert!(read(&[EXACT_LINE, twice, twice]).is_err());
        assert!(read(&[twice]).is_err(), "not shown to be instructions");
    }
}
