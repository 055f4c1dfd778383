//! What a request costs where client and memcached are processes of one Linux: over a socket of
//! the file system, over UDP and TCP through the loopback interface.
//!
//! What `cargo exo bench colocated` holds the store's own clients against. Runs in a Linux guest
//! of one processor under `-icount shift=0`, where the time-stamp counter counts instructions, of
//! the kernel, of memcached and of this client ([`ruler`] checks that it does). The client is as
//! small as one can be: a request is a write of bytes that lie ready, an answer is read until it
//! is whole. It prints a line per measurement, as `apps/ycsb` does, and `done`.

use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::Duration;

use ruler::Counter;

/// Bytes of the value.
const SIZES: [usize; 2] = [64, 1024];
const KEY: &str = "user000000000001";
const SOCKET: &str = "/tmp/memcached";
const PORT: u16 = 11211;
/// The UDP frame: request 7, the first of one datagram.
const FRAME: [u8; 8] = [0, 7, 0, 0, 0, 1, 0, 0];
/// How a memcached is run: one worker, and no thread that moves items on its own.
const COMMON: &[&str] = &["-u", "root", "-t", "1", "-m", "64", "-o", "no_lru_maintainer"];

fn main() {
    match measure() {
        Ok(()) => println!("done"),
        Err(error) => println!("failed: {error}"),
    }
}

fn measure() -> io::Result<()> {
    let counter = Counter::new(|line| println!("{line}"));
    counter.check();
    {
        let _server = Server::start(&["-s", SOCKET])?;
        let mut stream = retry(|| UnixStream::connect(SOCKET))?;
        both(&counter, "unix", |request, reply| over_stream(&mut stream, request, reply))?;
    }
    let port = PORT.to_string();
    let _server = Server::start(&["-l", "127.0.0.1", "-p", &port, "-U", &port])?;
    let mut stream = retry(|| TcpStream::connect(("127.0.0.1", PORT)))?;
    stream.set_nodelay(true)?;
    both(&counter, "tcp", |request, reply| over_stream(&mut stream, request, reply))?;
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(("127.0.0.1", PORT))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    both(&counter, "udp", |request, reply| over_udp(&socket, request, reply))
}

/// A memcached of its own.
struct Server(Child);

impl Server {
    fn start(arguments: &[&str]) -> io::Result<Self> {
        Command::new("memcached").args(COMMON).args(arguments).spawn().map(Self)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is of no more use, whatever becomes of it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Until the server is there.
fn retry<T>(mut connect: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..100 {
        if let Ok(connected) = connect() {
            return Ok(connected);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    connect()
}

/// Measures set and get of both sizes. `exchange` sends the first and receives exactly the second,
/// which it fills.
fn both(
    counter: &Counter,
    name: &str,
    mut exchange: impl FnMut(&[u8], &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    for len in SIZES {
        let value = "v".repeat(len);
        let mut once = |verb: &str, request: &str, wanted: &str| {
            let mut reply = vec![0; wanted.len()];
            counter.measure(&format!("{name}/{verb}/{len}"), || {
                exchange(request.as_bytes(), &mut reply)
            })?;
            if reply == wanted.as_bytes() {
                return Ok(());
            }
            Err(io::Error::other(format!("{name}: a wrong answer to {verb}")))
        };
        once("set", &format!("set {KEY} 0 0 {len}\r\n{value}\r\n"), "STORED\r\n")?;
        once(
            "get",
            &format!("get {KEY}\r\n"),
            &format!("VALUE {KEY} 0 {len}\r\n{value}\r\nEND\r\n"),
        )?;
    }
    Ok(())
}

fn over_stream<S: Read + Write>(
    stream: &mut S,
    request: &[u8],
    reply: &mut [u8],
) -> io::Result<()> {
    stream.write_all(request)?;
    stream.read_exact(reply)
}

fn over_udp(socket: &UdpSocket, request: &[u8], reply: &mut [u8]) -> io::Result<()> {
    let (mut datagram, mut answer) = ([0; 2048], [0; 2048]);
    let len = FRAME.len() + request.len();
    datagram[..FRAME.len()].copy_from_slice(&FRAME);
    datagram[FRAME.len()..len].copy_from_slice(request);
    socket.send(&datagram[..len])?;
    let received = socket.recv(&mut answer)?;
    match answer[..received].split_at_checked(FRAME.len()) {
        Some((_, text)) if text.len() == reply.len() => reply.copy_from_slice(text),
        _ => return Err(io::Error::other("udp: a wrong answer")),
    }
    Ok(())
}
