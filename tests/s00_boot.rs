//! The kernel boots, or says why not.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use exo_boot::launch::RUNS;
use exo_cmd::machine::{Config, GuestExit, Machine};
use exo_cmd::manifest::OnExit;
use exo_cmd::{guest, workspace};
use machine_tests::{LONG, STORE, app, assert_no_leak, boot, expect, manifest, net_app};

/// The kernel and a good bundle, with the self-test as an application.
fn parts() -> (Config, PathBuf, Vec<u8>) {
    let config = Config::new(manifest(vec![app("selftest")]));
    guest::build(&config.manifest).expect("the guest builds");
    let bundle = guest::bundle(&config.manifest).expect("a bundle");
    (config, workspace::guest_elf(guest::KERNEL), bundle)
}

/// Boots the kernel with `initrd` and asserts that it panics with words that contain
/// `pattern`, and a backtrace.
#[track_caller]
fn panics(config: &Config, kernel: &Path, initrd: &[u8], pattern: &str) {
    let machine = Machine::start(config, kernel, initrd).expect("QEMU starts");
    assert_eq!(machine.exit_status(LONG).expect("an end"), GuestExit::Panic);
    let line = expect(&machine, "exo: panic: ");
    assert!(line.contains(pattern), "\"{line}\" should say \"{pattern}\"");
    expect(&machine, "exo: backtrace: exokernel 0x");
    assert!(machine.report().contains("kernel_main"), "no function in {}", machine.report());
}

#[test]
fn boots_to_the_last_application_and_powers_off() {
    let machine = boot(manifest(vec![app("selftest")]));
    assert!(expect(&machine, "exo: ").starts_with("exo: 128 MiB of memory, one network interface"));
    expect(&machine, "root: nothing left to run");
    assert_eq!(machine.exit_status(LONG).expect("an end"), GuestExit::Success);
    assert_no_leak(&machine, 1);
}

#[test]
fn powers_off_with_the_code_of_an_application() {
    // Three slots of address space, and no memory worth the name: it cannot set up.
    let mut tested = app("attacker");
    tested.name = "attack".into();
    tested.args = vec!["only=nothing".into()];
    tested.on_exit = OnExit::PowerOff;
    let machine = boot(manifest(vec![tested.clone()]));
    assert_eq!(machine.exit_status(LONG).expect("an end"), GuestExit::Success);
    // Without the network that family has nothing to attack with: breaches, counted.
    tested.args = vec!["only=rings".into()];
    let machine = boot(manifest(vec![tested]));
    let done = expect(&machine, "attack: done, ");
    let GuestExit::Failure(code) = machine.exit_status(LONG).expect("an end") else {
        panic!("no failure")
    };
    assert!(done.ends_with(&format!(" {code} breaches")), "{done}, but code {code}");
}

#[test]
fn runs_in_little_memory_and_in_much() {
    for (memory, frames) in [(16, 1024), (1024, 200_000)] {
        let mut tested = app("selftest");
        tested.frames = frames;
        let mut config = Config::new(manifest(vec![tested]));
        config.memory = memory;
        let machine = Machine::boot(&config).expect("the machine starts");
        expect(&machine, &format!("exo: {memory} MiB of memory"));
        expect(&machine, "root: selftest ended: exit code 0");
        expect(&machine, "root: leak check");
        assert_no_leak(&machine, 1);
    }
}

#[test]
fn a_broken_boot_image_is_refused_with_a_reason() {
    let (config, kernel, good) = parts();
    let refuses = |at: usize, byte: u8, pattern: &str| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        panics(&config, &kernel, &bytes, pattern);
    };
    refuses(0, b'x', "no boot image");
    panics(&config, &kernel, &[0; 4096], "no boot image");
    // An entry and a page outside of user space.
    refuses(8 + 7, 0xff, "user entry point");
    refuses(16 + 7, 0xff, "a page of user space");
    // Writable and executable cannot be said, nor can another protection.
    refuses(16 + 12, 3, "a protection");
    // Pages that are not in the file are not the environment's.
    refuses(16 + 10, 0xff, "of the boot image");
    panics(&config, &kernel, &good[..4096], "of the boot image");
}

