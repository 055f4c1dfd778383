//! A server whose faults are known: it counts what it does, so that the generator's
//! account can be compared with the truth.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What the server does wrong. A count of 0 means never.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Of the GETs, every n-th gets no answer.
    pub(crate) drop_every: u64,
    /// Every n-th is answered with a changed value.
    pub(crate) corrupt_every: u64,
    /// Every n-th is answered twice.
    pub(crate) twice_every: u64,
    /// Every n-th is answered so much later (and those behind it, too).
    pub(crate) delay_every: u64,
    /// How much later.
    pub(crate) delay: Duration,
    /// Every request takes so long.
    pub(crate) service: Duration,
    /// After so many GETs it says nothing more.
    pub(crate) stop_after: u64,
    /// A datagram for each key, every one numbered as the only one, as memcached does.
    pub(crate) datagram_per_key: bool,
    /// Echo, instead of a store.
    pub(crate) echo: bool,
}

/// What it has done, to GETs.
#[derive(Default)]
pub(crate) struct Deeds {
    pub(crate) received: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) corrupted: AtomicU64,
    pub(crate) doubled: AtomicU64,
    pub(crate) delayed: AtomicU64,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) deeds: Arc<Deeds>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(faults: Faults) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let (deeds, stop) = (Arc::new(Deeds::default()), Arc::new(AtomicBool::new(false)));
        let thread = {
            let (deeds, stop) = (Arc::clone(&deeds), Arc::clone(&stop));
            thread::spawn(move || serve(&socket, faults, &deeds, &stop))
        };
        Self { address, deeds, stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, faults: Faults, deeds: &Deeds, stop: &AtomicBool) {
    let mut store: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut buffer = [0; 2048];
    while !stop.load(Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let (header, text) = buffer[..length].split_at(8);
        let reply = |text: &[u8]| {
            let _ = socket.send_to(&[header, text].concat(), from);
        };
        if text.starts_with(b"set ") {
            let (line, rest) = split_line(text);
            let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
            store.insert(words[1].to_vec(), rest[..rest.len() - 2].to_vec());
            reply(b"STORED\r\n");
            continue;
        }
        if text == b"version\r\n" {
            reply(if faults.echo { text } else { b"VERSION test\r\n" });
            continue;
        }
        let number = deeds.received.fetch_add(1, Relaxed) + 1;
        let is = |every: u64| every != 0 && number.is_multiple_of(every);
        if faults.stop_after != 0 && number > faults.stop_after {
            continue;
        }
        if !faults.service.is_zero() {
            thread::sleep(faults.service);
        }
        if is(faults.drop_every) {
            deeds.dropped.fetch_add(1, Relaxed);
            continue;
        }
        if is(faults.delay_every) {
            deeds.delayed.fetch_add(1, Relaxed);
            thread::sleep(faults.delay);
        }
        let mut answers = match faults.echo {
            true => vec![text.to_vec()],
            false => get(&store, text, faults.datagram_per_key),
        };
        if is(faults.corrupt_every) {
            deeds.corrupted.fetch_add(1, Relaxed);
            let middle = answers[0].len() / 2;
            answers[0][middle] ^= 1;
        }
        for answer in &answers {
            reply(answer);
        }
        if is(faults.twice_every) {
            deeds.doubled.fetch_add(1, Relaxed);
            answers.iter().for_each(|answer| reply(answer));
        }
    }
}

fn get(store: &HashMap<Vec<u8>, Vec<u8>>, text: &[u8], apart: bool) -> Vec<Vec<u8>> {
    let (line, _) = split_line(text);
    let mut answers = vec![Vec::new()];
    for key in line.split(|&byte| byte == b' ').skip(1) {
        let Some(value) = store.get(key) else { continue };
        let length = value.len().to_string();
        let block = [b"VALUE ", key, b" 0 ", length.as_bytes(), b"\r\n", value, b"\r\n"].concat();
        match apart {
            true => answers.push(block),
            false => answers[0].extend(block),
        }
    }
    answers.retain(|answer| !answer.is_empty());
    match apart {
        true => answers.push(b"END\r\n".to_vec()),
        false => match answers.first_mut() {
            Some(first) => first.extend(b"END\r\n"),
            None => answers.push(b"END\r\n".to_vec()),
        },
    }
    answers
}

fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let at = text.windows(2).position(|pair| pair == b"\r\n").unwrap();
    (&text[..at], &text[at + 2..])
}
