//! Sends requests to the store and checks its answers, frame by frame.
//!
//! Two kinds of load. *Held*: the guest's processor is held where it goes to sleep
//! while a number of requests is put into its network device's ring; let go, it is
//! woken at once, answers them all, and is held where it goes to sleep again. No time
//! passes for the guest while it is held, and nothing that happens outside can come
//! between, so the count repeats. *Free*: as many requests are kept outstanding as
//! asked for, each answer followed by the next request; how the guest finds them
//! grouped depends on the host's timing, as it would in use. In both the guest's
//! slice timer goes off after every million instructions; only when it sleeps freely
//! does QEMU advance its clock, right to the next timer.
//!
//! Requests go as datagrams; those of a held load, over connections once there are any ([`stream`]).
//! A service that has connections only, or another protocol, is asked by [`Load::over_tcp`].

mod dialect;
mod phases;
mod stream;

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use exo_load::wire::ethernet::{Station, answer_arp, arp_answer, arp_request, datagram, payload};
use serde::Serialize;
use tempfile::TempDir;

use super::counter::{Counter, Counts, wait_for};
use super::storage::Monitor;
use crate::client::request;
use crate::machine::{FrameSocket, Machine, STORE_PORT, option_value};
use crate::signals::Signals;
pub(crate) use dialect::Dialect;
pub(crate) use phases::Phases;
use stream::Stream;

/// Different keys that are asked for in turn.
pub(crate) const KEYS: u32 = 1024;
/// Requests of a batch that fills a store over connections.
const FILL: u32 = 32;
/// Shortest key: every one of them must be another.
pub(crate) const SHORTEST_KEY: usize = 4;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(100);
/// How long QEMU is given from noting a frame to putting it into the device's ring,
/// which is what it does next.
const SETTLE: Duration = Duration::from_micros(100);
/// A guest that was let go and has not been heard for so long has answered all that it will:
/// every answer of a burst takes it less than a millisecond of an idle host.
const SILENCE: Duration = Duration::from_secs(4);
/// Bytes of a capture file before its first frame, and before each frame.
const CAPTURE_HEADER: u64 = 24;
const CAPTURE_RECORD: u64 = 16;

/// How long a guest with a disk is listened to when it sleeps, and how often the disk is asked
/// whether it is done.
const DISK_GLANCE: Duration = Duration::from_millis(2);

/// This end of the wire; the address is the gateway's.
const HOST: Station = Station {
    mac: [0x02, 0x65, 0x78, 0x6f, 0x00, 0x01],
    address: Ipv4Addr::new(10, 0, 2, 2),
    port: 40000,
};

/// What a frame from the guest is.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// An answer, or what should be one.
    Answer(Vec<u8>),
    /// A segment of TCP.
    Segment(Vec<u8>),
    /// That nothing listens at the port (ICMP, RFC 792: destination unreachable).
    Refused,
    /// A question for this end's MAC address: Linux asks again from time to time. The frame
    /// that answers it.
    Question(Vec<u8>),
    /// Nothing, or a frame for another end, such as a multicast group.
    Nothing,
}

/// What is stored and asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) verb: Verb,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
}

/// What is asked of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verb {
    #[default]
    Get,
    Set,
    /// To send back what it got: requests of a `get`. For a service that is no store.
    #[value(skip)]
    Echo,
}

/// What carries requests and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Transport {
    /// A datagram for each.
    #[default]
    Udp,
    /// One connection: those that are outstanding at a time are written to it together.
    Tcp,
}

/// How requests are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// So many at a time, put into the ring beforehand.
    Held(u32),
    /// So many outstanding.
    Free(u32),
}

/// How many bytes QEMU has passed on to the guest's network device: the length of the
/// file in which it captures them.
pub(crate) struct Capture {
    dir: TempDir,
}

