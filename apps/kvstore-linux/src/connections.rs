//! TCP: one thread serves all connections, as they have something (`epoll(7)`, through `mio`).
//!
//! A connection that says nothing has no buffers. What it has sent and the store cannot use yet
//! waits in a buffer of its own, up to [`MOST_INPUT`]; answers that its client does not read, up
//! to [`OUTPUT`]: then nothing more is read from it. Connections that have something go on in turn,
//! a piece each; then what that changed is made durable, for all of them at once, and the answers
//! leave.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};

use kvstore::connections::Session;
use kvstore::stream::Next;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::store::Store;

/// Bytes of input that wait for their rest.
const MOST_INPUT: usize = 64 << 10;
/// Room for answers.
const OUTPUT: usize = 64 << 10;
/// Turns before it is looked again which connections have something.
const TURNS: u32 = 16;
/// Connections beyond the limit, which are told so; those beyond are closed.
const REFUSED: usize = 64;
const LISTENER: Token = Token(0);

/// Serves connections on `listener`, at most as many as the store has a limit for.
///
/// # Errors
/// The listener is of no use any more.
pub(crate) fn serve(
    listener: std::net::TcpListener,
    limit: u32,
    store: &Mutex<Store>,
) -> io::Result<Infallible> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(256);
    let mut again: Vec<Token> = Vec::new();
    let mut scratch = vec![0; OUTPUT];
    let most = limit as usize + REFUSED;
    let mut server = Server { listener, poll, most, store, last: LISTENER, peers: HashMap::new() };
    loop {
        let wait = (!again.is_empty()).then_some(std::time::Duration::ZERO);
        match server.poll.poll(&mut events, wait) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        let mut turns = std::mem::take(&mut again);
        for event in &events {
            if event.token() == LISTENER {
                server.accept(&mut turns)?;
            } else {
                turns.push(event.token());
            }
        }
        turns.sort_unstable();
        turns.dedup();
        for _ in 0..TURNS {
            if turns.is_empty() {
                break;
            }
            server.turn(&mut turns, &mut scratch);
        }
        again = turns;
    }
}

fn lock(store: &Mutex<Store>) -> std::sync::MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A listener and its connections.
struct Server<'s> {
    listener: TcpListener,
    poll: Poll,
    /// Connections, those included that are only told that there are too many.
    most: usize,
    store: &'s Mutex<Store>,
    /// The token given last.
    last: Token,
    peers: HashMap<Token, Peer>,
}

impl Server<'_> {
    /// Takes the connections that wait; each has a turn.
    fn accept(&mut self, turns: &mut Vec<Token>) -> io::Result<()> {
        loop {
            let (mut stream, address) = match self.listener.accept() {
                Ok((stream, SocketAddr::V4(address))) => (stream, *address.ip()),
                // The listener has an IPv4 address.
                Ok((_, SocketAddr::V6(_))) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Its client has gone, or there are no descriptors left: the others go on.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Ok(()),
            };
            if self.peers.len() >= self.most {
                continue;
            }
            // Answers are gathered already.
            let _ = stream.set_nodelay(true);
            self.last.0 += 1;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, self.last, interest)?;
            let session = lock(self.store).connect(address);
            let (input, output) = (Vec::new(), Vec::new());
            let peer = Peer { stream, address, session, input, output, wants: Next::Room };
            self.peers.insert(self.last, peer);
            turns.push(self.last);
        }
    }
}

impl Server<'_> {
    /// Each of these connections works on what has come; what that changed is made durable; and
    /// the answers leave. Those stay in `turns` that can go on at once.
    fn turn(&mut self, turns: &mut Vec<Token>, scratch: &mut [u8]) {
        turns.retain(|token| {
            let Some(peer) = self.peers.get_mut(token) else { return false };
            let step = peer.step(self.store, scratch);
            self.goes_on(*token, step)
        });
        lock(self.store).commit();
        turns.retain(|token| {
            let Some(peer) = self.peers.get_mut(token) else { return false };
            let sent = peer.send().map(|all| if all { Turn::More } else { Turn::Wait });
            self.goes_on(*token, sent)
        });
        if lock(self.store).is_shut_down() {
            std::process::exit(0);
        }
    }

    /// Whether a connection can go on at once. One that is over is removed.
    fn goes_on(&mut self, token: Token, turn: io::Result<Turn>) -> bool {
        match turn {
            Ok(Turn::More) => true,
            Ok(Turn::Wait) => false,
            Ok(Turn::Done) | Err(_) => {
                if let Some(peer) = self.peers.remove(&token) {
                    lock(self.store).disconnect(peer.session, peer.address);
                }
                false
            }
        }
    }
}

/// What became of a turn.
enum Turn {
    /// The client is to do something.
    Wait,
    /// There is more to do already.
    More,
    /// The connection is over.
    Done,
}

/// A connection.
struct Peer {
    stream: TcpStream,
    address: Ipv4Addr,
    session: Session,
    /// Received and not consumed.
    input: Vec<u8>,
    /// Produced and not sent.
    output: Vec<u8>,
    wants: Next,
}

