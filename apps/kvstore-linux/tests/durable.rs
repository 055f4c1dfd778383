//! What was acknowledged is there, however the process ends.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

/// A store on a file, killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    items: u64,
}

impl Server {
    fn start(file: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kvstore-linux"))
            .args(["--port", "0", "--memory-mib", "4", "--threads", "2", "--durable"])
            .arg(file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().expect("it says where it serves").unwrap();
        let restored = line();
        let items = restored.strip_suffix(" items").and_then(|line| line.rsplit(' ').next());
        let items = items.and_then(|items| items.parse().ok()).expect(&restored);
        let address = line().strip_prefix("kvstore: serving ").unwrap().parse().unwrap();
        Self { child, address, items }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sets `key` to one more than `last` says, again and again, until the store is gone; `last` says
/// what was acknowledged last.
fn count_over_tcp(address: SocketAddr, key: &str, last: &AtomicU64) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    loop {
        let number = (last.load(Relaxed) + 1).to_string();
        let set = format!("set {key} 0 0 {}\r\n{number}\r\n", number.len());
        let mut answer = [0; 8];
        let asked = stream.write_all(set.as_bytes()).and_then(|()| stream.read_exact(&mut answer));
        if asked.is_err() {
            return;
        }
        assert_eq!(&answer, b"STORED\r\n");
        last.fetch_add(1, Relaxed);
    }
}

/// The same. A datagram may be lost, and an answer late: then it is asked again, for the same.
fn count_over_udp(address: SocketAddr, key: &str, last: &AtomicU64) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut id = 0_u16;
    loop {
        let number = (last.load(Relaxed) + 1).to_string();
        id = id.wrapping_add(1);
        let mut set = id.to_be_bytes().to_vec();
        set.extend(b"\0\0\0\x01\0\0");
        set.extend(format!("set {key} 0 0 {}\r\n{number}\r\n", number.len()).bytes());
        let mut answer = [0; 64];
        match socket.send(&set).and_then(|_| socket.recv(&mut answer)) {
            // To one that was asked before.
            Ok(_) if answer[..2] != set[..2] => continue,
            Ok(len) => assert_eq!(&answer[8..len], b"STORED\r\n"),
            Err(late) if late.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        last.fetch_add(1, Relaxed);
    }
}

fn value(stream: &mut TcpStream, key: &str) -> Option<u64> {
    stream.write_all(format!("mg {key} v\r\n").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    if line == "EN\r\n" {
        return None;
    }
    assert!(line.starts_with("VA "), "{line}");
    line.clear();
    reader.read_line(&mut line).unwrap();
    line.trim_end().parse().ok()
}

#[test]
fn everything_acknowledged_survives_kill_9() {
    const CLIENTS: usize = 6;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let last = [const { AtomicU64::new(0) }; CLIENTS];
    for round in 0..6 {
        let server = Server::start(&file);
        if round > 0 {
            assert_eq!(server.items, CLIENTS as u64);
        }
        let mut stream = TcpStream::connect(server.address).unwrap();
        for (client, last) in last.iter().enumerate() {
            let found = value(&mut stream, &format!("client{client}")).unwrap_or(0);
            let acknowledged = last.swap(found, Relaxed);
            // One set was under way.
            assert!(
                (acknowledged..=acknowledged + 1).contains(&found),
                "{found}, acknowledged {acknowledged}"
            );
        }
        let address = server.address;
        thread::scope(|scope| {
            let enough = last.each_ref().map(|last| last.load(Relaxed) + 10);
            for (client, last) in last.iter().enumerate() {
                let count = if client % 3 == 2 { count_over_udp } else { count_over_tcp };
                scope.spawn(move || count(address, &format!("client{client}"), last));
            }
            let begun = Instant::now();
            while last.iter().zip(&enough).any(|(last, &enough)| last.load(Relaxed) < enough) {
                assert!(begun.elapsed() < Duration::from_secs(60), "{last:?}, not {enough:?}");
                thread::sleep(Duration::from_millis(5));
            }
            // Somewhere in the middle of more.
            thread::sleep(Duration::from_millis(20 * round));
            drop(server);
        });
    }
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("letter");
    let letter = "Dear reader. ".repeat(2_000_000);
    std::fs::write(&file, &letter).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kvstore-linux"))
        .args(["--port", "0", "--memory-mib", "4", "--durable"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("letter: it holds something that is no log"), "{said}");
    assert!(std::fs::read_to_string(&file).unwrap() == letter);
}