/// A conversation with the store of one machine.
pub(crate) struct Load<'a> {
    machine: &'a Machine,
    counter: &'a Counter,
    interrupt: &'a Signals,
    capture: &'a Capture,
    socket: &'a FrameSocket,
    /// Length of the capture file when all that was sent has arrived.
    captured: u64,
    store: Station,
    workload: Workload,
    next_id: u16,
    next_key: u32,
    /// Keys asked for by request id.
    asked: HashMap<u16, u32>,
    /// What arrives before each request of a held load, for another of the machine.
    beside: Option<Vec<u8>>,
    /// What a held load goes over, if not as datagrams.
    streams: Vec<Stream>,
    /// What is spoken there.
    dialect: Dialect,
    /// For a guest that also sleeps in the middle of its answers, for its disk.
    disk: Option<&'a Monitor>,
    /// What batches take between the guest's sleeps, for a caller that wants to know.
    phases: Option<Phases>,
}

impl Workload {
    /// `get` of keys and values of these sizes.
    pub(crate) fn gets(key_bytes: usize, value_bytes: usize) -> Self {
        Self { verb: Verb::Get, key_bytes, value_bytes }
    }

    fn key(self, number: u32) -> Vec<u8> {
        format!("{number:0width$}", width = self.key_bytes).into_bytes()
    }

    /// A value that tells which key it is for.
    fn value(self, number: u32) -> Vec<u8> {
        self.key(number).into_iter().rev().cycle().take(self.value_bytes).collect()
    }

    fn set(self, number: u32) -> Vec<u8> {
        let (key, value) = (self.key(number), self.value(number));
        let length = value.len().to_string();
        [b"set ", &key[..], b" 0 0 ", length.as_bytes(), b"\r\n", &value, b"\r\n"].concat()
    }

    fn get(self, number: u32) -> Vec<u8> {
        [b"get ", &self.key(number)[..], b"\r\n"].concat()
    }

    pub(crate) fn request(self, number: u32) -> Vec<u8> {
        match self.verb {
            Verb::Get | Verb::Echo => self.get(number),
            Verb::Set => self.set(number),
        }
    }

    pub(crate) fn answer(self, number: u32) -> Vec<u8> {
        match self.verb {
            Verb::Get => self.item(number),
            Verb::Set => b"STORED\r\n".to_vec(),
            Verb::Echo => self.get(number),
        }
    }

    /// The answer to a `get`.
    fn item(self, number: u32) -> Vec<u8> {
        let (key, value) = (self.key(number), self.value(number));
        let length = value.len().to_string();
        [b"VALUE ", &key[..], b" 0 ", length.as_bytes(), b"\r\n", &value, b"\r\nEND\r\n"].concat()
    }
}

impl Verb {
    /// As reports have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Set => "SET",
            Self::Echo => "echo",
        }
    }
}

impl Transport {
    /// As reports have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

impl Offer {
    /// Requests that are outstanding at a time.
    pub(crate) fn outstanding(self) -> u32 {
        match self {
            Self::Held(count) | Self::Free(count) => count,
        }
    }
}

impl Capture {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("exo-bench-").tempdir()?;
        Ok(Self { dir })
    }

    /// Arguments for QEMU: capture what goes from the back end to the guest.
    pub(crate) fn arguments(&self) -> [OsString; 2] {
        let mut dump = OsString::from("filter-dump,id=arrivals,netdev=n0,queue=tx,file=");
        dump.push(option_value(&self.file()));
        ["-object".into(), dump]
    }

    fn length(&self) -> u64 {
        std::fs::metadata(self.file()).map_or(0, |file| file.len())
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("arrivals.pcap")
    }
}

impl<'a> Load<'a> {
    /// Finds the service of `machine` and, if it is a store, fills it with [`KEYS`] items.
    pub(crate) fn start(
        machine: &'a Machine,
        counter: &'a Counter,
        interrupt: &'a Signals,
        capture: &'a Capture,
        workload: Workload,
        address: Ipv4Addr,
    ) -> Result<Self> {
        let mut load = Self::new(machine, counter, interrupt, capture, workload, address)?;
        load.wait_until_serving()?;
        load.fill()?;
        counter.begin();
        load.send_request()?;
        load.take_result()?;
        counter.wait_until_counting(machine, interrupt)?;
        Ok(load)
    }

