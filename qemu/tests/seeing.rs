//! What the commands that look into machines see, tried on machines.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{exo, succeeds};
use exo_cmd::prerequisites::{GDB, QEMU};
use exo_cmd::workspace;
use pcap_parser::{Block, OptionCode, PcapBlockOwned, PcapNGSlice};
use serde_json::Value;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

fn skipped() -> bool {
    let missing = QEMU.find().is_none();
    if missing {
        eprintln!("skipped: {} is missing", QEMU.name);
    }
    missing
}

fn folder(name: &str) -> PathBuf {
    let folder = workspace::target_dir().join("seeing").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    folder
}

/// Calls, processors, environments and a probe of an application that says what it does.
#[test]
fn a_timeline_has_what_was_done() {
    if skipped() {
        return;
    }
    let app = folder("own-traced");
    let path = app.to_str().unwrap();
    succeeds(&exo(&["new", "app", "own-traced", "--path", path]).output().unwrap());
    let main = app.join("src/main.rs");
    let text = fs::read_to_string(&main).unwrap();
    let probed = text
        .replace("let mut refused = 0;", "libos::probe!(\"here\", 41 + 1);\nlet mut refused = 0;");
    assert_ne!(text, probed);
    fs::write(&main, probed).unwrap();
    let (json, lines) = (app.join("trace.json"), app.join("trace.txt"));
    let arguments = ["trace", "--app", path, "-o", json.to_str().unwrap(), "--text"];
    let said = exo(&arguments).arg(&lines).output().unwrap();
    assert!(succeeds(&said).contains("own-traced: "));

    let trace: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let names: HashMap<_, _> = events
        .iter()
        .filter(|event| event["ph"] == "M" && event["name"] == "process_name")
        .map(|event| (event["args"]["name"].as_str().unwrap(), event["pid"].as_u64().unwrap()))
        .collect();
    assert!(names.contains_key("processors"), "{names:?}");
    let (root, own) = (names["root"], names["own-traced"]);
    let has = |pid: u64, phase: &str, name: &str| {
        events
            .iter()
            .any(|event| event["pid"] == pid && event["ph"] == phase && event["name"] == name)
    };
    for (pid, call) in [
        (root, "env_create"),
        (root, "env_start"),
        (root, "slots_assign"),
        (own, "frames_take"),
        (own, "frames_free"),
        (own, "console_write"),
        (own, "exit"),
    ] {
        assert!(has(pid, "X", call), "{call}");
    }
    assert!(!has(own, "X", "env_create"), "it makes no environment");
    assert!(
        has(names["processors"], "X", "own-traced") && has(names["processors"], "X", "frames_take")
    );
    let probe = events.iter().find(|event| event["name"] == "here").unwrap();
    assert_eq!((&probe["pid"], &probe["args"]["value"]), (&own.into(), &42.into()));

    // Slices of one track lie beside or within each other, and none is longer than the run.
    let mut tracks: HashMap<_, Vec<(u64, u64)>> = HashMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let number = |key: &str| (event[key].as_f64().unwrap() * 1000.0).round() as u64;
        let track = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
        tracks.entry(track).or_default().push((number("ts"), number("ts") + number("dur")));
    }
    for (track, mut slices) in tracks {
        slices.sort_by_key(|&(from, to)| (from, std::cmp::Reverse(to)));
        let mut open: Vec<u64> = Vec::new();
        for (from, to) in slices {
            while open.last().is_some_and(|&end| end <= from) {
                open.pop();
            }
            assert!(
                open.last().is_none_or(|&end| to <= end),
                "{track:?}: {from} to {to} in {open:?}"
            );
            open.push(to);
        }
    }
    let lines = fs::read_to_string(&lines).unwrap();
    assert!(lines.lines().any(|line| line.ends_with("here = 42")), "{lines}");
    assert!(
        lines.lines().any(|line| line.contains("own-traced") && line.ends_with("exit")),
        "{lines}"
    );
}

