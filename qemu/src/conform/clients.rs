//! `memccapable`, and sessions of clients that people use.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
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

/// A client library: what its registry calls it, and a session with it.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The package.
    pub package: &'static str,
    language: Language,
    session: &'static str,
}

/// What a session is written in; each has a registry of its own.
#[derive(Clone, Copy, Debug)]
enum Language {
    /// Packages come from PyPI, by pip.
    Python,
    /// From npm.
    Node,
    /// From RubyGems, by gem; one that Debian has installed will do.
    Ruby,
}

const fn python(package: &'static str, session: &'static str) -> Client {
    Client { package, language: Language::Python, session }
}

/// The clients whose sessions are in `sessions/`.
pub const CLIENTS: [Client; 8] = [
    python("pymemcache", include_str!("sessions/pymemcache.py")),
    python("pylibmc", include_str!("sessions/pylibmc.py")),
    python("aiomcache", include_str!("sessions/aiomcache.py")),
    python("emcache", include_str!("sessions/emcache.py")),
    python("python-binary-memcached", include_str!("sessions/python_binary_memcached.py")),
    python("meta-memcache", include_str!("sessions/meta_memcache.py")),
    Client {
        package: "memjs",
        language: Language::Node,
        session: include_str!("sessions/memjs.js"),
    },
    Client {
        package: "dalli",
        language: Language::Ruby,
        session: include_str!("sessions/dalli.rb"),
    },
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

/// Installs the client below `target/`, unless it is there, and runs its session.
#[must_use]
pub fn session(client: Client, store: SocketAddr) -> Verdict {
    let place = workspace::target_dir().join("conform");
    let interpreter = match client.language {
        Language::Python => in_python(&place.join("python"), client.package),
        Language::Node => in_node(&place.join("node"), client.package),
        Language::Ruby => in_ruby(&place.join("ruby"), client.package),
    };
    let (mut interpreter, run_text) = match interpreter {
        Ok(interpreter) => interpreter,
        Err(error) => {
            return Verdict::Skipped(format!(
                "{} does not install here: {error:#}",
                client.package
            ));
        }
    };
    interpreter.args([
        run_text,
        client.session,
        &store.ip().to_string(),
        &store.port().to_string(),
    ]);
    match run(&mut interpreter) {
        Ok(said) => Verdict::Passed(said.trim().to_owned()),
        Err(error) => Verdict::Failed(error.to_string()),
    }
}

/// An interpreter that finds the package, and its option to run a text.
type Interpreter = Result<(Command, &'static str)>;

/// A Python that has the package, and runs the text that is its next argument.
///
/// # Errors
/// If the package does not install here.
pub fn python_with(package: &str) -> Result<Command> {
    let (mut python, run_text) =
        in_python(&workspace::target_dir().join("conform/python"), package)?;
    python.arg(run_text);
    Ok(python)
}

fn in_python(place: &Path, package: &str) -> Interpreter {
    if !place.join("bin/python").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(place))
            .context("python3 -m venv (Debian: python3-venv)")?;
    }
    let quiet = ["install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(place.join("bin/pip")).args(quiet).arg(package))?;
    Ok((Command::new(place.join("bin/python")), "-c"))
}

fn in_node(place: &Path, package: &str) -> Interpreter {
    let quiet = ["install", "--silent", "--no-audit", "--no-fund", "--prefix"];
    run(Command::new("npm").args(quiet).arg(place).arg(package)).context("npm install")?;
    let mut node = Command::new("node");
    node.env("NODE_PATH", place.join("node_modules"));
    Ok((node, "-e"))
}

fn in_ruby(place: &Path, package: &str) -> Interpreter {
    let ruby = || {
        let mut ruby = Command::new("ruby");
        ruby.env("GEM_PATH", format!("{}:", place.display()));
        ruby
    };
    let is_there = |mut ruby: Command| run(ruby.args(["-e", &format!("require '{package}'")]));
    if is_there(ruby()).is_err() {
        let quiet = ["install", "--silent", "--no-document", "--install-dir"];
        run(Command::new("gem").args(quiet).arg(place).arg(package)).context("gem install")?;
    }
    Ok((ruby(), "-e"))
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
