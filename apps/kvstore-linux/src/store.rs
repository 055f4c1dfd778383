//! The library, with the memory and the clock of a process, and a journal if it is durable.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kvstore::connections::{Connections, Session};
use kvstore::datagrams::{Datagrams, LEAST_MEMORY, MOST_REQUESTS, REQUEST_MEMORY, Source};
use kvstore::durable::promise::Promise;
use kvstore::durable::{self, Durable, Keeper};
use kvstore::stream::Progress;
use kvstore::users::{Malformed, Users};
use kvstore::{Config, Service, Time};
use memmap2::MmapMut;

use crate::arguments::Arguments;
use crate::file::FileDisk;

/// A store.
pub(crate) struct Store {
    service: Service<'static>,
    datagrams: Datagrams<'static>,
    connections: Connections,
    start: Instant,
    /// Seconds since 1970 then.
    start_unix: u64,
    durable: Option<Durable<'static, FileDisk>>,
}

impl Store {
    /// The store that was chosen, in memory which Linux provides as it is first used: empty, or
    /// what its file holds.
    ///
    /// # Errors
    /// As a sentence, if there is not as much memory, or the file cannot be used.
    pub(crate) fn new(arguments: &Arguments) -> Result<Self, String> {
        let memory_mib = arguments.memory_mib;
        let failed = |error: String| format!("{memory_mib} MiB for the store: {error}");
        let bytes = usize::try_from(u64::from(memory_mib) << 20)
            .map_err(|error| failed(error.to_string()))?;
        let seed = match arguments.seed {
            None => random()?,
            Some(seed) => [seed, 0],
        };
        let eviction = arguments.eviction;
        let config = Config { seed, pid: std::process::id(), eviction, ..Config::default() };
        let service = Service::new(memory(bytes).map_err(failed)?, &config)
            .map_err(|error| failed(format!("{error:?}")))?;
        let start_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let connections = Connections::new(arguments.connections);
        let start = Instant::now();
        let datagrams = memory(LEAST_MEMORY + MOST_REQUESTS * REQUEST_MEMORY).map_err(failed)?;
        let datagrams = Datagrams::new(datagrams, arguments.udp_kib << 10)
            .ok_or_else(|| failed("too little for datagrams".into()))?;
        let durable = None;
        let mut store = Self { service, datagrams, connections, start, start_unix, durable };
        if let Some(path) = &arguments.durable {
            store.restore(path, arguments.promise)?;
        }
        if let Some(file) = &arguments.auth_file {
            store.require(file)?;
        }
        if arguments.enable_shutdown {
            store.service.allow_shutdown();
        }
        Ok(store)
    }

    /// Serves only the users in `file`, over connections.
    ///
    /// # Errors
    /// As a sentence, if it cannot be read or a line is none of a user.
    pub(crate) fn require(&mut self, file: &Path) -> Result<(), String> {
        let text = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        // It lives as long as the process.
        let users = Users::new(text.leak(), b'\n').map_err(|Malformed(line)| {
            format!("{}: line {line}: not of the form USER:PASSWORD", file.display())
        })?;
        self.service.require(users);
        Ok(())
    }

    /// Becomes what the file at `path` holds, and keeps there from now on what changes.
    fn restore(&mut self, path: &Path, promise: Promise) -> Result<(), String> {
        let (bytes, least) =
            (durable::buffer_bytes(&self.service), durable::least_sectors(&self.service));
        // To whole MiB.
        let disk = FileDisk::open(path, least.next_multiple_of(2048))?;
        let buffers = [memory(bytes)?, memory(bytes)?];
        let now = self.now();
        let mut durable = Durable::open(disk, &mut self.service, buffers, now)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        durable.promise(promise);
        self.durable = Some(durable);
        Ok(())
    }

