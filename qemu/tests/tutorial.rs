//! `docs/libos/own-application.md` and what it promises, followed to the letter.
//!
//! In a copy of the source tree with a target directory of its own, which stays: the first
//! time everything is built there, later only what has changed. Commands are run as they stand
//! there, and files that the page shows are those that the commands have made.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use exo_cmd::prerequisites::QEMU;
use exo_cmd::workspace;
use rustix::process::{Pid, Signal, kill_process_group};

/// A block of the page: its language, the path that the text before it ends in, its text.
#[derive(Debug)]
struct Block {
    language: String,
    path: Option<String>,
    text: String,
}

/// What the page shows, in order.
fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut before) = (Vec::new(), String::new());
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            let path = before.trim_end().ends_with(':').then(|| before.rsplit('`').nth(1));
            let path = path.flatten().filter(|path| path.contains('/') && path.contains('.'));
            blocks.push(Block {
                language: language.to_owned(),
                path: path.map(ToOwned::to_owned),
                text: text.join("\n") + "\n",
            });
            before.clear();
        } else if line.is_empty() {
            // A paragraph ends, but a block may follow it.
            before.push('\n');
        } else {
            if before.ends_with("\n\n") || before == "\n" {
                before.clear();
            }
            before.push_str(line);
            before.push('\n');
        }
    }
    blocks
}

/// A copy of the source tree, and where its builds go.
struct Tree {
    root: PathBuf,
    target: PathBuf,
    bin: PathBuf,
}

impl Tree {
    fn copy() -> Self {
        let place = workspace::target_dir().join("tutorial");
        let tree =
            Self { root: place.join("tree"), target: place.join("target"), bin: place.join("bin") };
        copy(workspace::root(), &tree.root);
        // `cargo exo` is the command that is tested, so that it need not be built once more.
        fs::create_dir_all(&tree.bin).unwrap();
        let script = "#!/bin/sh\nif [ \"$1\" = exo ]; then shift; exec \"$EXO\" \"$@\"; fi\n\
                      exec \"$REAL_CARGO\" \"$@\"\n";
        let cargo = tree.bin.join("cargo");
        fs::write(&cargo, script).unwrap();
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
        tree
    }

    fn command(&self, shell: &str, text: &str) -> Command {
        // By its path: by its name it would be the one in `bin`, which calls it.
        let cargo = env!("CARGO");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(shell);
        command
            .args(["-e", "-c", text])
            .current_dir(&self.root)
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env("EXO", env!("CARGO_BIN_EXE_exo"))
            .env("EXO_WORKSPACE", &self.root)
            .env("REAL_CARGO", cargo)
            .env("CARGO", cargo)
            .env("CARGO_TARGET_DIR", &self.target)
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    fn run(&self, text: &str) {
        let status = self.command("sh", text).status().unwrap();
        assert!(status.success(), "{text}: {status}");
    }

    /// The page shows the file as it is; or, of a file of Rust, as it is without its tests.
    fn has(&self, path: &str, text: &str) {
        let file = fs::read_to_string(self.root.join(path)).unwrap();
        let rest = file.strip_prefix(text);
        let is_shown =
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("\n#[cfg(test)]"));
        assert!(is_shown, "{path} is\n{file}and not\n{text}");
    }

    /// Has another port of the host lead to the application.
    fn redirect(&self, path: &str, port: u16) {
        let path = self.root.join(path);
        let text = fs::read_to_string(&path).unwrap();
        let other = format!("\"udp:9999:{port}\"");
        assert!(text.contains("\"udp:9999\""), "{text}");
        fs::write(path, text.replace("\"udp:9999\"", &other)).unwrap();
    }
}

