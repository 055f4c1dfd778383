//! The same random requests to the store and to the installed memcached, and the answers
//! compared.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::differences::may_be;
use super::requests::{Protocol, Requests, Round};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    /// Commands sent to each.
    pub commands: u64,
    /// Pipelines of them.
    pub rounds: u64,
    /// Bytes of answers from each.
    pub bytes: u64,
}

/// A server's two connections, one for each protocol.
struct Peer {
    text: TcpStream,
    binary: TcpStream,
}

impl Peer {
    fn new(address: SocketAddr) -> Result<Self> {
        let connect = || -> Result<TcpStream> {
            let stream = TcpStream::connect(address).with_context(|| format!("{address}"))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        Ok(Self { text: connect()?, binary: connect()? })
    }

    fn ask(&mut self, round: &Round, cuts: &[usize]) -> Result<Vec<u8>> {
        let stream = match round.protocol {
            Protocol::Text => &mut self.text,
            Protocol::Binary => &mut self.binary,
        };
        // Answers are taken while requests are sent: both may be longer than what lies between.
        let mut writer = stream.try_clone()?;
        std::thread::scope(|scope| {
            let sent = scope.spawn(move || -> std::io::Result<()> {
                let mut rest = &round.bytes[..];
                for &cut in cuts {
                    let (piece, more) = rest.split_at(cut.min(rest.len()));
                    writer.write_all(piece)?;
                    rest = more;
                }
                writer.write_all(rest)
            });
            let mut answer = Vec::new();
            let mut part = vec![0; 1 << 16];
            while !answer.ends_with(&round.end) {
                let len = stream.read(&mut part).with_context(|| {
                    format!("after {} bytes of answers: {}", answer.len(), shown(&answer))
                })?;
                ensure!(len > 0, "closed after {}", shown(&answer));
                answer.extend_from_slice(&part[..len]);
            }
            sent.join().ok().context("the sender")??;
            Ok(answer)
        })
    }
}

/// Sends so many commands of this seed to the store and to memcached. `told` hears, now and
/// then, how many have been.
///
/// # Errors
/// At the first answer that differs, with the requests and both answers; or if a server does
/// not answer.
pub fn compare(
    store: SocketAddr,
    memcached: SocketAddr,
    seed: u64,
    commands: u64,
    mut told: impl FnMut(u64) -> Result<()>,
) -> Result<Compared> {
    let (mut ours, mut theirs) = (Peer::new(store)?, Peer::new(memcached)?);
    let newest = version(&mut theirs)? >= [1, 6, 40];
    for peer in [&mut ours, &mut theirs] {
        ask_line(peer, "flush_all")?;
    }
    ensure!(
        last_cas(&mut ours)? == last_cas(&mut theirs)?,
        "the store has given out CAS ids already: requests that name them would mean others to it \
         than to memcached; start it anew"
    );
    let mut requests = Requests::new(seed, newest);
    let mut done = Compared::default();
    while done.commands < commands {
        requests.last_cas = last_cas(&mut theirs)?;
        last_cas(&mut ours)?;
        for _ in 0..8 {
            let round = requests.round();
            let cuts: Vec<usize> = match requests.chance.below(3) {
                0 => (0..20).map(|_| 1 + requests.chance.below(round.bytes.len())).collect(),
                _ => Vec::new(),
            };
            let context = || format!("seed {seed}, after {} commands", done.commands);
            let a = ours.ask(&round, &cuts).context("the store").with_context(context)?;
            let b = theirs.ask(&round, &cuts).context("memcached").with_context(context)?;
            let same = match round.protocol {
                Protocol::Text => may_be(&a, &b),
                Protocol::Binary => a == b,
            };
            if !same {
                let at = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
                let near = |text: &[u8]| shown(&text[at.saturating_sub(60)..]);
                bail!(
                    "seed {seed}, after {} commands: answers differ from byte {at} on\n\
                     requests:  {}\nstore:     {}\nmemcached: {}",
                    done.commands,
                    shown(&round.bytes),
                    near(&a),
                    near(&b)
                );
            }
            done.commands += round.commands;
            done.rounds += 1;
            done.bytes += a.len() as u64;
        }
        told(done.commands)?;
    }
    Ok(done)
}

/// Bytes that can be read, not too many.
fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 3000;
    let text: String =
        bytes.iter().take(MOST).flat_map(|b| b.escape_ascii()).map(char::from).collect();
    if bytes.len() > MOST { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

fn ask_line(peer: &mut Peer, line: &str) -> Result<String> {
    let round = Round {
        protocol: Protocol::Text,
        bytes: format!("{line}\r\nmn\r\n").into_bytes(),
        end: b"MN\r\n".to_vec(),
        commands: 1,
    };
    Ok(String::from_utf8_lossy(&peer.ask(&round, &[])?).into_owned())
}

/// Stores an item and tells its CAS id.
fn last_cas(peer: &mut Peer) -> Result<u64> {
    let answer = ask_line(peer, "ms last 1 c\r\nx")?;
    let cas = answer.lines().next().and_then(|line| line.strip_prefix("HD c")?.trim().parse().ok());
    cas.with_context(|| format!("no CAS id in {answer:?}"))
}

fn version(peer: &mut Peer) -> Result<[u32; 3]> {
    let answer = ask_line(peer, "version")?;
    let text = answer.lines().next().and_then(|line| line.strip_prefix("VERSION ")).unwrap_or("");
    let mut numbers = text.split('.').map(|number| number.trim().parse().unwrap_or(0));
    Ok([0; 3].map(|_| numbers.next().unwrap_or(0)))
}
