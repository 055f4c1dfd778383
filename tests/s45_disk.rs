//! Extents of the disk: what is written is there in the next machine, and nothing else is reached.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use exo_cmd::disk::{Image, Place};
use exo_cmd::machine::{Config, GuestExit, Machine, Network};
use exo_cmd::manifest::{App, DiskShare};
use machine_tests::frame::{Wire, datagram};
use machine_tests::{LONG, THIRD, app, assert_no_leak, expect, manifest, monitor};
use root::extents::{RESERVED_BYTES, SECTOR};
use tempfile::TempDir;

/// Sectors of a disk and of an extent.
const DISK: u32 = 8192;
const EXTENT: u32 = 1024;
/// Sectors of a piece, and pieces that the application writes.
const PIECE: usize = 8;
const PIECES: usize = 128;

/// An application that tries an extent of that name.
fn disk_app(extent: &str, args: &[&str]) -> App {
    let mut app = app("libostest");
    app.name = extent.to_owned();
    app.slots = 8;
    app.disk = Some(DiskShare { name: extent.to_owned(), sectors: EXTENT });
    app.args = args.iter().map(ToString::to_string).collect();
    app
}

/// A new disk with an empty table.
fn disk(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("disk,1.img");
    Image::create(&path, DISK).expect("a disk");
    path
}

fn config(disk: &Path, apps: Vec<App>) -> Config {
    let mut config = Config::new(manifest(apps));
    config.network = Network::Frames;
    config.disk = Some(Place { path: disk.to_owned(), sectors: None });
    config
}

fn boot(disk: &Path, apps: Vec<App>) -> Machine {
    let machine = Machine::boot(&config(disk, apps)).expect("the machine starts");
    expect(&machine, "one network interface, 4 MiB of disk");
    machine
}

/// The application `name` wrote, flushed, read back, and was refused what lies outside.
#[track_caller]
fn passed(machine: &Machine, name: &str) {
    for line in [
        "128 of 128 pieces are as they were left",
        "128 of 128 pieces read back",
        "6 requests outside were refused",
    ] {
        expect(machine, &format!("{name}: disk: {line}"));
    }
    expect(machine, &format!("root: {name} ended: exit code 0"));
}

/// What the application with `seed` leaves in its extent.
fn left(seed: u8) -> Vec<u8> {
    let byte = |number: usize, at: usize| {
        seed ^ (number as u8).wrapping_mul(31) ^ (at as u8) ^ (at >> 8) as u8
    };
    // From the last piece to the first.
    (0..PIECES)
        .rev()
        .flat_map(|number| (0..PIECE * SECTOR).map(move |at| byte(number, at)))
        .collect()
}

fn contents(disk: &Path, extent: &str) -> Vec<u8> {
    let image = Image::open(disk, false).expect("the disk");
    let (table, _) = image.table().expect("a table");
    let mut bytes = Vec::new();
    let extent = table.find(extent).expect("the extent");
    let keep = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    image.read_extent(extent, keep).expect("readable");
    bytes
}

#[test]
fn what_is_written_is_there_in_the_next_machine() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(&folder);
    for (seed, args) in [(5, &["as=disk", "seed=5"][..]), (6, &["as=disk", "seed=6", "found=5"])] {
        let machine = boot(&disk, vec![disk_app("log", args)]);
        passed(&machine, "log");
        // 128 pieces and a flush, and none of root's.
        expect(&machine, "log: disk: 129 requests written and flushed");
        expect(&machine, "root: nothing left to run");
        assert_no_leak(&machine, 1);
        drop(machine);
        assert_eq!(contents(&disk, "log"), left(seed));
    }
}

/// Two at once, each in its own extent; what one gave up the next one cannot read.
#[test]
fn extents_are_apart_and_begin_empty() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(&folder);
    let machine = boot(
        &disk,
        vec![disk_app("one", &["as=disk", "seed=1"]), disk_app("two", &["as=disk", "seed=2"])],
    );
    passed(&machine, "one");
    passed(&machine, "two");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 2);
    drop(machine);
    assert_eq!((contents(&disk, "one"), contents(&disk, "two")), (left(1), left(2)));
    let image = Image::open(&disk, true).expect("the disk");
    let (mut table, _) = image.table().expect("a table");
    let first = table.find("one").map(|extent| extent.first);
    assert!(table.remove("one"));
    image.write(&mut table).expect("written");
    let machine = boot(&disk, vec![disk_app("three", &["as=disk", "seed=3"])]);
    passed(&machine, "three");
    drop(machine);
    let (table, _) = Image::open(&disk, false).unwrap().table().unwrap();
    assert_eq!(table.find("three").map(|extent| extent.first), first, "in the same place");
    assert_eq!((contents(&disk, "three"), contents(&disk, "two")), (left(3), left(2)));
}

/// Reads of one sector fail: that request does, and no other.
#[test]
fn a_disk_that_fails_is_an_error_of_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(&folder);
    let mut config = config(&disk, vec![disk_app("log", &["as=disk-errors"])]);
    config.disk = None;
    // The first extent begins at sector 16; this is within its fifth piece.
    let bad = 16 + 4 * PIECE + 3;
    let path = disk.display().to_string();
    let nodes = format!(
        r#"{{"driver":"raw","node-name":"disk","file":{{"driver":"blkdebug",
        "image":{{"driver":"file","filename":"{path}"}},"inject-error":[{{"event":"none",
        "iotype":"read","errno":5,"sector":{bad},"once":false}}]}}}}"#
    );
    let extra = ["-blockdev", &nodes, "-device", "virtio-blk-device,drive=disk"];
    config.extra = extra.iter().map(Into::into).collect();
    let machine = Machine::boot(&config).expect("the machine starts");
    expect(&machine, "log: disk: 1 requests failed, 127 did not");
    expect(&machine, "root: log ended: exit code 0");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 1);
}