    /// The same, with nothing asked yet.
    fn new(
        machine: &'a Machine,
        counter: &'a Counter,
        interrupt: &'a Signals,
        capture: &'a Capture,
        workload: Workload,
        address: Ipv4Addr,
    ) -> Result<Self> {
        let socket = machine.frames().context("this machine has no socket for frames")?;
        let store = Station { mac: [0; 6], address, port: STORE_PORT };
        let mut load = Self {
            machine,
            counter,
            interrupt,
            capture,
            socket,
            captured: CAPTURE_HEADER,
            store,
            workload,
            next_id: 0,
            next_key: 0,
            asked: HashMap::new(),
            beside: None,
            streams: Vec::new(),
            dialect: Dialect::Memcached,
            disk: None,
            phases: None,
        };
        load.send(&arp_request(HOST, address))?;
        // The guest may be announcing itself just now; that is no answer.
        load.store.mac = loop {
            let frame = load.receive().context("no answer to ARP")?;
            if let Some(mac) = arp_answer(&frame, HOST, address) {
                break mac;
            }
        };
        Ok(load)
    }

    /// From now on a datagram to that address and port arrives before each request of a held
    /// load. It must not be answered.
    pub(crate) fn send_beside(&mut self, address: Ipv4Addr, port: u16) {
        let other = Station { address, port, ..self.store };
        self.beside = Some(datagram(HOST, other, b"for another"));
    }

    /// Goes on with another workload in the same machine.
    pub(crate) fn change(&mut self, workload: Workload) -> Result<()> {
        self.workload = workload;
        self.next_key = 0;
        self.fill()
    }

    /// The same, but nothing is stored beforehand.
    pub(crate) fn change_only(&mut self, workload: Workload) {
        self.workload = workload;
        self.next_key = 0;
    }

    /// How many of `requests` requests the guest answers that are all there when it wakes.
    ///
    /// More than the device's ring takes wait in QEMU, as a wire would not let them. The guest
    /// is let go, and may sleep in between: what it answers after its first sleep is late, not
    /// lost, and must not be taken for the answer to a later request.
    pub(crate) fn burst(&mut self, requests: u32) -> Result<u32> {
        self.hold()?;
        self.next_key = 0;
        self.put(requests)?;
        self.counter.let_go();
        let (mut answered, mut heard) = (0, Instant::now());
        while answered < requests && heard.elapsed() < SILENCE {
            self.interrupt.check()?;
            ensure!(self.machine.running(), "the guest ended\n{}", self.machine.report());
            match self.hear()? {
                Heard::Answer(frame) => {
                    let workload = self.workload;
                    self.check_answer(&frame, |key| workload.answer(key))?;
                    (answered, heard) = (answered + 1, Instant::now());
                }
                Heard::Refused => bail!("nothing listens at the service's port"),
                Heard::Segment(_) | Heard::Question(_) | Heard::Nothing => {}
            }
        }
        self.asked.clear();
        Ok(answered)
    }

    /// A guest that is ready has started its service, which then still has to open its port.
    fn wait_until_serving(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        // A GET of an empty store changes nothing that is counted later.
        let question = self.workload.get(0);
        let answer = match self.workload.verb {
            Verb::Echo => question.clone(),
            Verb::Get | Verb::Set => b"END\r\n".to_vec(),
        };
        loop {
            self.ask(0, &question)?;
            loop {
                match self.hear()? {
                    Heard::Answer(frame) => return self.check_answer(&frame, |_| answer.clone()),
                    Heard::Refused => break,
                    Heard::Segment(_) | Heard::Question(_) | Heard::Nothing => {}
                }
                self.interrupt.check()?;
                ensure!(
                    self.machine.running() && Instant::now() < deadline,
                    "the service does not answer\n{}",
                    self.machine.report()
                );
            }
            self.asked.clear();
            ensure!(
                Instant::now() < deadline,
                "nothing listens at the service's port\n{}",
                self.machine.report()
            );
            std::thread::sleep(GLANCE);
        }
    }

    /// Stores an item of each key; over the connections, if there are some.
    fn fill(&mut self) -> Result<()> {
        if self.workload.verb == Verb::Echo {
            return Ok(());
        }
        if !self.streams.is_empty() {
            let workload = self.workload;
            self.workload.verb = Verb::Set;
            self.pass(Offer::Held(FILL), KEYS)?;
            self.workload = workload;
            return Ok(());
        }
        self.counter.let_go();
        for key in 0..KEYS {
            self.ask(key, &self.workload.set(key))?;
            self.take_answer(|_| b"STORED\r\n".to_vec())?;
        }
        Ok(())
    }

