//! What the store has acknowledged is there after QEMU was killed: on a disk of its own, which may
//! fail, or stop to answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use exo_cmd::disk::{Image, Place};
use exo_cmd::machine::{Config, Machine};
use exo_cmd::manifest::OnExit;
use machine_tests::monitor::{self, throttle};
use machine_tests::{LONG, expect};
use root::extents::Extent;

const CLIENTS: usize = 4;
/// Sectors: the store has an extent of 160 MiB.
const DISK: u32 = 170 << 11;

/// The tree's default machine with this disk, and a store that answers.
fn machine(disk: &Place) -> Machine {
    let mut config = Config::named("default").expect("boot/manifests/default.toml");
    config.disk = Some(disk.clone());
    let machine = Machine::boot(&config).expect("the machine starts");
    machine.store(LONG).expect("the store answers");
    machine
}

fn connect(machine: &Machine) -> TcpStream {
    let port = machine.tcp_port().expect("TCP is forwarded");
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("QEMU takes connections");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    stream
}

/// Sets `key` to `last` + 1 and so on until the machine is gone. Returns what was acknowledged.
fn count(mut stream: TcpStream, key: &str, mut last: u64) -> u64 {
    loop {
        let number = (last + 1).to_string();
        let set = format!("set {key} 0 0 {}\r\n{number}\r\n", number.len());
        let mut answer = [0; 8];
        let asked = stream.write_all(set.as_bytes()).and_then(|()| stream.read_exact(&mut answer));
        if asked.is_err() {
            return last;
        }
        assert_eq!(&answer, b"STORED\r\n");
        last += 1;
    }
}

/// The value of a key, 0 for none.
fn value(stream: &mut TcpStream, key: &str) -> u64 {
    stream.write_all(format!("get {key}\r\n").as_bytes()).expect("a connection");
    let mut lines = BufReader::new(stream).lines();
    let mut line = || lines.next().expect("a line").expect("a connection");
    if line() == "END" {
        return 0;
    }
    let value = line().parse().expect("a number");
    assert_eq!(line(), "END");
    value
}

/// Makes the extent that the manifest gives the store, with zeros in it.
fn extent_of_the_store(disk: &Place) -> (Image, Extent) {
    let image = Image::open(&disk.path, true).expect("a disk");
    let (mut table, _) = image.table().expect("a table");
    let store = table.claim("store", 160 << 11).expect("room").extent;
    image.write(&mut table).expect("a table");
    (image, store)
}

#[test]
fn everything_acknowledged_survives_the_death_of_the_machine() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Place { path: directory.path().join("disk"), sectors: Some(DISK) };
    disk.provide().expect("a disk");
    let mut last = [0; CLIENTS];
    for round in 0..4 {
        let machine = machine(&disk);
        let items = if round == 0 { 0 } else { CLIENTS };
        expect(&machine, &format!("durable; {items} items"));
        let mut stream = connect(&machine);
        for (client, last) in last.iter_mut().enumerate() {
            let found = value(&mut stream, &format!("client{client}"));
            // One set was under way.
            assert!((*last..=*last + 1).contains(&found), "{found}, acknowledged {last}");
            *last = found;
        }
        let streams = last.map(|last| (connect(&machine), last));
        thread::scope(|scope| {
            let clients: Vec<_> = streams
                .into_iter()
                .enumerate()
                .map(|(client, (stream, last))| {
                    scope.spawn(move || count(stream, &format!("client{client}"), last))
                })
                .collect();
            thread::sleep(Duration::from_millis(700 + 150 * round));
            // SIGKILL.
            drop(machine);
            for (client, last) in clients.into_iter().zip(&mut last) {
                *last = client.join().expect("a client");
            }
        });
    }
    assert!(last.iter().all(|&last| last > 20), "hardly anything was acknowledged: {last:?}");
}

/// What a store that promises less has acknowledged, and QEMU's death right after it: `group` has
/// handed it to the device and loses nothing, `async` has not.
#[test]
fn a_store_that_promises_less_keeps_what_it_promises() {
    const HOUR: &str = "3600000";
    let directory = tempfile::tempdir().expect("a directory");
    for (promise, found) in [(format!("group:{HOUR}"), 1), (format!("async:{HOUR}"), 0)] {
        let path = directory.path().join(format!("{found}.disk"));
        let disk = Place { path, sectors: Some(DISK) };
        let mut config = Config::named("default").expect("boot/manifests/default.toml");
        config.disk = Some(disk.clone());
        for app in config.manifest.apps.iter_mut().filter(|app| app.name == "kvstore") {
            app.args.push(format!("durable={promise}"));
        }
        let machine = Machine::boot(&config).expect("the machine starts");
        expect(&machine, &format!("durable, {promise}; 0 items"));
        machine.store(LONG).expect("the store answers");
        let mut stream = connect(&machine);
        stream.write_all(b"set key 0 0 1\r\n1\r\n").expect("a connection");
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"STORED\r\n");
        // SIGKILL.
        drop(machine);
        let machine = self::machine(&disk);
        expect(&machine, &format!("durable; {found} items"));
        assert_eq!(value(&mut connect(&machine), "key"), found, "{promise}");
    }
}

