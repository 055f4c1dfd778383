//! `cargo exo filter`, as one calls it.
//!
//! `EXO_BLESS=1` writes the golden files anew.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

fn filter(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exo"));
    command.arg("filter").args(arguments).env("RUST_BACKTRACE", "0");
    command.output().unwrap()
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filter").join(name);
    if std::env::var_os("EXO_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{}", path.display());
}

const DNS: &str = "udp dst port 53 and ip dst host 10.0.2.15";
const RANGE: &str = "udp dst portrange 1000-2000";
const ARP: &str = "arp dst host 10.0.2.15";

#[test]
fn explain_shows_steps_graph_and_code() {
    let output = filter(&["explain", DNS, RANGE, ARP, "ip"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    // The code is the compiler's, which has golden files of its own.
    let (text, code) = text.split_once("code: ").unwrap();
    golden("explain.txt", text);
    assert!(code.contains("\npiece 0, ") && code.contains("  ret\n"), "{code}");
    assert!(!code.contains("(bad)"), "{code}");
}

#[test]
fn match_says_who_takes_each_packet() {
    let udp = |port: u16, length: usize| {
        let mut frame = vec![0_u8; 60];
        frame[12..15].copy_from_slice(&[8, 0, 0x40 + (length / 4) as u8]);
        frame[23] = 17;
        frame[30..34].copy_from_slice(&[10, 0, 2, 15]);
        frame[16 + length..18 + length].copy_from_slice(&port.to_be_bytes());
        frame
    };
    let mut arp = vec![0_u8; 42];
    arp[12..14].copy_from_slice(&[8, 6]);
    arp[38..42].copy_from_slice(&[10, 0, 2, 15]);
    let frames = [udp(53, 20), udp(53, 32), udp(1500, 24), udp(80, 20), arp, vec![0; 60], vec![1]];
    let mut file =
        vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    for frame in frames {
        let length = (frame.len() as u32).to_le_bytes();
        file.extend([[0; 4], [0; 4], length, length].concat());
        file.extend(frame);
    }
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("packets.pcap");
    std::fs::write(&path, &file).unwrap();
    let output = filter(&["match", DNS, RANGE, ARP, "ip", path.to_str().unwrap()]);
    assert!(output.status.success());
    let told = String::from_utf8(output.stdout).unwrap();
    golden("match.txt", &told);

    // A name need not be text.
    let odd = place.path().join(OsStr::from_bytes(b"a,b \xff.pcap"));
    std::fs::copy(&path, &odd).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_exo"));
    let again = command.args(["filter", "match", DNS, RANGE, ARP, "ip"]).arg(odd).output().unwrap();
    assert_eq!(again.stdout, told.as_bytes());

    file.pop();
    std::fs::write(&path, &file).unwrap();
    let output = filter(&["match", DNS, path.to_str().unwrap()]);
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("cut off in packet 7"), "{error}");
}

#[test]
fn errors_show_the_place() {
    let output = filter(&["explain", "ip", "tcp and port 80"]);
    assert!(!output.status.success());
    golden("error.txt", &String::from_utf8(output.stderr).unwrap());
}
