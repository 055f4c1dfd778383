//! `cargo exo filter`: what filters say, and which packets they take.

mod capture;
mod code;
mod fuzz;
mod trie;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use dpf::{Filter, MAX_FRAME, Tag, conflict, overlap, witness};
use dpf_run::Arena;
use dpf_text::{explain, parse};

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
    /// Print each filter in canonical form, all of them merged as a graph in the language
    /// of Graphviz, and the machine code that the kernel would run
    Explain {
        /// Filters, each an expression
        #[arg(required = true, value_name = "EXPR")]
        expressions: Vec<String>,
    },
    /// Print for each packet of a capture which filter takes it, the most specific, and
    /// count
    Match {
        /// Filters, each an expression; then the capture, a pcap file of Ethernet frames
        #[arg(required = true, num_args = 2.., value_name = "EXPR... FILE")]
        arguments: Vec<OsString>,
    },
    Fuzz(fuzz::Args),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match &args.what {
        What::Explain { expressions } => output::print(explained(&read(expressions)?)?)?,
        What::Match { arguments } => {
            let (file, expressions) = arguments.split_last().context("no capture")?;
            let expressions = texts(expressions)?;
            let filters = read(&expressions)?;
            let name = Path::new(file).display();
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
            let packets = capture::frames(&bytes).with_context(|| name.to_string())?;
            output::print(matched(&expressions, &filters, &packets)?)?;
        }
        What::Fuzz(args) => return fuzz::run(args),
    }
    Ok(ExitCode::SUCCESS)
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

/// All filters, installed; tags are their places. Two that take the same frames are an
/// error.
fn installed(filters: &[Filter]) -> Result<Arena> {
    let mut arena = Arena::new(filters.len());
    for (filter, tag) in filters.iter().zip(0..) {
        if let Err(error) = arena.install(filter, Tag(tag)) {
            bail!("filter {}: {error}", tag + 1);
        }
    }
    Ok(arena)
}

fn explained(filters: &[Filter]) -> Result<String> {
    let arena = installed(filters)?;
    let mut out = String::new();
    for (number, filter) in (1..).zip(filters) {
        out += &format!("filter {number}: {}\n", explain(filter));
        for step in filter.steps() {
            out += &format!("  {}\n", trie::step(&step));
        }
        let rest = (number + 1..).zip(filters.iter().skip(number));
        for (other, against) in rest.filter(|(_, against)| overlap(filter, against)) {
            out += &match conflict(filter, against) {
                true => {
                    format!("  in conflict with filter {other}: neither is the more specific\n")
                }
                false => {
                    format!("  shares frames with filter {other}; the more specific takes them\n")
                }
            };
            let mut frame = [0; MAX_FRAME];
            let length = witness(filter, against, &mut frame).unwrap_or(0);
            let frame = frame.get(..length).unwrap_or_default();
            let digits: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
            out += &format!("    such as {digits}\n");
        }
    }
    out += &format!("\n{}\n", trie::dot(filters));
    out += &code::listing(&arena);
    Ok(out)
}

fn matched(expressions: &[String], filters: &[Filter], packets: &[&[u8]]) -> Result<String> {
    let arena = installed(filters)?;
    let mut counts = vec![0_u64; filters.len()];
    let mut nobodys = 0_u64;
    let mut out = String::new();
    for (number, packet) in (1..).zip(packets) {
        let taker = arena.classify_interpreted(packet);
        let same = arena.classify(packet) == taker;
        anyhow::ensure!(same, "the code and the interpreter differ on packet {number}");
        let taker = taker.map(|tag| tag.0 as usize);
        match taker.and_then(|tag| counts.get_mut(tag)) {
            Some(count) => *count += 1,
            None => nobodys += 1,
        }
        let who = taker.map_or("nobody".to_owned(), |tag| format!("filter {}", tag + 1));
        out += &format!("packet {number}, {} bytes: {who}\n", packet.len());
    }
    out += "\n";
    for ((number, text), count) in (1..).zip(expressions).zip(counts) {
        out += &format!("{count:8}  filter {number}: {text}\n");
    }
    out += &format!("{nobodys:8}  nobody\n");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn the_most_specific_takes_a_packet() {
        let texts = owned(&["udp dst port 53", "ip", "udp dst port 53 and ip dst host 10.0.0.1"]);
        let mut dns = [0_u8; 60];
        dns[12] = 8;
        dns[14] = 0x45;
        dns[23] = 17;
        dns[30..34].copy_from_slice(&[10, 0, 0, 1]);
        dns[37] = 53;
        let mut other = dns;
        other[33] = 2;
        let mut web = dns;
        web[37] = 80;
        let arp = [0_u8; 60];
        let packets: [&[u8]; 4] = [&dns, &other, &web, &arp];
        let text = matched(&texts, &read(&texts).unwrap(), &packets).unwrap();
        assert_eq!(
            text,
            "packet 1, 60 bytes: filter 3\n\
             packet 2, 60 bytes: filter 1\n\
             packet 3, 60 bytes: filter 2\n\
             packet 4, 60 bytes: nobody\n\
             \n       1  filter 1: udp dst port 53\
             \n       1  filter 2: ip\
             \n       1  filter 3: udp dst port 53 and ip dst host 10.0.0.1\
             \n       1  nobody\n"
        );
    }

    #[test]
    fn errors_show_the_place() {
        let error = read(&owned(&["udp", "ip and port 80"])).unwrap_err().to_string();
        assert!(error.starts_with("filter 2, column 8: "), "{error}");
        assert!(error.contains("  | ip and port 80\n  |        ^"), "{error}");
        let twice = read(&owned(&["ip", "ether proto 0x800"])).unwrap();
        let error = explained(&twice).unwrap_err().to_string();
        assert!(error.starts_with("filter 2: "), "{error}");
    }
}
