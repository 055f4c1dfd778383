//! `memccapable`, and sessions of clients that people use.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::workspace;

/// What became of a session.
#[derive(Debug)]
pub enum Verdict {
    /// It went well; what there is to say of it.
    Passed(String),
    /// It did not.
    Failed(String),
    /// It could not be tried here.
    Skipped(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(what) => write!(f, "passed: {what}"),
            Self::Failed(what) => write!(f, "FAILED: {what}"),
            Self::Skipped(what) => write!(f, "skipped: {what}"),
        }
    }
}

/// A client library for Python: what pip calls it, and a session with it.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The package.
    pub package: &'static str,
    session: &'static str,
}

/// The clients whose sessions are in `sessions/`.
pub const CLIENTS: [Client; 6] = [
    Client { package: "pymemcache", session: include_str!("sessions/pymemcache.py") },
    Client { package: "pylibmc", session: include_str!("sessions/pylibmc.py") },
    Client { package: "aiomcache", session: include_str!("sessions/aiomcache.py") },
    Client { package: "emcache", session: include_str!("sessions/emcache.py") },
    Client {
        package: "python-binary-memcached",
        session: include_str!("sessions/python_binary_memcached.py"),
    },
    Client { package: "meta-memcache", session: include_str!("sessions/meta_memcache.py") },
];

/// All checks of `memccapable`, text and binary.
///
/// # Errors
/// If it cannot be run.
pub fn memccapable(store: SocketAddr) -> Result<Verdict> {
    let output = Command::new("memccapable")
        .args(["-h", &store.ip().to_string(), "-p", &store.port().to_string()])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        return Ok(Verdict::Skipped("memccapable is not installed (libmemcached-tools)".into()));
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = text.lines().filter(|line| line.contains("[pass]")).count();
    let failed: Vec<_> = text.lines().filter(|line| line.contains("[FAIL]")).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    Ok(if failed.is_empty() && output.status.success() && passed > 0 {
        Verdict::Passed(format!("{passed} checks"))
    } else {
        Verdict::Failed(format!("{passed} checks passed, not {}; {errors}", failed.join(", ")))
    })
}

/// Where Python packages are installed, away from the system's own.
///
/// # Errors
/// If it cannot be made. The text says what is missing.
pub fn environment() -> Result<PathBuf> {
    let place = workspace::target_dir().join("conform-venv");
    if !place.join("bin/python").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&place))
            .context("python3 -m venv (Debian: python3-venv)")?;
    }
    Ok(place)
}

/// Installs the client, unless it is there, and runs its session.
#[must_use]
pub fn session(environment: &Path, client: Client, store: SocketAddr) -> Verdict {
    let mut install = Command::new(environment.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", client.package]);
    if let Err(error) = run(&mut install) {
        return Verdict::Skipped(format!("{} does not install here: {error}", client.package));
    }
    let mut python = Command::new(environment.join("bin/python"));
    python.args(["-c", client.session, &store.ip().to_string(), &store.port().to_string()]);
    match run(&mut python) {
        Ok(said) => Verdict::Passed(said.trim().to_owned()),
        Err(error) => Verdict::Failed(error.to_string()),
    }
}

/// Runs it; what it printed, or the end of what it complained of.
fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let last: Vec<_> = errors.trim().lines().rev().take(6).collect();
    anyhow::bail!("{}", last.into_iter().rev().collect::<Vec<_>>().join(" | "))
}
