//! An attacker in ring 3 gets nothing, and its neighbour does not notice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use exo_cmd::client::Stored;
use exo_cmd::machine::emulator::Emulator;
use exo_cmd::machine::{Config, GUEST_MAC, Machine, Network};
use exo_cmd::manifest::{App, Manifest};
use machine_tests::frame::{ICMP, UDP, Wire, arp, who_has};
use machine_tests::model::Worker;
use machine_tests::{
    LONG, STORE, THIRD, app, assert_no_leak, boot, boot_with_frames, expect, manifest, net_app,
};

/// The tree's own manifest for attacks, with arguments for the attacker.
fn attack_manifest(arguments: &[&str]) -> Manifest {
    let mut manifest = Config::named("attack").expect("boot/manifests/attack.toml").manifest;
    let attacker = manifest.apps.iter_mut().find(|app| app.image == "attacker");
    attacker.expect("an attacker").args = arguments.iter().map(ToString::to_string).collect();
    manifest
}

fn attacker(arguments: &[&str]) -> App {
    let mut app = net_app("attacker", THIRD);
    app.name = "attack".into();
    app.args = arguments.iter().map(ToString::to_string).collect();
    app
}

/// Of an attack that was announced, whether this emulator lets it pass without asking the kernel.
fn is_emulators_own(line: &str) -> bool {
    let name = line.split_once(": kernel said ").and_then(|(start, _)| start.splitn(3, ' ').nth(2));
    let emulator = Emulator::find().expect("an emulator");
    line.ends_with(": BREACH") && name.is_some_and(|name| emulator.lenience(name).is_some())
}

/// Asserts that all of the attacks that were announced were repelled, but for those that
/// one processor has no room for or that need a disk or a share, and those that the emulator lets pass by itself. Returns how
/// many the latter are.
#[track_caller]
fn assert_repelled(machine: &Machine) -> usize {
    let lines = machine.console().lines();
    let attacks: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("attack: ") && line.contains(": kernel said "))
        .collect();
    let not_tried = lines.iter().filter(|line| {
        let reason = line.split_once(": not tried: ").map(|(_, reason)| reason);
        let reasons = ["there is one processor", "no disk", "no store to call"];
        reason.inspect(|reason| assert!(reasons.contains(reason), "{reason}")).is_some()
    });
    let not_tried = not_tried.count();
    let mut excused = 0;
    for line in &attacks {
        assert!(line.ends_with(": repelled") || is_emulators_own(line), "{line}");
        excused += usize::from(!line.ends_with(": repelled"));
    }
    let done = expect(machine, "attack: done, ");
    let count = attacks.len() + not_tried;
    assert_eq!(
        done,
        format!("attack: done, {count} attacks, {not_tried} not tried, {excused} breaches")
    );
    assert!(attacks.len() > 200, "only {} attacks", attacks.len());
    excused
}

/// All attacks, while two clients work with the store and check every answer.
#[test]
fn the_store_serves_right_under_attack() {
    let machine = boot(attack_manifest(&[]));
    machine.store(LONG).expect("the store answers");
    let over = AtomicBool::new(false);
    let requests = AtomicU64::new(0);
    thread::scope(|scope| {
        for client in 0..2 {
            let (machine, over, requests) = (&machine, &over, &requests);
            scope.spawn(move || {
                let own = machine.store_client().expect("a client");
                let mut worker = Worker::new(own, &format!("c{client}-"), 3000, client);
                // On for some thousand requests after the attacks, too.
                while !over.load(Ordering::Relaxed) || worker.requests < 4000 {
                    worker.step().expect("the store answers");
                }
                worker.check_all().expect("the store answers");
                requests.fetch_add(worker.requests, Ordering::Relaxed);
            });
        }
        let ended = machine.wait_for_line("root: attack ended", LONG);
        over.store(true, Ordering::Relaxed);
        ended.expect("the attacker ends");
    });
    println!("{} requests answered right meanwhile", requests.into_inner());
    let excused = assert_repelled(&machine);
    expect(&machine, &format!("root: attack ended: exit code {excused}"));
    expect(&machine, "root: leak check");
    assert_no_leak(&machine, 1);
    assert!(machine.running());
}

/// Nothing that the attacker forges comes out on the wire.
#[test]
fn nothing_forged_leaves_the_machine() {
    let mut config = Config::new(attack_manifest(&[]));
    config.network = Network::Frames;
    let machine = Machine::boot(&config).expect("the machine starts");
    let socket = machine.frames().expect("frames");
    let (mut legal, mut announcements) = (0, 0);
    let mut ended = false;
    loop {
        match socket.receive(Duration::from_millis(200)).expect("QEMU is there") {
            // The store announces itself once; all else is the attacker's.
            Some(frame) if frame == arp(1, (GUEST_MAC, STORE), ([0; 6], STORE))[..] => {
                announcements += 1;
            }
            Some(frame) => {
                assert_attackers_own(&frame);
                legal += 1;
            }
            None if ended => break,
            None => {}
        }
        ended |= machine.console().text().contains("root: attack ended");
        assert!(ended || machine.running(), "the machine ended");
    }
    assert!(announcements <= 1, "another environment spoke as the store");
    assert_repelled(&machine);
    assert!(legal > 20, "only {legal} legal frames: the attacker could send nothing at all");
    assert_eq!(Wire::of(&machine).station_of(STORE), GUEST_MAC);
}

