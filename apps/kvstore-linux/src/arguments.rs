//! What can be chosen: what the exokernel's application takes, and what its surroundings
//! give it there.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use kvstore::durable::promise::Promise;
use kvstore::engine::Eviction;

/// A memcached-compatible key-value store on UDP and TCP, as a Linux process
///
/// The same library that `cargo exo run` serves from inside the exokernel. Ctrl-C ends it; what was
/// stored is gone then, unless it is durable.
#[derive(Debug, clap::Parser)]
#[command(name = "kvstore-linux", version)]
pub(crate) struct Arguments {
    /// Address to serve on; 0.0.0.0 for all of this host. The store believes every client:
    /// do not serve a network you do not trust
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
    listen: Ipv4Addr,
    /// Port to serve on, UDP and TCP alike; 0 for any that is free
    #[arg(long, default_value_t = 11211)]
    port: u16,
    /// Memory of the store in MiB, index and page table included
    #[arg(long, default_value_t = 32, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..32768))]
    pub(crate) memory_mib: u32,
    /// Which items are given up first when the memory is full
    #[arg(long, default_value = Eviction::default().name(), value_name = "POLICY",
          value_parser = PossibleValuesParser::new(Eviction::ALL.map(Eviction::name))
              .map(|name| Eviction::named(&name).unwrap_or_default()))]
    pub(crate) eviction: Eviction,
    /// Secret of the store's index, for runs that must repeat [default: random]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Clients that may be connected over TCP; one more gets an error
    #[arg(long, default_value_t = kvstore::connections::DEFAULT_LIMIT, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) connections: u32,
    /// KiB a second, in answers of several datagrams, to one source address that has not connected
    /// over TCP: it may be forged. Answers of one datagram are always sent
    #[arg(long, default_value_t = kvstore::datagrams::DEFAULT_BUDGET >> 10, value_name = "N",
          value_parser = clap::value_parser!(u32).range(0..1 << 22))]
    pub(crate) udp_kib: u32,
    /// Users that are served, a line USER:PASSWORD for each. A client sends one first, as the value of
    /// a `set`; datagrams are not served [default: all are served]
    #[arg(short = 'Y', long, value_name = "FILE")]
    pub(crate) auth_file: Option<PathBuf>,
    /// Let clients end the process with `shutdown`, over connections
    #[arg(short = 'A', long)]
    pub(crate) enable_shutdown: bool,
    /// Threads that serve datagrams, each with a socket of its own; all requests of one client
    /// socket go to the same one. Connections have one thread more
    #[arg(long, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) threads: u16,
    /// Keep what is stored in this file, or disk, and answer when it is there (fdatasync): it
    /// survives the end of the process, and of the power. A new file takes some three times the
    /// store's memory; nothing is evicted, but refused when memory is full
    #[arg(long, value_name = "FILE", conflicts_with = "echo")]
    pub(crate) durable: Option<PathBuf>,
    /// What an answer of a durable store promises: `always` that what it says is flushed to the
    /// disk; `group:MS` that it is written, and flushed MS milliseconds later at most, so that the
    /// end of the power may lose the last MS; `async:MS` that it is written and flushed MS
    /// milliseconds later at most, so that the end of the process may lose them, too
    #[arg(long, default_value_t, value_name = "PROMISE", requires = "durable",
          value_parser = |text: &str| Promise::parse(text)
              .ok_or("not always, group:MS or async:MS"))]
    pub(crate) promise: Promise,
    /// Store nothing: send every datagram back as it came. What serving costs without a store
    #[arg(long)]
    pub(crate) echo: bool,
}

impl Arguments {
    pub(crate) fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.listen, self.port)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn every_option_has_help() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} has no help", argument.get_id());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        assert!(parse("kvstore-linux --durable file").is_ok());
        assert!(parse("kvstore-linux --durable file --promise async:100").is_ok());
        assert!(
            parse("kvstore-linux --seed 7 --threads 2 --memory-mib 64 --eviction sieve").is_ok()
        );
        for line in [
            "--threads 0",
            "--eviction best",
            "--memory-mib 0",
            "--memory-mib 32768",
            "--listen ::1",
            "x",
            "--echo --durable f",
            "--promise always",
            "--durable f --promise group",
        ] {
            assert!(parse(&format!("kvstore-linux {line}")).is_err(), "{line}");
        }
    }
}