    /// Sends `requests` requests for all keys in turn, beginning with the first, and
    /// returns what was counted for them, from sleep to sleep. The guest stays held where it
    /// is told when requests come: let go between passes, Linux would live through minutes
    /// of its own time, and do now what it had put off.
    pub(crate) fn pass(&mut self, offer: Offer, requests: u32) -> Result<Counts> {
        match offer {
            Offer::Held(count) => {
                self.hold()?;
                self.next_key = 0;
                let before = self.counter.read();
                let mut left = requests;
                while left > 0 {
                    let batch = left.min(count);
                    self.batch(batch)?;
                    left -= batch;
                }
                Ok(self.counter.read().since(&before))
            }
            Offer::Free(count) => {
                self.counter.let_go();
                self.counter.wait_until_at_rest(self.machine, self.interrupt)?;
                self.next_key = 0;
                let before = self.counter.read();
                for _ in 0..count.min(requests) {
                    self.send_request()?;
                }
                for answered in 0..requests {
                    self.take_result()?;
                    if answered + count < requests {
                        self.send_request()?;
                    }
                }
                self.counter.wait_until_at_rest(self.machine, self.interrupt)?;
                Ok(self.counter.read().since(&before))
            }
        }
    }

    /// Holds the guest where it goes to sleep, if it is not held there already. One woken by
    /// timers of its own, as Linux is, comes there by itself; another has to be woken once.
    fn hold(&mut self) -> Result<()> {
        if self.counter.is_held() {
            return Ok(());
        }
        self.counter.hold();
        self.counter.wait_until_at_rest(self.machine, self.interrupt)?;
        if self.counter.is_held() {
            return Ok(());
        }
        if !self.streams.is_empty() {
            return self.batch(self.streams.len() as u32);
        }
        self.send_request()?;
        self.take_result()?;
        self.counter.wait_until_held(self.machine, self.interrupt)
    }

    /// From one sleep to the next: `count` requests that are all there when the guest
    /// wakes.
    fn batch(&mut self, count: u32) -> Result<()> {
        if !self.streams.is_empty() {
            let streams = std::mem::take(&mut self.streams);
            self.streams = self.batch_over(streams, count)?;
            return Ok(());
        }
        self.put(count)?;
        self.counter.let_one_pass();
        for _ in 0..count {
            self.take_result()?;
        }
        self.counter.wait_until_held(self.machine, self.interrupt)
    }

    /// Puts `count` requests into the device's ring.
    fn put(&mut self, count: u32) -> Result<()> {
        for _ in 0..count {
            if let Some(frame) = self.beside.clone() {
                self.send(&frame)?;
            }
            self.send_request()?;
        }
        self.wait_until_arrived()
    }

    /// **Blocking** until all that was sent is in the device's ring.
    fn wait_until_arrived(&self) -> Result<()> {
        let arrived = || self.capture.length() >= self.captured;
        let problem = "QEMU does not pass frames on to the guest";
        wait_for(arrived, problem, self.machine, self.interrupt)?;
        std::thread::sleep(SETTLE);
        Ok(())
    }

    fn send_request(&mut self) -> Result<()> {
        let key = self.next_key;
        self.next_key = (key + 1) % KEYS;
        self.ask(key, &self.workload.request(key))
    }

    fn ask(&mut self, key: u32, text: &[u8]) -> Result<()> {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.asked.insert(id, key);
        self.send(&datagram(HOST, self.store, &request(id, text)?))
    }

    fn send(&mut self, frame: &[u8]) -> Result<()> {
        self.captured += CAPTURE_RECORD + frame.len() as u64;
        self.socket.send(frame)
    }

    fn take_result(&mut self) -> Result<()> {
        let workload = self.workload;
        self.take_answer(|key| workload.answer(key))
    }

    /// Receives an answer, which must be what `expected` says for the key asked for.
    fn take_answer(&mut self, expected: impl Fn(u32) -> Vec<u8>) -> Result<()> {
        let frame = self.receive()?;
        self.check_answer(&frame, expected)
    }