/// No client has asked the store anything, so every frame must bear the attacker's
/// addresses, in a format in which they are where they seem to be. What else is in
/// it, and whether the length is right, is the attacker's affair.
#[track_caller]
fn assert_attackers_own(frame: &[u8]) {
    assert!(frame.len() >= 42, "{frame:02x?}");
    assert_eq!(frame[6..12], GUEST_MAC, "{frame:02x?}");
    assert!(!frame[..60.min(frame.len())].windows(6).any(|part| part == b"FORGED"), "{frame:02x?}");
    match frame[12..14] {
        [8, 0] => {
            assert_eq!(frame[14], 0x45, "options: {frame:02x?}");
            assert_eq!(u16::from_be_bytes([frame[20], frame[21]]) & 0x3fff, 0, "{frame:02x?}");
            assert!(matches!(frame[23], ICMP | UDP), "protocol: {frame:02x?}");
            assert_eq!(frame[26..30], THIRD, "source: {frame:02x?}");
        }
        [8, 6] => {
            assert_eq!(frame[14..20], [0, 1, 8, 0, 6, 4], "{frame:02x?}");
            assert_eq!(
                (&frame[22..28], &frame[28..32]),
                (&GUEST_MAC[..], &THIRD[..]),
                "{frame:02x?}"
            );
        }
        _ => panic!("ethertype: {frame:02x?}"),
    }
}

/// When all attacks are done, the attacker keeps the processor for ever, and the store
/// goes on.
#[test]
fn the_store_serves_beside_one_that_never_yields() {
    let machine = boot(attack_manifest(&["only=time", "then=spin"]));
    expect(&machine, "attack: done, ");
    let mut worker = Worker::new(machine.store(LONG).expect("the store answers"), "k", 500, 5);
    for _ in 0..3000 {
        worker.step().expect("the store answers");
    }
    worker.check_all().expect("the store answers");
    assert!(!machine.console().text().contains("root: attack ended"), "it stopped spinning");
}

/// Woken by a frame while the kernel's timer is set for a deadline far away.
#[test]
fn a_late_timer_gives_no_long_slice() {
    let machine = boot_with_frames(manifest(vec![attacker(&["as=lingerer"])]));
    let wire = Wire::of(&machine);
    expect(&machine, "attack: send me frames");
    let deadline = Instant::now() + LONG;
    while !machine.console().text().contains("attack: 01 ") {
        // Sparse, so that everything sleeps when one comes.
        wire.send(&who_has(THIRD));
        let _ = wire.next(Duration::from_millis(50));
        assert!(Instant::now() < deadline, "the attacker is stuck");
    }
    let line = expect(&machine, "attack: 01 ");
    assert!(line.ends_with(": repelled"), "{line}");
}

/// What an attacker leaves behind goes with it.
#[test]
fn nobody_outlives_its_creator() {
    let machine = boot(manifest(vec![attacker(&["as=orphan"]), app("selftest")]));
    expect(&machine, "root: attack ended: exit code 0");
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 2);
}

/// Several at once, each a stranger to the others.
#[test]
fn many_attackers_at_once() {
    let apps = (0..4).map(|number| {
        let mut app =
            attacker(&[["only=frames", "only=handles", "only=noise", "only=exhaustion"][number]]);
        app.address = Some([10, 0, 2, 20 + number as u8]);
        app.name = format!("attack{number}");
        app.slots = 8;
        app
    });
    let machine = boot(manifest(apps.collect()));
    for number in 0..4 {
        let done = expect(&machine, &format!("attack{number}: done, "));
        assert!(done.ends_with(", 0 breaches"), "{done}");
    }
    expect(&machine, "root: nothing left to run");
    assert_no_leak(&machine, 4);
}

/// A neighbour that sends without pause, and one that fills the table of filters. The
/// store's answers may get lost, as on any network; asked again, it answers, and right.
#[test]
fn the_store_serves_under_pressure() {
    for (role, sign) in [
        ("as=flooder", "attack: flooding"),
        ("as=hoarder", "attack: hoarding"),
        ("as=stormer", "attack: storming"),
    ] {
        let machine = boot(attack_manifest(&[role]));
        expect(&machine, sign);
        let mut client = machine.store(LONG).expect("the store answers");
        (client.timeout, client.attempts) = (Duration::from_millis(500), 100);
        for number in 0..40 {
            let (key, value) = (format!("key-{number}"), format!("{role} {number}"));
            let stored = client.set(key.as_bytes(), value.as_bytes(), number, 0);
            assert_eq!(stored.expect("an answer"), Stored::Stored, "{role}");
            let found = client.get(key.as_bytes()).expect("an answer").expect("a value");
            assert_eq!((found.flags, &found.value[..]), (number, value.as_bytes()), "{role}");
        }
    }
}
