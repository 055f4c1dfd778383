//! A memcached client: text protocol over UDP (memcached's `doc/protocol.txt`).
//!
//! A datagram may get lost, and its answer too. The client asks again, under a new
//! request id, what can be asked twice without harm; what cannot (`incr`, `append`,
//! `add`, …) it asks once, and an answer that does not come leaves open whether the
//! store did it. Answers to other requests are ignored.

mod error;
mod frame;
mod text;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use error::ClientError;
pub use frame::{Assembly, HEADER_LEN, MAX_REQUEST, request};
pub use text::{Item, Storage, Stored};

use text::{line, number, values};

type Result<T> = std::result::Result<T, ClientError>;

/// A client of one store.
#[derive(Debug)]
pub struct Client {
    /// How long to wait for an answer, each time.
    pub timeout: Duration,
    /// How often to ask what can be asked again.
    pub attempts: u32,
    socket: UdpSocket,
    server: SocketAddr,
    id: u16,
}

impl Client {
    /// A client of the store at `server`, with one second of patience and three
    /// attempts. Nothing is sent yet.
    pub fn connect(server: SocketAddr) -> Result<Self> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        // Connected, it receives nothing from any other address.
        socket.connect(server)?;
        // Not always the same first id, else a late answer to the client before this
        // one, on the same port, could pass for ours.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = now.subsec_micros() as u16;
        Ok(Self { timeout: Duration::from_secs(1), attempts: 3, socket, server, id })
    }

    /// The address of the store.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// The version the store reports.
    pub fn version(&mut self) -> Result<String> {
        let answer = self.ask_again(b"version\r\n")?;
        let version = line(&answer)?.strip_prefix("VERSION ");
        version.map(ToOwned::to_owned).ok_or_else(|| ClientError::malformed(&answer))
    }

    /// The item under `key`, without its CAS id.
    ///
    /// There is no call for several keys: memcached 1.6 answers a `get` of several over
    /// UDP with one answer per key, all numbered as if each were the only one, so that
    /// a client cannot tell when it has them all.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<Item>> {
        self.retrieve("get", key)
    }

    /// The item under `key`, with its CAS id.
    pub fn gets(&mut self, key: &[u8]) -> Result<Option<Item>> {
        self.retrieve("gets", key)
    }

    /// Stores unconditionally. `ttl` as in the protocol: seconds, 0 for ever, a Unix
    /// time if it exceeds 30 days, negative for at once.
    pub fn set(&mut self, key: &[u8], value: &[u8], flags: u32, ttl: i32) -> Result<Stored> {
        self.store(Storage::Set, key, value, flags, ttl)
    }

    /// Any of the storage commands.
    pub fn store(
        &mut self,
        how: Storage,
        key: &[u8],
        value: &[u8],
        flags: u32,
        ttl: i32,
    ) -> Result<Stored> {
        let request = text::storage(how, key, value, flags, ttl)?;
        let answer = match how {
            Storage::Set => self.ask_again(&request)?,
            _ => self.ask_once(&request)?,
        };
        Stored::read(&answer)
    }

    /// Deletes; false if there was nothing.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let answer = self.ask_once(&text::command("delete", key, "")?)?;
        text::found(&answer, "DELETED")
    }

    /// Adds to a decimal number; the sum, or nothing if there is no such key.
    pub fn incr(&mut self, key: &[u8], delta: u64) -> Result<Option<u64>> {
        let answer = self.ask_once(&text::command("incr", key, &format!(" {delta}"))?)?;
        number(&answer)
    }

    /// Subtracts from a decimal number, not below 0.
    pub fn decr(&mut self, key: &[u8], delta: u64) -> Result<Option<u64>> {
        let answer = self.ask_once(&text::command("decr", key, &format!(" {delta}"))?)?;
        number(&answer)
    }

    /// Sets the time to live; false if there is no such key.
    pub fn touch(&mut self, key: &[u8], ttl: i32) -> Result<bool> {
        let answer = self.ask_again(&text::command("touch", key, &format!(" {ttl}"))?)?;
        text::found(&answer, "TOUCHED")
    }

    /// Invalidates everything, now or in `delay` seconds.
    pub fn flush_all(&mut self, delay: u32) -> Result<()> {
        let answer = self.ask_again(format!("flush_all {delay}\r\n").as_bytes())?;
        match line(&answer)? {
            "OK" => Ok(()),
            _ => Err(ClientError::malformed(&answer)),
        }
    }

    /// The store's statistics, as (name, value).
    pub fn stats(&mut self) -> Result<Vec<(String, String)>> {
        let answer = self.ask_again(b"stats\r\n")?;
        text::stats(&answer)
    }

    /// Sends a request that may be executed twice; the whole answer as it came.
    pub fn ask_again(&mut self, payload: &[u8]) -> Result<Vec<u8>> {
        for _ in 1..self.attempts {
            match self.ask_once(payload) {
                Err(error) if error.is_silence() => {}
                answer => return answer,
            }
        }
        self.ask_once(payload)
    }

    fn retrieve(&mut self, command: &str, key: &[u8]) -> Result<Option<Item>> {
        let answer = self.ask_again(&text::command(command, key, "")?)?;
        let mut items = values(&answer)?;
        match items.pop() {
            Some(item) if item.key == key && items.is_empty() => Ok(Some(item)),
            None => Ok(None),
            Some(_) => Err(ClientError::malformed(&answer)),
        }
    }

    /// Sends a request that must not be executed twice, and collects the answer's datagrams;
    /// the whole answer as it came.
    ///
    /// # Errors
    /// [`ClientError::is_silence`] if they do not all come in time.
    pub fn ask_once(&mut self, payload: &[u8]) -> Result<Vec<u8>> {
        self.id = self.id.wrapping_add(1);
        let request = request(self.id, payload)?;
        let deadline = Instant::now() + self.timeout;
        if let Err(error) = self.socket.send(&request) {
            return Err(self.lost(error, deadline));
        }
        let mut assembly = Assembly::new(self.id);
        let mut datagram = vec![0; 65536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(assembly.missing(self.server));
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv(&mut datagram) {
                Ok(len) => {
                    if let Some(answer) = assembly.accept(&datagram[..len])? {
                        return text::no_error(answer);
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(self.lost(error, deadline)),
                },
            }
        }
    }

    /// "Connection refused" is how this socket says that no program listens there. They
    /// may in a moment, so it counts as silence; the pause keeps attempts apart.
    fn lost(&self, error: std::io::Error, deadline: Instant) -> ClientError {
        if error.kind() != ErrorKind::ConnectionRefused {
            return error.into();
        }
        let left = deadline.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(Duration::from_millis(100)));
        ClientError::NoAnswer { server: self.server }
    }
}

#[cfg(test)]
mod tests;