#[test]
fn an_extent_of_something_else_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Place { path: directory.path().join("disk"), sectors: Some(DISK) };
    disk.provide().expect("a disk");
    let (image, store) = extent_of_the_store(&disk);
    image.fill(&store, b'.').expect("an extent");
    let before = std::fs::read(&disk.path).expect("a file");
    let mut config = Config::named("default").expect("boot/manifests/default.toml");
    config.disk = Some(disk.clone());
    let machine = Machine::boot(&config).expect("the machine starts");
    expect(&machine, "disk: it holds something that is no log");
    machine.exit_status(LONG).expect("it ends");
    assert!(std::fs::read(&disk.path).expect("a file") == before);
}

/// A write of one sector fails for ever. The store says so and ends; what it has acknowledged is
/// there, and nothing is acknowledged that is not.
#[test]
fn a_disk_that_fails_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Place { path: directory.path().join("disk"), sectors: Some(DISK) };
    disk.provide().expect("a disk");
    let sector = extent_of_the_store(&disk).1.first + 40;
    let mut config = Config::named("default").expect("boot/manifests/default.toml");
    let file = disk.path.to_str().expect("ASCII");
    let bad = format!(
        "driver=blkdebug,node-name=bad,image=file,inject-error.0.event=none,\
         inject-error.0.iotype=write,inject-error.0.sector={sector},inject-error.0.errno=5"
    );
    let good = format!("driver=file,node-name=file,filename={file}");
    let arguments =
        ["-blockdev", &good, "-blockdev", &bad, "-device", "virtio-blk-device,drive=bad"];
    config.extra = arguments.map(Into::into).into();
    let machine = Machine::boot(&config).expect("the machine starts");
    machine.store(LONG).expect("the store answers");
    let acknowledged = count(connect(&machine), "counter", 0);
    expect(&machine, "storage: the device reported an error");
    machine.exit_status(LONG).expect("it ends");
    drop(machine);
    assert!((20..40).contains(&acknowledged), "{acknowledged} sets before sector {sector}");

    let machine = self::machine(&disk);
    let found = value(&mut connect(&machine), "counter");
    assert!((acknowledged..=acknowledged + 1).contains(&found), "{found}, not {acknowledged}");
}

/// The disk stops answering. The store gives up and ends, the machine goes on, what the device may
/// still fetch stays as it is; when the device is done, all frames come back, and nothing that was
/// acknowledged is lost.
#[test]
fn a_disk_that_answers_too_late_stops_the_store_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Place { path: directory.path().join("disk"), sectors: Some(DISK) };
    let qmp = directory.path().join("monitor");
    let mut config = Config::named("default").expect("boot/manifests/default.toml");
    config.disk = Some(disk.clone());
    config.extra = monitor::arguments(&qmp).into();
    for app in config.manifest.apps.iter_mut().filter(|app| app.name == "kvstore") {
        app.on_exit = OnExit::Ignore;
        app.args.push("disk-seconds=2".into());
    }
    let machine = Machine::boot(&config).expect("the machine starts");
    machine.store(LONG).expect("the store answers");
    let mut stream = connect(&machine);
    stream.write_all(b"set before 0 0 1\r\n1\r\n").expect("a connection");
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"STORED\r\n");

    throttle(&qmp, 1);
    // The store ends, and its connections with it, silently.
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
    let start = Instant::now();
    // A request or two still find the device's bucket empty.
    let acknowledged = count(stream, "counter", 0);
    expect(&machine, "storage: the device reported an error, or did not answer in time");
    expect(&machine, "root: kvstore ended: exit code 1");
    expect(&machine, "root: kvstore is destroyed when its devices are done with it");
    assert!(start.elapsed() > Duration::from_secs(2), "it gave up early");
    // The other application has not noticed.
    let port = machine.echo_port().expect("an echo service");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time");
    socket.send_to(b"still there?", ("127.0.0.1", port)).expect("sent");
    let mut echo = [0; 64];
    let length = socket.recv(&mut echo).expect("an echo");
    assert_eq!(&echo[..length], b"still there?");
    let said = |what: &str| machine.console().lines().iter().any(|line| line.contains(what));
    assert!(!said("leak check"), "frames came back while the device had them");

    throttle(&qmp, 0);
    expect(&machine, "root: leak check: ");
    machine_tests::assert_no_leak(&machine, 1);
    drop(machine);
    let machine = self::machine(&disk);
    let mut stream = connect(&machine);
    assert_eq!(value(&mut stream, "before"), 1);
    let found = value(&mut stream, "counter");
    assert!((acknowledged..=acknowledged + 1).contains(&found), "{found}, not {acknowledged}");
}
