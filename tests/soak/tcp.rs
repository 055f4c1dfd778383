//! A client that writes requests together, over connections.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use super::{Counts, Items};
use crate::LONG;

/// Most requests that are written together.
const PIPELINE: u64 = 16;
/// Batches of requests after which it connects anew.
const BATCHES: u64 = 200;

/// Makes at least so many requests of the store at `address`, as client `number`.
///
/// # Panics
/// If an answer is not what it may be, or does not come.
#[must_use]
pub fn run(address: SocketAddr, number: u64, requests: u64) -> Counts {
    let mut items = Items::new(number);
    while items.counts.sent < requests {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(LONG)).expect("a time");
        stream.set_nodelay(true).expect("an option");
        items.counts.connections += 1;
        let mut writer = stream.try_clone().expect("a second handle");
        let mut reader = BufReader::new(stream);
        for _ in 0..BATCHES {
            let (mut bytes, mut asked) = (Vec::new(), Vec::new());
            for _ in 0..=items.random.below(PIPELINE) {
                let (key, request) = items.choose();
                items.write(key, request, &mut bytes);
                asked.push((key, request));
            }
            items.counts.sent += asked.len() as u64;
            // Both at once: neither side has room for all of it.
            thread::scope(|scope| {
                scope.spawn(|| writer.write_all(&bytes).expect("sent"));
                for (key, request) in asked {
                    items.check(&mut reader, key, request);
                }
            });
            if items.counts.sent >= requests {
                break;
            }
        }
        writer.write_all(b"quit\r\n").expect("sent");
        let rest = reader.read(&mut [0; 8]).expect("the end");
        assert_eq!(rest, 0, "more was answered than asked");
    }
    items.counts
}