/// gdb stops in the kernel that prints for an application: the backtrace goes on into that, and what root
/// waits in is seen from there.
#[test]
fn a_backtrace_goes_from_the_kernel_into_the_environment() {
    if skipped() || GDB.require().is_err() {
        eprintln!("skipped: {} or {} is missing", QEMU.name, GDB.name);
        return;
    }
    let app = folder("own-debugged");
    let path = app.to_str().unwrap();
    succeeds(&exo(&["new", "app", "own-debugged", "--path", path]).output().unwrap());
    let mut gdb = exo(&["gdb", "--app", path, "--", "-nx", "-batch"]);
    for command in [
        "hbreak exo::calls::time::console_write",
        "continue",
        "info environments",
        "environment root backtrace 3",
        "backtrace",
    ] {
        gdb.args(["-ex", command]);
    }
    let said = succeeds(&gdb.output().unwrap());
    let row = |name: &str| {
        let row = said.lines().find(|line| line.split_whitespace().any(|word| word == name));
        row.unwrap_or_else(|| panic!("no {name}: {said}"))
    };
    assert!(row("root").contains("Waiting"), "{said}");
    let own = row("own-debugged");
    assert!(own.starts_with('*') && own.contains("Ready"), "{said}");
    let (_, frames) = said.split_once("<signal handler called>").expect("the boundary");
    assert!(frames.contains("main.rs:"), "{said}");
    let (before, _) = said.split_once("<signal handler called>").unwrap();
    assert!(before.contains("run () at libos/src/sys.rs"), "where root waits: {said}");
    assert!(said.contains("own-debugged: "), "it went on: {said}");
}

