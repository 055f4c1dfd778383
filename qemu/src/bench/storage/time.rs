//! Time per durable SET, of two machines that run beside each other and are asked in turn.
//!
//! Both are reached through QEMU's user network, from one thread: it gives each client its requests,
//! waits until all are answered, and begins anew. Neither counts instructions. Only ratios of the
//! two mean something, and a busy host widens their spread.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::Args;
use super::connections::{Asking, WAYS};
use super::machines::{Peer, boot_in_time};
use crate::bench::load::{Dialect, KEYS, Verb, Workload};
use crate::machine::Machine;
use crate::output::note;
use crate::signals::Signals;

/// How often each is asked, and for how long.
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1500);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time of the durable store as a share of Redis's.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) asking: Asking,
    /// In the middle of all rounds, least and most.
    pub(super) ratio: f64,
    pub(super) spread: (f64, f64),
}

struct Clients {
    streams: Vec<TcpStream>,
    workload: Workload,
    dialect: Dialect,
    next_key: u32,
}

/// Measures all ways to ask.
///
/// # Errors
/// A machine does not serve, or answers wrongly.
pub(super) fn measure(args: &Args, interrupt: &Signals) -> Result<Vec<Row>> {
    let directories = [tempfile::tempdir()?, tempfile::tempdir()?];
    let exo = boot_in_time(Peer::Exo { durable: true }, directories[0].path(), interrupt)?;
    let redis = boot_in_time(Peer::Redis, directories[1].path(), interrupt)?;
    let workload = Workload { verb: Verb::Set, ..Workload::gets(16, args.value_bytes) };
    let mut rows = Vec::new();
    for asking in WAYS {
        note!("bench: time, {}, in turn", asking.title());
        let mut exo = Clients::connect(&exo, asking.clients, workload, Dialect::Memcached)?;
        let mut redis = Clients::connect(&redis, asking.clients, workload, Dialect::Redis)?;
        let mut ratios = Vec::new();
        for round in 0..=ROUNDS {
            interrupt.check()?;
            let ratio = exo.time(asking.pipeline)? / redis.time(asking.pipeline)?;
            // Caches are filled by the first one.
            if round > 0 {
                ratios.push(ratio);
            }
        }
        ratios.sort_by(f64::total_cmp);
        let at = |index: usize| ratios.get(index).copied().unwrap_or_default();
        rows.push(Row { asking, ratio: at(ROUNDS / 2), spread: (at(0), at(ROUNDS - 1)) });
    }
    Ok(rows)
}

impl Clients {
    fn connect(
        machine: &Machine,
        clients: u16,
        workload: Workload,
        dialect: Dialect,
    ) -> Result<Self> {
        let port = machine.tcp_port().context("TCP is not forwarded")?;
        let connect = |_| {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut clients = Self { streams: vec![stream], workload, dialect, next_key: 0 };
            // QEMU takes one unfinished connection at a time.
            clients.turn(1)?;
            clients.streams.pop().context("it was put there")
        };
        let streams = (0..clients).map(connect).collect::<Result<_>>()?;
        Ok(Self { streams, workload, dialect, next_key: 0 })
    }

    /// Seconds per request.
    fn time(&mut self, pipeline: u32) -> Result<f64> {
        let (start, mut requests) = (Instant::now(), 0);
        while start.elapsed() < ROUND {
            self.turn(pipeline)?;
            requests += self.streams.len() as u32 * pipeline;
        }
        Ok(start.elapsed().as_secs_f64() / f64::from(requests))
    }

    /// Each client asks once, and is answered.
    fn turn(&mut self, pipeline: u32) -> Result<()> {
        let Self { streams, workload, dialect, next_key } = self;
        let mut wanted = Vec::new();
        for stream in streams.iter_mut() {
            let (mut requests, mut answers) = (Vec::new(), Vec::new());
            for _ in 0..pipeline {
                requests.extend(dialect.request(*workload, *next_key));
                answers.extend(dialect.answer(*workload, *next_key));
                *next_key = (*next_key + 1) % KEYS;
            }
            stream.write_all(&requests)?;
            wanted.push(answers);
        }
        for (stream, wanted) in streams.iter_mut().zip(wanted) {
            let mut came = vec![0; wanted.len()];
            stream.read_exact(&mut came)?;
            ensure!(came == wanted, "a wrong answer: \"{}\"", came.escape_ascii());
        }
        Ok(())
    }
}