    /// Whether a client has ended the store.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.service.is_shut_down()
    }

    /// How many items there are.
    pub(crate) fn items(&self) -> u64 {
        self.service.engine().usage().items
    }

    /// Keeps what was changed as was promised: before any answer leaves, and when
    /// [`Store::wait`] says. If that fails the process ends, and acknowledges nothing more.
    pub(crate) fn commit(&mut self) {
        let micros = self.micros();
        let Some(durable) = &mut self.durable else { return };
        if let Err(fault) = durable.settle(&mut self.service, micros) {
            eprintln!("kvstore: storage: {fault}; nothing more is acknowledged");
            std::process::exit(1);
        }
    }

    /// How long [`Store::commit`] may wait, if nothing is answered. None if for ever.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.durable.as_ref()?.wait_micros(self.micros()).map(Duration::from_micros)
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Before a request.
    fn make_room(&mut self) {
        if let Some(durable) = &mut self.durable {
            durable.make_room(&mut self.service);
        }
    }

    /// What time it is. One clock is read: if the system's is put right later, absolute
    /// expiry times stay wrong by as much, as they do in memcached.
    pub(crate) fn now(&self) -> Time {
        let uptime = self.start.elapsed().as_secs();
        let unix = self.start_unix.saturating_add(uptime);
        Time { unix, uptime: u32::try_from(uptime).unwrap_or(u32::MAX) }
    }

    /// Answers a datagram; see [`Datagrams::answer`].
    pub(crate) fn answer(
        &mut self,
        request: &[u8],
        from: Source,
        now: Time,
        reply: &mut [u8],
    ) -> Option<usize> {
        self.make_room();
        self.datagrams.answer(&mut self.service, request, from, now, reply).map(|(len, _)| len)
    }

    /// Whether the answer has datagrams that are still to be sent.
    pub(crate) fn has_more(&self) -> bool {
        self.datagrams.has_more()
    }

    /// The next of them; see [`Datagrams::next`].
    pub(crate) fn more(&mut self, reply: &mut [u8]) -> Option<usize> {
        self.datagrams.next(&mut self.service, reply).map(|(len, _)| len)
    }
}

impl Store {
    /// A client at `address` has connected.
    pub(crate) fn connect(&mut self, address: Ipv4Addr) -> Session {
        self.datagrams.connected(address.octets());
        self.connections.begin()
    }

    /// Its connection has ended.
    pub(crate) fn disconnect(&mut self, session: Session, address: Ipv4Addr) {
        self.datagrams.disconnected(address.octets());
        self.connections.end(session, &mut self.service);
    }

    /// Serves a connection; see [`kvstore::stream::Conversation::serve`].
    pub(crate) fn converse(
        &mut self,
        session: &mut Session,
        input: &[u8],
        output: &mut [u8],
    ) -> Progress {
        self.make_room();
        let now = self.now();
        session.serve(&mut self.service, now, input, output)
    }
}

/// Memory of so many bytes that lives as long as the process.
fn memory(bytes: usize) -> Result<&'static mut [u8], String> {
    let memory = MmapMut::map_anon(bytes).map_err(|error| error.to_string())?;
    Ok(&mut *Box::leak(Box::new(memory)))
}

/// What clients cannot guess.
fn random() -> Result<[u64; 2], String> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)
            .map_err(|error| format!("no random numbers: {error}"))?;
    }
    let (low, high) = bytes.split_at(8);
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    Ok([number(low), number(high)])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn answers_and_says_when_there_is_too_little_memory() {
        let line = "kvstore-linux --memory-mib 1 --seed 7 --connections 10";
        let mut store = Store::new(&Arguments::parse_from(line.split(' '))).unwrap();
        let now = store.now();
        assert!(now.uptime < 60 && now.unix > 1_700_000_000, "{now:?}");
        let mut reply = [0; kvstore::MAX_DATAGRAM];
        let request = b"\0\x01\0\0\0\x01\0\0set k 0 0 1\r\nv\r\n";
        let from = Source { address: [127, 0, 0, 1], port: 4000 };
        let len = store.answer(request, from, now, &mut reply).unwrap();
        assert_eq!(&reply[8..len], b"STORED\r\n");
        assert_ne!(random().unwrap(), random().unwrap());
    }

    #[test]
    fn a_file_of_users_is_read_or_its_line_at_fault_told() {
        let line = "kvstore-linux --memory-mib 1 --seed 7";
        let mut store = Store::new(&Arguments::parse_from(line.split(' '))).unwrap();
        let path = std::env::temp_dir().join(format!("kvstore-users-{}", std::process::id()));
        assert!(store.require(&path).is_err(), "there is none");
        std::fs::write(&path, "ann:secret\nbob\n").unwrap();
        let error = store.require(&path).unwrap_err();
        assert!(error.contains("line 2"), "{error}");
        std::fs::write(&path, "ann:secret\n").unwrap();
        store.require(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut output = [0; kvstore::stream::MIN_OUTPUT];
        let mut session = store.connect(Ipv4Addr::LOCALHOST);
        let progress = store.converse(&mut session, b"set a 0 0 10\r\nann secret\r\n", &mut output);
        assert_eq!(&output[..progress.produced], b"STORED\r\n");
        store.disconnect(session, Ipv4Addr::LOCALHOST);
    }
}
