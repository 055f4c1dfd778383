//! A closed pipe ends every verb quietly, and a full disk with one line of error.

use std::fs::{File, OpenOptions};
use std::net::UdpSocket;
use std::process::{Command, Output, Stdio};
use std::{io, thread};

use super::place::{LONG, Place, SILENT, TALKS, free_port};

/// What a shell reports of a process that SIGPIPE ended.
const CLOSED: i32 = 141;

/// The help of the command and of each verb: all cheap.
const HELP: [&[&str]; 20] = [
    &[],
    &["--help"],
    &["--version"],
    &["run", "--help"],
    &["client", "--help"],
    &["client", "set", "--help"],
    &["test", "--help"],
    &["attack", "--help"],
    &["fuzz", "--help"],
    &["bench", "--help"],
    &["bench", "get", "--help"],
    &["bench", "boot", "--help"],
    &["bench", "idle", "--help"],
    &["bench", "primitives", "--help"],
    &["bench", "dpf", "--help"],
    &["filter", "--help"],
    &["filter", "explain", "--help"],
    &["tcb", "--help"],
    &["lint", "--help"],
    &["build", "--help"],
];

/// What each verb does at its cheapest, where that is cheap.
const WORK: [&[&str]; 7] = [
    &["filter", "explain", "udp dst port 53", "arp"],
    &["tcb"],
    &["lint"],
    &["build"],
    &["test", "--host-only"],
    &["fuzz", "--calls", "1"],
    &["run", "--accel", "tcg", "--echo-port", "0"],
];

fn closed() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// Runs it into a closed pipe, and then onto a full disk.
fn check(mut command: Command, code: i32) {
    let run = |command: &mut Command| -> (Output, String) {
        let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!error.contains("panicked"), "{command:?}: {error}");
        (output, error)
    };
    let (output, error) = run(command.stdout(closed()));
    assert_eq!(output.status.code(), Some(CLOSED), "{command:?}: {error}");
    assert!(!error.contains("error"), "{command:?}: {error}");

    let (output, error) = run(command.stdout(full()));
    assert_eq!(output.status.code(), Some(code), "{command:?}: {error}");
    let lines: Vec<_> = error.lines().filter(|line| line.contains("error")).collect();
    let [line] = lines[..] else { panic!("{command:?}: {error}") };
    assert!(line.starts_with("error: cannot write to standard output: No space"), "{error}");
}

#[test]
fn help_ends_as_it_should() {
    let place = Place::new(SILENT);
    for arguments in HELP {
        check(place.exo(arguments), 1);
    }
}

#[test]
fn every_verb_ends_as_it_should() {
    // The fuzzer's machine ends at once, which is a failure that is told.
    let place = Place::new(&format!("case \"$*\" in *-icount*) exit 3;; esac\n{TALKS}"));
    for arguments in WORK {
        let mut command = place.exo(arguments);
        match arguments[0] {
            "run" => _ = command.args(["--port", &free_port()]),
            "fuzz" => _ = command.arg("--icount"),
            _ => {}
        }
        check(command, 1);
    }
    let capture = place.path("packets.pcap");
    let header =
        [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    std::fs::write(&capture, header).unwrap();
    let mut command = place.exo(&["filter", "match", "udp"]);
    command.arg(capture);
    check(command, 1);
}

#[test]
fn a_client_ends_as_it_should() {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let server = socket.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let answer = [&buffer[..2], b"\0\0\0\x01\0\0VALUE k 0 1\r\nv\r\nEND\r\n"].concat();
            socket.send_to(&answer, peer).unwrap();
        }
    });
    let place = Place::new(SILENT);
    check(place.exo(&["client", "--server", &server, "get", "k"]), 2);
}

/// Nothing can be told then, but nothing must end in a panic either.
#[test]
fn a_full_standard_error_is_no_panic() {
    let place = Place::new(&format!("echo 'kvstore: up'; exec sleep {}", LONG.as_secs()));
    for arguments in [&["filter", "explain", "nonsense"][..], &["fly"], &["lint"]] {
        let status = place.exo(arguments).stdout(Stdio::null()).stderr(full()).status().unwrap();
        assert!(status.code().is_some_and(|code| code < 128), "{arguments:?}: {status}");
    }
}