/// Copies what differs, and leaves the rest as old as it is: builds look at that.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    // What was there at an earlier run, and is no longer.
    for old in fs::read_dir(to).unwrap().map(|entry| entry.unwrap()) {
        if !from.join(old.file_name()).exists() {
            let is_folder = old.file_type().unwrap().is_dir();
            let path = old.path();
            if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
    }
    for entry in fs::read_dir(from).unwrap() {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        let to = to.join(&name);
        if from.is_dir() {
            // Corpora of the fuzzers are no source.
            let left_out = ["target", ".git", "out", "corpus"];
            if !left_out.iter().any(|left_out| name == *left_out) {
                copy(&from, &to);
            }
        } else if from.is_file() {
            let text = fs::read(&from).unwrap();
            if fs::read(&to).ok().as_ref() != Some(&text) {
                fs::write(&to, text).unwrap();
            }
        }
    }
}

/// A `cargo exo run` that goes on, ended when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.0);
        let _ = kill_process_group(group, Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Runs a machine until it ends, or serves; then it is returned.
fn boot(tree: &Tree, text: &str) -> Option<Running> {
    let mut child = tree.command("sh", text).stdout(Stdio::piped()).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let mut running = Running(child);
    let mut said = Vec::new();
    for line in BufReader::new(out).lines() {
        let line = line.unwrap();
        println!("{line}");
        let serves = line.contains("mine: serving");
        said.push(line);
        if serves {
            return Some(running);
        }
    }
    let status = running.0.wait().unwrap();
    assert!(status.success(), "{text}: {status}");
    assert!(said.iter().any(|line| line == "root: mine ended: exit code 0"), "{said:?}");
    None
}

#[test]
fn an_application_of_ones_own_builds_runs_is_reached_and_is_clean() {
    if QEMU.find().is_none() {
        eprintln!("skipped: {} is missing", QEMU.name);
        return;
    }
    let page = fs::read_to_string(workspace::root().join("docs/libos/own-application.md")).unwrap();
    let tree = Tree::copy();
    // Nothing but the host's port differs from the page: another may have it here.
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let (mut running, mut machines, mut answers, mut shown) = (None, 0, 0, 0);
    for Block { language, path, text } in blocks(&page) {
        match (language.as_str(), path) {
            ("sh", _) if text.contains("cargo exo run mine") => {
                running = boot(&tree, &text);
                machines += 1;
                tree.run("cargo exo lint --package mine");
            }
            ("sh", _) => tree.run(&text),
            ("bash", _) => {
                assert!(running.is_some(), "nothing runs that {text} could reach");
                let text = text.replace("127.0.0.1/9999", &format!("127.0.0.1/{port}"));
                let expected = text.trim_end().rsplit("# ").next().unwrap().to_owned() + "\n";
                // A datagram may be lost.
                let answered = (0..10).any(|_| {
                    let limited = format!("timeout 10 bash -e <<'END'\n{text}END");
                    let output = tree.command("bash", &limited).output().unwrap();
                    output.stdout == expected.as_bytes()
                });
                assert!(answered, "no answer to {text}");
                answers += 1;
                running = None;
            }
            (_, Some(path)) => {
                tree.has(&path, &text);
                shown += 1;
                if text.contains("\"udp:9999\"") {
                    tree.redirect(&path, port);
                }
            }
            _ => {}
        }
    }
    assert!(running.is_none());
    assert_eq!((machines, answers), (3, 1), "the page shows three machines, one of which answers");
    assert_eq!(shown, 6, "the page shows files of each");
}

#[test]
fn the_documentation_has_what_only_the_guest_has() {
    let output = Command::new(env!("CARGO_BIN_EXE_exo")).arg("doc").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let index = String::from_utf8(output.stdout).unwrap();
    let pages = Path::new(index.trim_end()).parent().unwrap().parent().unwrap();
    for page in [
        "libos/net/bind/fn.bind.html",
        "libos/runtime/struct.Environment.html",
        "exo_abi/struct.RingOrder.html",
        "dpf/struct.Filter.html",
    ] {
        assert!(pages.join(page).is_file(), "{} has no {page}", pages.display());
    }
}