    /// Checks an answer, which must be what `expected` says for the key asked for.
    fn check_answer(&mut self, frame: &[u8], expected: impl Fn(u32) -> Vec<u8>) -> Result<()> {
        let datagram = payload(frame, self.store, HOST).context("the store sent")?;
        let (id, _) = datagram.split_first_chunk().context("the store sent a short datagram")?;
        let id = u16::from_be_bytes(*id);
        let key = self.asked.remove(&id).context("the store answered what was not asked")?;
        let wanted = request(id, &expected(key))?;
        ensure!(
            datagram == wanted,
            "the store gave a wrong answer: \"{}\" instead of \"{}\"",
            datagram.escape_ascii(),
            wanted.escape_ascii()
        );
        Ok(())
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.hear()? {
                Heard::Answer(frame) => return Ok(frame),
                Heard::Refused => bail!("nothing listens at the service's port"),
                Heard::Segment(_) | Heard::Question(_) | Heard::Nothing => {}
            }
            self.interrupt.check()?;
            ensure!(self.machine.running(), "the guest ended\n{}", self.machine.report());
            if Instant::now() > deadline {
                bail!("the store does not answer\n{}", self.machine.report());
            }
        }
    }

    /// What comes next, if it comes soon. Questions for this end's address are answered.
    fn hear(&mut self) -> Result<Heard> {
        self.hear_within(GLANCE)
    }

    fn hear_within(&mut self, time: Duration) -> Result<Heard> {
        let Some(frame) = self.socket.receive(time)? else { return Ok(Heard::Nothing) };
        let heard = heard(frame);
        if let Heard::Question(answer) = &heard {
            self.send(answer)?;
        }
        Ok(heard)
    }
}

fn heard(frame: Vec<u8>) -> Heard {
    if let Some(answer) = answer_arp(&frame, HOST) {
        return Heard::Question(answer);
    }
    if !frame.starts_with(&HOST.mac) {
        return Heard::Nothing;
    }
    // IPv4 without options, ICMP, and its type.
    let unreachable = frame.get(12..15) == Some(&[8, 0, 0x45])
        && (frame.get(23), frame.get(34)) == (Some(&1), Some(&3));
    match frame.get(12..15) {
        _ if unreachable => Heard::Refused,
        Some([8, 0, 0x45]) if frame.get(23) == Some(&6) => Heard::Segment(frame),
        _ => Heard::Answer(frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_lengths_asked_for() {
        let workload = Workload::gets(16, 64);
        assert_eq!(workload.get(7), b"get 0000000000000007\r\n");
        let value = b"7000000000000000700000000000000070000000000000007000000000000000";
        assert_eq!(
            workload.set(7),
            [&b"set 0000000000000007 0 0 64\r\n"[..], value, b"\r\n"].concat()
        );
        assert_eq!(
            workload.answer(7),
            [&b"VALUE 0000000000000007 0 64\r\n"[..], value, b"\r\nEND\r\n"].concat()
        );
        let short = Workload::gets(SHORTEST_KEY, 0);
        assert_eq!(short.answer(KEYS - 1), b"VALUE 1023 0 0\r\n\r\nEND\r\n");
    }

    /// Linux asks for the address of its peer again, to it alone, reports its multicast groups,
    /// and says if nothing listens at a port yet; none of it is a wrong answer.
    #[test]
    fn questions_refusals_and_others_frames_are_no_answers() {
        let guest = Station { mac: [2; 6], address: Ipv4Addr::new(10, 0, 2, 15), port: STORE_PORT };
        let mut question = arp_request(guest, HOST.address);
        assert!(matches!(heard(question.clone()), Heard::Question(_)));
        question[..6].copy_from_slice(&HOST.mac);
        let Heard::Question(answer) = heard(question) else { panic!("asked of this end alone") };
        assert_eq!(arp_answer(&answer, guest, HOST.address), Some(HOST.mac));
        let foreign = [&[0x33, 0x33, 0, 0, 0, 0x16][..], &[0; 60]].concat();
        assert_eq!(heard(foreign), Heard::Nothing);
        let mut packet = datagram(guest, HOST, b"");
        assert_eq!(heard(packet.clone()), Heard::Answer(packet.clone()));
        (packet[23], packet[34]) = (1, 3);
        assert_eq!(heard(packet.clone()), Heard::Refused);
        packet[34] = 0;
        assert_eq!(heard(packet.clone()), Heard::Answer(packet), "to be refused as a wrong one");
    }
}