impl Peer {
    /// Goes on with what can be gone on with, but sends nothing.
    fn step(&mut self, store: &Mutex<Store>, scratch: &mut [u8]) -> io::Result<Turn> {
        if !self.output.is_empty() {
            return Ok(Turn::More);
        }
        match self.wants {
            Next::Close => {
                self.finish(scratch);
                return Ok(Turn::Done);
            }
            Next::Room => self.work(store, scratch)?,
            Next::Input => match self.stream.read(scratch) {
                // It has sent its last byte, and what there was is answered.
                Ok(0) => return Ok(Turn::Done),
                Ok(count) => {
                    self.input.extend_from_slice(scratch.get(..count).unwrap_or_default());
                    self.work(store, scratch)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Wait),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            },
        }
        Ok(Turn::More)
    }

    /// Has the store work on the input.
    fn work(&mut self, store: &Mutex<Store>, scratch: &mut [u8]) -> io::Result<()> {
        let progress = lock(store).converse(&mut self.session, &self.input, scratch);
        self.input.drain(..progress.consumed);
        if self.input.is_empty() {
            // An idle connection has no buffer.
            self.input = Vec::new();
        }
        self.output.extend_from_slice(scratch.get(..progress.produced).unwrap_or_default());
        self.wants = progress.next;
        let stuck = match progress.next {
            Next::Input => self.input.len() >= MOST_INPUT,
            Next::Room => progress.consumed == 0 && progress.produced == 0,
            Next::Close => false,
        };
        if stuck { Err(io::Error::other("a request that is never whole")) } else { Ok(()) }
    }

    /// Sends what there is. Returns whether that was all.
    fn send(&mut self) -> io::Result<bool> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => {
                    self.output.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output = Vec::new();
        Ok(true)
    }

    /// Closes so that the client reads our last answer: what it has sent since is read, or Linux
    /// would reset the connection.
    fn finish(&mut self, scratch: &mut [u8]) {
        let _ = self.stream.shutdown(Shutdown::Write);
        for _ in 0..TURNS {
            if !matches!(self.stream.read(scratch), Ok(1..)) {
                return;
            }
        }
    }
}

/// A listener at the port of the datagrams.
///
/// # Errors
/// As a sentence, if the port is taken.
pub(crate) fn bind(address: SocketAddrV4) -> Result<std::net::TcpListener, String> {
    std::net::TcpListener::bind(address).map_err(|error| {
        format!("cannot serve TCP on {address}: {error}; choose others with --listen and --port")
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::arguments::Arguments;

    fn server(limit: u32) -> u16 {
        let line = format!("kvstore-linux --memory-mib 8 --seed 7 --connections {limit}");
        let arguments = Arguments::parse_from(line.split(' '));
        let store = Box::leak(Box::new(Mutex::new(Store::new(&arguments).unwrap())));
        let listener = bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || serve(listener, limit, store));
        port
    }

    fn connect(port: u16) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn ask(stream: &mut TcpStream, request: &[u8], end: &[u8]) -> Vec<u8> {
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(end) {
            let mut buffer = [0; 65_536];
            match stream.read(&mut buffer).unwrap() {
                0 => panic!("closed after {answer:?}"),
                count => answer.extend(&buffer[..count]),
            }
        }
        answer
    }

    #[test]
    fn serves_small_and_large_and_what_is_sent_before_half_closing() {
        let port = server(1024);
        let mut one = connect(port);
        assert_eq!(ask(&mut one, b"set k 0 0 1\r\nv\r\n", b"\r\n"), b"STORED\r\n");
        let large = vec![b'x'; 700_000];
        let set = [b"set large 0 0 700000\r\n", &large[..], b"\r\n"].concat();
        assert_eq!(ask(&mut one, &set, b"\r\n"), b"STORED\r\n");
        let mut other = connect(port);
        let got = ask(&mut other, b"get large\r\n", b"END\r\n");
        assert!(got.len() > 700_000 && got.starts_with(b"VALUE large 0 700000\r\nxx"));
        other.write_all(&b"get k\r\n".repeat(500)).unwrap();
        other.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        other.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"VALUE k 0 1\r\nv\r\nEND\r\n".repeat(500));
        one.write_all(b"quit\r\n").unwrap();
        assert_eq!(one.read(&mut [0; 8]).unwrap(), 0);
    }

    /// Its answers wait for it alone.
    #[test]
    fn a_client_that_reads_nothing_delays_no_other() {
        let port = server(1024);
        let mut good = connect(port);
        let set = [b"set k 0 0 60000\r\n", &vec![b'x'; 60_000][..], b"\r\n"].concat();
        assert_eq!(ask(&mut good, &set, b"\r\n"), b"STORED\r\n");
        let mut bad = connect(port);
        bad.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut sent = 0;
        while let Ok(count) = bad.write(&b"get k\r\n".repeat(1000)) {
            sent += count;
            assert!(sent < 100 << 20, "it is never told to wait");
        }
        for _ in 0..100 {
            assert_eq!(ask(&mut good, b"get absent\r\n", b"\r\n"), b"END\r\n");
        }
    }

    #[test]
    fn one_beyond_the_limit_is_told_so() {
        let port = server(2);
        let mut served = [connect(port), connect(port)];
        for stream in &mut served {
            assert_eq!(ask(stream, b"get k\r\n", b"\r\n"), b"END\r\n");
        }
        let mut refused = String::new();
        connect(port).read_to_string(&mut refused).unwrap();
        assert_eq!(refused, "ERROR Too many open connections\r\n");
        drop(served);
        // The end of the others is noticed some day.
        let served = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            let mut stream = connect(port);
            let _ = stream.write_all(b"get k\r\n");
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).is_ok() && answer == *b"END\r\n"
        });
        assert!(served);
    }
}
