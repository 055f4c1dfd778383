//! The command with a cargo that builds nothing and a QEMU that is a script: what is left is
//! what the command itself does.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// Far longer than any of this takes.
pub(crate) const LONG: Duration = Duration::from_secs(300);

/// Says something every now and then, as a machine does that is fine.
pub(crate) const TALKS: &str = "while :; do echo 'kvstore: up'; sleep 0.1; done";
/// Says nothing.
pub(crate) const SILENT: &str = "exec sleep 1000";

/// A place with such programs, and a target directory in which everything is built.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    target: PathBuf,
}

impl Place {
    /// QEMU is the shell script `qemu`, after it has told its version.
    pub(crate) fn new(qemu: &str) -> Self {
        Self::with_target(qemu, "target")
    }

    /// With another name for the target directory.
    pub(crate) fn with_target(qemu: &str, name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join(name);
        let place = Self { dir, target };
        fs::create_dir(place.path("bin")).unwrap();
        fs::create_dir(place.path("tmp")).unwrap();
        let version = "[ \"$1\" = --version ] && { echo 'QEMU emulator version 9.9.9'; exit 0; }";
        place.program("qemu-system-x86_64", &format!("{version}\n{qemu}"));
        let results = "echo 'test one ... ok'; \
                       echo 'test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured'";
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let cargo = format!(
            "case \"$1\" in metadata) exec '{cargo}' \"$@\";; test) {results};; esac\nexit 0"
        );
        place.program("cargo", &cargo);
        let built = place.target.join("guest/x86_64-unknown-linux-gnu/guest");
        fs::create_dir_all(&built).unwrap();
        for name in ["exokernel", "root", "kvstore", "echo", "fuzzer"] {
            fs::write(built.join(name), elf()).unwrap();
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Makes a program for the command to find.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `program` with these other programs.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let usual = std::env::var_os("PATH").unwrap();
        let path = [self.path("bin")].into_iter().chain(std::env::split_paths(&usual));
        let mut command = Command::new(program);
        command
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("CARGO", self.path("bin").join("cargo"))
            .env("CARGO_TARGET_DIR", self.target())
            .env("TMPDIR", self.path("tmp"))
            .env("W", self.dir.path())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn exo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_exo"));
        command.args(arguments);
        command
    }

    /// The same, with a signal ignored from the start, as `nohup` has it.
    pub(crate) fn exo_ignoring(&self, signal: &str, arguments: &[&str]) -> Command {
        let mut command = self.command("sh");
        command.args(["-c", "trap '' \"$1\"; shift; exec \"$@\"", "sh", signal]);
        command.arg(env!("CARGO_BIN_EXE_exo")).args(arguments);
        command
    }
}

/// A command whose output is read as it comes; killed if it has not been waited for.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    /// Reads both outputs, line by line.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                    let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                }
            });
        }
        Self { child, lines, seen: String::new() }
    }

    /// The next line that contains `pattern`.
    pub(crate) fn line(&mut self, pattern: &str) -> String {
        let deadline = Instant::now() + LONG;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen += &format!("{line}\n");
                    if line.contains(pattern) {
                        return line;
                    }
                }
                Err(error) => panic!("no line \"{pattern}\" ({error}) after:\n{}", self.seen),
            }
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
    }

    /// How it ended, and all it said.
    pub(crate) fn end(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + LONG;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end; so far:\n{}", self.seen);
            thread::sleep(Duration::from_millis(10));
        };
        loop {
            match self.lines.recv_timeout(LONG) {
                Ok(line) => self.seen += &format!("{line}\n"),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("its output stays open"),
            }
        }
        (status, self.seen.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A UDP port that was free a moment ago.
pub(crate) fn free_port() -> String {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.local_addr().unwrap().port().to_string()
}

/// An executable of one instruction.
fn elf() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for field in [BASE + 120, 64, 0] {
        elf.extend(field.to_le_bytes());
    }
    for field in [0_u16, 0, 64, 56, 1, 0, 0, 0] {
        elf.extend(field.to_le_bytes());
    }
    elf.extend([1_u32, 5].map(u32::to_le_bytes).as_flattened());
    elf.extend([0, BASE, BASE, 121, 121, 4096].map(u64::to_le_bytes).as_flattened());
    elf.push(0xf4);
    elf
}
