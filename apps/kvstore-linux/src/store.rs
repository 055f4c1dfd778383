//! The library, with the memory and the clock of a process.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kvstore::connections::{Connections, Session};
use kvstore::stream::Progress;
use kvstore::{Config, Service, Time};
use memmap2::MmapMut;

/// A store.
pub(crate) struct Store {
    service: Service<'static>,
    connections: Connections,
    start: Instant,
    /// Seconds since 1970 then.
    start_unix: u64,
}

impl Store {
    /// An empty store in `memory_mib` MiB, which Linux provides as they are first used, for at
    /// most `connections` clients that are connected.
    ///
    /// # Errors
    /// As a sentence, if there is not as much.
    pub(crate) fn new(
        memory_mib: u32,
        seed: Option<u64>,
        connections: u32,
    ) -> Result<Self, String> {
        let failed = |error: String| format!("{memory_mib} MiB for the store: {error}");
        let bytes = usize::try_from(u64::from(memory_mib) << 20)
            .map_err(|error| failed(error.to_string()))?;
        let memory = MmapMut::map_anon(bytes).map_err(|error| failed(error.to_string()))?;
        let seed = match seed {
            None => random()?,
            Some(seed) => [seed, 0],
        };
        let config = Config { seed, pid: std::process::id(), ..Config::default() };
        // It lives as long as the process.
        let memory: &'static mut MmapMut = Box::leak(Box::new(memory));
        let service =
            Service::new(memory, &config).map_err(|error| failed(format!("{error:?}")))?;
        let start_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let connections = Connections::new(connections);
        Ok(Self { service, connections, start: Instant::now(), start_unix })
    }

    /// What time it is. One clock is read: if the system's is put right later, absolute
    /// expiry times stay wrong by as much, as they do in memcached.
    pub(crate) fn now(&self) -> Time {
        let uptime = self.start.elapsed().as_secs();
        let unix = self.start_unix.saturating_add(uptime);
        Time { unix, uptime: u32::try_from(uptime).unwrap_or(u32::MAX) }
    }

    /// Answers a datagram; see [`Service::answer`].
    pub(crate) fn answer(&mut self, request: &[u8], now: Time, reply: &mut [u8]) -> Option<usize> {
        self.service.answer(request, now, reply)
    }
}

impl Store {
    /// A client has connected.
    pub(crate) fn connect(&mut self) -> Session {
        self.connections.begin()
    }

    /// Its connection has ended.
    pub(crate) fn disconnect(&mut self, session: Session) {
        self.connections.end(session, &mut self.service);
    }

    /// Serves a connection; see [`kvstore::stream::Conversation::serve`].
    pub(crate) fn converse(
        &mut self,
        session: &mut Session,
        input: &[u8],
        output: &mut [u8],
    ) -> Progress {
        let now = self.now();
        session.serve(&mut self.service, now, input, output)
    }
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
    use super::*;

    #[test]
    fn answers_and_says_when_there_is_too_little_memory() {
        let mut store = Store::new(1, Some(7), 10).unwrap();
        let now = store.now();
        assert!(now.uptime < 60 && now.unix > 1_700_000_000, "{now:?}");
        let mut reply = [0; kvstore::MAX_DATAGRAM];
        let request = b"\0\x01\0\0\0\x01\0\0set k 0 0 1\r\nv\r\n";
        let len = store.answer(request, now, &mut reply).unwrap();
        assert_eq!(&reply[8..len], b"STORED\r\n");
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
