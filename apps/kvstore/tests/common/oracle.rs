//! A memcached to compare with.
#![allow(dead_code, reason = "not every test file uses all of it")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// A memcached of its own, killed at the end.
pub(crate) struct Oracle {
    process: Child,
    pub(crate) port: u16,
    /// Whether it has the parser that came with 1.6.40.
    pub(crate) is_newer: bool,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Oracle {
    /// One of 64 MiB whose answers do not depend on timing. `None`, said aloud, if
    /// memcached is not installed.
    pub(crate) fn start(test: &str) -> Option<(Self, TcpStream)> {
        // None in the background: with its LRU maintainer, whether a decremented number
        // keeps its length depends on timing.
        Self::start_with(test, &["-m64", "-ono_modern"])
    }

    /// The same. `None`, said aloud, also if it has the newer parser.
    pub(crate) fn start_older(test: &str) -> Option<(Self, TcpStream)> {
        let started = Self::start(test)?;
        if started.0.is_newer {
            let _ = writeln!(
                std::io::stderr(),
                "\n*** SKIPPED {test}: the installed memcached has the parser of 1.6.40 ***"
            );
            return None;
        }
        Some(started)
    }

    /// The same, with options that have it answer nothing before a login.
    pub(crate) fn start_barred(test: &str, options: &[&str]) -> Option<(Self, TcpStream)> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let started = Self::spawn(test, port, options)?;
        for _ in 0..500 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                return Some((started, stream));
            }
            sleep(Duration::from_millis(10));
        }
        panic!("memcached is installed but does not accept connections");
    }

    /// The process, with options; it may not answer yet.
    fn spawn(test: &str, port: u16, options: &[&str]) -> Option<Self> {
        let started = Command::new("memcached")
            .args(["-l127.0.0.1", &format!("-p{port}"), "-t1", "-unobody"])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = started else {
            // Past the capture of the test harness: this has to be seen.
            let _ = writeln!(
                std::io::stderr(),
                "\n*** SKIPPED {test}: memcached is not installed, nothing was compared ***"
            );
            return None;
        };
        Some(Self { process, port, is_newer: false })
    }

    /// The same, with options.
    pub(crate) fn start_with(test: &str, options: &[&str]) -> Option<(Self, TcpStream)> {
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let udp = format!("-U{port}");
            let mut oracle = Self::spawn(test, port, &[&[&udp as &str], options].concat())?;
            for _ in 0..200 {
                if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    // The port was free a moment ago; by now another process may have it.
                    // Or a memcached that finds its port taken ends with us connected.
                    let stats = try_ask_tcp(&mut stream, b"stats\r\nversion\r\n");
                    let stats = stats.unwrap_or_else(String::into_bytes);
                    oracle.is_newer = version(&stats) >= vec![1, 6, 40];
                    let stats = masked(&stats);
                    if stats.contains(&format!("STAT pid {}\\r\\n", oracle.process.id())) {
                        return Some((oracle, stream));
                    }
                    break;
                }
                sleep(Duration::from_millis(10));
            }
        }
        panic!("memcached is installed but does not accept connections");
    }
}

/// The numbers in the answer to `version`.
fn version(text: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(text);
    let version = text.lines().find_map(|line| line.strip_prefix("VERSION ")).unwrap_or_default();
    version.split('.').map_while(|number| number.trim().parse().ok()).collect()
}

/// The end of the answer to `version`, if that is how `text` ends.
pub(crate) fn ends_with_version(text: &[u8]) -> bool {
    text.ends_with(b"\r\n")
        && text[..text.len() - 2].rsplit(|&b| b == b'\n').next().unwrap().starts_with(b"VERSION ")
}

/// Without version numbers, which are meant to differ.
pub(crate) fn masked(text: &[u8]) -> String {
    let lines = text.split_inclusive(|&byte| byte == b'\n');
    let lines = lines.map(|line| if line.starts_with(b"VERSION ") { b"VERSION\r\n" } else { line });
    lines.flat_map(|line| line.escape_ascii()).map(char::from).collect()
}

pub(crate) fn ask_tcp(stream: &mut TcpStream, request: &[u8]) -> Vec<u8> {
    try_ask_tcp(stream, request).unwrap_or_else(|error| panic!("{error}"))
}

fn try_ask_tcp(stream: &mut TcpStream, request: &[u8]) -> Result<Vec<u8>, String> {
    let mut answer = Vec::new();
    let mut part = [0; 65536];
    let mut sent = stream.write_all(request);
    while !ends_with_version(&answer) {
        let read = sent.and_then(|()| stream.read(&mut part));
        let context = || format!("after {:?}, request {:?}", masked(&answer), masked(request));
        match read {
            Ok(0) => return Err(format!("closed {}", context())),
            Ok(n) => answer.extend_from_slice(&part[..n]),
            Err(error) => return Err(format!("{error} {}", context())),
        }
        sent = Ok(());
    }
    Ok(answer)
}

/// The texts of all datagrams with which memcached answers this request: one for
/// every command in it, and for every key of a `get`. They end with the answer to
/// a second datagram, told apart by its request id.
pub(crate) fn ask_udp(socket: &UdpSocket, request: &[u8]) -> Vec<u8> {
    socket.send(request).unwrap();
    socket.send(&[&MARK[..], &[0, 0, 0, 1, 0, 0], b"version\r\n"].concat()).unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 65536];
    loop {
        let n = socket.recv(&mut part).unwrap_or_else(|error| {
            panic!("{error} after {:?}, request {:?}", masked(&answer), masked(request))
        });
        if part[..2] == MARK {
            assert!(ends_with_version(&part[8..n]));
            return answer;
        }
        answer.extend_from_slice(&part[8..n]);
    }
}

/// A request id that no other datagram has.
const MARK: [u8; 2] = [0, 7];

pub(crate) fn udp_socket(oracle: &Oracle) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", oracle.port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}
