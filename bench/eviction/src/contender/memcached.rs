//! The installed memcached, with its defaults, in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::Contender;
use crate::request::{MAX_KEY, Request};

/// A memcached, ended with this.
pub struct Memcached {
    process: Child,
    stream: BufReader<UnixStream>,
    /// What it is asked next.
    batch: Vec<u8>,
    value: Vec<u8>,
    _place: TempDir,
}

impl Drop for Memcached {
    fn drop(&mut self) {
        // One that has ended is no matter.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Memcached {
    /// An empty one of so many MiB.
    ///
    /// # Errors
    /// It is not installed, or does not listen.
    pub fn start(memory_mib: usize) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("exo-eviction-").tempdir()?;
        let socket = place.path().join("memcached");
        let mut process = Command::new("memcached")
            .arg("-s")
            .arg(&socket)
            .args(["-t1", "-uroot", &format!("-m{memory_mib}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start memcached")?;
        for _ in 0..200 {
            if let Ok(stream) = UnixStream::connect(&socket) {
                stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                let value = vec![b'v'; 1 << 20];
                let stream = BufReader::new(stream);
                return Ok(Self { process, stream, batch: Vec::new(), value, _place: place });
            }
            sleep(Duration::from_millis(10));
        }
        let _ = process.kill();
        let _ = process.wait();
        bail!("memcached does not listen on {}", socket.display())
    }

    /// Its version.
    ///
    /// # Errors
    /// It does not answer.
    pub fn version(&mut self) -> Result<String> {
        self.batch.extend_from_slice(b"version\r\n");
        self.send()?;
        Ok(self.line()?.trim_start_matches("VERSION ").to_owned())
    }

    fn send(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(&self.batch)?;
        self.batch.clear();
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("memcached does not answer")?;
        ensure!(line.ends_with("\r\n"), "memcached has ended");
        line.truncate(line.len() - 2);
        Ok(line)
    }
}

impl Contender for Memcached {
    fn is_in_real_time(&self) -> bool {
        true
    }

    fn set_time(&mut self, _: u32) {}

    fn read(&mut self, requests: &[Request], hits: &mut Vec<bool>) -> Result<()> {
        let mut buffer = [0; MAX_KEY];
        for request in requests {
            // Without a flag: used as by `get`, and answered with one word.
            self.batch.extend_from_slice(b"mg ");
            self.batch.extend_from_slice(request.key(&mut buffer));
            self.batch.extend_from_slice(b"\r\n");
        }
        self.send()?;
        for _ in requests {
            match self.line()?.as_str() {
                "HD" => hits.push(true),
                "EN" => hits.push(false),
                other => bail!("memcached answers a read with {other}"),
            }
        }
        Ok(())
    }

    fn store(&mut self, requests: &[Request]) -> Result<()> {
        let mut buffer = [0; MAX_KEY];
        for request in requests {
            let key = request.key(&mut buffer);
            let len = request.value_len as usize;
            self.batch.extend_from_slice(b"set ");
            self.batch.extend_from_slice(key);
            write!(self.batch, " 0 {} {len}\r\n", request.ttl)?;
            self.batch.extend_from_slice(&self.value[..len]);
            self.batch.extend_from_slice(b"\r\n");
        }
        self.send()?;
        for _ in requests {
            let answer = self.line()?;
            // Rarely a slab of a size cannot be had at once; the item is not stored then.
            let is_known = answer == "STORED" || answer.starts_with("SERVER_ERROR out of memory");
            ensure!(is_known, "memcached answers a store with {answer}");
        }
        Ok(())
    }

    fn items(&mut self) -> Result<u64> {
        self.batch.extend_from_slice(b"stats\r\n");
        self.send()?;
        let mut items = 0;
        loop {
            let line = self.line()?;
            if line == "END" {
                return Ok(items);
            }
            if let Some(count) = line.strip_prefix("STAT curr_items ") {
                items = count.parse()?;
            }
        }
    }
}