#[test]
fn what_is_broken_behind_it_is_roots_to_report() {
    let (config, kernel, good) = parts();
    // The bundle comes after the runs that the first page names, and its manifest lies where its
    // header says, and begins with its version.
    let number =
        |at: usize| u32::from_le_bytes(good[at..at + 4].try_into().expect("four bytes")) as usize;
    let runs = (0..RUNS).map(|run| number(16 + 16 * run + 8));
    let bundle = 4096 * (1 + runs.sum::<usize>());
    let manifest = bundle + number(bundle + 20);
    for (at, said) in [(bundle, "root: boot bundle: "), (manifest, "root: manifest: version")] {
        let mut bytes = good.clone();
        bytes[at] = 99;
        let machine = Machine::start(&config, &kernel, &bytes).expect("QEMU starts");
        expect(&machine, said);
        assert_eq!(machine.exit_status(LONG).expect("an end"), GuestExit::Failure(125));
    }
}

#[test]
fn too_little_memory_is_a_panic_with_a_reason() {
    let (mut config, kernel, bundle) = parts();
    config.memory = 4;
    // The manifest's frames would not fit either; what the kernel says is asked here.
    config.manifest.apps[0].frames = 1;
    panics(&config, &kernel, &bundle, "memory");
}

#[test]
fn more_than_there_is_is_roots_to_refuse() {
    let (config, kernel, _) = parts();
    let mut manifest = config.manifest.clone();
    manifest.apps[0].frames = 100_000;
    let bundle = guest::bundle(&manifest).expect("a bundle");
    let machine = Machine::start(&config, &kernel, &bundle).expect("QEMU starts");
    expect(&machine, "root: cannot start selftest: ");
    assert_eq!(machine.exit_status(LONG).expect("an end"), GuestExit::Failure(125));
}

#[test]
fn boots_without_a_network_interface() {
    let (mut config, kernel, bundle) = parts();
    // Unplugged before the first instruction.
    config.extra = ["-global", "virtio-mmio.force-legacy=true"].map(Into::into).to_vec();
    let machine = Machine::start(&config, &kernel, &bundle).expect("QEMU starts");
    expect(&machine, "MiB of memory, no network interface");
    expect(&machine, "root: selftest ended: exit code 0");
}

/// As `docs/debugging.md` has it.
#[test]
fn the_printed_command_works_by_hand() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = Config::new(manifest(vec![net_app("kvstore", STORE)]));
    config.keep_bundle = Some(dir.path().join("bundle"));
    let machine = Machine::boot(&config).expect("the machine starts");
    expect(&machine, "kvstore: serving");
    let command = machine.command().to_owned();
    drop(machine);

    let file = |name: &str| dir.path().join(name).display().to_string();
    let (log, capture) = (file("qemu.log"), file("exo.pcap"));
    let by_hand = format!(
        "exec timeout {} {command} -d int,cpu_reset -D {log} \
         -object filter-dump,id=f0,netdev=n0,file={capture}",
        LONG.as_secs()
    );
    let mut qemu =
        Command::new("sh").args(["-c", &by_hand]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(qemu.stdout.take().expect("a console")).lines();
    let serves = lines.map_while(Result::ok).any(|line| line.contains("kvstore: serving"));
    // `timeout` passes the signal on; a killed one could not.
    let _ = Command::new("kill").arg(qemu.id().to_string()).status();
    let _ = qemu.wait();
    assert!(serves, "{by_hand}");
    let exceptions = std::fs::read_to_string(&log).expect("a log");
    assert!(exceptions.contains("CPU Reset"), "nothing of a processor in {log}");
    let packets = std::fs::metadata(&capture).expect("a capture").len();
    assert!(packets > 24, "no packet in {packets} bytes");
}
