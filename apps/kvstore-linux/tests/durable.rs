//! What was acknowledged is there, however the process ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

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

/// Sets `key` to `from`, `from` + 1 and so on until the store is gone. Returns what was
/// acknowledged last.
fn count_over_tcp(address: SocketAddr, key: &str, from: u64) -> u64 {
    let Ok(mut stream) = TcpStream::connect(address) else { return from - 1 };
    let mut last = from - 1;
    loop {
        let number = (last + 1).to_string();
        let set = format!("set {key} 0 0 {}\r\n{number}\r\n", number.len());
        let mut answer = [0; 8];
        let asked = stream.write_all(set.as_bytes()).and_then(|()| stream.read_exact(&mut answer));
        if asked.is_err() {
            return last;
        }
        assert_eq!(&answer, b"STORED\r\n");
        last += 1;
    }
}

fn count_over_udp(address: SocketAddr, key: &str, from: u64) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut last = from - 1;
    loop {
        let number = (last + 1).to_string();
        let set = format!("\0\0\0\0\0\x01\0\0set {key} 0 0 {}\r\n{number}\r\n", number.len());
        let mut answer = [0; 64];
        match socket.send(set.as_bytes()).and_then(|_| socket.recv(&mut answer)) {
            Ok(len) => assert_eq!(&answer[8..len], b"STORED\r\n"),
            Err(_) => return last,
        }
        last += 1;
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
    let mut last = [0; CLIENTS];
    for round in 0..6 {
        let server = Server::start(&file);
        if round > 0 {
            assert_eq!(server.items, CLIENTS as u64);
        }
        let mut stream = TcpStream::connect(server.address).unwrap();
        for (client, last) in last.iter_mut().enumerate() {
            let found = value(&mut stream, &format!("client{client}")).unwrap_or(0);
            // One set was under way.
            assert!((*last..=*last + 1).contains(&found), "{found}, acknowledged {last}");
            *last = found;
        }
        let address = server.address;
        thread::scope(|scope| {
            let clients: Vec<_> = last
                .iter()
                .enumerate()
                .map(|(client, &last)| {
                    let key = format!("client{client}");
                    let count = if client % 3 == 2 { count_over_udp } else { count_over_tcp };
                    scope.spawn(move || count(address, &key, last + 1))
                })
                .collect();
            thread::sleep(Duration::from_millis(150 + 70 * round));
            drop(server);
            for (client, last) in clients.into_iter().zip(&mut last) {
                *last = client.join().unwrap();
            }
        });
    }
    assert!(last.iter().all(|&last| last > 20), "hardly anything was acknowledged: {last:?}");
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
