//! `cargo exo filter`: what filters say, and which packets they take.

mod capture;
mod code;
mod fuzz;
mod taker;
mod trie;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use dpf::{Filter, MAX_FRAME, implies, overlap, witness};
use dpf_text::{explain, parse};

use self::capture::Packets;
use self::taker::Takers;
use crate::output;

/// Show what filters say and the code made of them, or which packets of a capture they take;
/// fuzz them
///
/// Expressions are those of pcap as far as a filter can say them; docs/filters.md has the
/// grammar. Quote each: 'udp dst port 53 and ip dst host 10.0.2.15'.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print each filter in canonical form, and which of them share packets; or all of them
    /// merged, as a graph or as machine code
    Explain {
        /// Filters, each an expression
        #[arg(required = true, value_name = "EXPR")]
        expressions: Vec<String>,
        /// Print instead, and nothing else, the merged filters as a graph in the language of
        /// Graphviz: pipe it into `dot -Tsvg`
        #[arg(long)]
        graph: bool,
        /// Print instead, and nothing else, the machine code that the kernel would run
        #[arg(long, conflicts_with = "graph")]
        code: bool,
    },
    /// Print for each packet of a capture which filter takes it, the most specific, and
    /// count
    ///
    /// Of a capture that is cut off, all whole packets and the counts are printed, and then
    /// the error.
    Match {
        /// Filters, each an expression; then the capture, a pcap file of Ethernet packets
        #[arg(required = true, num_args = 2.., value_name = "EXPR|FILE")]
        arguments: Vec<OsString>,
    },
    Fuzz(fuzz::Args),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut out = Vec::new();
    let mut end = Ok(());
    match &args.what {
        What::Explain { expressions, graph, code } => {
            let filters = read(expressions)?;
            // Two that are the same filter are an error, whatever is shown.
            let takers = Takers::of(&filters)?;
            match (graph, code) {
                (true, _) => write!(out, "{}", trie::dot(&filters))?,
                (_, true) => write!(out, "{}", code::listing(takers.arena()))?,
                _ => explained(&mut out, &filters)?,
            }
        }
        What::Match { arguments } => {
            let (file, expressions) = arguments.split_last().context("no capture")?;
            let expressions = texts(expressions)?;
            let filters = read(&expressions)?;
            let name = Path::new(file).display();
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
            let packets = Packets::of(&bytes).with_context(|| name.to_string())?;
            end = matched(&mut out, &expressions, &filters, packets)?
                .with_context(|| name.to_string());
        }
        What::Fuzz(args) => return fuzz::run(args),
    }
    output::print_bytes(&out)?;
    end.map(|()| ExitCode::SUCCESS)
}

/// Expressions are text; a file's name need not be.
fn texts(arguments: &[OsString]) -> Result<Vec<String>> {
    let text = |argument: &OsString| {
        let text = argument.to_str().map(ToOwned::to_owned);
        text.with_context(|| format!("no filter, since no text: {}", argument.display()))
    };
    arguments.iter().map(text).collect()
}

/// The filters, or what is wrong with the first that is none.
fn read(expressions: &[String]) -> Result<Vec<Filter>> {
    let number = |index: usize| match expressions.len() {
        1 => String::new(),
        _ => format!("filter {}, ", index + 1),
    };
    let filters = expressions.iter().enumerate().map(|(index, text)| {
        parse(text).map_err(|error| anyhow::anyhow!("{}{error}", number(index)))
    });
    filters.collect()
}

/// What each filter says, and which of the others share packets with it.
fn explained(out: &mut dyn Write, filters: &[Filter]) -> Result<()> {
    for (number, filter) in (1..).zip(filters) {
        writeln!(out, "filter {number}: {}", explain(filter))?;
        for step in filter.steps() {
            writeln!(out, "  {}", trie::step(&step))?;
        }
        let rest = (number + 1..).zip(filters.iter().skip(number));
        for (other, against) in rest.filter(|(_, against)| overlap(filter, against)) {
            let takes = match filter.pinned() >= against.pinned() {
                true => "takes them",
                false => "leaves them to that",
            };
            let verdict = match (implies(filter, against), implies(against, filter)) {
                (true, true) => format!("takes the same packets as filter {other}"),
                (true, false) => format!("is within filter {other}, and {takes}"),
                (false, true) => format!("contains filter {other}, and {takes}"),
                _ => format!("shares packets with filter {other}, and {takes}"),
            };
            let mut packet = [0; MAX_FRAME];
            let length = witness(filter, against, &mut packet).unwrap_or(0);
            let packet = packet.get(..length).unwrap_or_default();
            let digits: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(out, "  {verdict}\n    such as {digits}")?;
        }
    }
    Ok(())
}

/// A line for each packet, and how many each filter takes. Returns how the packets ended: an
/// error is that of the capture, and all of what was read before it is written.
fn matched<'f>(
    out: &mut dyn Write,
    expressions: &[String],
    filters: &[Filter],
    packets: impl Iterator<Item = Result<capture::Packet<'f>>>,
) -> Result<Result<()>> {
    let takers = Takers::of(filters)?;
    let mut counts = vec![0_u64; filters.len()];
    let mut others = 0_u64;
    let mut end = Ok(());
    for (number, packet) in (1..).zip(packets) {
        let packet = match packet {
            Ok(packet) => packet,
            Err(error) => {
                end = Err(error);
                break;
            }
        };
        let taker = takers.taker(&packet).with_context(|| format!("packet {number}"))?;
        match taker.and_then(|place| counts.get_mut(place)) {
            Some(count) => *count += 1,
            None => others += 1,
        }
        let length = match packet.kept.len() {
            kept if kept < packet.length => format!("{kept} of {}", packet.length),
            kept => kept.to_string(),
        };
        let taker = taker.map_or("no filter".to_owned(), |place| format!("filter {}", place + 1));
        writeln!(out, "packet {number}, {length} bytes: {taker}")?;
    }
    writeln!(out)?;
    for ((number, text), count) in (1..).zip(expressions).zip(counts) {
        writeln!(out, "{count:8}  filter {number}: {text}")?;
    }
    writeln!(out, "{others:8}  no filter")?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_show_the_place() {
        let owned = |texts: [&str; 2]| texts.map(str::to_owned);
        let error = read(&owned(["udp", "ip and port 80"])).unwrap_err().to_string();
        assert!(error.starts_with("filter 2, column 8: "), "{error}");
        assert!(error.contains("  | ip and port 80\n  |        ^"), "{error}");
        let twice = read(&owned(["ip", "ether proto 0x800"])).unwrap();
        let error = Takers::of(&twice).err().unwrap().to_string();
        assert!(error.starts_with("filter 2: "), "{error}");
    }
}
