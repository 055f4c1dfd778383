//! The store that is tried, and the installed memcached beside it.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::linux::Store;

/// Memory of each store: more than the requests ever fill.
const MEMORY_MIB: u32 = 256;
/// How long a server may take until it answers.
const READY: Duration = Duration::from_secs(20);

/// A server of our own, ended when it is dropped.
#[derive(Debug)]
pub struct Server {
    process: Child,
    /// Where it answers.
    pub address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Our store as a process of this host.
    ///
    /// # Errors
    /// If it cannot be built or does not start.
    pub fn hosted() -> Result<Self> {
        let mut process = Store::new(1, MEMORY_MIB)
            .on_this_host(0)?
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the store")?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim().rsplit(' ').next().and_then(|address| address.parse().ok());
        let Some(address) = address else {
            let _ = process.kill();
            bail!("the store did not say where it serves, but {line:?}");
        };
        Ok(Self { process, address })
    }

    /// The installed memcached, with nothing that runs in the background. `None` if there is none.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn memcached() -> Result<Option<Self>> {
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let started = Command::new("memcached")
                .args(["-l127.0.0.1", "-U0", "-t1", "-unobody", "-ono_modern"])
                .args([format!("-m{MEMORY_MIB}"), format!("-p{port}")])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let Ok(process) = started else { return Ok(None) };
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let mut server = Self { process, address };
            let start = Instant::now();
            while start.elapsed() < READY && server.process.try_wait()?.is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Ok(Some(server));
                }
                sleep(Duration::from_millis(20));
            }
        }
        bail!("memcached is installed but does not accept connections")
    }
}