/// A machine of the default manifest, ended when dropped.
struct Running {
    child: Child,
    process: String,
    port: String,
    // What nothing reads could not be written.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(more: &[&str]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port().to_string();
        drop(socket);
        let arguments = ["run", "--accel", "tcg", "--echo-port", "0", "--verbose", "--port", &port];
        let mut command = exo(&arguments);
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = |line: std::io::Result<String>| line.ok();
        let process = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(said)
            .find_map(|line| line.strip_prefix("its process id is ").map(ToOwned::to_owned));
        let process = process.expect("it says its process id");
        let mut ready = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = ready.by_ref().map_while(said).any(|line| line.starts_with("ready: "));
        assert!(is_ready, "it does not get ready");
        Self { child, process, port, _said: ready }
    }

    fn client(&self, arguments: &[&str]) {
        let server = format!("127.0.0.1:{}", self.port);
        succeeds(&exo(&["client", "--server", &server]).args(arguments).output().unwrap());
    }

    /// As Ctrl-C does.
    fn end(mut self) {
        let kill = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let deadline = Instant::now() + LONG;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A capture has each request on the wire and as given to the store, and each answer as taken
/// from it and on the wire. Read with another library than it is written with.
#[test]
fn a_capture_has_what_environments_were_given_and_gave() {
    if skipped() {
        return;
    }
    let file = folder("capture.pcapng");
    let running = Running::start(&["--pcap", file.to_str().unwrap()]);
    running.client(&["set", "captured-key", "captured-value"]);
    running.client(&["get", "captured-key"]);
    running.end();

    let bytes = fs::read(&file).unwrap();
    let (mut names, mut found, mut statistics) = (Vec::new(), Vec::new(), 0);
    for block in PcapNGSlice::from_slice(&bytes).unwrap() {
        match block.unwrap() {
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                names.push(interface.if_name().unwrap().unwrap().to_owned());
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let data = &packet.data[..packet.caplen as usize];
                let holds = |words: &[u8]| data.windows(words.len()).any(|window| window == words);
                let comment =
                    packet.options.iter().any(|option| option.code == OptionCode::Comment);
                assert!(!comment, "nothing was refused");
                let flags =
                    packet.options.iter().find(|option| option.code == OptionCode(2)).unwrap();
                let direction = flags.value[0];
                for words in [&b"get captured-key"[..], b"VALUE captured-key 0 14"] {
                    if holds(words) {
                        found.push((names[packet.if_id as usize].clone(), words[0], direction));
                    }
                }
            }
            PcapBlockOwned::NG(Block::InterfaceStatistics(_)) => statistics += 1,
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    let expected =
        [("kvstore", b'V', 2), ("kvstore", b'g', 1), ("wire", b'V', 2), ("wire", b'g', 1)];
    assert_eq!(
        found,
        expected.map(|(name, first, way)| (name.to_owned(), first, way)),
        "{names:?}"
    );
    assert_eq!(statistics, 1);
    assert!(names.contains(&"echo".to_owned()), "{names:?}");
}

/// What was recorded is done again: the console is the same, a debugger stops at the same packet with the
/// same registers each time, and goes back by an instruction.
#[test]
fn a_recording_does_the_same_again() {
    if skipped() {
        return;
    }
    let recording = folder("recording");
    let recording = recording.to_str().unwrap();
    let running = Running::start(&["--record", recording]);
    running.client(&["set", "recorded-key", "recorded-value"]);
    running.client(&["get", "recorded-key"]);
    let said = exo(&["run", "--replay", recording]).output().unwrap();
    let refused = String::from_utf8(said.stderr).unwrap();
    assert!(!said.status.success() && refused.contains("has no end"), "{refused}");
    running.end();

    let replay = || {
        let said = exo(&["run", "--replay", recording]).output().unwrap();
        let notes = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(notes.contains("the recording ends here"), "{notes}");
        succeeds(&said)
    };
    let console = replay();
    assert!(console.contains("kvstore: serving"), "{console}");
    assert_eq!(console, replay());

    if GDB.require().is_err() {
        eprintln!("no gdb, so not with one");
        return;
    }
    let debug = || {
        let mut gdb = exo(&["gdb", "--replay", recording, "--", "-nx", "-batch"]);
        let registers = "info registers rip rsp rdi rsi rdx";
        for command in [
            "hbreak exo::net::deliver",
            // The second request: the one before both asks for the store's address.
            "ignore 1 2",
            "continue",
            "info breakpoints",
            registers,
            // Breakpoints that are there stop it on its way back, too.
            "delete",
            "stepi",
            "reverse-stepi",
            registers,
            "continue",
        ] {
            gdb.args(["-ex", command]);
        }
        succeeds(&gdb.output().unwrap())
    };
    let said = debug();
    assert!(said.contains("breakpoint already hit 3 times"), "{said}");
    assert!(said.contains("exited normally"), "{said}");
    let registers = |said: &str| -> Vec<String> {
        let names = ["rip ", "rsp ", "rdi ", "rsi ", "rdx "];
        let is_one = |line: &&str| names.iter().any(|name| line.starts_with(name));
        said.lines().filter(is_one).map(ToOwned::to_owned).collect()
    };
    let first = registers(&said);
    assert_eq!(first.len(), 10, "{said}");
    assert_eq!(first[..5], first[5..], "one instruction on and one back");
    assert_eq!(first, registers(&debug()));
}

/// The numbers are those of the machine: what is asked of the store arrives there.
#[test]
fn top_tells_environments_and_their_packets() {
    if skipped() {
        return;
    }
    let running = Running::start(&[]);
    let top = ["top", "--process", &running.process, "--samples", "2", "--interval", "3000"];
    let top = exo(&top).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1000));
    for _ in 0..3 {
        running.client(&["version"]);
    }
    let said = succeeds(&top.wait_with_output().unwrap());
    let rows =
        |name: &str| said.lines().filter(|line| line[1..].starts_with(name)).collect::<Vec<_>>();
    assert_eq!(
        (rows(" root:").len(), rows(" kvstore:").len(), rows(" echo:").len()),
        (2, 2, 2),
        "{said}"
    );
    let fact = |row: &str, name: &str| -> u64 {
        let mut words = row.split(' ');
        words.find(|word| *word == name).and_then(|_| words.next()?.parse().ok()).unwrap_or(0)
    };
    let store = rows(" kvstore:")[1];
    assert!(fact(store, "in/s") >= 1 && fact(store, "out/s") >= 1, "{store}");
    assert_eq!((fact(store, "bindings"), fact(rows(" root:")[1], "bindings")), (1, 0), "{said}");
    assert!(fact(store, "frames") > fact(rows(" root:")[1], "frames"), "{said}");
    let slots = said.lines().find(|line| line.starts_with("processor 0: ")).unwrap();
    let letter = &store[..1];
    assert_eq!(slots[13..].matches(letter).count() as u64, fact(store, "slots"), "{said}");

    let gone = exo(&["top", "--process", &std::process::id().to_string()]).output().unwrap();
    assert!(!gone.status.success());
    running.end();
}

/// The same source runs as a process: memory under its grant, and packets of a forwarded port.
#[test]
fn an_application_runs_as_a_process() {
    let app = folder("own-plain");
    let path = app.to_str().unwrap();
    succeeds(&exo(&["new", "app", "own-plain", "--path", path]).output().unwrap());
    let said = succeeds(&exo(&["run", "--hosted", "--app", path]).output().unwrap());
    assert_eq!(said, "own-plain: 1024 frames are free\n");

    // With a stack of its own, over the same rings.
    let service = folder("own-hosted");
    let path = service.to_str().unwrap();
    succeeds(&exo(&["new", "stack", "own-hosted", "--path", path]).output().unwrap());
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let manifest = service.join("own-hosted.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let moved = text.replace("udp:9999", &format!("udp:9999:{free}"));
    assert_ne!(text, moved);
    fs::write(&manifest, moved).unwrap();
    let mut command = exo(&["run", "--hosted", "--app", path]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "own-hosted: serving 10.0.2.15:9999");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    for _ in 0..3 {
        client.send_to(b"hello, process", ("127.0.0.1", free)).unwrap();
        let mut answer = [0; 100];
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(&answer[..length], b"HELLO, PROCESS");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
