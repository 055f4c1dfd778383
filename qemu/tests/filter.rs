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
fn explain_shows_one_thing_at_a_time() {
    let shown = |option: &[&str]| {
        let output = filter(&[&["explain", DNS, RANGE, ARP, "ip"], option].concat());
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    golden("explain.txt", &shown(&[]));
    golden("graph.dot", &shown(&["--graph"]));
    // The code is the compiler's, which has golden files of its own.
    let code = shown(&["--code"]);
    assert!(code.starts_with("code: "), "{code}");
    assert!(code.contains("\npiece 0, ") && code.contains("  ret\n"), "{code}");
    assert!(!code.contains("(bad)") && !code.contains("digraph"), "{code}");
    assert!(!filter(&["explain", DNS, "--graph", "--code"]).status.success());
}

/// What was kept of a packet, and its length on the wire.
type Record = (Vec<u8>, u32);

/// A capture, numbered by times; of each record header the bytes in `more` are the last.
fn capture(magic: u32, more: &[u8], records: &[Record]) -> Vec<u8> {
    let mut file = magic.to_le_bytes().to_vec();
    let words = [0x0004_0002_u32, 0, 0, 65_535, 1];
    file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    for (number, (kept, length)) in (0_u32..).zip(records) {
        let words = [number, 0, kept.len() as u32, *length];
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        file.extend([more, kept].concat());
    }
    file
}

const PCAP: u32 = 0xa1b2_c3d4;

/// A datagram to 10.0.2.15, behind an IPv4 header of `header` bytes.
fn udp(port: u16, header: usize) -> Vec<u8> {
    let mut packet = vec![0_u8; 60];
    packet[12..15].copy_from_slice(&[8, 0, 0x40 + (header / 4) as u8]);
    packet[23] = 17;
    packet[30..34].copy_from_slice(&[10, 0, 2, 15]);
    packet[16 + header..18 + header].copy_from_slice(&port.to_be_bytes());
    packet
}

/// What `match` prints of a file of these bytes: whether it succeeds, output, errors.
fn matched(filters: &[&str], file: &[u8]) -> (bool, String, String) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("packets.pcap");
    std::fs::write(&path, file).unwrap();
    let output = filter(&[&["match"], filters, &[path.to_str().unwrap()]].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn match_says_which_filter_takes_each_packet() {
    let mut arp = vec![0; 42];
    arp[12..14].copy_from_slice(&[8, 6]);
    arp[38..42].copy_from_slice(&[10, 0, 2, 15]);
    let whole = [udp(53, 20), udp(53, 32), udp(1500, 24), udp(80, 20), arp, vec![0; 60], vec![1]];
    let mut records: Vec<Record> =
        whole.into_iter().map(|kept| (kept.clone(), kept.len() as u32)).collect();
    // The port is there, and is not.
    records.push((udp(53, 20)[..42].to_vec(), 1500));
    records.push((udp(53, 20)[..36].to_vec(), 1500));
    let filters = [DNS, RANGE, ARP, "ip"];
    let plain = matched(&filters, &capture(PCAP, &[], &records));
    assert_eq!((plain.0, plain.2.as_str()), (true, ""));
    golden("match.txt", &plain.1);
    // Alexey Kuznetzov's header has eight bytes more.
    let modified = matched(&filters, &capture(0xa1b2_cd34, &[0, 0, 0, 2, 0, 8, 4, 0], &records));
    assert_eq!(modified, plain);

    // A name need not be text.
    let place = tempfile::tempdir().unwrap();
    let odd = place.path().join(OsStr::from_bytes(b"a,b \xff.pcap"));
    std::fs::write(&odd, capture(PCAP, &[], &records)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_exo"));
    let again = command.args(["filter", "match"]).args(filters).arg(odd).output().unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), plain.1);
}

#[test]
fn a_capture_that_is_cut_off_shows_what_is_whole() {
    let records: Vec<Record> = [53, 80, 53].map(|port| (udp(port, 20), 60)).into();
    let two = "packet 1, 60 bytes: filter 1\npacket 2, 60 bytes: no filter\n\n       1  filter 1: \
               udp dst port 53\n       1  no filter\n";
    let file = capture(PCAP, &[], &records);
    for (missing, error) in [
        (1, "cut off in packet 3: 59 of 60 bytes are there"),
        (60, "cut off in packet 3: 0 of 60 bytes are there"),
        (73, "cut off in the header of packet 3: 3 of 16 bytes are there"),
    ] {
        let (success, out, errors) = matched(&["udp dst port 53"], &file[..file.len() - missing]);
        assert!(!success);
        assert_eq!(out, two);
        assert!(errors.contains("packets.pcap: ") && errors.contains(error), "{errors}");
    }
    assert_eq!(
        matched(&["udp dst port 53"], &file[..file.len() - 76]),
        (true, two.into(), String::new())
    );
    let (success, out, errors) = matched(&["udp"], &[0x1f, 0x8b, 8, 0]);
    assert!(!success && out.is_empty() && errors.contains("gzip -dc FILE > NEW.pcap"), "{errors}");
}

/// The packets that tcpdump takes of a capture, by their times; `None` if it is not installed.
fn tcpdump(path: &Path, expression: &str) -> Option<Vec<u32>> {
    let mut command = Command::new("tcpdump");
    let output = command.arg("-r").arg(path).args(["-w", "-", expression]).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let word = |at: usize| u32::from_le_bytes(output.stdout[at..at + 4].try_into().unwrap());
    let (mut numbers, mut at) = (Vec::new(), 24);
    while at < output.stdout.len() {
        numbers.push(word(at));
        at += 16 + word(at + 8) as usize;
    }
    Some(numbers)
}

/// Packets cut in all places, and what libpcap says of them.
#[test]
fn tcpdump_agrees_on_captures_cut_by_a_snapshot_length() {
    let mut records = Vec::new();
    for packet in [udp(53, 20), udp(53, 32), udp(80, 20), udp(8050, 24)] {
        for kept in 14..60 {
            for length in [60, 61, 1000, 1514, 9000] {
                records.push((packet[..kept].to_vec(), length));
            }
        }
    }
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("packets.pcap");
    std::fs::write(&path, capture(PCAP, &[], &records)).unwrap();
    for expression in [
        "len >= 61",
        "len > 61",
        "greater 1000",
        "ip and len >= 01750",
        "ip and udp dst port 53",
        "ip and udp dst port 53 and 1514 <= len",
        "ip and udp dst portrange 8000-8191 and greater 100",
        "ip and dst host 10.0.2.15 and (ip[6:2] & 0x1fff) = 0 and len >= 1000",
        "ip[40] = 0",
        "ip[30] < 100 and greater 61",
    ] {
        let Some(theirs) = tcpdump(&path, expression) else {
            eprintln!("NOT COMPARED WITH LIBPCAP: tcpdump is not installed");
            return;
        };
        let output = filter(&["match", expression, path.to_str().unwrap()]);
        let text = String::from_utf8(output.stdout).unwrap();
        let ours: Vec<u32> = text
            .lines()
            .filter_map(|line| line.strip_suffix(": filter 1")?.strip_prefix("packet "))
            .map(|line| line.split(',').next().unwrap().parse::<u32>().unwrap() - 1)
            .collect();
        assert!(!ours.is_empty() && ours.len() < records.len(), "`{expression}` tells nothing");
        assert_eq!(ours, theirs, "{expression}");
    }
}

#[test]
fn errors_show_the_place() {
    let output = filter(&["explain", "ip", "tcp and port 80"]);
    assert!(!output.status.success());
    golden("error.txt", &String::from_utf8(output.stderr).unwrap());
}