/// While the disk stands still an application appends to its log and answers all the same; then what
/// came meanwhile is one commit, and durable.
#[test]
fn a_log_goes_on_while_the_disk_does_not() {
    const KEPT: u64 = 40;
    let folder = tempfile::tempdir().unwrap();
    let (disk, socket) = (disk(&folder), folder.path().join("monitor"));
    let mut later = disk_app("later", &["as=disk-later"]);
    later.address = Some(THIRD);
    later.grants.net = true;
    let mut config = config(&disk, vec![later]);
    config.extra = monitor::arguments(&socket).into();
    let boot = |found: u64| {
        let machine = Machine::boot(&config).expect("the machine starts");
        expect(&machine, &format!("later: disk: {found} records found"));
        expect(&machine, "later: serving 10.0.2.17:4005");
        machine
    };
    let machine = boot(0);
    let wire = Wire::of(&machine);
    let ask = |request: &[u8]| {
        let answer = wire.exchange(5000, THIRD, 4005, request);
        let [records, durable, commits] = answer.as_chunks().0 else { panic!("{answer:?}") };
        [records, durable, commits].map(|number| u64::from_le_bytes(*number))
    };
    let wait = |wanted: u64| {
        let asked = Instant::now();
        loop {
            let [records, durable, commits] = ask(b"how many");
            assert!(asked.elapsed() < LONG, "{durable} of {records} are durable");
            if durable == wanted {
                return commits;
            }
        }
    };
    ask(b"keep this");
    wait(1);
    monitor::throttle(&socket, 1);
    for number in 2..=KEPT {
        assert_eq!(ask(b"keep that, too")[0], number);
    }
    let [_, durable, _] = ask(b"how many");
    assert!(durable < KEPT, "the disk does not stand still");
    monitor::throttle(&socket, 0);
    let commits = wait(KEPT);
    // One that was under way, or a few until the disk stood still, and all of the others.
    assert!(commits < 8, "{commits} commits for {KEPT} records");
    wire.send(&datagram(5000, THIRD, 4005, b"end"));
    expect(&machine, "root: later ended: exit code 0");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 1);
    drop(machine);
    boot(KEPT);
}

/// All that the attacker tries with its extent; what lies around it is as it was.
#[test]
fn an_attacker_reaches_its_own_sectors_and_frames_only() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(&folder);
    let image = Image::open(&disk, true).expect("the disk");
    let (mut table, _) = image.table().expect("a table");
    for name in ["before", "attack", "behind"] {
        let extent = table.claim(name, EXTENT).expect("room").extent;
        image.fill(&extent, 0x5a).expect("written");
    }
    image.write(&mut table).expect("written");
    let mut attacker = disk_app("attack", &["only=disk"]);
    attacker.image = "attacker".into();
    let machine = boot(&disk, vec![attacker, disk_app("behind", &["as=disk-read"])]);
    let done = expect(&machine, "attack: done, ");
    assert!(done.ends_with(" attacks, 0 not tried, 0 breaches"), "{done}");
    expect(&machine, "root: attack ended: exit code 0");
    expect(&machine, "behind: disk: 128 of 128 pieces are 90 throughout");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 2);
    drop(machine);
    for name in ["before", "behind"] {
        assert!(contents(&disk, name).iter().all(|byte| *byte == 0x5a), "{name}");
    }
    assert_eq!(image.table().expect("a table").0, table);
}

/// Root says why it starts nothing, and leaves the disk as it is.
#[test]
fn a_table_that_cannot_be_read_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(&folder);
    let mut damaged = fs::read(&disk).unwrap();
    for at in [100, RESERVED_BYTES / 2 + 100] {
        damaged[at] ^= 1;
    }
    for (bytes, reason) in [
        (damaged, "both copies of the disk's table of extents are damaged"),
        (vec![0; DISK as usize * SECTOR], "nothing is on it"),
        (vec![9; DISK as usize * SECTOR], "but something else"),
    ] {
        fs::write(&disk, &bytes).unwrap();
        let machine = boot(&disk, vec![disk_app("log", &["as=disk"])]);
        expect(&machine, reason);
        assert_eq!(machine.exit_status(LONG).unwrap(), GuestExit::Failure(125));
        drop(machine);
        assert!(fs::read(&disk).unwrap() == bytes, "the disk was written to");
    }
    // One copy is enough.
    Image::open(&disk, true).unwrap().format().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&disk).unwrap();
    file.write_all_at(&[1; 8], RESERVED_BYTES as u64 / 2).unwrap();
    let machine = boot(&disk, vec![disk_app("log", &["as=disk", "found=0"])]);
    expect(&machine, "log: disk: sectors 16 to 1040");
}

#[test]
fn what_is_not_to_be_had_is_told_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(&folder);
    let mut large = disk_app("large", &["as=disk"]);
    large.disk = Some(DiskShare { name: "large".into(), sectors: DISK });
    let machine = boot(&disk, vec![disk_app("log", &["as=disk"]), large]);
    let told = expect(
        &machine,
        "cannot start large: disk = \"large\" of 8192 sectors, 4194304 bytes at least: no room",
    );
    assert!(told.ends_with("the disk has \"log\" (1024 sectors), 8192 sectors in all"), "{told}");
    assert_eq!(machine.exit_status(LONG).unwrap(), GuestExit::Failure(125));
    drop(machine);
    let mut config = config(&disk, vec![disk_app("log", &["as=disk"])]);
    config.disk = None;
    let machine = Machine::boot(&config).expect("the machine starts");
    expect(&machine, "log: disk: refused: no device");
}
