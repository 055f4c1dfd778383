//! `cargo exo conform`: whether the store is a memcached.

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::conform::clients::{self, CLIENTS, Verdict};
use crate::conform::differential::compare;
use crate::conform::stores::Server;
use crate::output::{note, say};

/// Try whether the store is a memcached: every client, every protocol
///
/// Runs, one after the other, against a store over TCP: memccapable (all its checks), random
/// requests in all protocols whose answers are compared byte for byte with those of the installed
/// memcached, and sessions of common clients, which pip, npm and gem install below target/. What cannot
/// be tried here is said, and is no failure. Everything in the store is lost. Exits with 0 if
/// nothing failed, otherwise with 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store to try, just started [default: one of its own, as a process of this host]
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Seed of the random requests
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// How many random requests to compare; 0 for none
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    commands: u64,
    /// Only these sessions: memccapable, differential, or a client's package
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let hosted = if args.server.is_none() { Some(Server::hosted()?) } else { None };
    let store = match (&args.server, &hosted) {
        (Some(server), _) => address(server)?,
        (None, Some(hosted)) => hosted.address,
        (None, None) => unreachable!("one of the two is there"),
    };
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut failed = false;
    let mut tell = |name: &str, verdict: Verdict| -> Result<()> {
        failed |= matches!(verdict, Verdict::Failed(_));
        say!("{name:<24} {verdict}")?;
        Ok(())
    };
    // The first, while the store has given out no CAS ids.
    if wanted("differential") && args.commands > 0 {
        tell("differential", differential(args, store)?)?;
    }
    if wanted("memccapable") {
        tell("memccapable", clients::memccapable(store)?)?;
    }
    for client in CLIENTS.into_iter().filter(|client| wanted(client.package)) {
        tell(client.package, clients::session(client, store))?;
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn differential(args: &Args, store: SocketAddr) -> Result<Verdict> {
    let Some(memcached) = Server::memcached()? else {
        return Ok(Verdict::Skipped("memcached is not installed".into()));
    };
    let mut next = 0;
    let told = |commands| {
        if commands >= next {
            note!("{commands} of {} commands compared", args.commands);
            next = commands + args.commands.div_ceil(10).max(10_000);
        }
        Ok(())
    };
    Ok(match compare(store, memcached.address, args.seed, args.commands, told) {
        Ok(done) => Verdict::Passed(format!(
            "{} commands in {} pipelines, {} bytes of answers, seed {}",
            done.commands, done.rounds, done.bytes, args.seed
        )),
        Err(error) => Verdict::Failed(format!("{error:#}")),
    })
}

fn address(server: &str) -> Result<SocketAddr> {
    let found = server.to_socket_addrs().ok().and_then(|mut all| all.find(SocketAddr::is_ipv4));
    found.with_context(|| format!("--server {server}: not an address of the form HOST:PORT"))
}
