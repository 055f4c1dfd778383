//! A client that asks one by one, in datagrams.
//!
//! Requests have as many datagrams as the store takes, and answers as many as they need. What
//! is longer than that is stored over a connection, which also proves the client's address.
//!
//! A datagram is lost only if the host says so ([`lost`]), or a request only if the store says that
//! not all of it came: until then an answer is waited for. What was lost is stored again.

use std::io::{BufRead, BufReader, Cursor, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use kvstore::datagrams::MOST_PARTS;

use super::lost::lost;
use super::{Asked, Counts, Items};
use crate::LONG;

/// Bytes of a request in each datagram, behind the eight of its frame.
const PIECE: usize = 1400;
const FRAME: usize = 8;
/// After so long without a datagram it is asked whether one was lost.
const SILENCE: Duration = Duration::from_millis(200);
/// After so many it is taken for that: what was lost may have been another client's.
const SILENCES: u32 = 10;

/// What came of a request.
enum Answer {
    Whole(Vec<u8>),
    /// So many of its datagrams did not come; 0 if none came, since it is not known then.
    Lost(i64),
}

struct Client {
    socket: UdpSocket,
    ports: [u16; 2],
    stream: BufReader<TcpStream>,
    /// What was lost, as far as it was taken for that.
    lost: u64,
    number: u16,
}

/// Makes at least so many requests of the store at `udp`, and at `tcp` for what is too long, as
/// client `number`. Returns what it counted, and what the host has lost of the answers to it.
///
/// # Panics
/// If an answer is not what it may be, or does not come and the host has lost nothing.
#[must_use]
pub fn run(udp: SocketAddr, tcp: SocketAddr, number: u64, requests: u64) -> (Counts, u64) {
    let mut items = Items::new(number);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(udp).expect("a peer");
    socket.set_read_timeout(Some(SILENCE)).expect("a time");
    let own = socket.local_addr().expect("bound").port();
    let stream = TcpStream::connect(tcp).expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a time");
    items.counts.connections += 1;
    let stream = BufReader::new(stream);
    let mut client = Client { socket, ports: [own, udp.port()], stream, lost: 0, number: 0 };
    client.lost = client.lost_now(&mut items.counts);
    while items.counts.sent < requests {
        let (key, asked) = items.choose();
        let mut bytes = Vec::new();
        items.write(key, asked, &mut bytes);
        loop {
            items.counts.sent += 1;
            if bytes.len() > MOST_PARTS * PIECE {
                client.stream.get_mut().write_all(&bytes).expect("sent");
                items.check(&mut client.stream, key, asked);
                break;
            }
            match client.ask(&bytes, &mut items.counts) {
                Answer::Whole(answer) => {
                    let (mut answer, received) = (Cursor::new(answer), items.counts.received);
                    items.check(&mut answer, key, asked);
                    // Counted when it came, as what came of those that were lost.
                    items.counts.received = received;
                    let rest = answer.get_ref().len() as u64 - answer.position();
                    assert_eq!(rest, 0, "more was answered than asked");
                    break;
                }
                Answer::Lost(missing) => {
                    items.lost(key, asked);
                    items.counts.missing += missing;
                    if matches!(asked, Asked::Get) {
                        break;
                    }
                }
            }
        }
    }
    (items.counts, lost(own))
}

impl Client {
    /// Datagrams that the host has lost, and requests that the store has given up.
    fn lost_now(&mut self, counts: &mut Counts) -> u64 {
        self.stream.get_mut().write_all(b"stats\r\n").expect("sent");
        let (mut line, mut incomplete) = (String::new(), 0);
        while line != "END\r\n" {
            line.clear();
            counts.received += self.stream.read_line(&mut line).expect("an answer") as u64;
            if let Some(number) = line.strip_prefix("STAT requests_incomplete ") {
                incomplete = number.trim().parse().expect("a number");
            }
        }
        self.ports.into_iter().map(lost).sum::<u64>() + incomplete
    }

    /// Sends a request and gathers its answer.
    fn ask(&mut self, request: &[u8], counts: &mut Counts) -> Answer {
        self.number = self.number.wrapping_add(1);
        let pieces: Vec<&[u8]> = request.chunks(PIECE).collect();
        for (sequence, piece) in pieces.iter().enumerate() {
            let head = [self.number, sequence as u16, pieces.len() as u16, 0];
            let head: Vec<u8> = head.into_iter().flat_map(u16::to_be_bytes).collect();
            self.socket.send(&[&head, *piece].concat()).expect("sent");
        }
        let mut parts: Vec<Option<Vec<u8>>> = Vec::new();
        let (mut came, mut silences, start) = (0, 0, Instant::now());
        let mut datagram = vec![0; 1 << 16];
        loop {
            let length = match self.socket.recv(&mut datagram) {
                Ok(length) => length,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    silences += 1;
                    if silences >= SILENCES {
                        let now = self.lost_now(counts);
                        if now > std::mem::replace(&mut self.lost, now) {
                            return Answer::Lost((parts.len() - came) as i64);
                        }
                        silences = 0;
                    }
                    assert!(start.elapsed() < LONG, "no answer, and nothing was lost");
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let word = |at| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
            let [number, sequence, total, zero] = [0, 2, 4, 6].map(word);
            counts.received += length as u64;
            if number != self.number {
                // The rest of an answer that was given up.
                counts.missing -= 1;
                continue;
            }
            parts.resize(total.into(), None);
            let is_new = parts[usize::from(sequence)].replace(datagram[FRAME..length].to_vec());
            assert!(is_new.is_none() && zero == 0, "datagram {sequence} of {total}");
            came += 1;
            if came == usize::from(total) {
                return Answer::Whole(parts.into_iter().flatten().collect::<Vec<_>>().concat());
            }
        }
    }
}
